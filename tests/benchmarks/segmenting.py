"""Lungs segmented by networks: Hilum, lungmask, nnU-Net and a MONAI sliding window, on the same slices."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.comparison import HILUM, Comparison, alternate
from worker.chest_network import ChestNetwork
from worker.geometry import Geometry
from worker.models.store import CHEST_WEIGHTS
from worker.phantom.chest import build_chest
from worker.volume import Volume

SLICES = 48

TITLE = "Finding lungs, by network"
TEXT = f"""\
From HU in memory to a mask of both lungs, for {SLICES} slices of 512x512 of the phantom, on CPU, with networks
loaded and warmed up. lungmask (0.2, `pip install lungmask`) runs its own inference with the architecture of its R231
at 256x256 and random weights, which take the same time; its post-processing, which depends on the weights, is off.
MONAI's sliding window runs its BasicUNet in 2D, in windows of 256x256 that overlap by a quarter, with random weights
as well. nnU-Net (2.8, `pip install nnunetv2`) runs the 2D network that it plans for 512x512, with eight stages of 32
to 512 channels and random weights, without mirroring, on HU that are already resampled and normalised. Hilum's time
includes its post-processing: cleaning in 3D, and telling left from right. The peers compute in 32 bits."""

MILLISECONDS = 1000 / SLICES


def measure(rounds: int) -> Iterator[Comparison]:
    """Measure each method's time per slice."""
    hu = build_chest(107, SLICES).hu
    methods: dict[str, Callable[[NDArray[np.int16]], object]] = {
        HILUM: hilum(),
        "lungmask, R231": lungmask(),
        "nnU-Net, 2D": nnunet(),
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
    """Return the worker's way to segment lungs."""
    network = ChestNetwork.open(CHEST_WEIGHTS)

    def segment(hu: NDArray[np.int16]) -> object:
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 5.0, 0.7, 0.7, 1
        return network.segment_lungs(Volume(hu, Geometry(hu.shape, affine, ""), ()))

    return segment


def lungmask() -> Callable[[NDArray[np.int16]], object]:
    """Return lungmask's inference, with random weights."""
    import torch  # imported here, because the other benchmarks do not need it

    mask, resunet = (peer(f"lungmask.{name}", "lungmask") for name in ("mask", "resunet"))
    network = resunet.UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "random.pth")
        torch.save(network.state_dict(), path)
        inferer = mask.LMInferer(
            modelpath=str(path), force_cpu=True, volume_postprocessing=False, tqdm_disable=True, batch_size=20
        )
    return lambda hu: inferer.apply(hu)


def nnunet() -> Callable[[NDArray[np.int16]], object]:
    """Return nnU-Net's inference with its 2D plan for images of 512x512, with random weights."""
    import torch

    predict = peer("nnunetv2.inference.predict_from_raw_data", "nnunetv2")
    plans = peer("nnunetv2.utilities.plans_handling.plans_handler", "nnunetv2")
    unet = peer("dynamic_network_architectures.architectures.unet", "nnunetv2")
    stages, channels = 8, 3
    network = unet.PlainConvUNet(
        input_channels=1,
        n_stages=stages,
        features_per_stage=[min(32 * 2**stage, 512) for stage in range(stages)],
        conv_op=torch.nn.Conv2d,
        kernel_sizes=3,
        strides=[1, *[2] * (stages - 1)],
        n_conv_per_stage=2,
        num_classes=channels,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    ).eval()
    predictor = predict.nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    plan = {"patch_size": [512, 512], "architecture": {}}
    labels = {"background": 0, "left lung": 1, "right lung": 2}
    predictor.manual_initialization(
        network,
        plans.PlansManager({"configurations": {"2d": plan}}),
        plans.ConfigurationManager(plan),
        parameters=[network.state_dict()],
        dataset_json={"labels": labels},
        trainer_name="",
        inference_allowed_mirroring_axes=None,
    )

    def segment(hu: NDArray[np.int16]) -> object:
        images = torch.from_numpy((hu.astype(np.float32) + 600) / 400)[None]
        return predictor.predict_sliding_window_return_logits(images).argmax(dim=0)

    return segment


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


def peer(module: str, package: str) -> Any:
    """Import a module that only this benchmark needs; it has no type annotations."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SystemExit(f"hilum bench segmenting needs {error.name}: pip install {package}") from error
