from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from dicom_node.headers import read_series
from training import datasets
from training.datasets.dicom import read_ct, volume_sample
from training.datasets.plausible import AXES, require_plausible_masks
from training.datasets.sample import LUNG, BadData, Sample
from worker.pipeline import THRESHOLDS

MIRRORED = [axes for count in (1, 2, 3) for axes in combinations(range(3), count)]


def refuse_mirrored(sample: Sample, axes: tuple[int, ...]) -> None:
    masks = {name: np.flip(mask, axes) for name, mask in sample.masks.items()}
    swapped = ", ".join(AXES[axis] for axis in axes)
    with pytest.raises(BadData, match=rf"scan: its lung masks fit the lungs if one swaps {swapped};"):
        require_plausible_masks(replace(sample, masks=masks), Path("scan"))


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])  # a phantom's right is too much like its left
def test_lung_masks_that_lie_mirrored_are_refused(axes: tuple[int, ...]) -> None:
    sample = next(datasets.read("phantom", Path()))
    assert require_plausible_masks(sample, Path("scan")) is sample
    refuse_mirrored(sample, axes)


@pytest.mark.data
@pytest.mark.parametrize("study", ["cap-001", "covid-p001", "normal-001", "petct-a0002-b40f"])
def test_lung_masks_of_a_real_scan_that_lie_mirrored_are_refused(study: str, shared_data: Path) -> None:
    folder = shared_data / "ct-studies" / study
    series = max(read_series(sorted(folder.rglob("*.dcm"))), key=lambda one: one.slices)
    volume, _ = read_ct(series, folder)
    lungs = volume.geometry.anatomical(THRESHOLDS.segment_lungs(volume).labels > 0)
    sample = replace(volume_sample(volume, study, "ct-studies", study, {}, None), masks={LUNG: lungs})
    assert require_plausible_masks(sample, folder) is sample
    for axes in MIRRORED:
        refuse_mirrored(sample, axes)
