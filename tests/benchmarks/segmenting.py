"""Lungs found by a network: Hilum beside lungmask and a MONAI sliding window, on the same slices."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.comparison import HILUM, Comparison, alternate
from worker.chest_network import ChestNetwork
from worker.geometry import Geometry
from worker.models.store import CHEST
from worker.phantom.chest import build_chest
from worker.volume import Volume

SLICES = 48

TITLE = "Finding lungs, by network"
TEXT = f"""\
From HU in memory to a mask of both lungs, for {SLICES} slices of 512x512 of the phantom, on CPU; networks are loaded
and warm. lungmask (0.2, `pip install lungmask`) runs its own inference with the architecture of its R231 at 256x256 and
random weights, which take the same time; its post-processing, which depends on the weights, is off. MONAI's sliding
window takes its BasicUNet in 2D, in windows of 256x256 that overlap by a quarter, with random weights as well. Hilum's
time has its post-processing in it: cleaning in 3D, and left from right. Both peers compute in 32 bits."""

MILLISECONDS = 1000 / SLICES


def measure(rounds: int) -> Iterator[Comparison]:
    """Measure the time a slice."""
    hu = build_chest(107, SLICES).hu
    methods: dict[str, Callable[[NDArray[np.int16]], object]] = {
        HILUM: hilum(),
        "lungmask, R231": lungmask(),
        "MONAI sliding window, BasicUNet": monai(),
    }
    for method in methods.values():
        method(hu[:4])  # the first call compiles
    contenders = {name: lambda method=method: timed(method, hu) for name, method in methods.items()}
    yield Comparison("lungs, a slice", "ms", alternate(rounds, contenders))


def timed(method: Callable[[NDArray[np.int16]], object], hu: NDArray[np.int16]) -> float:
    """Return the milliseconds that a method takes for a slice."""
    began = time.perf_counter()
    method(hu)
    return (time.perf_counter() - began) * MILLISECONDS


def hilum() -> Callable[[NDArray[np.int16]], object]:
    """Return how the worker finds lungs."""
    network = ChestNetwork.open(CHEST)

    def segment(hu: NDArray[np.int16]) -> object:
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 5.0, 0.7, 0.7, 1
        return network.segment_lungs(Volume(hu, Geometry(hu.shape, affine, ""), ()))

    return segment


def lungmask() -> Callable[[NDArray[np.int16]], object]:
    """Return lungmask's inference, with random weights."""
    import torch  # here, for the other benchmarks need none of it

    try:
        mask, resunet = (importlib.import_module(f"lungmask.{name}") for name in ("mask", "resunet"))
    except ModuleNotFoundError as error:
        raise SystemExit(f"hilum bench segmenting needs {error.name}: pip install lungmask") from error
    network = resunet.UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "random.pth")
        torch.save(network.state_dict(), path)
        inferer = mask.LMInferer(
            modelpath=str(path), force_cpu=True, volume_postprocessing=False, tqdm_disable=True, batch_size=20
        )
    return lambda hu: inferer.apply(hu)


def monai() -> Callable[[NDArray[np.int16]], object]:
    """Return MONAI's sliding window, with random weights."""
    import torch
    from monai.inferers.utils import sliding_window_inference
    from monai.networks.nets.basic_unet import BasicUNet

    network = BasicUNet(spatial_dims=2, in_channels=1, out_channels=3).eval()

    def segment(hu: NDArray[np.int16]) -> object:
        images = torch.from_numpy(np.clip((hu.astype(np.float32) + 1200) / 1800, 0, 1)[:, None])
        with torch.inference_mode():
            return [
                sliding_window_inference(image[None], (256, 256), 4, network, overlap=0.25).argmax(dim=1)
                for image in images
            ]

    return segment
