"""Time and memory: Shivdeo et al. 2021, table 3, and Alalwan et al. 2021, tables 2 and 3.

Untrained weights take the same time as trained ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from training import datasets
from training.evaluate.scan import Segmenter
from training.experiment import Benchmark, Published
from training.experiments.papers import alalwan
from training.fit.device import choose_device, forward, lay_out, mixed_precision
from training.fit.losses import build_loss
from training.fit.schedules import ALALWAN
from training.prepare.prepared import Prepared, prepare
from worker.networks.engine import Engine
from worker.networks.export import convert
from worker.networks.network import SegmentationNetwork, count_parameters, count_running_statistics
from worker.networks.openvino_engine import OpenVinoEngine
from worker.networks.registry import build
from worker.networks.torch_engine import TorchEngine

SLICES = 709
"""Shivdeo et al. 2021, section 5.4."""

STACK_SLICES = 32
SIZE = (512, 512)
SHORT_SIZE = (256, 256)

CASES_SHAPE = (12, 224, 224)
"""Alalwan et al. 2021, section 3: the input."""
SHORT_SHAPE = (12, 128, 128)

EPOCHS = 3
"""Epochs that are timed; the paper's table 2 has ten."""


def network_of(name: str, arguments: Mapping[str, object]) -> SegmentationNetwork:
    """Return an untrained segmentation network."""
    torch.manual_seed(0)
    network = build(name, arguments)
    if not isinstance(network, SegmentationNetwork):
        raise TypeError(f"{name} is no segmentation network")
    return network


