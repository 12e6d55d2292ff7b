from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from dicom_node.errors import NotAnalysable, NotForHilum, RejectedInput
from dicom_node.settings import SelectionSettings
from tests.worker.chests import volume_of
from worker.findings import Flag, Lungs, Mask, Measurement
from worker.gates import FEWEST_SLICES, SHORTEST_MM, disagreement, flags_of, require_chest_extent, require_lungs
from worker.geometry import Geometry
from worker.measure import measure
from worker.volume import Volume

SHAPE = (40, 40, 40)  # 6 x 3 x 3 mm: 0.054 mL a voxel, 3456 mL in all


def volume(hu: int = -800) -> Volume:
    return volume_of(np.full(SHAPE, hu, np.int16))


def labels(left_rows: slice = slice(0, 18), right_rows: slice = slice(20, 40)) -> np.ndarray:
    """Return lungs on many slices that touch neither end; by default about 1400 mL (left) and 1560 mL (right)."""
    array = np.zeros(SHAPE, np.uint8)
    array[2:-2, left_rows], array[2:-2, right_rows] = 1, 2
    return array


def in_tissue(hu: np.ndarray, aerated: np.ndarray) -> np.ndarray:
    """Return HU that are those of soft tissue where nothing is aerated, except for a windpipe between the lungs."""
    hu = np.where(aerated, hu, 40).astype(np.int16)
    hu[:, 19, 20] = -1000
    return hu


def flags(
    array: np.ndarray,
    of: Volume,
    aerated: np.ndarray | None = None,
    infected: np.ndarray | None = None,
    empty: slice = slice(0),
    blank_hu: int = -1024,
) -> dict[str, bool]:
    """Return the codes of the flags, and whether each withholds the percentage, for lungs found in a volume.

    The volume is soft tissue except where it is ``aerated``, by default in these lungs, and in ``empty`` slices.
    """
    hu = in_tissue(of.hu, array if aerated is None else aerated)
    hu[empty], array[empty] = blank_hu, 0
    of, lungs = replace(of, hu=hu), Lungs(array, of.geometry)
    infection = Mask(np.zeros(SHAPE, bool) if infected is None else infected, of.geometry)
    return {f.code: f.withholds_percentage for f in flags_of(of, lungs, measure(of, lungs, infection))}


THICK = {"thick-slices": False}  # slices of these volumes are 6 mm apart


def test_a_plausible_chest_raises_no_doubt() -> None:
    assert flags(labels(), volume()) == THICK


@pytest.mark.parametrize(("end", "code"), [(slice(0, 2), "cut-off-feet"), (slice(-2, None), "cut-off-head")])
def test_lungs_cut_off_withhold_the_percentage(end: slice, code: str) -> None:
    array = labels()
    array[end] = array[20]
    assert flags(array, volume()) == {code: True} | THICK


def test_a_tip_of_lung_cut_off_is_only_told() -> None:
    array = labels()
    array[0, :2] = 1
    assert flags(array, volume()) == {"tip-cut-off-feet": False} | THICK


@pytest.mark.parametrize(
    ("voxels", "codes"),
    [
        (15, {}),
        (16, {"tip-cut-off-feet": False}),
        (152, {"tip-cut-off-feet": False}),
        (153, {"cut-off-feet": True}),
    ],
)
def test_an_end_slice_holds_a_tip_above_1_and_a_part_above_10_percent_of_the_largest(
    voxels: int, codes: dict[str, bool]
) -> None:
    array = labels()
    assert np.count_nonzero(array[20]) == 1520
    array[0].flat[:voxels] = 1
    assert flags(array, volume()) == codes | THICK


@pytest.mark.parametrize(
    ("sign", "slice_"), [(1, "lowest slice (towards the feet)"), (-1, "highest slice (towards the head)")]
)
def test_the_end_that_is_cut_off_is_named_as_it_lies_in_the_patient(sign: int, slice_: str) -> None:
    of = volume_of(np.full(SHAPE, -800, np.int16), (sign, 1, 1))
    array = labels()
    array[0] = array[20]
    lungs = Lungs(array, of.geometry)
    told = [flag.message for flag in flags_of(of, lungs, measure(of, lungs, Mask(np.zeros(SHAPE, bool), of.geometry)))]
    assert f"The lungs reach beyond the {slice_}: the scan does not cover them whole." in told


