from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import NotAnalysable, NotForHilum
from tests.factories import chest_hu, ct_series, multiframe_ct
from worker.candidates import Candidates
from worker.findings import LEFT, RIGHT, Algorithm, Flag, Lungs, Mask
from worker.pipeline import THRESHOLDS, Method, analyze
from worker.volume import Volume


def test_a_series_is_measured_from_end_to_end(tmp_path: Path) -> None:
    hu, truth, infection = chest_hu()
    volume, findings = analyze(ct_series(tmp_path, hu, seed=2))
    assert findings.measurement("both").infected_percent == pytest.approx(
        100 * infection.sum() / (truth > 0).sum(), abs=0.4
    )
    assert findings.measurement("left").infection_volume_ml == 0
    assert findings.geometry is volume.geometry
    assert findings.areas.lung_mm2.shape == (len(volume.hu),)
    assert [region.kept for region in findings.regions] == [True]
    assert findings.algorithm == THRESHOLDS.algorithm


def test_a_multiframe_ct_is_measured_like_its_series(tmp_path: Path) -> None:
    hu, _, _ = chest_hu()
    _, single = analyze(ct_series(tmp_path / "single", hu))
    _, multi = analyze(multiframe_ct(tmp_path / "multi", hu, seed=5))
    assert single.measurements == multi.measurements


def test_a_healthy_chest_is_answered_with_nothing_found(tmp_path: Path) -> None:
    _, findings = analyze(ct_series(tmp_path, chest_hu(infected=False)[0]))
    assert findings.measurement("both").infected_percent == 0
    assert findings.regions == ()


def test_a_withholding_flag_withholds_every_percentage_and_keeps_the_volumes(tmp_path: Path) -> None:
    _, findings = analyze(ct_series(tmp_path, chest_hu()[0][:24]))
    assert "cut-off-head" in [flag.code for flag in findings.flags]
    assert [m.infected_percent for m in findings.measurements] == [None, None, None]
    assert findings.measurement("right").infection_volume_ml > 0


@pytest.mark.parametrize(
    ("right_upper", "told"), [(False, "left lower zone"), (True, "right upper and the left lower zones")]
)
def test_a_zone_without_aerated_lung_is_told_beside_the_percentage(
    tmp_path: Path, right_upper: bool, told: str
) -> None:
    hu, labels, _ = chest_hu()
    hu[:17][labels[:17] == LEFT] = 40
    if right_upper:
        hu[24:][labels[24:] == RIGHT] = 40

    _, findings = analyze(ct_series(tmp_path, hu))

    assert findings.measurement("both").infected_percent is not None
    message = f"No aerated lung was found in the {told}: PoIR may be too low."
    assert Flag("zone-without-lung", message) in findings.flags


@pytest.mark.parametrize(("orientation", "end"), [((1, 0, 0, 0, 1, 0), "head"), ((-1, 0, 0, 0, 1, 0), "feet")])
def test_lungs_cut_off_at_an_end_are_told_by_the_patients_head_and_feet(
    tmp_path: Path, orientation: tuple[float, ...], end: str
) -> None:
    _, findings = analyze(ct_series(tmp_path, chest_hu()[0][:24], orientation=orientation))  # cut off at the last slice
    assert [flag.code for flag in findings.flags if "cut-off" in flag.code] == [f"cut-off-{end}"]


@pytest.mark.parametrize("is_cropped", [True, False], ids=["cropped", "padded"])
def test_lungs_cut_off_at_a_side_give_no_percentage(tmp_path: Path, is_cropped: bool) -> None:
    hu = chest_hu()[0]
    hu[:, :, :18] = -1024  # the right lung begins at column 16
    _, findings = analyze(ct_series(tmp_path, hu[:, :, 18:] if is_cropped else hu))
    assert "cut-off-sides" in [flag.code for flag in findings.flags]
    assert findings.measurement("both").infected_percent is None


