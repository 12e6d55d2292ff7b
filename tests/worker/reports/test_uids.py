from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import UID

from dicom_node.errors import NotAnalysable
from dicom_node.settings import ReportSettings
from tests.factories import chest_hu, ct_series
from tests.worker.reports.results import MADE_AT, NETWORK, SHAPE, THRESHOLDS, findings_of
from worker.findings import Algorithm
from worker.reports import write_refusal, write_reports
from worker.reports.history import Unmeasured
from worker.reports.uids import derive_uid, device_uid, is_derived
from worker.volume import Volume, read_volume


@given(st.lists(st.text(max_size=20), max_size=4))
def test_a_derived_uid_is_valid(parts: list[str]) -> None:
    assert UID(derive_uid(*parts)).is_valid


@given(st.lists(st.text(max_size=5), max_size=3), st.lists(st.text(max_size=5), max_size=3))
def test_other_parts_give_another_uid(some: list[str], others: list[str]) -> None:
    assert (derive_uid(*some) == derive_uid(*others)) == (some == others)


@given(st.lists(st.text(max_size=5), max_size=3))
def test_a_derived_uid_is_known_for_one(parts: list[str]) -> None:
    assert is_derived(derive_uid(*parts))


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.826.0.1.3680043.8.498.1",
        f"2.25.{uuid.UUID('8a4bb3f2-02a7-4c2c-93ad-5f0b0a1f4b13').int}",  # a random UUID (version 4)
        f"2.25.{'9' * 39}",  # larger than any UUID, as OHIF's may be
        "2.25.x",
        "",
    ],
)
def test_other_uids_are_not_taken_for_derived_ones(uid: str) -> None:
    assert not is_derived(uid)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return ct_series(tmp_path_factory.mktemp("ct"), chest_hu(SHAPE)[0])


def uids(
    volume: Volume,
    folder: Path,
    algorithm: Algorithm = THRESHOLDS,
    settings: ReportSettings | None = None,
    *,
    infected: bool = True,
    others: Sequence[Unmeasured] = (),
) -> dict[str, str]:
    _, labels, infection = chest_hu(SHAPE, infected=infected)
    found = findings_of(volume, labels, infection, algorithm=algorithm)
    folder.mkdir()
    objects = write_reports(volume, found, folder, settings or ReportSettings(), MADE_AT, others=others)
    return {item.kind: item.sop_instance_uid for item in objects}


def test_the_same_inputs_give_the_same_uids(series: list[Path], tmp_path: Path) -> None:
    first = uids(read_volume(series), tmp_path / "1")

    assert first == uids(read_volume(series[::-1]), tmp_path / "2")
    assert len(set(first.values())) == len(first)


def test_uids_do_not_follow_from_the_result(series: list[Path], tmp_path: Path) -> None:
    volume = read_volume(series)
    found = uids(volume, tmp_path / "1")

    assert uids(volume, tmp_path / "2", infected=False)["report"] == found["report"]


@pytest.mark.parametrize(
    "algorithm",
    [
        NETWORK,
        replace(THRESHOLDS, version="1.1"),
        replace(THRESHOLDS, settings=(("upper_hu", "-300"),)),
        replace(THRESHOLDS, weights_sha256="00" * 32),
    ],
)
def test_another_algorithm_gives_other_uids(series: list[Path], tmp_path: Path, algorithm: Algorithm) -> None:
    volume = read_volume(series)

    first, second = uids(volume, tmp_path / "1"), uids(volume, tmp_path / "2", algorithm)

    assert not set(first.values()) & set(second.values())


def test_other_pixels_under_the_same_uids_give_other_uids(series: list[Path], tmp_path: Path) -> None:
    volume = read_volume(series)
    changed = replace(volume, hu=volume.hu + 1)

    first, second = uids(volume, tmp_path / "1"), uids(changed, tmp_path / "2")

    assert not set(first.values()) & set(second.values())


