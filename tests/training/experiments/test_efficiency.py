import pytest
import torch

from tests.training.synthetic import tiny_network
from training.experiments import efficiency


def test_a_step_is_timed_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 200.0, 203.0, 300.0, 301.0])
    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(efficiency, "CASES_SHAPE", (1, 8, 8))
    figures = efficiency.time_steps(tiny_network(classes=3), steps=2, device=torch.device("cpu"))
    assert figures == {"seconds_first_step": 100.0, "seconds_per_step": 2.0}


def test_the_short_form_of_inference_counts_up_to_709_slices(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    clock = iter([0.0, 3.2, 10.0, 11.0])
    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(efficiency, "SIZE", (16, 16))
    monkeypatch.setattr(efficiency, "network_of", lambda name, arguments: tiny_network(classes=1))
    figures = efficiency.measure_inference(None, None, short=True)  # type: ignore[arg-type]  # it reads no data
    assert figures["2d/seconds"] == pytest.approx(709 / 32 * 3.2)
    assert figures["3d/seconds"] == pytest.approx(23)