def measure_inference(data: Path, folder: Path, short: bool) -> dict[str, float]:
    """Return the seconds that a scan of 709 slices of 512 x 512 takes in 2D and 3D.

    The short form reads one stack of 32 slices of 256 x 256 and scales the time up: 2D by the number of slices,
    3D by the number of stacks, both by the area. ``cpu_seconds`` is the process's CPU time over all its
    threads; if it is far from ``seconds`` times the threads, other processes were using the machine.
    """
    slices, size = (STACK_SLICES, SHORT_SIZE) if short else (SLICES, SIZE)
    scan = np.random.default_rng(0).random((slices, *size), np.float32)
    area = math.prod(SIZE) / math.prod(SHORT_SIZE)
    threads = torch.get_num_threads()
    figures: dict[str, float] = {}
    for key, name, warm_up, factor in (
        ("2d", "xception-unet", 4, area * SLICES / STACK_SLICES),
        ("3d", "vnet", STACK_SLICES, area * -(-SLICES // STACK_SLICES)),
    ):
        network = network_of(name, {"classes": 1})
        engine = fastest_engine(network, threads)
        segmenter = Segmenter(engine, network.layout, network.divisors, stack_slices=STACK_SLICES)
        segmenter.labels(scan[:warm_up])  # the first call compiles
        began, cpu_began = time.perf_counter(), time.process_time()
        segmenter.labels(scan)
        figures[f"{key}/seconds"] = (time.perf_counter() - began) * (factor if short else 1)
        figures[f"{key}/cpu_seconds"] = (time.process_time() - cpu_began) * (factor if short else 1)
    figures["speed_up"] = figures["2d/seconds"] / figures["3d/seconds"]
    return figures


def fastest_engine(network: SegmentationNetwork, threads: int) -> Engine:
    """Return torch on the GPU where there is one, else OpenVINO on CPU."""
    if torch.cuda.is_available():
        return TorchEngine(network, "cuda")
    return OpenVinoEngine(convert(network), threads=threads)


def measure_training(data: Path, folder: Path, short: bool) -> dict[str, float]:
    """Return parameters, and seconds and memory of an epoch of training, by kind of convolution.

    An epoch has ten steps (section 3.2), and each sees one stack of 12 x 224 x 224. In the short form it has three, on
    12 x 128 x 128.
    """
    steps, shape = (3, SHORT_SHAPE) if short else (10, CASES_SHAPE)
    stack = chest_stack(data, shape)
    figures: dict[str, float] = {}
    for kind, separable in (("separable", True), ("standard", False)):
        # Each kind in a process of its own, because the recorded peak of a process's memory never falls.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            epochs = pool.submit(measure_epochs, separable, steps, stack, torch.get_num_threads())
            figures |= {f"{kind}/{key}": value for key, value in epochs.result().items()}
    figures["speed_up"] = figures["standard/seconds_per_epoch"] / figures["separable/seconds_per_epoch"]
    figures["memory_ratio"] = figures["standard/peak_memory_gib"] / figures["separable/peak_memory_gib"]
    return figures


def chest_stack(data: Path, shape: tuple[int, int, int]) -> Prepared:
    """Return a stack of the first chest's slices in a shape (slices, rows, columns), labelled lung and infection."""
    (experiment, *_) = alalwan.EXPERIMENTS
    preprocess = replace(experiment.preprocess, size=shape[1:])
    with TemporaryDirectory() as folder:
        slices = prepare(
            islice(datasets.read(experiment.data[0], data), shape[0]), preprocess, experiment.target, Path(folder)
        )
        image, labels = (np.concatenate([getattr(s, kind) for s in slices]) for kind in ("image", "labels"))
    return replace(slices[0], image=image, labels=labels)


def measure_epochs(separable: bool, steps: int, stack: Prepared, threads: int) -> dict[str, float]:
    """Return parameters, seconds and memory of 3D-DenseUNet-569 on a stack."""
    torch.set_num_threads(threads)
    device = choose_device()
    before_gib = peak_memory_gib(device)
    network = network_of("dense-unet-569", {"classes": 3, "separable": separable})
    trainable, statistics = count_parameters(network), count_running_statistics(network)
    return {
        "trainable_parameters": trainable,
        "non_trainable_parameters": statistics,
        "parameters": trainable + statistics,
        **time_epochs(network, steps, stack, device),
        "peak_memory_gib": peak_memory_gib(device) - before_gib,
    }


def time_epochs(network: SegmentationNetwork, steps: int, stack: Prepared, device: torch.device) -> dict[str, float]:
    """Return the mean seconds of an epoch of some steps of training, of the first, and of those after it."""
    network = lay_out(network, device)
    optimiser = ALALWAN.build(network)
    loss = build_loss("cross_entropy", alalwan.CLASS_WEIGHTS)
    images = torch.from_numpy(stack.image).float()[None].to(device)
    labels = torch.from_numpy(stack.labels)[None].to(device)
    seconds = []
    for _ in range(EPOCHS):
        began = time.perf_counter()
        for _ in range(steps):
            with mixed_precision(device, network.layout):
                logits = forward(network, network.layout, images)
            optimiser.zero_grad()
            loss(logits, labels).backward()
            optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return {
        "seconds_per_epoch": float(np.mean(seconds)),
        "seconds_first_epoch": seconds[0],
        "seconds_per_later_epoch": float(np.mean(seconds[1:])),
    }


def peak_memory_gib(device: torch.device) -> float:
    """Return this process's peak memory, of the GPU if there is one, else of the machine; NaN if not recorded."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    kib = (float(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return next(kib, math.nan) / 2**20


BENCHMARKS = (
    Benchmark(
        name="shivdeo-inference-time",
        paper="Shivdeo et al. 2021, table 3",
        measure=measure_inference,
        short_form="one stack of 32 slices at 256x256, multiplied",
        published=(
            Published("2d/seconds", 70, "table 3, Tesla T4"),
            Published("2d/seconds", 1145, "table 3, without GPU"),
            Published("3d/seconds", 17, "table 3, Tesla T4"),
            Published("3d/seconds", 229, "table 3, without GPU"),
            Published("speed_up", 5, "section 5.4"),
        ),
        differs="V-Net of 45.6 M parameters, the canonical one; the fastest engine of this machine",
    ),
    Benchmark(
        name="alalwan-efficiency",
        paper="Alalwan et al. 2021, tables 2 and 3",
        measure=measure_training,
        short_form="epochs of 3 steps on 12 slices at 128x128",
        published=(
            *(
                Published(f"{kind}/seconds_per_{epochs}", seconds, place)
                for epochs, place, (separable, standard) in (
                    ("epoch", "table 2, mean over 10 epochs, the first among them", (10.4, 38.85)),
                    ("later_epoch", "table 2, mean over epochs 2 to 10", (6.03, 18.56)),
                )
                for kind, seconds in (("separable", separable), ("standard", standard))
            ),
            Published("speed_up", 3.74, "table 2, 38.85 s / 10.4 s"),
            Published("memory_ratio", 5, "section 4.4"),
            Published("separable/trainable_parameters", 36_270_875, "table 3"),
            Published("separable/trainable_parameters", 3_600_000, "section 3, a slip of the decimal point"),
            Published("separable/non_trainable_parameters", 162_712, "table 3"),
            Published("separable/parameters", 36_433_587, "table 3"),
            Published("standard/trainable_parameters", 180_615_711, "table 3"),
            Published("standard/non_trainable_parameters", 654_360, "table 3"),
            Published("standard/parameters", 181_270_071, "table 3"),
        ),
        differs=(
            "three epochs; each has ten steps, as section 3.2 says, so table 2's columns of 5 to 20 cases are one; "
            "each step sees the same stack of a chest; memory is the GPU's, or without one the process's"
        ),
    ),
)
