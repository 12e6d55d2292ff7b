import pytest

from training.evaluate.metrics import Confusion
from training.evaluate.patients import Patient, patient_figures

LUNG = Confusion(100, 0, 0, 900)
NOTHING = Confusion()


def patient(*scans: tuple[Confusion, Confusion]) -> Patient:
    """Return a patient of scans of ten slices each, by the counts of lung and infection; no counts, no mask."""
    one = Patient()
    for lung, infection in scans:
        one.add(lung, infection, slices=10)
    return one


def infected(found: int, true: int) -> Confusion:
    both = min(found, true)
    return Confusion(both, found - both, true - both, 1000 - max(found, true))


def test_poir_is_infection_over_lung_found_or_true() -> None:
    figures = patient_figures({"a": patient((Confusion(90, 10, 110, 0), Confusion(5, 5, 15, 0)))})
    assert (figures["poir/a/found"], figures["poir/a/true"]) == (10, 10)


def test_poir_is_over_scans_with_masks_of_both_lung_and_infection() -> None:
    figures = patient_figures({"a": patient((LUNG, infected(20, 30)), (NOTHING, infected(50, 50)))})
    assert (figures["poir/a/found"], figures["poir/a/true"]) == (20, 30)


def test_poir_is_compared_over_patients_whose_lungs_were_drawn_and_these_are_counted() -> None:
    drawn = {"a": patient((LUNG, infected(10, 20))), "b": patient((LUNG, infected(30, 50)))}
    figures = patient_figures({**drawn, "c": patient((NOTHING, infected(20, 20)))})
    assert "poir/c/true" not in figures
    assert figures["poir/cases"] == 2
    assert figures["poir/mean_absolute_error"] == 15


def test_a_patient_in_whom_no_lung_was_found_has_a_poir_of_0_and_counts() -> None:
    missed = patient((Confusion(0, 0, 100, 900), infected(0, 20)))
    figures = patient_figures({"a": patient((LUNG, infected(20, 20))), "b": missed})
    assert figures["poir/b/found"] == 0
    assert figures["poir/m_ape"] == pytest.approx(50)


def test_scans_count_for_poir_by_their_volumes() -> None:
    one = Patient()
    one.add(LUNG, infected(10, 10), slices=10, voxel_ml=0.001)
    one.add(LUNG, infected(50, 50), slices=10, voxel_ml=0.003)
    assert patient_figures({"a": one})["poir/a/true"] == pytest.approx(40)


def test_poir_needs_no_spacing() -> None:
    assert patient_figures({"a": patient((LUNG, infected(10, 20)))})["poir/a/true"] == 20
