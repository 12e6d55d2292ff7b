"""Which series of a study is measured, and the reasons recorded for the others."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, MRImageStorage, SecondaryCaptureImageStorage

from dicom_node.dispatch.selection import Selection, might_be_chosen, normal, select_series, speaks_of_chest
from dicom_node.errors import NotAnalysable, NotForHilum
from dicom_node.headers import InstanceHeader, SeriesHeader, read_series
from dicom_node.settings import SelectionSettings
from tests.factories import ct_series

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SETTINGS = SelectionSettings()


def image(series_instance_uid: str, z_mm: float = 0.0, **values: Any) -> InstanceHeader:
    header: dict[str, Any] = {
        "study_instance_uid": "1.2",
        "series_instance_uid": series_instance_uid,
        "sop_class_uid": CTImageStorage,
        "modality": "CT",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "kernel": "B40F",
        "thickness_mm": 2.0,
        "orientation": AXIAL,
        "positions": ((0.0, 0.0, z_mm),),
        "frames": 1,
        "words": "CHEST",
        "body_part": "CHEST",
        "urgent": False,
        "path": Path("unread.dcm"),
    }
    return InstanceHeader(**(header | values))


def series(uid: str = "1", slices: int = 100, gap_mm: float = 2.0, **values: Any) -> SeriesHeader:
    return SeriesHeader(uid, tuple(image(uid, index * gap_mm, **values) for index in range(slices)))


def select(*found: SeriesHeader) -> Selection:
    return select_series(found, SETTINGS)


def test_the_one_series_that_fits_is_selected_and_described() -> None:
    selection = select(series())
    assert selection.series is not None
    assert selection.rejection is None
    assert selection.reasons == {"1": "selected: 100 slices of 2 mm, kernel B40F"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"sop_class_uid": MRImageStorage, "modality": "MR"}, "expected CT images, got MR MR Image Storage"),
        (
            {"sop_class_uid": SecondaryCaptureImageStorage, "modality": "CT"},
            "expected CT images, got CT Secondary Capture Image Storage",
        ),
        ({"modality": "PT"}, "expected CT images, got PT CT Image Storage"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "expected slices, got localizers"),
        ({"image_type": ("DERIVED", "SECONDARY", "MPR")}, "expected images as reconstructed by the scanner"),
        ({"rescale_type": "MGML"}, "expected values in Hounsfield units (HU), got Rescale Type MGML"),
        ({"body_part": "HEAD"}, "expected a chest, got HEAD"),
        ({"body_part": "TEMPORAL BONE"}, "expected a chest, got TEMPORAL BONE"),
        ({"orientation": None}, "expected Image Orientation (Patient), got none"),
        ({"orientation": CORONAL}, "expected axial slices, got slices 90 degrees off axial"),
        ({"orientation": SAGITTAL}, "expected axial slices, got slices 90 degrees off axial"),
        ({"orientation": (0.0,) * 6}, "expected axial slices"),
        ({"slices": 9, "gap_mm": 20.0}, "expected at least 10 slices, got 9"),
        ({"slices": 20}, "expected at least 100 mm of the body, got 38 mm"),
        ({"thickness_mm": 12.0}, "expected slices of at most 10 mm, got 12 mm"),
    ],
)
def test_each_rule_rejects_with_its_reason(values: dict[str, Any], reason: str) -> None:
    selection = select(series("fits"), series("odd", **values))
    assert selection.series is not None
    assert selection.series.series_instance_uid == "fits"
    assert reason in selection.reasons["odd"]


@pytest.mark.parametrize(
    "values",
    [
        {"modality": ""},
        {"thickness_mm": None},
        {"body_part": "ABDOMEN"},  # a chest may be coded as the upper part of an abdomen
        {"image_type": ()},
        {"image_type": ("DERIVED", "PRIMARY", "AXIAL")},
        {"orientation": (1.0, 0.0, 0.0, 0.0, math.cos(0.5), math.sin(0.5))},  # gantry tilted by 29 degrees
        {"orientation": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)},  # feet first
        {"orientation": (0.0, 1.0, 0.0, -1.0, 0.0, 0.0)},  # lying on the side
    ],
)
def test_what_may_be_missing_or_unusual_is_accepted(values: dict[str, Any]) -> None:
    assert select(series(**values)).series is not None


def test_frames_count_as_slices() -> None:
    positions = tuple((0.0, 0.0, 2.0 * i) for i in range(100))
    enhanced = image("1", sop_class_uid=EnhancedCTImageStorage, frames=100, positions=positions)
    assert select(SeriesHeader("1", (enhanced,))).series is not None


def test_a_scout_among_the_slices_does_not_spoil_the_series() -> None:
    scout = image("1", orientation=CORONAL, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    assert select(SeriesHeader("1", (scout, *series().images))).series is not None


def phases(uid: str = "phases", **values: Any) -> SeriesHeader:
    """Return a series of two phases, in which two slices lie at each place."""
    return SeriesHeader(uid, series(uid, **values).images * 2)


def test_a_series_of_several_phases_is_measured_only_if_there_is_no_other() -> None:
    selection = select(phases(), series("other", kernel="B70S"))
    assert selection.series is not None
    assert selection.series.series_instance_uid == "other"
    assert selection.reasons["phases"].endswith("preferred to 200 slices of 2 mm, kernel B40F, several at one place")
    alone = select(phases()).series
    assert alone is not None
    assert alone.series_instance_uid == "phases"


def test_a_scout_at_the_place_of_a_slice_does_not_make_it_a_series_of_several_phases() -> None:
    scout = image("1", orientation=CORONAL, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    selection = select(SeriesHeader("1", (scout, *series().images)), series("2", kernel="B70S"))
    assert selection.series is not None
    assert selection.series.series_instance_uid == "1"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({}, {"image_type": ("DERIVED", "PRIMARY")}),
        ({}, {"image_type": ("ORIGINAL", "PRIMARY", "AXIAL", "VMI")}),
        ({"kernel": "B30F"}, {"kernel": "B70S"}),
        ({"kernel": "STANDARD"}, {"kernel": "LUNG"}),
        ({"kernel": "BR40D 3"}, {"kernel": "BL57D 3"}),
        ({"kernel": "FC08"}, {"kernel": "FC51"}),
        ({"kernel": "B"}, {"kernel": "YA"}),
        ({"thickness_mm": 1.5}, {"thickness_mm": 5.0}),
        ({"thickness_mm": 5.0}, {"thickness_mm": None}),
        ({"slices": 120}, {"slices": 100}),
        ({"thickness_mm": 5.0}, {"kernel": "B70S"}),  # a kernel weighs more than the thickness
    ],
)
def test_among_those_that_fit_the_better_is_preferred(better: dict[str, Any], worse: dict[str, Any]) -> None:
    # The better one has the UID that would lose a tie.
    selection = select(series("1", **worse), series("2", **better))
    assert selection.series is not None
    assert selection.series.series_instance_uid == "2"
    assert "was preferred to" in selection.reasons["1"]


CHEST: dict[str, Any] = {"series_description": "THORAX 2.0", "body_part": "CHEST"}
ABDOMEN: dict[str, Any] = {"series_description": "ABDOMEN PV 2.0", "body_part": "ABDOMEN"}
UNNAMED: dict[str, Any] = {"series_description": "PV 2.0", "body_part": ""}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (CHEST, ABDOMEN | {"slices": 200}),
        (CHEST | {"kernel": "B70S", "thickness_mm": 5.0}, ABDOMEN),  # a sharp kernel is better than no lung
        (CHEST | {"image_type": ("DERIVED", "PRIMARY")}, ABDOMEN),
        (CHEST, ABDOMEN | {"body_part": "CHEST", "slices": 200}),  # one body part for the whole study
        (CHEST | {"body_part": "ABDOMEN"}, ABDOMEN | {"slices": 200}),
        (CHEST, ABDOMEN | {"protocol_name": "CT THORAX ABDOMEN", "slices": 200}),  # one protocol for the whole study
        (CHEST, UNNAMED | {"body_part": "ABDOMENPELVIS", "slices": 200}),
        (CHEST, UNNAMED | {"protocol_name": "LIVER", "slices": 200}),
        (CHEST, UNNAMED | {"slices": 200}),
        (UNNAMED | {"kernel": "B70S"}, ABDOMEN),
        (
            {"series_description": "MEDIASTINUM 2.0", "body_part": "ABDOMEN"},
            {"series_description": "LUNG 1.0", "body_part": "ABDOMEN", "kernel": "B70S"},
        ),
        ({"series_description": "THORAX ABDOMEN 2.0", "slices": 200}, CHEST),  # the part beside the chest is no fault
        ({"series_description": "", "slices": 200}, CHEST),  # its body part names the chest
        (UNNAMED | {"protocol_name": "THORAX", "slices": 200}, CHEST),
        # In a study of the chest alone, a series need not name it to be the better one.
        (UNNAMED | {"kernel": "B30F"}, {"series_description": "LUNG 1.0", "kernel": "B70S"}),
        (UNNAMED | {"thickness_mm": 1.5}, CHEST | {"thickness_mm": 5.0}),
    ],
)
def test_a_series_of_the_chest_is_preferred_to_one_of_another_part(
    better: dict[str, Any], worse: dict[str, Any]
) -> None:
    selection = select(series("1", **worse), series("2", **better))
    assert selection.series is not None
    assert selection.series.series_instance_uid == "2"


def test_a_reason_says_that_a_series_does_not_name_the_chest() -> None:
    reasons = select(series("1", **CHEST), series("2", 200, **ABDOMEN), series("3", 200, **UNNAMED)).reasons
    assert reasons["1"] == "selected: 100 slices of 2 mm, kernel B40F"
    assert reasons["2"].endswith("to 200 slices of 2 mm, kernel B40F, named as another part")
    assert reasons["3"].endswith("to 200 slices of 2 mm, kernel B40F, not named as the chest")


def test_the_only_series_is_selected_whatever_part_it_names() -> None:
    assert select(series(**ABDOMEN)).series is not None


def test_a_series_is_read_with_its_own_names(tmp_path: Path) -> None:
    """The study's description is not among them: all its series share it."""
    chest_and_belly = {"StudyDescription": "CT Thorax/Abdomen", "StudyInstanceUID": "1.2"}
    for part, slices in (("Chest", 20), ("Abdomen", 30)):
        ct_series(
            tmp_path / part, np.zeros((slices, 4, 4), np.int16), SeriesDescription=f"{part} 2.0", BodyPartExamined="",
            ProtocolName=part, **chest_and_belly,
        )  # fmt: skip
    selection, _ = select_in(tmp_path)
    assert selection.series is not None
    assert selection.series.slices == 20


