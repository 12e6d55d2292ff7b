"""torch on CPU or GPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from worker.networks.engine import Precision
from worker.networks.network import Network
from worker.networks.precision import native_half, precision_name


class TorchEngine:
    """A network run by torch.

    Parameters
    ----------
    network : Network
        Modified in place: it is moved to the device and put into evaluation mode.
    device : str
        ``cpu``, or torch's name of a GPU.
    precision : Precision
    threads : int or None
        CPU threads, set for the whole process; None leaves the setting unchanged.
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
            if weight.dim() == 4:  # faster for 2D convolutions; on CPU it would slow 3D convolutions down
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.name = f"torch-{self.device.type}-{precision_name(self.dtype)}"

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits."""
        autocast = torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)
        with torch.inference_mode(), autocast:
            logits: NDArray[np.float32] = self.network(torch.from_numpy(batch).to(self.device)).float().cpu().numpy()
        return logits