@pytest.mark.parametrize("blank_hu", [-1024, 0, 31743])
@pytest.mark.parametrize("empty", [slice(1, 2), slice(15, 16), slice(0, 2), slice(-2, None)])
def test_an_empty_slice_in_the_patient_or_beside_lung_withholds_the_percentage(empty: slice, blank_hu: int) -> None:
    assert flags(labels(), volume(), empty=empty, blank_hu=blank_hu) == {"empty-slice": True} | THICK


@pytest.mark.parametrize("blank_hu", [-1024, 0])
@pytest.mark.parametrize("empty", [slice(0, 1), slice(-1, None)])
def test_empty_slices_beyond_the_patient_raise_no_doubt(empty: slice, blank_hu: int) -> None:
    assert flags(labels(), volume(), empty=empty, blank_hu=blank_hu) == THICK


@pytest.mark.parametrize("open_slices", [slice(15, 20), slice(15, None), slice(0, 20)])
def test_a_lung_that_ends_in_the_midst_of_lung_withholds_the_percentage(open_slices: slice) -> None:
    found = labels()
    found[open_slices, 22:] = 0
    assert flags(found, volume(), aerated=labels())["cut-off-sides"]


@pytest.mark.parametrize("hu", [-1000, -400, 40])
def test_a_lung_may_end_at_tissue_or_gas(hu: int) -> None:
    found = labels()
    found[:20, 22:] = 0
    of = volume()
    of.hu[:20, 22:] = hu
    assert "cut-off-sides" not in flags(found, of, aerated=labels())


def test_a_bit_of_lung_left_out_of_a_slice_is_no_cut() -> None:
    found = labels()
    found[15, 20] = 0
    assert flags(found, volume(), aerated=labels()) == THICK


@pytest.mark.parametrize(("voxels", "is_told"), [(76, False), (77, True)])
def test_more_than_5_percent_of_the_largest_slice_left_out_of_one_are_a_cut(voxels: int, *, is_told: bool) -> None:
    found = labels()
    found[15, 20:22].flat[:voxels] = 0
    assert ("cut-off-sides" in flags(found, volume(), aerated=labels())) == is_told


def test_a_missing_lung_withholds_the_percentage() -> None:
    array = labels()
    array[array == 1] = 0
    assert flags(array, volume()) == {"no-left-lung": True} | THICK


def test_a_lopsided_pair_withholds_the_percentage() -> None:
    assert flags(labels(left_rows=slice(0, 5)), volume()) == {"lung-ratio": True} | THICK


def test_too_small_a_volume_withholds_the_percentage() -> None:
    assert flags(labels(slice(0, 4), slice(4, 9)), volume()) == {"lung-volume": True} | THICK


@pytest.mark.parametrize("hu", [-980, -400])
def test_a_density_no_lung_has_withholds_the_percentage(hu: int) -> None:
    assert flags(labels(), volume(hu)) == {"lung-density": True} | THICK


@pytest.mark.parametrize("infected_share", [0.3, 0.6, 0.85])
def test_infection_however_much_makes_no_density_that_no_lung_has(infected_share: float) -> None:
    infected = np.zeros(SHAPE, bool)
    infected[: round(infected_share * SHAPE[0])] = True
    of = volume()
    of.hu[infected] = -300
    assert flags(labels(), of, infected=infected) == THICK


def test_lung_that_is_too_dense_beside_infection_withholds_the_percentage() -> None:
    infected = np.zeros(SHAPE, bool)
    infected[:8] = True
    assert flags(labels(), volume(-400), infected=infected) == {"lung-density": True} | THICK