@given(st.permutations(["1", "2", "3", "4"]))
def test_the_choice_does_not_depend_on_the_order_of_arrival(order: list[str]) -> None:
    selection = select(*(series(uid) for uid in order))
    assert selection.series is not None
    assert selection.series.series_instance_uid == "1"


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "slices": st.integers(1, 60),
                "gap_mm": st.sampled_from([0.0, 2.0, 5.0]),
                "thickness_mm": st.none() | st.floats(0, 20),
                "orientation": st.none() | st.sampled_from([AXIAL, CORONAL]) | st.tuples(*[st.floats(-1, 1)] * 6),
                "image_type": st.lists(st.sampled_from(["ORIGINAL", "DERIVED", "SECONDARY", "LOCALIZER"])).map(tuple),
                "sop_class_uid": st.sampled_from([CTImageStorage, MRImageStorage]),
                "body_part": st.sampled_from(["", "CHEST", "HEAD", "ABDOMEN"]),
                "series_description": st.sampled_from(["", "THORAX", "ABDOMEN", "PV"]),
            }
        ),
        max_size=4,
    )
)
def test_every_series_has_a_reason_and_there_is_a_choice_or_a_rejection(found: list[dict[str, Any]]) -> None:
    selection = select(*(series(str(number), **values) for number, values in enumerate(found)))
    assert set(selection.reasons) == {str(number) for number in range(len(found))}
    assert all(selection.reasons.values())
    assert (selection.series is None) == (selection.rejection is not None)


