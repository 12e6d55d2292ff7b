from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import JPEGLSNearLossless

from dicom_node.errors import Defect, NotAnalysable, NotForHilum
from tests.factories import chest_hu, ct_series, multiframe_ct
from tests.worker.reports.results import (
    CUT_OFF,
    MADE_AT,
    SHAPE,
    THRESHOLDS,
    Result,
    findings_of,
    make_result,
    report_masks,
)
from worker.reports import write_refusal, write_reports
from worker.reports.identity import REQUIRED
from worker.reports.picture import slices_of_picture
from worker.reports.source import LOSSY_COMPRESSION
from worker.volume import read_volume


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return make_result(
        tmp_path_factory.mktemp("found"),
        TimezoneOffsetFromUTC="-0330",
        IssuerOfPatientID="HOSPITAL",
        InstitutionName="St. Elsewhere",
        PatientName="Yamada^Tarou=山田^太郎",
    )


def test_every_object_stands_in_the_patients_study(found: Result) -> None:
    source = dcmread(found.volume.slices[0].path)

    for item in found.objects:
        ds = dcmread(item.path)
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "AccessionNumber"):
            assert ds[keyword].value == source[keyword].value
        assert (ds.IssuerOfPatientID, ds.InstitutionName) == ("HOSPITAL", "St. Elsewhere")


def test_times_are_told_in_the_sources_time_zone(found: Result) -> None:
    for item in found.objects:
        ds = dcmread(item.path)
        assert ds.TimezoneOffsetFromUTC == "-0330"
        assert (ds.ContentDate, ds.ContentTime) == ("20240301", "083000")


def test_every_object_has_a_series_of_its_own_in_the_high_block(found: Result) -> None:
    series = [dcmread(item.path) for item in found.objects]

    assert [ds.SeriesDescription for ds in series] == [
        "Hilum lungs",
        "Hilum infection",
        "Hilum report",
        "Hilum key image",
    ]
    assert all(ds.SeriesNumber > 90000 for ds in series)
    assert len({ds.SeriesInstanceUID for ds in series}) == len(series)


def test_every_object_says_that_hilum_made_it(found: Result) -> None:
    for item in found.objects:
        ds = dcmread(item.path)
        assert (ds.Manufacturer, ds.ManufacturerModelName) == ("Hilum", "Hilum")
        made_by = ds.ContributingEquipmentSequence[-1]
        assert (made_by.ManufacturerModelName, made_by.SoftwareVersions) == ("Thresholds", "1.0")
        assert made_by.DeviceUID.startswith("2.25.")


def test_a_written_object_is_described_as_it_lies_in_its_file(found: Result) -> None:
    for item in found.objects:
        ds = dcmread(item.path)
        assert item.sop_class_uid == ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID
        assert item.sop_instance_uid == ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
        assert item.series_instance_uid == ds.SeriesInstanceUID
        assert item.transfer_syntax_uid == ds.file_meta.TransferSyntaxUID


def test_the_key_image_claims_no_place_in_the_patient(found: Result) -> None:
    ds = found.read("key-image")

    assert "ImagePositionPatient" not in ds
    assert "PixelSpacing" not in ds
    assert (ds.BurnedInAnnotation, ds.ConversionType, ds.BodyPartExamined) == ("NO", "WSD", "CHEST")


def test_what_is_burned_into_the_images_is_burned_into_the_key_image(tmp_path: Path) -> None:
    assert make_result(tmp_path, BurnedInAnnotation="YES").read("key-image").BurnedInAnnotation == "YES"


def test_the_key_image_names_the_slices_it_shows(found: Result) -> None:
    shown = [found.volume.slices[index] for index in slices_of_picture(found.findings)]

    sources = found.read("key-image").SourceImageSequence

    assert [source.ReferencedSOPInstanceUID for source in sources] == [where.sop_instance_uid for where in shown]


def test_the_picture_is_the_key_images_pixels(found: Result) -> None:
    picture = np.asarray(Image.open(found.folder / "key-image.png"))

    np.testing.assert_array_equal(picture, found.read("key-image").pixel_array)


