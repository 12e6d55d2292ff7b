from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from worker.phantom import Truth, write_phantom
from worker.pipeline import analyze
from worker.volume import read_volume

SLICES = 60
"""Slices of 5 mm: on thicker slices partial volume makes the thresholds' percentage up to 1.6 points too high."""


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return write_phantom(tmp_path_factory.mktemp("phantom"), seed=5, slices=SLICES)


def test_the_series_reads_back_on_the_truths_geometry(truth: Truth) -> None:
    volume = read_volume(truth.paths)
    assert volume.hu.shape == (SLICES, 512, 512)
    assert volume.geometry.is_same_as(truth.lungs.geometry)
    assert volume.flags == ()


def test_it_has_the_densities_of_a_chest(truth: Truth) -> None:
    volume = read_volume(truth.paths)
    healthy = (truth.lungs.labels != 0) & ~truth.infection.array
    assert -880 < np.median(volume.hu[healthy]) < -820
    assert -700 < np.median(volume.hu[truth.infection.array]) < -400
    assert (volume.hu > 300).sum() * volume.geometry.voxel_volume_ml > 200  # bone
    soft = (volume.hu > 20) & (volume.hu < 80)
    assert soft.sum() * volume.geometry.voxel_volume_ml > 3000


def test_the_right_lung_is_larger_and_lies_on_the_right(truth: Truth) -> None:
    assert 0.85 < truth.lung_volume_ml("left") / truth.lung_volume_ml("right") < 1
    middle = {
        side: truth.lungs.geometry.to_patient(np.argwhere(truth.lungs.side(side).array)).mean(axis=0)[0]
        for side in ("left", "right")
    }
    assert middle["right"] < -40
    assert middle["left"] > 40


def test_it_is_infected_on_both_sides(truth: Truth) -> None:
    for side in ("left", "right"):
        assert 1 < truth.infected_percent(side) < 20


def test_the_thresholds_measure_it_within_a_point(truth: Truth) -> None:
    _, findings = analyze(truth.paths)
    for site in ("both", "left", "right"):
        assert findings.measurement(site).infected_percent == pytest.approx(truth.infected_percent(site), abs=1.0)
        assert findings.measurement(site).lung_volume_ml == pytest.approx(truth.lung_volume_ml(site), rel=0.06)


def test_the_patient_is_obviously_none(truth: Truth) -> None:
    ds = dcmread(truth.paths[0], stop_before_pixels=True)
    assert str(ds.PatientName) == "Phantom^Synthetic chest"
    assert ds.PatientID == "HILUM-PHANTOM-5"


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    once, again = (write_phantom(tmp_path / name, seed=7, slices=10) for name in ("once", "again"))
    for first, second in zip(once.paths, again.paths, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_another_seed_is_another_study(truth: Truth, tmp_path: Path) -> None:
    other = write_phantom(tmp_path, seed=6, slices=10)
    first, second = (dcmread(t.paths[0], stop_before_pixels=True) for t in (truth, other))
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
        assert first[keyword].value != second[keyword].value
    assert truth.infected_percent("both") != other.infected_percent("both")