@pytest.mark.parametrize(
    ("slices", "unread", "values", "most_slices", "might"),
    [
        (99, 1, {}, 100, True),
        (98, 1, {}, 99, False),
        (98, 1, {}, math.inf, True),
        (99, 1, {"kernel": "B70F"}, 100, False),
        (99, 1, {"thickness_mm": 3.0}, 100, False),
        (99, 1, {"series_description": "ABDOMEN"}, 200, False),
        (99, 1, {"orientation": CORONAL}, 100, False),
        (99, 1, {"thickness_mm": 10.0}, 100, False),
        (99, 1, {"rescale_type": "MGML"}, 200, False),
        (5, 95, {"kernel": "B70F"}, 100, True),
        (0, 100, {}, 100, True),
        (0, 9, {}, 9, False),
    ],
)
def test_a_series_with_unread_files_might_be_chosen_if_these_could_make_it_the_better_one(
    slices: int, unread: int, values: dict[str, Any], most_slices: float, might: bool
) -> None:
    lacking = replace(series("1", slices, **values), unread=unread)
    assert might_be_chosen(lacking, most_slices, series("2"), SETTINGS) == might


@pytest.mark.parametrize(("values", "might"), [({"kernel": "B70F"}, True), ({"orientation": CORONAL}, False)])
def test_any_slices_of_the_right_kind_might_be_chosen_if_nothing_was(values: dict[str, Any], might: bool) -> None:
    lacking = replace(series("1", 6, **values), unread=4)
    assert might_be_chosen(lacking, 10, None, SETTINGS) == might