@pytest.mark.parametrize(
    "corrected",
    [
        lambda v: replace(v, geometry=replace(v.geometry, affine=v.geometry.affine @ np.diag([2, 1, 1, 1]))),
        lambda v: replace(v, geometry=replace(v.geometry, frame_of_reference_uid="1.2.3")),
        lambda v: replace(v, slices=(replace(v.slices[0], position_mm=(0.0, 0.0, 0.1)), *v.slices[1:])),
        lambda v: replace(v, slices=(replace(v.slices[0], instance_number=99), *v.slices[1:])),
        lambda v: replace(v, kernel="B70f"),
        lambda v: replace(v, has_contrast_agent=True),
        lambda v: replace(v, slice_thickness_mm=8.0),
    ],
    ids=["affine", "frame of reference", "position", "number", "kernel", "contrast", "thickness"],
)
def test_what_was_corrected_under_the_same_uids_gives_other_uids(
    series: list[Path], tmp_path: Path, corrected: Callable[[Volume], Volume]
) -> None:
    volume = read_volume(series)

    first, second = uids(volume, tmp_path / "1"), uids(corrected(volume), tmp_path / "2")

    assert not set(first.values()) & set(second.values())


def refusal_uid(paths: list[Path], folder: Path, message: str = "two slices are missing") -> str:
    folder.mkdir()
    (report,) = write_refusal(paths, NotAnalysable("missing-slices", message), THRESHOLDS, folder)
    return report.sop_instance_uid


def test_the_same_refusal_has_the_same_uid_in_whatever_order_the_files_come(series: list[Path], tmp_path: Path) -> None:
    """The node sorts files by UID, and `hilum analyze` by name; which file represents all must not depend on this."""
    ds = dcmread(series[3])
    ds.StudyDescription = "Another than in the other files"
    mixed = [tmp_path / "mixed.dcm", *series]
    mixed.remove(series[3])
    ds.save_as(mixed[0])

    assert refusal_uid(mixed, tmp_path / "1") == refusal_uid(mixed[::-1], tmp_path / "2")


def test_another_reason_for_a_refusal_gives_another_uid(series: list[Path], tmp_path: Path) -> None:
    first, second = (refusal_uid(series, tmp_path / m, m) for m in ("one slice is missing", "two slices are missing"))

    assert first != second


def test_a_prior_of_another_date_that_could_not_be_measured_gives_other_uids(
    series: list[Path], tmp_path: Path
) -> None:
    volume = read_volume(series)
    of_dates = (
        Unmeasured(None, "a gap"),
        Unmeasured(datetime(2024, 1, 2, tzinfo=UTC), "a gap"),
        Unmeasured(datetime(2024, 1, 3, tzinfo=UTC), "a gap"),
    )

    found = {uids(volume, tmp_path / str(n), others=[other])["report"] for n, other in enumerate(of_dates)}

    assert len(found) == len(of_dates)


def test_another_setting_of_the_report_gives_other_uids(series: list[Path], tmp_path: Path) -> None:
    volume = read_volume(series)
    settings = ReportSettings(title="DCM 126000")

    first, second = uids(volume, tmp_path / "1"), uids(volume, tmp_path / "2", settings=settings)

    assert not set(first.values()) & set(second.values())


def test_a_corrected_identity_under_the_same_uids_gives_other_uids(series: list[Path], tmp_path: Path) -> None:
    corrected = []
    for path in series:
        ds = dcmread(path)
        ds.PatientID = "CORRECTED"
        corrected.append(tmp_path / path.name)
        ds.save_as(corrected[-1])

    first, second = (uids(read_volume(p), tmp_path / n) for p, n in ((series, "1"), (corrected, "2")))

    assert not set(first.values()) & set(second.values())


def test_retrained_weights_are_another_device() -> None:
    assert device_uid(NETWORK) != device_uid(replace(NETWORK, weights_sha256="cd" * 32))
    assert device_uid(NETWORK) == device_uid(replace(NETWORK, settings=(("a", "b"),)))
