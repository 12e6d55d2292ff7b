from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.errors import NotAnalysable
from tests.factories import chest_hu, ct_series
from tests.worker.reports.content import figures, group, items, texts
from tests.worker.reports.results import findings_of
from worker.findings import Algorithm
from worker.reports import write_refusal, write_reports
from worker.reports.history import LONGEST_REPORT_BYTES, Prior, Unmeasured, Untimed, read_exam, taken_at
from worker.volume import read_volume

SHAPE = (24, 48, 64)
HU, LABELS, INFECTION = chest_hu(SHAPE)
ANNA = {"PatientID": "4711", "IssuerOfPatientID": "HOSPITAL", "PatientName": "Anna"}
ALGORITHM = Algorithm("Network", "2.1", weights_sha256="ab" * 32, settings=(("threshold", "0.5"),))
# Voxels of 1 mL, so that the infected volume of the baseline is large enough for a relative change.
LARGE: dict[str, Any] = {"spacing_mm": (10.0, 10.0, 10.0), **ANNA}
SMALLER = INFECTION & (np.arange(SHAPE[0])[:, None, None] > SHAPE[0] // 2)


def write(
    folder: Path,
    date: str,
    time: str,
    mask: np.ndarray,
    priors: Sequence[Path] = (),
    others: Sequence[Prior | Unmeasured] = (),
    **series: Any,
) -> Path:
    """Write a study's results; return their folder."""
    paths = ct_series(folder / "ct", HU, StudyDate=date, StudyTime=time, **(LARGE | series))
    volume = read_volume(paths)
    out = folder / "out"
    out.mkdir()
    findings = findings_of(volume, LABELS, mask, algorithm=ALGORITHM)
    write_reports(volume, findings, out, made_at=datetime(2024, 3, 1, tzinfo=UTC), priors=priors, others=others)
    return out


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study of the day before, with less infection."""
    return write(tmp_path_factory.mktemp("prior"), "20240228", "101112", SMALLER) / "report.dcm"


@pytest.fixture(scope="module")
def follow_up(tmp_path_factory: pytest.TempPathFactory, prior: Path) -> Path:
    return write(tmp_path_factory.mktemp("now"), "20240229", "101112", INFECTION, [prior])


def report_of(out: Path) -> Dataset:
    return dcmread(out / "report.dcm")


def test_reads_its_own_report_back(follow_up: Path) -> None:
    exam = read_exam(report_of(follow_up))

    assert exam is not None
    assert exam.algorithm == ALGORITHM
    assert (exam.kernel, exam.has_contrast_agent, exam.slice_spacing_mm) == ("STANDARD", False, 10)
    assert exam.slice_thickness_mm == 10
    assert exam.taken_at == datetime(2024, 2, 29, 10, 11, 12)  # noqa: DTZ001 - local time of the hospital
    assert exam.infection_volume_ml == pytest.approx(INFECTION.sum())
    assert exam.lung_volume_ml == pytest.approx((LABELS > 0).sum())
    assert exam.infected_percent == pytest.approx(100 * INFECTION.sum() / (LABELS > 0).sum(), abs=0.01)


def test_tells_the_change_since_the_prior(follow_up: Path) -> None:
    change = figures(group(report_of(follow_up), "Change since the prior study"))

    grown = float(INFECTION.sum() - SMALLER.sum())
    assert change["Change of infected volume since the prior"] == (pytest.approx(grown), "mL")
    percent = 100 * grown / SMALLER.sum()
    assert change["Relative change of infected volume since the prior"] == (pytest.approx(percent, abs=0.1), "%")
    assert change["Time since the prior"] == (24, "h")


def test_nothing_changes_between_a_study_and_its_own_figures(tmp_path: Path) -> None:
    series = {"spacing_mm": (7.0, 3.3, 3.3)}  # volumes with many decimals
    before = write(tmp_path / "before", "20240227", "101112", INFECTION, **series)

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [before / "report.dcm"], **series)

    change = figures(group(report_of(out), "Change since the prior study"))
    assert change["Change of infected volume since the prior"] == (0, "mL")
    assert change["Change of PoIR since the prior, in points"] == (0, "%")


def test_says_the_change_and_wus_sign_in_words(follow_up: Path) -> None:
    said = texts(report_of(follow_up))

    assert any(
        text.startswith("Since the prior study of 2024-02-28, 24 hours before: infected volume +") for text in said
    )
    (relative,) = (match for text in said if (match := re.search(r"mL \(\+(\d+\.\d) %\), PoIR", text)))
    assert float(relative[1]) > 50
    assert any("more than 50 % within 48 hours" in text for text in said)


def test_refers_to_the_report_it_compares_with(follow_up: Path, prior: Path) -> None:
    (study,) = report_of(follow_up).PertinentOtherEvidenceSequence

    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    assert instance.ReferencedSOPInstanceUID == dcmread(prior).SOPInstanceUID


def test_gives_the_change_in_the_results_too(follow_up: Path, prior: Path) -> None:
    results = json.loads((follow_up / "results.json").read_text())

    comparison = results["comparison"]
    assert comparison["prior_study_instance_uid"] == dcmread(prior).StudyInstanceUID
    assert (comparison["hours_since"], comparison["is_rapid"], comparison["why_none"]) == (24, True, "")


def test_draws_the_trend(follow_up: Path) -> None:
    trend = dcmread(follow_up / "trend.dcm")

    assert (trend.SeriesDescription, trend.BurnedInAnnotation) == ("Hilum trend", "NO")


def test_the_trend_shows_no_image_and_so_nothing_burned_into_one(tmp_path: Path, prior: Path) -> None:
    out = write(tmp_path, "20240229", "101112", INFECTION, [prior], BurnedInAnnotation="YES")

    told = [dcmread(out / f"{kind}.dcm").BurnedInAnnotation for kind in ("key-image", "trend")]
    assert told == ["YES", "NO"]


def test_a_first_study_has_no_trend_and_tells_no_change(prior: Path) -> None:
    assert not (prior.parent / "trend.dcm").exists()
    assert "PertinentOtherEvidenceSequence" not in dcmread(prior)
    assert not any("prior" in text for text in texts(dcmread(prior)))


def test_says_why_it_does_not_compare(tmp_path: Path, prior: Path) -> None:
    out = write(tmp_path, "20240229", "101112", INFECTION, [prior], ConvolutionKernel="B70f")

    assert "No comparison with the prior study of 2024-02-28: the kernels differ: B70F now, STANDARD before." in [
        text.replace("B70f", "B70F") for text in texts(report_of(out))
    ]
    assert not (out / "trend.dcm").exists()


def test_says_that_slices_were_much_thinner(tmp_path: Path) -> None:
    before = write(tmp_path / "before", "20240228", "101112", SMALLER, SliceThickness="5")
    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [before / "report.dcm"])

    said = "This comparison is uncertain: slices are 10 mm thick now, and were 5 mm."
    assert said in texts(report_of(out))


def test_says_that_the_kernels_it_compares_are_unknown(tmp_path: Path) -> None:
    unnamed = {"ConvolutionKernel": None}
    before = write(tmp_path / "before", "20240228", "101112", SMALLER, **unnamed)
    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [before / "report.dcm"], **unnamed)

    doubt = "neither study names its reconstruction kernel, and another kernel changes the figures too"
    assert f"This comparison is uncertain: {doubt}." in texts(report_of(out))
    assert json.loads((out / "results.json").read_text())["comparison"]["doubt"] == doubt


@pytest.mark.parametrize("other", [{"PatientID": "4712"}, {"IssuerOfPatientID": "OTHER"}, {"IssuerOfPatientID": None}])
def test_another_id_or_issuer_is_another_patient_whatever_the_name(
    tmp_path: Path, prior: Path, other: dict[str, Any]
) -> None:
    out = write(tmp_path, "20240229", "101112", INFECTION, [prior], **other)

    assert json.loads((out / "results.json").read_text())["comparison"] is None


@pytest.mark.parametrize("other", [{"PatientBirthDate": "19700101"}, {"PatientSex": "M"}])
def test_another_birth_date_or_sex_is_another_patient_whatever_the_id(tmp_path: Path, other: dict[str, Any]) -> None:
    stated = {"PatientBirthDate": "19510203", "PatientSex": "F"}
    before = write(tmp_path / "before", "20240228", "101112", SMALLER, **stated)

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [before / "report.dcm"], **(stated | other))

    assert json.loads((out / "results.json").read_text())["comparison"] is None


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("101112", "2024-11-15T10:11:12"),
        ("101112.5", "2024-11-15T10:11:12.500000"),
        ("1030", "2024-11-15T10:30:00"),
        ("10", "2024-11-15T10:00:00"),
        ("", "2024-11-15"),
        ("late", "2024-11-15"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
def test_a_study_was_taken_at_its_date_and_time_or_on_its_date(time: str, expected: str | None) -> None:
    ds = Dataset()
    ds.StudyDate, ds.StudyTime = "20241115", time
    taken = taken_at(ds)
    assert (taken and taken.isoformat()) == expected


@pytest.mark.parametrize("offset", ["-0430", "", "west"])
def test_the_zone_is_told_where_the_study_names_one(offset: str) -> None:
    ds = Dataset()
    ds.StudyDate, ds.StudyTime, ds.TimezoneOffsetFromUTC = "20241115", "101112", offset
    taken = taken_at(ds)
    assert taken is not None
    assert taken.isoformat() == "2024-11-15T10:11:12" + ("-04:30" if offset == "-0430" else "")


def test_the_time_since_a_prior_of_another_zone_is_told_in_one(tmp_path: Path) -> None:
    before = write(tmp_path / "before", "20240228", "101112", SMALLER, TimezoneOffsetFromUTC="+0200")
    prior = before / "report.dcm"

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [prior], TimezoneOffsetFromUTC="+0100")

    change = figures(group(report_of(out), "Change since the prior study"))
    assert change["Time since the prior"] == (25, "h")
    assert (out / "trend.dcm").exists()


@pytest.mark.parametrize(("time", "prior_time"), [("", "101112"), ("101112", ""), ("", "")])
def test_where_a_time_is_missing_the_change_is_told_in_days(tmp_path: Path, time: str, prior_time: str) -> None:
    before = write(tmp_path / "before", "20240228", prior_time, SMALLER)

    out = write(tmp_path / "now", "20240229", time, INFECTION, [before / "report.dcm"])

    assert any(text.startswith("Since the prior study of 2024-02-28, 1 day before:") for text in texts(report_of(out)))
    assert "Time since the prior" not in figures(group(report_of(out), "Change since the prior study"))
    assert json.loads((out / "results.json").read_text())["comparison"]["hours_since"] is None
    assert (out / "trend.dcm").exists()


@pytest.mark.parametrize(
    ("time", "prior_time", "where"),
    [("101112", "", "that study"), ("", "", "that study"), ("", "101112", "this study")],
)
def test_a_study_of_the_same_day_without_both_times_is_not_compared_and_the_report_says_so(
    tmp_path: Path, time: str, prior_time: str, where: str
) -> None:
    before = write(tmp_path / "before", "20240229", prior_time, SMALLER)

    out = write(tmp_path / "now", "20240229", time, INFECTION, [before / "report.dcm"])

    reason = f"Study Time is missing in {where}, so it is unknown which of the two came first"
    assert f"No comparison with the study of 2024-02-29: {reason}." in texts(report_of(out))
    results = json.loads((out / "results.json").read_text())
    assert (results["comparison"], results["not_compared"]) == (None, [reason])


@pytest.mark.parametrize(
    ("time", "told"),
    [("102112", "less than an hour"), ("111112", "1 hour"), ("105012", "1 hour"), ("121112", "2 hours")],
)
def test_the_hours_since_a_prior_are_told_in_words(tmp_path: Path, time: str, told: str) -> None:
    before = write(tmp_path / "before", "20240229", "101112", INFECTION)

    out = write(tmp_path / "now", "20240229", time, INFECTION, [before / "report.dcm"])

    (said,) = (text for text in texts(report_of(out)) if text.startswith("Since"))
    assert said.startswith(f"Since the prior study of 2024-02-29, {told} before:")
    assert said.endswith("infected volume 0.0 mL (0.0 %), PoIR 0.0 percentage points.")


def test_patients_without_an_id_are_never_the_same(tmp_path: Path) -> None:
    nobody = {"PatientID": "", "IssuerOfPatientID": None}
    before = write(tmp_path / "before", "20240228", "101112", SMALLER, **nobody)

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [before / "report.dcm"], **nobody)

    assert json.loads((out / "results.json").read_text())["comparison"] is None


def test_of_several_reports_on_a_study_the_newest_counts(tmp_path: Path, prior: Path) -> None:
    revised = dcmread(prior)
    revised.ContentDate, revised.SOPInstanceUID = "20240302", "1.2.3"
    revised.save_as(tmp_path / "revised.dcm")

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [tmp_path / "revised.dcm", prior])

    (study,) = report_of(out).PertinentOtherEvidenceSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"


def test_what_is_no_report_of_hilums_is_passed_over(tmp_path: Path, follow_up: Path) -> None:
    (tmp_path / "noise.dcm").write_bytes(b"no DICOM")
    gone, others = tmp_path / "gone.dcm", [follow_up / "lungs.dcm", tmp_path / "noise.dcm"]

    out = write(tmp_path / "now", "20240301", "101112", INFECTION, [gone, *others])

    assert json.loads((out / "results.json").read_text())["comparison"] is None


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_no_report_is_read_into_memory_whole_however_long_it_is(tmp_path: Path, prior: Path, syntax: UID) -> None:
    report, long, length = dcmread(prior), tmp_path / "long.dcm", 32 * LONGEST_REPORT_BYTES
    report.file_meta.TransferSyntaxUID = syntax
    report.add_new(0x00091001, "OB", bytes(length))
    report.save_as(long)
    del report

    tracemalloc.start()
    try:
        out = write(tmp_path / "now", "20240229", "101112", INFECTION, [long])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < length
    assert json.loads((out / "results.json").read_text())["comparison"] is None


@pytest.mark.parametrize("order", [1, -1])
def test_a_report_that_another_replaces_does_not_count_whatever_its_time(
    tmp_path: Path, prior: Path, order: int
) -> None:
    """Content Time is local: it goes back at the end of summer time, and on a worker in another zone."""
    revised = dcmread(prior)
    revised.PredecessorDocumentsSequence = [predecessor(revised)]
    revised.ContentDate, revised.SOPInstanceUID = "20240201", "1.2.3"
    revised.save_as(tmp_path / "revised.dcm")

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [tmp_path / "revised.dcm", prior][::order])

    (study,) = report_of(out).PertinentOtherEvidenceSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"


def predecessor(report: Dataset) -> Dataset:
    """Return the reference by which a report names one that it replaces (PS3.3 C.17.2)."""
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = report.SOPClassUID, report.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedSOPSequence = report.SeriesInstanceUID, [instance]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = report.StudyInstanceUID, [series]
    return study


def without_text(item: Dataset) -> None:
    if "TextValue" in item:
        del item.TextValue


def with_empty_text(item: Dataset) -> None:
    if "TextValue" in item:
        item.TextValue = ""


def without_figures(item: Dataset) -> None:
    if "MeasuredValueSequence" in item:
        item.MeasuredValueSequence = []


@pytest.mark.parametrize("alter", [without_text, with_empty_text, without_figures])
def test_an_altered_report_is_not_compared_with_and_the_report_says_so(
    tmp_path: Path, prior: Path, alter: Callable[[Dataset], None]
) -> None:
    altered = dcmread(prior)
    for item in items(altered):
        alter(item)
    altered.save_as(tmp_path / "altered.dcm")

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [tmp_path / "altered.dcm"])

    assert "No comparison with the study of 2024-02-28: its report cannot be read." in texts(report_of(out))
    results = json.loads((out / "results.json").read_text())
    assert (results["comparison"], results["not_compared"]) == (None, ["its report cannot be read"])


def test_a_refusal_of_an_earlier_study_has_no_figures_and_is_no_altered_report(tmp_path: Path) -> None:
    paths = ct_series(tmp_path / "ct", HU, StudyDate="20240228", **LARGE)
    write_refusal(paths, NotAnalysable("missing-slices", "two slices are missing"), ALGORITHM, tmp_path)

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [tmp_path / "report.dcm"])

    assert read_exam(report_of(tmp_path)) is None
    assert json.loads((out / "results.json").read_text())["not_compared"] == []
    assert not [text for text in texts(report_of(out)) if "cannot be read" in text]


def test_a_study_that_was_measured_now_is_compared_with_though_its_report_was_altered(
    tmp_path: Path, prior: Path
) -> None:
    altered = dcmread(prior)
    exam = read_exam(altered)
    assert exam is not None
    for item in items(altered):
        without_text(item)
    altered.save_as(tmp_path / "altered.dcm")
    measured = Prior(exam, str(altered.StudyInstanceUID), (), was_measured_now=True)

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [tmp_path / "altered.dcm"], [measured])

    results = json.loads((out / "results.json").read_text())
    assert (results["comparison"]["prior_was_measured_now"], results["not_compared"]) == (True, [])


def test_an_altered_report_on_a_later_study_is_passed_over(tmp_path: Path, follow_up: Path) -> None:
    altered = report_of(follow_up)
    for item in items(altered):
        without_text(item)
    altered.save_as(tmp_path / "altered.dcm")

    out = write(tmp_path / "now", "20240228", "101112", INFECTION, [tmp_path / "altered.dcm"])

    assert json.loads((out / "results.json").read_text())["not_compared"] == []


def test_another_prior_makes_another_result(tmp_path: Path, follow_up: Path) -> None:
    volume = read_volume(sorted((follow_up.parent / "ct").iterdir()))
    findings = findings_of(volume, LABELS, INFECTION, algorithm=ALGORITHM)

    alone = write_reports(volume, findings, tmp_path)

    assert not {item.sop_instance_uid for item in alone} & {
        str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in follow_up.glob("*.dcm")
    }


def test_says_which_prior_was_not_measured_and_why(tmp_path: Path) -> None:
    day = datetime(2024, 2, 20, 10, tzinfo=UTC)
    lost = Unmeasured(day, "expected a slice every 6 mm, got gaps")

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, others=[lost])
    alone = write(tmp_path / "alone", "20240229", "101112", INFECTION)

    said = "No comparison with the prior study of 2024-02-20, which was not measured: expected a slice every 6 mm"
    assert any(text.startswith(said) for text in texts(report_of(out)))
    assert json.loads((out / "results.json").read_text())["not_compared"] == [lost.reason]
    assert not any("comparison" in text for text in texts(report_of(alone)))


def test_a_report_counts_more_than_what_was_measured_now(tmp_path: Path, prior: Path) -> None:
    report = dcmread(prior)
    exam = read_exam(report)
    assert exam is not None
    measured = Prior(exam, str(report.StudyInstanceUID), (), was_measured_now=True)

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [prior], [measured])

    assert json.loads((out / "results.json").read_text())["comparison"]["prior_was_measured_now"] is False


@pytest.mark.parametrize("kind", [Unmeasured, Untimed])
def test_a_report_counts_more_than_why_its_study_was_not_measured_now(
    tmp_path: Path, prior: Path, kind: type[Unmeasured]
) -> None:
    left_out = kind(None, "a reason", str(dcmread(prior).StudyInstanceUID))

    out = write(tmp_path / "now", "20240229", "101112", INFECTION, [prior], [left_out])

    assert not any("No comparison" in text for text in texts(report_of(out)))
    results = json.loads((out / "results.json").read_text())
    assert (results["comparison"]["is_rapid"], results["not_compared"]) == (True, [])
