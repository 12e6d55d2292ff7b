from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.errors import NotAnalysable
from tests.factories import chest_hu, ct_series
from tests.worker.reports.content import figures, group, items, name_of, texts
from tests.worker.reports.results import (
    CUT_OFF,
    MADE_AT,
    NETWORK,
    SHAPE,
    THRESHOLDS,
    TILTED,
    Result,
    make_result,
    report_masks,
)
from worker.reports import codes, write_refusal
from worker.reports.history import History, Unmeasured
from worker.reports.sr import ranked_sentences

MISSING = NotAnalysable("missing-slices", "expected a slice every 6 mm, got gaps; send the whole series again")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return make_result(tmp_path_factory.mktemp("found"), flags=(TILTED,), algorithm=NETWORK)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return make_result(tmp_path_factory.mktemp("nothing"), infected=False)


@pytest.fixture(scope="module")
def withheld(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return make_result(tmp_path_factory.mktemp("withheld"), flags=(CUT_OFF,))


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("refused")
    paths = ct_series(folder / "ct", chest_hu(SHAPE)[0], keep=[0, 1, 2, 4, 5])
    (written,) = write_refusal(paths, MISSING, THRESHOLDS, folder, made_at=MADE_AT)
    return hd.sr.srread(written.path)


def outcome_code(report: Dataset) -> str:
    (code,) = (i for i in items(report) if name_of(i) == "CAD Processing and Findings Summary")
    return str(code.ConceptCodeSequence[0].CodeValue)


def test_gives_the_figures_of_the_whole_and_of_each_lung(found: Result) -> None:
    report = found.read("report")

    for site, lung, infection in (
        ("left", "Left lung", "Infection, left lung"),
        ("right", "Right lung", "Infection, right lung"),
        ("both", "Both lungs", "Infection, both lungs"),
    ):
        truth = found.findings.measurement(site)
        assert figures(group(report, lung))["Volume"] == (pytest.approx(truth.lung_volume_ml, abs=0.01), "mL")
        infected = figures(group(report, infection))
        assert infected["Volume"] == (pytest.approx(truth.infection_volume_ml, abs=0.01), "mL")
        percent = infected["Proportion of infected region"]
        assert percent == (pytest.approx(truth.infected_percent, abs=0.01), "%")


def test_gives_mean_hu_only_of_what_is_there(found: Result) -> None:
    report = found.read("report")

    left, right = (figures(group(report, f"Infection, {side} lung")) for side in ("left", "right"))

    assert "Attenuation Coefficient" not in left
    assert right["Attenuation Coefficient"] == (pytest.approx(-500, abs=5), "[hnsf'U]")


def test_refers_to_the_segments_it_measured(found: Result) -> None:
    report = found.read("report")

    for tracking, kind, number in (
        ("Left lung", "lungs", 1),
        ("Right lung", "lungs", 2),
        ("Infection, both lungs", "infection", 1),
    ):
        measured = group(report, tracking)
        (reference,) = (i for i in measured.ContentSequence if name_of(i) == "Referenced Segment")
        (tracking_uid,) = (i.UID for i in measured.ContentSequence if name_of(i) == "Tracking Unique Identifier")
        segmentation = found.read(kind)
        assert reference.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert reference.ReferencedSOPSequence[0].ReferencedSegmentNumber == number
        assert segmentation.SegmentSequence[number - 1].TrackingUID == tracking_uid


def test_names_the_slice_with_the_largest_infected_area(found: Result) -> None:
    measured = group(found.read("report"), "Largest infected area of a slice")
    areas = found.findings.areas.infection_mm2

    assert figures(measured)["Area"] == (pytest.approx(areas.max(), abs=0.1), "mm2")
    (area,) = (i for i in measured.ContentSequence if i.ValueType == "NUM")
    (image,) = (i for i in area.ContentSequence if i.ValueType == "IMAGE")
    shown = found.volume.slices[int(np.argmax(areas))].sop_instance_uid
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == shown


def test_gives_the_infected_area_of_each_slice_that_has_any(found: Result) -> None:
    measured = group(found.read("report"), "Infected area of each slice")
    told = {}
    for area in (i for i in measured.ContentSequence if i.ValueType == "NUM"):
        (image,) = (i for i in area.ContentSequence if i.ValueType == "IMAGE")
        uid = image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        told[uid] = float(area.MeasuredValueSequence[0].NumericValue)

    slices, areas_mm2 = found.volume.slices, found.findings.areas.infection_mm2
    truth = {where.sop_instance_uid: area for where, area in zip(slices, areas_mm2, strict=True) if area}
    assert told == pytest.approx(truth, abs=0.1)


@pytest.mark.parametrize("multiframe", [False, True])
def test_the_area_of_a_slice_reads_as_highdicom_makes_it(tmp_path: Path, *, multiframe: bool) -> None:
    result = make_result(tmp_path, multiframe=multiframe)
    index = int(np.flatnonzero(result.findings.areas.infection_mm2)[0])
    where = result.volume.slices[index]
    frames = [where.frame_number] if where.frame_number is not None else None
    image = hd.sr.SourceImageForMeasurement(where.sop_class_uid, where.sop_instance_uid, frames)
    area_mm2 = round(float(result.findings.areas.infection_mm2[index]), 1)
    (made,) = hd.sr.Measurement(codes.AREA, area_mm2, codes.SQUARE_MILLIMETER, referenced_images=[image])

    measured = group(result.read("report"), "Infected area of each slice")

    read = next(item for item in measured.ContentSequence if item.ValueType == "NUM")
    assert read.to_json_dict() == made.to_json_dict()


def test_names_algorithm_version_and_weights_with_every_group(found: Result) -> None:
    groups = [
        i for i in items(found.read("report")) if i.ValueType == "CONTAINER" and name_of(i) == "Measurement Group"
    ]

    for measured in groups:
        said = {name_of(i): i.TextValue for i in measured.ContentSequence if i.ValueType == "TEXT"}
        assert said["Algorithm Name"] == "Network"
        assert said["Algorithm Version"] == "2.1"
        assert said["Algorithm Parameters"] == f"weights_sha256={NETWORK.weights_sha256}"


def test_gives_both_severity_scores(found: Result) -> None:
    severity = found.findings.severity
    assert severity is not None

    scores = figures(group(found.read("report"), "Severity"))

    assert scores == {
        "Whole-lung severity score, 0 to 5": (severity.whole_lung_score, "{score}"),
        "Six-zone severity score, 0 to 24": (severity.six_zone_score, "{score}"),
    }


def test_says_what_each_zone_scores(found: Result) -> None:
    (said,) = (text for text in texts(found.read("report")) if text.startswith("Score of each zone"))

    assert "right lung upper 0 (0.0 %), middle 1" in said
    assert "left lung upper 0 (0.0 %), middle 0 (0.0 %), lower 0 (0.0 %)" in said


def test_says_where_no_aerated_lung_was_found_and_gives_no_six_zone_score(tmp_path: Path) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    labels[:5][labels[:5] == 1] = 0  # as if the left lower lobe were consolidated
    result = report_masks(tmp_path, ct_series(tmp_path / "ct", hu), labels, infection & (labels > 0))
    report = result.read("report")

    (said,) = (text for text in texts(report) if text.startswith("Score of each zone"))
    assert "left lung upper 0 (0.0 %), middle 0 (0.0 %), lower no aerated lung found" in said
    assert "no six-zone score" in said
    assert list(figures(group(report, "Severity"))) == ["Whole-lung severity score, 0 to 5"]
    results = json.loads((result.folder / "results.json").read_text())
    assert results["severity"]["six_zone_score"] is None
    assert results["severity"]["zones"][-1] == {
        "side": "left",
        "level": "lower",
        "infected_percent": None,
        "score": None,
    }


def test_gives_the_lungs_volume_in_each_band_of_hu(found: Result) -> None:
    volumes = figures(group(found.read("report"), "HU bands, both lungs"))

    assert list(volumes) == [
        "Volume of lung below -950 HU",
        "Volume of lung from -950 to -750 HU",
        "Volume of lung from -750 to -400 HU",
        "Volume of lung from -400 to 0 HU",
        "Volume of lung from 0 HU",
    ]
    assert [value for value, _ in volumes.values()] == pytest.approx(
        [b.both_ml for b in found.findings.bands], abs=0.01
    )


def test_scores_no_severity_where_the_percentage_is_withheld(withheld: Result) -> None:
    said = [item.TextValue for item in items(withheld.read("report")) if item.ValueType == "TEXT"]

    assert "Severity" not in said


def test_says_its_doubts_in_words(found: Result) -> None:
    assert TILTED.message in texts(found.read("report"))


def test_every_container_reads_item_by_item(found: Result) -> None:
    report = found.read("report")

    containers = [report, *(i for i in items(report) if i.ValueType == "CONTAINER")]

    assert {c.ContinuityOfContent for c in containers} == {"SEPARATE"}


def test_every_image_stands_in_its_evidence(found: Result) -> None:
    report = found.read("report")
    images = {s.sop_instance_uid for s in found.volume.slices}

    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }

    assert evidence == images | {found.read("lungs").SOPInstanceUID, found.read("infection").SOPInstanceUID}