def test_results_json_holds_the_figures_and_the_objects(found: Result) -> None:
    results = json.loads((found.folder / "results.json").read_text())

    truth = found.findings.measurement("both")
    assert results["outcome"] == "found"
    assert results["measurements"]["both"]["infected_percent"] == pytest.approx(truth.infected_percent, abs=0.001)
    assert len(results["areas"]["infection_mm2"]) == len(found.volume.slices)
    assert results["algorithm"]["settings"] == {"upper_hu": "-200"}
    listed = [(item["kind"], item["path"], item["sop_instance_uid"]) for item in results["objects"]]
    assert listed == [(item.kind, item.path.name, item.sop_instance_uid) for item in found.objects]


def test_results_json_holds_nothing_of_the_patient(found: Result) -> None:
    text = (found.folder / "results.json").read_text()

    for secret in ("Yamada", "SYNTHETIC-1", "HOSPITAL", "20240229"):
        assert secret not in text


@pytest.mark.filterwarnings("error")
def test_no_warning_speaks_of_the_patient(tmp_path: Path) -> None:
    result = make_result(tmp_path, PatientName="single component", PatientID="1 2")

    assert {str(dcmread(item.path).PatientName) for item in result.objects} == {"single component"}


def test_a_withheld_percentage_is_null_in_results_json(tmp_path: Path) -> None:
    make_result(tmp_path, flags=(CUT_OFF,))

    results = json.loads((tmp_path / "out" / "results.json").read_text())

    assert results["outcome"] == "withheld"
    assert results["measurements"]["both"]["infected_percent"] is None
    assert results["flags"][0]["code"] == CUT_OFF.code


def test_masks_of_other_voxels_are_a_defect(tmp_path: Path) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    volume = read_volume(ct_series(tmp_path / "ct", hu))
    elsewhere = replace(volume, geometry=replace(volume.geometry, affine=volume.geometry.affine + 1))

    with pytest.raises(Defect):
        write_reports(volume, findings_of(elsewhere, labels, infection), tmp_path)


def test_what_comes_of_lossy_images_says_so(tmp_path: Path) -> None:
    result = make_result(
        tmp_path,
        LossyImageCompression="01",
        LossyImageCompressionRatio="10",
        LossyImageCompressionMethod="ISO_10918_1",
    )

    for kind in ("lungs", "infection", "key-image"):
        ds = result.read(kind)
        assert (ds.LossyImageCompression, ds.LossyImageCompressionRatio) == ("01", 10)


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
@pytest.mark.parametrize("written", ["", "1", "lossy"])
def test_images_that_do_not_say_whether_they_were_lossy_count_as_not(tmp_path: Path, written: str) -> None:
    result = make_result(
        tmp_path,
        LossyImageCompression=written,
        LossyImageCompressionRatio="",
        LossyImageCompressionMethod="ISO_10918_1",
    )

    assert [result.read(kind).LossyImageCompression for kind in ("lungs", "infection")] == ["00", "00"]
    assert not [keyword for keyword in LOSSY_COMPRESSION if keyword in result.read("key-image")]


@pytest.mark.parametrize("written", [None, "00"])
def test_images_in_a_lossy_transfer_syntax_are_lossy_whatever_they_say(tmp_path: Path, written: str | None) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    paths = ct_series(tmp_path / "ct", hu)
    for path in paths:
        ds = dcmread(path)
        ds.compress(JPEGLSNearLossless, jls_error=1, generate_instance_uid=False)
        ds.LossyImageCompression = written
        ds.save_as(path)
    result = report_masks(tmp_path, paths, labels, infection)

    assert {result.read(kind).LossyImageCompression for kind in ("lungs", "infection", "key-image")} == {"01"}


def test_an_empty_ratio_of_lossy_compression_is_left_out(tmp_path: Path) -> None:
    result = make_result(tmp_path, LossyImageCompression="01", LossyImageCompressionRatio="")

    for kind in ("lungs", "infection", "key-image"):
        ds = result.read(kind)
        assert (ds.LossyImageCompression, "LossyImageCompressionRatio" in ds) == ("01", False)


