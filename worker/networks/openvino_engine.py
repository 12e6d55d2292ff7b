"""OpenVINO on CPU: several times faster there than torch."""

from __future__ import annotations

import sys

import numpy as np
import torch
from numpy.typing import NDArray

from worker.networks.network import Network
from worker.networks.precision import Precision

# OpenVINO reports every import and conversion to its makers over the network, unless this module is missing.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # how Python marks a module as missing
import openvino  # noqa: E402  # after the line above


class OpenVinoEngine:
    """A network converted once and run by OpenVINO on CPU.

    Parameters
    ----------
    network : Network
        Traced in evaluation mode; the engine keeps a copy of its weights.
    precision : str
        ``auto`` takes bf16 where the CPU computes in it.
    threads : int or None
        CPU threads; None takes all cores.
    """

    def __init__(self, network: Network, precision: Precision = "auto", threads: int | None = None) -> None:
        core = openvino.Core()
        if precision == "auto":
            precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        model = openvino.convert_model(network.eval(), example_input=torch.zeros(network.example_shape))
        self.compiled = core.compile_model(model, "CPU", config)
        self.name = f"openvino-cpu-{precision}"

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits."""
        logits: NDArray[np.float32] = self.compiled(batch)[0]
        return logits