def test_the_evidence_names_a_multi_frame_source_as_what_it_is(tmp_path: Path) -> None:
    result = make_result(tmp_path, multiframe=True)

    (study,) = result.read("report").CurrentRequestedProcedureEvidenceSequence
    named = [item for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence]
    source = result.volume.slices[0]
    assert (source.sop_class_uid, source.sop_instance_uid) in [
        (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in named
    ]


def test_identifies_the_scheme_of_its_own_codes(found: Result) -> None:
    (scheme,) = found.read("report").CodingSchemeIdentificationSequence

    assert scheme.CodingSchemeDesignator == "99HILUM"


def test_numbers_are_short_decimal_strings(found: Result) -> None:
    for item in items(found.read("report")):
        if item.ValueType == "NUM":
            assert len(str(item.MeasuredValueSequence[0].NumericValue)) <= 8


def test_found_is_complete_and_unverified(found: Result) -> None:
    report = found.read("report")

    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert outcome_code(report) == "111242"


def test_nothing_found_says_so_with_zero(nothing: Result) -> None:
    report = nothing.read("report")

    infection = figures(group(report, "Infection, both lungs"))
    assert infection["Volume"] == (0.0, "mL")
    assert infection["Proportion of infected region"] == (0.0, "%")
    assert texts(report)[0].startswith("No infected region found: 0 %")
    assert (outcome_code(report), report.CompletionFlag) == ("111241", "COMPLETE")


def quality_findings(report: Dataset) -> list[str]:
    return [str(i.ConceptCodeSequence[0].CodeValue) for i in items(report) if name_of(i) == "Quality Finding"]


def test_what_withholds_the_percentage_is_a_finding_on_the_quality(withheld: Result, found: Result) -> None:
    assert quality_findings(withheld.read("report")) == ["110531"]  # insufficient for interpretation
    assert quality_findings(found.read("report")) == []


def test_a_withheld_percentage_is_no_number_and_says_why(withheld: Result) -> None:
    report = withheld.read("report")

    assert "Proportion of infected region" not in {name_of(i) for i in items(report)}
    assert figures(group(report, "Infection, both lungs"))["Volume"][0] > 0
    assert CUT_OFF.message in texts(report)
    assert (outcome_code(report), report.CompletionFlag) == ("111244", "PARTIAL")


def test_a_refusal_gives_the_reason_and_no_number(refused: Dataset) -> None:
    assert not [item for item in items(refused) if item.ValueType == "NUM"]
    assert any(MISSING.message in text for text in texts(refused))
    assert (outcome_code(refused), refused.CompletionFlag) == ("111245", "PARTIAL")


def test_every_report_says_that_it_is_not_for_diagnosis(found: Result, refused: Dataset) -> None:
    for report in (found.read("report"), refused):
        assert any("Not for diagnostic use" in text for text in texts(report))


def test_a_single_infected_voxel_is_not_rounded_to_nothing(tmp_path: Path) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    infection[:] = False
    infection[6, 24, 18] = labels[6, 24, 18] > 0
    paths = ct_series(tmp_path / "ct", hu, spacing_mm=(0.5, 0.3, 0.3))

    measured = figures(group(report_masks(tmp_path, paths, labels, infection).read("report"), "Infection, both lungs"))

    assert measured["Volume"][0] == pytest.approx(0.000045, rel=0.05)
    assert measured["Proportion of infected region"][0] > 0


def test_ranks_doubts_before_priors_and_zones(found: Result) -> None:
    known = History(None, (), None, (), (Unmeasured(None, "a gap"),))

    answer, caveat, doubt, prior, zones = ranked_sentences(found.findings, known)

    assert answer.startswith("Proportion of infected region (PoIR): ")
    assert caveat.endswith("Not for diagnostic use.")
    assert doubt == TILTED.message
    assert prior.startswith("No comparison")
    assert zones.startswith("Score of each zone")


def test_ranks_what_withholds_the_percentage_first_and_says_it_once(withheld: Result) -> None:
    answer, *others = ranked_sentences(withheld.findings, History(None, (), None, ()))

    assert CUT_OFF.message in answer
    assert CUT_OFF.message not in others