def test_stages_run_in_order_and_shares_grow(tmp_path: Path) -> None:
    heard: list[tuple[str, float]] = []
    analyze(ct_series(tmp_path, chest_hu()[0]), progress=lambda stage, share: heard.append((stage, share)))
    assert [stage for stage, _ in heard] == [
        "reading the series",
        "finding the lungs",
        "finding infection",
        "measuring",
    ]
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert shares[-1] < 1


def test_a_stage_is_replaced_without_touching_the_rest(tmp_path: Path) -> None:
    def everything(volume: Volume, lungs: Lungs) -> Candidates:
        return Candidates(Mask(lungs.labels != 0, volume.geometry), (Flag("all", "Everything is called infected."),))

    method: Method = replace(THRESHOLDS, algorithm=Algorithm("All", "1"), segment_infection=everything)
    _, findings = analyze(ct_series(tmp_path, chest_hu()[0]), method)
    assert findings.measurement("both").infected_percent == 100
    assert findings.algorithm.name == "All"
    assert "all" in {flag.code for flag in findings.flags}


def test_the_settings_that_change_results_are_named() -> None:
    assert dict(THRESHOLDS.algorithm.settings) == {
        "lung_hu": "-200",
        "aerated_hu": "-750",
        "smallest_region_ml": "0.5",
    }


def test_a_chest_without_lungs_is_answered_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(NotAnalysable) as caught:
        analyze(ct_series(tmp_path, np.full((30, 32, 32), 40, np.int16)))
    assert caught.value.code == "no-lungs"


def test_a_head_is_not_for_hilum(tmp_path: Path) -> None:
    with pytest.raises(NotForHilum):
        analyze(ct_series(tmp_path, np.full((30, 32, 32), 40, np.int16), BodyPartExamined="HEAD"))


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "error", "code"),
    [
        ("gantry-tilt", NotAnalysable, "too-short"),
        ("invalid-uids", NotAnalysable, "too-short"),
        ("missing-slice", NotAnalysable, "missing-slices"),
        ("uneven-spacing/001", NotAnalysable, "missing-slices"),
        ("uneven-spacing/002", NotAnalysable, "missing-slices"),
        ("not-a-volume/001", NotAnalysable, "duplicate-positions"),
        ("enhanced-ct", NotForHilum, "perfusion"),
        ("no-preamble", NotForHilum, "not-ct"),
        ("not-ct", NotForHilum, "not-ct"),
        ("reformats", NotAnalysable, "mixed-series"),
        ("reformats/A002304/coronal", NotAnalysable, "mixed-series"),
        ("scout-and-dose", NotForHilum, "localizer"),
        ("transfer-syntaxes", NotAnalysable, "duplicate-positions"),
    ],
)
def test_odd_dicom_is_refused_with_its_own_reason(
    shared_data: Path, folder: str, error: type[Exception], code: str
) -> None:
    paths = [p for p in sorted((shared_data / "odd-dicom" / folder).rglob("*")) if p.is_file()]
    with pytest.raises(error) as caught:
        analyze(paths)
    assert getattr(caught.value, "code", None) == code


@pytest.mark.data
@pytest.mark.parametrize(
    ("study", "low", "high", "codes"),
    [
        ("covid-p001", 1.0, 5.0, ["tip-cut-off-feet"]),
        ("cap-001", 1.5, 8.0, ["thick-slices"]),
        ("normal-001", 0.0, 0.5, ["thick-slices"]),
    ],
)
def test_real_studies_stay_in_their_range(
    shared_data: Path, study: str, low: float, high: float, codes: list[str]
) -> None:
    _, findings = analyze(sorted((shared_data / "ct-studies" / study).glob("*.dcm")))
    percent = findings.measurement("both").infected_percent
    assert percent is not None
    assert low <= percent <= high
    assert [flag.code for flag in findings.flags] == codes
    ratio = findings.measurement("left").lung_volume_ml / findings.measurement("right").lung_volume_ml
    assert 0.8 < ratio < 1.2
