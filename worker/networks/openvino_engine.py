"""OpenVINO on CPU: several times faster than torch there, and without a need for torch."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import openvino
from numpy.typing import NDArray

from worker.networks.card import Card, read_exported
from worker.networks.engine import Precision


class OpenVinoEngine:
    """An OpenVINO model, compiled for this CPU.

    Parameters
    ----------
    model : openvino.Model
    precision : Precision
    threads : int or None
        CPU threads; None takes all cores.
    """

    def __init__(self, model: openvino.Model, precision: Precision = "auto", threads: int | None = None) -> None:
        core = openvino.Core()
        if precision == "auto":
            precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        self.compiled = core.compile_model(model, "CPU", config)
        self.name = f"openvino-cpu-{precision}"

    @classmethod
    def open(cls, path: Path, card: Card, threads: int | None = None) -> Self:
        """Read the files that were exported beside the weights at a path; raises as ``read_exported``."""
        return cls(openvino.Core().read_model(*read_exported(path, card)), threads=threads)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits."""
        logits: NDArray[np.float32] = self.compiled(batch)[0]
        return logits
