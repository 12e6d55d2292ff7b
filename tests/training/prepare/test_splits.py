from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import SettingsError
from training.prepare.splits import Holdout, KFold, Named, NamedFolds, Split, SplitRule

patients = st.lists(st.integers(0, 8).map(str), min_size=12, max_size=60).filter(lambda p: len(set(p)) >= 6)


def assert_parts_are_disjoint_by_patient(split: Split, patients: list[str]) -> None:
    parts = [{patients[i] for i in part} for part in (split.training, split.validation, split.test)]
    assert all(parts)
    assert not (parts[0] & parts[1])
    assert not (parts[0] & parts[2])
    assert not (parts[1] & parts[2])
    assert sorted(split.training + split.validation + split.test) == list(range(len(patients)))


@given(patients, st.integers(0, 1000))
def test_no_patient_is_on_two_sides_of_a_fold(patients: list[str], seed: int) -> None:
    for split in KFold(folds=3, validation=0.1).splits(patients, seed):
        assert split.by == "patient"
        assert_parts_are_disjoint_by_patient(split, patients)


@given(patients, st.integers(0, 1000))
def test_no_patient_is_on_two_sides_of_a_holdout(patients: list[str], seed: int) -> None:
    (split,) = Holdout().splits(patients, seed)
    assert_parts_are_disjoint_by_patient(split, patients)


@given(patients, st.integers(0, 1000))
def test_every_sample_tests_in_exactly_one_fold(patients: list[str], seed: int) -> None:
    tested = [i for split in KFold(folds=3).splits(patients, seed) for i in split.test]
    assert sorted(tested) == list(range(len(patients)))


def test_slices_without_identities_split_72_10_18_and_say_so() -> None:
    (split,) = Holdout().splits([None] * 100, seed=3)
    assert (len(split.training), len(split.validation), len(split.test)) == (72, 10, 18)
    assert split.by == "slice"


def test_five_folds_of_slices_without_identities_are_70_10_20() -> None:
    for split in KFold().splits([None] * 100, seed=3):
        assert (len(split.training), len(split.validation), len(split.test)) == (70, 10, 20)
        assert split.by == "slice"


@pytest.mark.parametrize("rule", [Holdout(), KFold(3), Named(("a",), ("b",)), NamedFolds((("a",), ("b",)))])
def test_a_set_that_knows_some_of_its_patients_only_is_split_by_slice(rule: SplitRule) -> None:
    assert {split.by for split in rule.splits(["a", "a", "b", "c", None], 0)} == {"slice"}


def test_folds_are_balanced_by_samples_and_not_by_patients() -> None:
    people = ["a"] * 4 + ["b"] * 2 + ["c", "d", "e", "f"]
    for seed in range(9):
        tested = [Counter(people[i] for i in split.test) for split in KFold(2).splits(people, seed)]
        assert [fold.total() for fold in tested] == [5, 5]


def test_who_is_drawn_follows_from_the_order_of_the_samples_and_not_from_names() -> None:
    renamed = dict(zip("abcdefghi", "ihgfedcba", strict=True))
    people = [name for name in "abcdefghi" for _ in range(3)]
    for rule in (Holdout(), KFold(3)):
        assert rule.splits(people, 1) == rule.splits([renamed[name] for name in people], 1)


def test_the_seed_decides() -> None:
    people = [str(i // 3) for i in range(30)]
    assert KFold().splits(people, 1) == KFold().splits(people, 1)
    assert KFold().splits(people, 1) != KFold().splits(people, 2)


def test_the_seed_decides_who_validates_where_patients_differ_in_size_too() -> None:
    people = [name for number, name in enumerate("abcdefghi") for _ in range(10 + 3 * number)]
    validating = [{people[i] for split in KFold(3).splits(people, seed) for i in split.validation} for seed in range(9)]
    assert set.union(*validating) == set(people)


def test_one_patient_of_many_scans_leaves_the_others_their_parts() -> None:
    for seed in range(24):
        people = ["a", "b", "c", *["d"] * 17]
        (split,) = Holdout().splits(people, seed)
        assert_parts_are_disjoint_by_patient(split, people)


@pytest.mark.parametrize("rule", [Holdout(), KFold(3)])
def test_of_three_patients_each_is_in_a_part_of_its_own(rule: SplitRule) -> None:
    for split in rule.splits(["a", "b", "c"], 0):
        assert_parts_are_disjoint_by_patient(split, ["a", "b", "c"])


@pytest.mark.parametrize(("folds", "patients"), [(5, "ab"), (5, "abcd"), (2, "ab")])
def test_more_folds_than_patients_and_folds_without_a_patient_to_validate_are_refused(
    folds: int, patients: str
) -> None:
    with pytest.raises(SettingsError, match=f"{folds} folds, but only {len(patients)} patients"):
        KFold(folds).splits(list(patients), 0)


def test_three_parts_of_two_patients_are_refused() -> None:
    with pytest.raises(SettingsError, match="three parts"):
        Holdout().splits(["a", "b"], 0)


def test_named_patients_are_where_they_are_named_and_all_others_train() -> None:
    (split,) = Named(("b",), ("c",)).splits(["a", "a", "b", "c", None, "b"], 0)
    assert (split.training, split.validation, split.test) == ((0, 1, 4), (2, 5), (3,))


FOLDS = NamedFolds((("a", "b"), ("c",), ("d",)))
PEOPLE = ["a", "a", "b", "c", "d", "e", *[None] * 30]


def test_groups_test_in_turn_and_the_first_of_the_next_validates() -> None:
    splits = FOLDS.splits(PEOPLE, 0)
    named = [[{PEOPLE[i] for i in part} - {"e", None} for part in (s.test, s.validation)] for s in splits]
    assert named == [[{"a", "b"}, {"c"}], [{"c"}, {"d"}], [{"d"}, {"a"}]]


def test_who_is_in_no_group_tests_in_one_fold_too() -> None:
    tested = sorted(i for split in FOLDS.splits(PEOPLE, 0) for i in split.test)
    assert tested == list(range(len(PEOPLE)))
    assert {len(split.test) for split in FOLDS.splits(PEOPLE, 0)} <= {11, 12, 13, 14}


def test_every_sample_is_on_one_side_of_a_named_fold() -> None:
    for split in FOLDS.splits(PEOPLE, 0):
        assert sorted(split.training + split.validation + split.test) == list(range(len(PEOPLE)))


def test_a_named_patient_whom_the_data_lack_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"no patient c, whom .* names; complete the data sets, or choose"):
        Named(("b",), ("c",)).splits(["a", "b"], 0)


def test_a_group_whose_patient_the_data_lack_is_refused() -> None:
    with pytest.raises(SettingsError, match="no patient d"):
        FOLDS.splits(["a", "b", "c"], 0)