def test_a_refusal_needs_no_geometry(tmp_path: Path) -> None:
    paths = ct_series(
        tmp_path / "ct", chest_hu(SHAPE)[0], ImagePositionPatient=None, FrameOfReferenceUID=None, PatientSex="male"
    )
    reason = NotAnalysable("no-position", "expected Image Position (Patient), got none")

    (written,) = write_refusal(paths, reason, THRESHOLDS, tmp_path, made_at=MADE_AT)

    assert (written.kind, dcmread(written.path).PatientSex) == ("report", "M")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["outcome"] == "not-analysable"
    assert results["reason"]["code"] == "no-position"
    assert "measurements" not in results


def test_a_refusal_speaks_of_the_files_that_can_be_read(tmp_path: Path) -> None:
    paths = ct_series(tmp_path / "ct", chest_hu(SHAPE)[0])
    paths[0].write_bytes(b"torn")
    paths[1].unlink()

    (written,) = write_refusal(paths, NotAnalysable("torn", "a slice is torn"), THRESHOLDS, tmp_path)

    evidence = dcmread(written.path).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == len(paths) - 2


def test_a_refusal_of_nothing_readable_is_itself_refused(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"no DICOM")

    with pytest.raises(NotForHilum, match="got none"):
        write_refusal([tmp_path / "a.dcm"], NotAnalysable("x", "y"), THRESHOLDS, tmp_path)


def test_answers_a_study_that_lacks_all_of_its_identity(tmp_path: Path) -> None:
    lacking = (*REQUIRED, "BodyPartExamined", "SpecificCharacterSet", "StudyDescription")

    result = make_result(tmp_path, **dict.fromkeys(lacking))

    for item in result.objects:
        ds = dcmread(item.path)
        assert not [keyword for keyword in REQUIRED if ds[keyword].value]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_answers_a_study_whose_attributes_are_malformed(tmp_path: Path) -> None:
    result = make_result(
        tmp_path,
        PatientSex="X",
        StudyDate="29.02.2024",
        StudyTime="late",
        PatientBirthDate="1950",
        PatientAge="39",
        StudyInstanceUID="1.02.3",
        SeriesInstanceUID="1.2.x",
        FrameOfReferenceUID="1..2",
        AccessionNumber="more than sixteen characters",
        PatientID="A\\B",
    )

    for item in result.objects:
        ds = dcmread(item.path)
        assert (ds.StudyInstanceUID, ds.AccessionNumber) == ("1.02.3", "more than sixteen characters")
        assert not any((ds.PatientSex, ds.StudyDate, ds.StudyTime, ds.PatientBirthDate, ds.PatientAge))


@pytest.mark.parametrize("name", [b"DOE^JOHN\\ ", b"\\DOE^JOHN ", "LIN^CHENGGONG=林成功 ".encode("big5")])
def test_answers_a_study_whose_name_has_an_empty_part(tmp_path: Path, name: bytes) -> None:
    """As names in Big5 or Shift JIS have whose second bytes are backslashes, if no character set is declared."""
    hu, labels, infection = chest_hu(SHAPE)
    paths = ct_series(tmp_path / "ct", hu, SpecificCharacterSet=None, PatientName="x" * len(name))
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))

    found = report_masks(tmp_path, paths, labels, infection)
    refused = write_refusal(paths, NotAnalysable("torn", "a slice is torn"), THRESHOLDS, tmp_path)

    assert len({str(dcmread(item.path).PatientName) for item in (*found.objects, *refused)}) == 1


def test_slices_that_share_a_uid_are_refused(tmp_path: Path) -> None:
    hu, labels, infection = chest_hu(SHAPE)

    with pytest.raises(NotAnalysable, match="a UID of its own"):
        report_masks(tmp_path, ct_series(tmp_path / "ct", hu, SOPInstanceUID="1.2.3"), labels, infection)


def test_several_multi_frame_objects_are_refused(tmp_path: Path) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    (lower,) = multiframe_ct(tmp_path / "lower", hu[:6])
    shared = dcmread(lower)
    (upper,) = multiframe_ct(
        tmp_path / "upper",
        hu[6:],
        origin_mm=(-150, -140, -164),
        StudyInstanceUID=shared.StudyInstanceUID,
        SeriesInstanceUID=shared.SeriesInstanceUID,
        FrameOfReferenceUID=shared.FrameOfReferenceUID,
    )

    with pytest.raises(NotAnalysable, match="multi-frame series as one object"):
        report_masks(tmp_path, [lower, upper], labels, infection)
