"""What runs a network: torch on CPU or GPU, or OpenVINO on CPU."""

from __future__ import annotations

import importlib.util
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from worker.networks.network import Network
from worker.networks.precision import Precision, native_half, precision_name
from worker.networks.registry import NetworkError

EngineName = Literal["auto", "cuda", "openvino", "torch"]


class Engine(Protocol):
    """A network made ready to run, for any batch and any image size that it takes."""

    @property
    def name(self) -> str:
        """What it runs on and how exactly, such as ``openvino-cpu-bf16``: it may change the last digits."""

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's logits for its input."""


class TorchEngine:
    """A network run by torch.

    Parameters
    ----------
    network : Network
        Taken over: moved to the device and put into evaluation mode.
    device : str
        ``cpu`` or a torch name of a GPU.
    precision : str
        ``auto`` takes 16 bits where the device computes in them.
    threads : int or None
        CPU threads of the whole process; None leaves them as they are.
    """

    def __init__(
        self, network: Network, device: str = "cpu", precision: Precision = "auto", threads: int | None = None
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        half = native_half(self.device)
        self.dtype = {"auto": half, "f32": None, "bf16": torch.bfloat16}[precision]
        self.network = network.eval().to(self.device)
        for weight in self.network.parameters():
            if weight.dim() == 4:  # faster in 2D; on CPU, 3D convolutions would be slower
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.name = f"torch-{self.device.type}-{precision_name(self.dtype)}"

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits."""
        autocast = torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)
        with torch.inference_mode(), autocast:
            logits: NDArray[np.float32] = self.network(torch.from_numpy(batch).to(self.device)).float().cpu().numpy()
        return logits


def make_engine(network: Network, name: EngineName = "auto", threads: int | None = None) -> Engine:
    """Return an engine for a network.

    Parameters
    ----------
    name : str
        ``auto`` takes the GPU where there is one, else OpenVINO where it is installed, else torch on CPU.
    threads : int or None
        CPU threads; None lets the engine choose.

    Raises
    ------
    NetworkError
        The engine asked for is not on this machine.
    """
    has_gpu = torch.cuda.is_available()
    has_openvino = importlib.util.find_spec("openvino") is not None
    if name == "auto":
        name = "cuda" if has_gpu else "openvino" if has_openvino else "torch"
    if (name == "cuda" and not has_gpu) or (name == "openvino" and not has_openvino):
        raise NetworkError("engine-not-here", f"engine {name!r} is not on this machine; 'auto' takes one that is")
    if name == "openvino":
        from worker.networks.openvino_engine import OpenVinoEngine  # optional, and slow to import

        return OpenVinoEngine(network, threads=threads)
    return TorchEngine(network, "cuda" if name == "cuda" else "cpu", threads=threads)
