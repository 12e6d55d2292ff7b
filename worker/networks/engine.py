"""What runs a network: torch on a GPU, OpenVINO on CPU.

A CPU worker has no torch: OpenVINO reads what ``export`` wrote beside the weights.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.networks.card import Card, read_weights
from worker.networks.errors import NetworkError

Precision = Literal["auto", "f32", "bf16"]
"""How exactly a network is computed; ``auto`` takes 16 bits where the hardware computes in them."""


class Engine(Protocol):
    """A network made ready to run, for any batch and any image size that it takes."""

    @property
    def name(self) -> str:
        """What it runs on and how exactly, such as ``openvino-cpu-bf16``: it may change the last digits."""

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's logits for its input."""


def open_engine(path: Path, card: Card, threads: int | None = None) -> Engine:
    """Return an engine for the weights at a path.

    It is the GPU where there is one, else OpenVINO where the weights were exported for it, else torch on CPU.

    Parameters
    ----------
    threads : int or None
        CPU threads; None lets the engine choose.

    Raises
    ------
    NetworkError
        The weights are not those of the card, or were not exported and there is no torch on this machine.
    OSError
        A file cannot be read.
    """
    read_weights(path, card)
    has_torch = importlib.util.find_spec("torch") is not None
    has_gpu = has_torch and _torch_has_gpu()
    if card.openvino_sha256 and not has_gpu:
        from worker.networks.openvino_engine import OpenVinoEngine  # slow to import

        return OpenVinoEngine.open(path, card, threads=threads)
    if not has_torch:
        raise NetworkError(
            "not-exported",
            f"{path.name} was not exported for machines without torch; run `hilum export` on one that has it, "
            "or run in a checkout of Hilum here: pip install -c constraints.txt '.[torch]'",
        )
    from worker.networks.checkpoint import load  # torch takes seconds and 250 MB
    from worker.networks.torch_engine import TorchEngine

    network, _ = load(path)
    return TorchEngine(network, "cuda" if has_gpu else "cpu", threads=threads)


def _torch_has_gpu() -> bool:
    import torch  # as above

    return torch.cuda.is_available()