@pytest.mark.parametrize(
    ("figures", "codes"),
    [
        ({"lung_volume_ml": 799.7}, set()),
        ({"lung_volume_ml": 799.4}, {"lung-volume"}),
        ({"lung_volume_ml": 10_000.4}, set()),
        ({"lung_volume_ml": 10_000.6}, {"lung-volume"}),
        ({"lung_mean_hu": -930.4}, set()),
        ({"lung_mean_hu": -930.6}, {"lung-density"}),
        ({"lung_mean_hu": -599.6}, set()),
        ({"lung_mean_hu": -599.4}, {"lung-density"}),
    ],
)
def test_a_limit_is_held_against_the_figure_that_is_told(figures: dict[str, float], codes: set[str]) -> None:
    assert {flag.code for flag in flags_of(*measured(**figures))} == codes | {"thick-slices"}


@pytest.mark.parametrize(("left_ml", "is_told"), [(394, True), (396, False), (1503, False), (1506, True)])
def test_the_ratio_of_the_lungs_is_held_against_its_limit_as_it_is_told(left_ml: float, is_told: bool) -> None:
    of = measured(left_ml=left_ml)
    assert ("lung-ratio" in {flag.code for flag in flags_of(*of)}) == is_told


def measured(left_ml: float = 1000.0, **both: float) -> tuple[Volume, Lungs, list[Measurement]]:
    """Return a volume, plausible lungs, and measurements: those of both lungs have the given figures."""
    of, array = volume(), labels()
    of = replace(of, hu=in_tissue(of.hu, array))
    healthy = {"infection_volume_ml": 0.0, "infected_percent": 0.0, "infection_mean_hu": None}
    figures = healthy | {"lung_volume_ml": 2000.0, "lung_mean_hu": -800.0} | both
    sides = [
        Measurement(site=site, lung_volume_ml=ml, lung_mean_hu=-800.0, **healthy)
        for site, ml in (("left", left_ml), ("right", 1000.0))
    ]
    return of, Lungs(array, of.geometry), [Measurement(site="both", **figures), *sides]


@pytest.mark.parametrize(("infected_ml", "is_told"), [(1800, False), (1801, True)])
def test_all_lung_is_judged_by_its_density_where_less_than_10_percent_is_free_of_infection(
    infected_ml: float, *, is_told: bool
) -> None:
    """The mean of all lung is -500 HU, which is implausible; the mean of the lung without infection is -800 HU."""
    of = measured(lung_mean_hu=-500, infection_volume_ml=infected_ml, infection_mean_hu=-840_000 / 1800)
    assert ("lung-density" in {flag.code for flag in flags_of(*of)}) == is_told


@pytest.mark.parametrize(
    ("found_percent", "difference_percent", "is_told"),
    [(0, 1, False), (0, 1.01, True), (2, 1, False), (2, 1.01, True), (10, 5, False), (10, 5.01, True)],
)
def test_a_network_is_unsure_beyond_1_percent_of_the_lung_and_half_of_what_it_found(
    found_percent: float, difference_percent: float, *, is_told: bool
) -> None:
    assert bool(list(disagreement(found_percent, difference_percent))) == is_told


@pytest.mark.parametrize(("z_mm", "is_refused"), [(9.97, False), (9.94, True)])
def test_a_slab_is_too_short_by_the_extent_that_is_told(z_mm: float, is_refused: bool) -> None:
    of = volume_of(np.zeros((10, 8, 8), np.int16))
    of.geometry.affine[2, 0] = z_mm
    if is_refused:
        with pytest.raises(NotAnalysable, match="over 99 mm"):
            require_chest_extent(of)
    else:
        require_chest_extent(of)


def test_doubts_of_reading_come_along() -> None:
    tilted = replace(volume(), flags=(Flag("gantry-tilt", "tilted"),))
    assert flags(labels(), tilted) == {"gantry-tilt": False} | THICK


@pytest.mark.parametrize(
    ("body_part", "error"), [("CHEST", NotAnalysable), ("ABDOMEN", NotForHilum), ("", NotForHilum)]
)
def test_without_lungs_only_a_chest_is_answered(body_part: str, error: type[RejectedInput]) -> None:
    of = replace(volume(40), body_part=body_part)
    with pytest.raises(error) as caught:
        require_lungs(of, Lungs(np.zeros(SHAPE, np.uint8), of.geometry))
    assert caught.value.code == "no-lungs"