def test_a_study_without_ct_is_not_for_hilum() -> None:
    selection = select(series(sop_class_uid=MRImageStorage, modality="MR"))
    assert isinstance(selection.rejection, NotForHilum)
    assert selection.rejection.code == "no-ct"


def test_a_study_of_scouts_alone_is_not_for_hilum() -> None:
    assert isinstance(select(series(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))).rejection, NotForHilum)


def test_a_chest_ct_too_short_to_measure_is_answered_with_a_report() -> None:
    rejection = select(series(slices=5)).rejection
    assert isinstance(rejection, NotAnalysable)
    assert "expected at least 10 slices, got 5" in rejection.message


@pytest.mark.parametrize(("gap_mm", "fits"), [(4.15, True), (4.14, False)])
def test_a_series_is_too_short_by_the_extent_that_is_told(gap_mm: float, fits: bool) -> None:
    selection = select(series(slices=25, gap_mm=gap_mm))
    assert (selection.series is not None) == fits
    if not fits:
        assert "expected at least 100 mm of the body, got 99 mm" in selection.reasons["1"]


def test_the_extent_of_tilted_slices_is_measured_across_them() -> None:
    tilted = (1.0, 0.0, 0.0, 0.0, math.cos(0.5), math.sin(0.5))
    selection = select(series(slices=25, gap_mm=4.5, orientation=tilted))
    assert "got 95 mm" in selection.reasons["1"]  # 24 x 4.5 mm x cos 0.5


def test_a_ct_of_another_part_is_not_for_hilum() -> None:
    assert isinstance(select(series(body_part="HEAD", words="HEAD")).rejection, NotForHilum)


def test_a_ct_that_nothing_calls_a_chest_is_not_for_hilum_when_it_does_not_fit() -> None:
    assert isinstance(select(series(slices=5, body_part="", words="ROUTINE")).rejection, NotForHilum)


@pytest.mark.parametrize(
    ("part", "words"),
    [("", "HRCT TEMPORAL BONE"), ("", "HRCT PNS"), ("EAR", "EAR HRCT 0.6"), ("IAC", "IAC HRCT FELSENBEIN")],
)
def test_a_ct_of_high_resolution_of_another_part_is_not_for_hilum(part: str, words: str) -> None:
    assert isinstance(select(series(slices=5, body_part=part, words=words)).rejection, NotForHilum)


