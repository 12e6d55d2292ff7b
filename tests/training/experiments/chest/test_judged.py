from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.experiments.chest import judged
from worker.geometry import Geometry


def test_the_verdicts_of_a_study_with_a_dot_in_its_name_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, _: object) -> NDArray[np.bool_]:
        assert path == tmp_path / "covid.1.labels.csv"
        return np.array([True, False])

    monkeypatch.setattr(judged, "read_verdicts", read)
    geometry = Geometry((2, 4, 4), np.eye(4)[[2, 1, 0, 3]], "1.2.3")
    volume: Any = SimpleNamespace(geometry=geometry, hu=np.zeros((2, 4, 4)))
    both = SimpleNamespace(infection_volume_ml=1.0, lung_volume_ml=10.0)
    areas = SimpleNamespace(infection_mm2=np.array([3.0, 0.0]))
    findings: Any = SimpleNamespace(areas=areas, measurement=lambda _: both)

    assert judged.study_figures(tmp_path / "covid.1", volume, findings)["slice_auc"] == 1