def test_one_lung_is_enough_to_go_on() -> None:
    array = labels()
    array[array == 2] = 0
    of = volume()
    require_lungs(of, Lungs(array, of.geometry))


@pytest.mark.parametrize("slices", [9, 16])
def test_few_slices_or_a_short_slab_are_refused(slices: int) -> None:
    with pytest.raises(NotAnalysable, match=f"got {slices} over") as caught:
        require_chest_extent(volume_of(np.zeros((slices, 8, 8), np.int16)))
    assert caught.value.code == "too-short"


def test_coronal_slices_are_refused() -> None:
    affine = np.array([[0, 0, 3, 0], [6, 0, 0, 0], [0, -3, 0, 0], [0, 0, 0, 1.0]])
    of = replace(volume(), geometry=Geometry(SHAPE, affine, "1"))
    with pytest.raises(NotAnalysable) as caught:
        require_chest_extent(of)
    assert caught.value.code == "not-axial"


def test_a_short_scan_of_another_body_part_is_not_answered() -> None:
    of = replace(volume_of(np.zeros((9, 8, 8), np.int16)), body_part="HEAD")
    with pytest.raises(NotForHilum):
        require_chest_extent(of)


@pytest.mark.parametrize("kernel", ["B50f", "I70f 2", "BONEPLUS", "YA", "FC51"])
def test_a_sharp_kernel_is_told(kernel: str) -> None:
    assert flags(labels(), replace(volume(), kernel=kernel)) == {"sharp-kernel": False} | THICK


@pytest.mark.parametrize("kernel", ["", "B40f", "STANDARD", "B", "FC18"])
def test_a_smooth_kernel_is_not(kernel: str) -> None:
    assert flags(labels(), replace(volume(), kernel=kernel)) == THICK


def test_a_contrast_agent_is_told() -> None:
    assert flags(labels(), replace(volume(), has_contrast_agent=True)) == {"contrast": False} | THICK


@pytest.mark.parametrize(
    ("thickness_mm", "message"),
    [
        (None, "Slices are 6.0 mm apart: small lesions and edges are uncertain."),
        (5.0, "Slices are 6.0 mm apart: small lesions and edges are uncertain."),
        (10.0, "Slices are 10.0 mm thick: small lesions and edges are uncertain."),
    ],
)
def test_slices_are_thick_by_their_distance_or_by_their_thickness(thickness_mm: float | None, message: str) -> None:
    of = replace(volume(), slice_thickness_mm=thickness_mm)
    lungs = Lungs(labels(), of.geometry)
    measured = measure(of, lungs, Mask(np.zeros(SHAPE, bool), of.geometry))
    assert message in [flag.message for flag in flags_of(of, lungs, measured)]


def test_thick_slices_close_to_each_other_are_told() -> None:
    of = replace(volume(), geometry=Geometry(SHAPE, np.diag([5.0, 3.0, 3.0, 1.0]), "1"), slice_thickness_mm=10.0)
    assert "thick-slices" in flags(labels(), of)


@pytest.mark.parametrize(("slice_mm", "told"), [(5.0, False), (5.0000001, False), (5.04, False), (5.06, True)])
def test_slices_of_5_mm_are_not_thick_for_a_rounding(slice_mm: float, told: bool) -> None:
    of = replace(volume(), geometry=Geometry(SHAPE, np.diag([slice_mm, 3.0, 3.0, 1.0]), "1"))
    assert ("thick-slices" in flags(labels(), of)) == told


@pytest.mark.parametrize(("name", "least"), [("minimum_slices", FEWEST_SLICES), ("minimum_extent_mm", SHORTEST_MM)])
def test_a_site_cannot_select_what_would_be_refused_here(name: str, least: float) -> None:
    SelectionSettings.model_validate({name: least})
    with pytest.raises(ValidationError):
        SelectionSettings.model_validate({name: least - 1})
