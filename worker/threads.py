"""How many threads the analysis uses."""

from __future__ import annotations

import os

import SimpleITK as sitk


def use_threads(threads: int) -> int:
    """Bound SimpleITK's threads; 0 means every core this process may use. Return the bound."""
    bound = threads or len(os.sched_getaffinity(0))
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(bound)
    return bound
