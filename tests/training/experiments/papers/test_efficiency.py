from pathlib import Path

import pytest
import torch

from tests.training.synthetic import disc_sample, discs, tiny_network
from training import datasets
from training.experiments.papers import efficiency
from training.fit.device import forward


def test_the_mean_of_epochs_has_the_first_among_them_as_in_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 104.0, 200.0, 203.0, 300.0, 301.0])
    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: next(clock))
    seen = []
    monkeypatch.setattr(efficiency, "forward", lambda *arguments: seen.append(0) or forward(*arguments))
    (stack,) = discs(tmp_path, count=1)
    figures = efficiency.time_epochs(tiny_network(classes=3), 2, stack, torch.device("cpu"))
    assert len(seen) == 3 * 2
    assert figures == {"seconds_per_epoch": 36.0, "seconds_first_epoch": 104.0, "seconds_per_later_epoch": 2.0}


def test_both_kinds_of_convolution_hold_at_least_their_weights_and_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "READERS", {"infection-slices": lambda _folder: map(disc_sample, range(9))})
    monkeypatch.setattr(efficiency, "SHORT_SHAPE", (8, 32, 32))
    torch.set_num_threads(1)
    figures = efficiency.measure_training(tmp_path, tmp_path, short=True)
    for kind in ("separable", "standard"):
        assert figures[f"{kind}/peak_memory_gib"] > 2 * 4 * figures[f"{kind}/trainable_parameters"] / 2**30


def test_the_short_form_of_inference_counts_up_to_709_slices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, cpu_clock = iter([0.0, 3.2, 10.0, 11.0]), iter([0.0, 6.4, 0.0, 2.0])
    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(efficiency.time, "process_time", lambda: next(cpu_clock))
    monkeypatch.setattr(efficiency, "SIZE", (32, 16))
    monkeypatch.setattr(efficiency, "SHORT_SIZE", (16, 16))
    monkeypatch.setattr(efficiency, "network_of", lambda name, arguments: tiny_network(classes=1))
    figures = efficiency.measure_inference(None, None, short=True)  # type: ignore[arg-type]  # it reads no data
    assert figures["2d/seconds"] == pytest.approx(2 * 709 / 32 * 3.2)
    assert figures["3d/seconds"] == pytest.approx(2 * 23)
    assert figures["2d/cpu_seconds"] == pytest.approx(2 * 709 / 32 * 6.4)