def test_a_ct_of_high_resolution_alone_is_a_chest() -> None:
    assert isinstance(select(series(slices=5, body_part="", words="HRCT 1.0")).rejection, NotAnalysable)


@pytest.mark.parametrize(
    "words",
    [
        "CT CHEST", "CT THORACIC AORTA", "SCANNER THORACIQUE", "TC TORAX", "TC TÓRAX", "TC TO\u0301RAX", "TC TORACE",
        "TAC TORACICO", "TC TORÁCICA", "TORACOABDOMINAL", "BT TORAKS", "TC POLMONI", "TC PULMÃO", "胸部CT", "ＣＴ胸部",
        "胸腹部", "肺窗", "纵隔窗", "MEDIASTINUM 2.0", "MÉDIASTIN",
    ],
)  # fmt: skip
def test_the_chest_is_recognised_in_several_languages(words: str) -> None:
    assert speaks_of_chest(words)


@pytest.mark.parametrize(
    "words",
    [
        "CT ABDOMEN", "TÊTE", "TORSO", "EXTRACTION", "COLUNA TORÁCICA", "COLUMNA TORACICA", "COLONNA TORACICA",
        "RACHIDE TORACICO", "COLUNA TORACOLOMBAR", "CT THORACIC SPINE", "THORACOLUMBAR SPINE", "胸椎CT", "胸骨", "腹部",
    ],
)  # fmt: skip
def test_the_thoracic_spine_and_other_parts_are_not_the_chest(words: str) -> None:
    assert not speaks_of_chest(words)


@given(st.tuples(*[st.floats(-1, 1)] * 6))
@example((0.0, 1.0, 0.0, 5e-324, 0.0, 5e-324))
def test_a_normal_is_a_unit_vector_across_both_cosines(orientation: tuple[float, ...]) -> None:
    n = normal(orientation)
    assert math.hypot(*n) == pytest.approx(1) or n == (0, 0, 0)
    for axis in (orientation[:3], orientation[3:]):
        assert sum(a * b for a, b in zip(n, axis, strict=True)) == pytest.approx(0, abs=1e-6)


def select_in(folder: Path) -> tuple[Selection, list[SeriesHeader]]:
    found = read_series(sorted(path for path in folder.rglob("*") if path.is_file()))
    return select_series(found, SETTINGS), found


@pytest.mark.data
@pytest.mark.parametrize("study", ["covid-p001", "cap-001", "normal-001", "petct-a0002-b40f"])
def test_each_real_chest_ct_is_selected(shared_data: Path, study: str) -> None:
    selection, found = select_in(shared_data / "ct-studies" / study)
    assert selection.series is not None
    assert selection.series.slices == max(series.slices for series in found)


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("scout-and-dose", "expected CT images"),
        ("not-ct", "MR MR Image Storage"),
        ("not-ct", "MG Digital Mammography X-Ray Image Storage - For Presentation"),
        ("not-ct", "RTSTRUCT RT Structure Set Storage"),
        ("reformats", "got derived ones (reformats or screens)"),
        ("not-a-volume", "expected at least 10 slices, got 4"),
        ("transfer-syntaxes", "expected at least 100 mm of the body, got 0 mm"),
        ("enhanced-ct", "expected at least 10 slices, got 2"),
        ("no-preamble", "could not be read as DICOM"),  # ACR-NEMA 2.0, without UIDs
        ("invalid-uids", "expected at least 10 slices, got 5"),
        ("missing-slice", "expected at least 100 mm of the body, got 16 mm"),
        ("uneven-spacing", "expected at least 10 slices"),
    ],
)
def test_odd_data_is_refused_with_a_reason_a_person_understands(shared_data: Path, folder: str, said: str) -> None:
    selection, found = select_in(shared_data / "odd-dicom" / folder)
    assert selection.series is None
    assert selection.rejection is not None
    assert set(selection.reasons) == {series.series_instance_uid for series in found}
    assert any(said in reason for reason in selection.reasons.values()), selection.reasons
