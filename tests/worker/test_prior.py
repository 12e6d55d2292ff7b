"""A prior without a report: it gets the figures that its own report would have, and must be of the same patient."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.errors import NotForHilum
from dicom_node.settings import SelectionSettings
from tests.factories import chest_hu, ct_series
from worker.pipeline import THRESHOLDS, analyze, ignore_progress
from worker.prior import leave_out_fetched, measure_fetched, measure_prior, require_earlier
from worker.reports import write_reports
from worker.reports.history import Prior, Unmeasured, Untimed, read_exam

HU, _, _ = chest_hu((24, 48, 64))
ANNA: dict[str, Any] = {"PatientID": "4711", "IssuerOfPatientID": "HOSPITAL", "StudyTime": "101112"}


def study(folder: Path, **attributes: Any) -> list[Path]:
    return ct_series(folder, HU, **(ANNA | {"StudyDate": "20240228"} | attributes))


@pytest.fixture
def now(tmp_path: Path) -> list[Path]:
    return study(tmp_path / "now", StudyDate="20240301")


def test_a_prior_is_measured_as_its_own_report_would_tell_it(tmp_path: Path) -> None:
    paths = study(tmp_path / "ct")
    write_reports(*analyze(paths), tmp_path)

    prior = measure_prior(paths, THRESHOLDS, ignore_progress)

    assert prior.exam == read_exam(dcmread(tmp_path / "report.dcm"))
    assert {ds.SOPInstanceUID for ds in prior.evidence} == {dcmread(path).SOPInstanceUID for path in paths}


def test_an_earlier_study_of_the_patient_is_a_prior(tmp_path: Path, now: list[Path]) -> None:
    require_earlier(study(tmp_path / "before"), now)


@pytest.mark.parametrize(
    "other", [{"PatientID": "4712"}, {"IssuerOfPatientID": "OTHER"}, {"IssuerOfPatientID": None}, {"PatientID": ""}]
)
def test_a_study_of_another_patient_is_none(tmp_path: Path, now: list[Path], other: dict[str, Any]) -> None:
    with pytest.raises(NotForHilum, match="same patient") as refused:
        require_earlier(study(tmp_path / "before", **other), now)
    assert "471" not in refused.value.message


@pytest.mark.parametrize("other", [{"PatientBirthDate": "19700101"}, {"PatientSex": "M"}])
def test_a_study_of_another_birth_date_or_sex_is_of_another_patient(tmp_path: Path, other: dict[str, Any]) -> None:
    stated = {"PatientBirthDate": "19510203", "PatientSex": "F"}
    now = study(tmp_path / "now", StudyDate="20240301", **stated)
    with pytest.raises(NotForHilum, match="same patient"):
        require_earlier(study(tmp_path / "before", **(stated | other)), now)


@pytest.mark.parametrize("other", [{"PatientBirthDate": ""}, {"PatientSex": None}])
def test_what_only_one_study_states_of_the_patient_says_nothing(tmp_path: Path, other: dict[str, Any]) -> None:
    stated = {"PatientBirthDate": "19510203", "PatientSex": "F"}
    now = study(tmp_path / "now", StudyDate="20240301", **stated)
    require_earlier(study(tmp_path / "before", **(stated | other)), now)


def test_studies_of_nobody_are_not_of_the_same(tmp_path: Path) -> None:
    with pytest.raises(NotForHilum, match="same patient"):
        require_earlier(
            study(tmp_path / "before", PatientID=""), study(tmp_path / "now", PatientID="", StudyDate="20240301")
        )


@pytest.mark.parametrize("lacking", ["now", "before"])
def test_an_earlier_date_is_enough_where_a_time_is_missing(tmp_path: Path, lacking: str) -> None:
    now = study(tmp_path / "now", StudyDate="20240301", StudyTime="" if lacking == "now" else "101112")
    require_earlier(study(tmp_path / "before", StudyTime="" if lacking == "before" else "101112"), now)


@pytest.mark.parametrize("day", ["20240301", "20240302", None])
def test_a_study_that_was_not_taken_before_is_none(tmp_path: Path, now: list[Path], day: str | None) -> None:
    with pytest.raises(NotForHilum, match="taken before"):
        require_earlier(study(tmp_path / "before", StudyDate=day), now)


def test_a_study_earlier_by_the_clock_of_another_zone_alone_is_none(tmp_path: Path) -> None:
    now = study(tmp_path / "now", StudyDate="20240301", StudyTime="101112", TimezoneOffsetFromUTC="+0200")
    before = study(tmp_path / "before", StudyDate="20240301", StudyTime="091112", TimezoneOffsetFromUTC="+0000")
    with pytest.raises(NotForHilum, match="taken before"):
        require_earlier(before, now)


def fetched(paths: list[Path], now: list[Path]) -> list[Prior | Unmeasured]:
    return list(measure_fetched(paths, now, SelectionSettings(), THRESHOLDS, ignore_progress))


def test_a_fetched_prior_is_measured(tmp_path: Path, now: list[Path]) -> None:
    before = study(tmp_path / "before")

    assert fetched(before, now) == [measure_prior(before, THRESHOLDS, ignore_progress)]


def test_of_a_fetched_prior_that_cannot_be_measured_the_day_and_the_reason_are_told(
    tmp_path: Path, now: list[Path]
) -> None:
    before = study(tmp_path / "before")[:5]

    (told,) = fetched(before, now)

    assert isinstance(told, Unmeasured)
    assert told.study_instance_uid == dcmread(before[0]).StudyInstanceUID
    assert told.taken_at == datetime(2024, 2, 28, 10, 11, 12)  # noqa: DTZ001 - local time of the hospital
    assert "expected at least 10 slices" in told.reason


def test_a_fetched_study_of_the_same_day_without_a_time_is_told(tmp_path: Path, now: list[Path]) -> None:
    before = study(tmp_path / "before", StudyDate="20240301", StudyTime="")

    (told,) = fetched(before, now)

    reason = "Study Time is missing in that study, so it is unknown which of the two came first"
    assert told == Untimed(date(2024, 3, 1), reason, dcmread(before[0]).StudyInstanceUID)


def test_nothing_is_told_of_a_fetched_study_of_another_patient(tmp_path: Path, now: list[Path]) -> None:
    assert fetched(study(tmp_path / "before", IssuerOfPatientID="OTHER"), now) == []


@pytest.mark.parametrize("kernels", [("B30f", "B70f"), ("B70f", "B30f")], ids=["own", "other"])
def test_a_series_of_somebody_else_in_the_fetched_study_is_no_prior(
    tmp_path: Path, now: list[Path], kernels: tuple[str, str]
) -> None:
    own = study(tmp_path / "own", StudyInstanceUID="1.2", ConvolutionKernel=kernels[0])
    other = study(tmp_path / "other", StudyInstanceUID="1.2", ConvolutionKernel=kernels[1], PatientID="4712")
    is_own_chosen = kernels == ("B30f", "B70f")  # the smoother
    told = [measure_prior(own, THRESHOLDS, ignore_progress)] if is_own_chosen else []

    assert fetched(own + other, now) == told
    assert fetched(other + own, now) == told


def test_of_a_fetched_prior_that_is_left_out_the_day_and_the_reason_are_told(tmp_path: Path, now: list[Path]) -> None:
    before = study(tmp_path / "before")

    (told,) = leave_out_fetched(before, now, "a reason")

    then = datetime(2024, 2, 28, 10, 11, 12)  # noqa: DTZ001 - as the hospital's clock told it
    assert told == Unmeasured(then, "a reason", dcmread(before[0]).StudyInstanceUID)


def test_nothing_is_told_of_a_fetched_study_of_another_patient_that_is_left_out(
    tmp_path: Path, now: list[Path]
) -> None:
    assert list(leave_out_fetched(study(tmp_path / "before", IssuerOfPatientID="OTHER"), now, "a reason")) == []


def test_a_fetched_prior_that_cannot_be_read_is_left_out_all_the_same(tmp_path: Path, now: list[Path]) -> None:
    assert list(leave_out_fetched([tmp_path / "gone.dcm"], now, "a reason")) == [Unmeasured(None, "a reason")]
