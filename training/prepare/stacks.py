"""Where the stacks of a scan begin, in training and when a whole scan is read."""

from __future__ import annotations

import math


def stack_step(depth: int, overlap_factor: float) -> int:
    """Return the number of slices from one stack's start to the next's.

    Overlap factor = overlapping slices / stack size; Shivdeo et al. 2021, section 4.2.
    """
    return depth - round(depth * overlap_factor)


def window_starts(slices: int, depth: int, step: int) -> list[int]:
    """Return where windows of ``depth`` slices start so that together they cover every slice.

    Only the last window may reach beyond the scan. 601 slices make 49 stacks of 32 at a step of 12, and 19 at a step
    of 32; Shivdeo et al. 2021, section 4.2.
    """
    beyond_first = max(slices - depth, 0)
    return [i * step for i in range(1 + math.ceil(beyond_first / step))]
