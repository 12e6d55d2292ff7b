"""Open weights with the fastest engine that this machine has."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from worker.networks.card import Card, read_weights
from worker.networks.engine import Engine
from worker.networks.errors import NetworkError


def open_engine(path: Path, card: Card, threads: int | None = None) -> Engine:
    """Return an engine for the weights at a path.

    It runs on the GPU if there is one, else with OpenVINO if the weights were exported, else with torch on CPU.

    Parameters
    ----------
    threads : int or None
        CPU threads; None lets the engine choose.

    Raises
    ------
    NetworkError
        The weights do not match the card's hash, or were not exported and there is no torch on this machine; or as for
        ``read_exported`` or ``checkpoint.load``.
    OSError
        A file cannot be read.
    """
    read_weights(path, card)
    require_runnable(path, card)
    has_gpu = _has_torch() and _torch_has_gpu()
    if card.openvino_sha256 and not has_gpu:
        from worker.networks.openvino_engine import OpenVinoEngine  # slow to import

        return OpenVinoEngine.open(path, card, threads=threads)
    from worker.networks.checkpoint import load  # importing torch takes seconds and 250 MB
    from worker.networks.torch_engine import TorchEngine

    network, _ = load(path)
    return TorchEngine(network, "cuda" if has_gpu else "cpu", threads=threads)


def require_runnable(path: Path, card: Card) -> None:
    """Raise NetworkError if nothing on this machine runs the weights: they were not exported, and there is no torch."""
    if not card.openvino_sha256 and not _has_torch():
        raise NetworkError(
            "not-exported",
            f"{path.name} was not exported for machines without torch; run `hilum export` on one that has it, "
            "or run in a checkout of Hilum here: pip install -c constraints.txt '.[torch]'",
        )


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _torch_has_gpu() -> bool:
    import torch  # slow to import, as above

    return torch.cuda.is_available()
