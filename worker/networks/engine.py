"""Engines that run a network: torch on a GPU, OpenVINO on CPU.

A CPU worker needs no torch: OpenVINO reads the files that ``export`` wrote beside the weights.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Precision = Literal["auto", "f32", "bf16"]
"""Numerical precision of a network's computation; ``auto`` means 16 bits if the hardware supports them natively."""


class Engine(Protocol):
    """A network ready to run, for any batch size and any image size that the network accepts."""

    @property
    def name(self) -> str:
        """Library, device and precision, such as ``openvino-cpu-bf16``.

        Results of the same precision differ in the last digits. In 16 bits they differ by more: the infected volume of
        one study was 1.5 % smaller than in 32 bits.
        """

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's logits for its input."""
