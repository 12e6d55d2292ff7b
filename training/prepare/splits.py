"""Split samples into training, validation and test parts by patient, so that no patient is in two parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from dicom_node.errors import SettingsError


@dataclass(frozen=True)
class Split:
    """Indices of samples; ``by`` says what was kept together."""

    training: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    by: Literal["patient", "slice"]


@dataclass(frozen=True)
class Holdout:
    """One split by shares of the samples, such as 72/10/18 (Saood & Hatem 2021, "Network training")."""

    validation: float = 0.10
    test: float = 0.18
    count: ClassVar[int] = 1

    def splits(self, patients: Sequence[str | None], seed: int) -> list[Split]:
        """Return the one split."""
        groups, by = shuffled_groups(patients, seed)
        counts = np.cumsum([len(group) for group in groups]) / len(patients)
        if len(groups) < 3:
            raise SettingsError("too-few-patients", f"three parts need three patients, got {len(groups)}")
        tested = min(groups_up_to(counts, self.test), len(groups) - 2)
        validated = min(groups_up_to(counts, self.test + self.validation, at_least=tested + 1), len(groups) - 1)
        return [
            Split(
                training=indices(groups[validated:]),
                validation=indices(groups[tested:validated]),
                test=indices(groups[:tested]),
                by=by,
            )
        ]


@dataclass(frozen=True)
class KFold:
    """Every patient is tested once; the share ``validation`` of all samples validates (Saood & Hatem: 70/10/20)."""

    folds: int = 5
    validation: float = 0.10

    @property
    def count(self) -> int:
        """The number of splits."""
        return self.folds

    def splits(self, patients: Sequence[str | None], seed: int) -> list[Split]:
        """Return one split per fold."""
        groups, by = shuffled_groups(patients, seed)
        if len(groups) < max(3, self.folds):
            raise SettingsError("too-few-patients", f"{self.folds} folds, but only {len(groups)} patients")
        parts = balanced_parts(groups, self.folds)
        return [self._split(parts, fold, by) for fold in range(self.folds)]

    def _split(self, parts: list[list[list[int]]], fold: int, by: Literal["patient", "slice"]) -> Split:
        rest = [group for part in parts[fold + 1 :] + parts[:fold] for group in part]
        counts = np.cumsum([len(group) for group in rest])
        total = counts[-1] + sum(len(group) for group in parts[fold])
        validated = min(groups_up_to(counts / total, self.validation), len(rest) - 1)
        return Split(
            training=indices(rest[validated:]),
            validation=indices(rest[:validated]),
            test=indices(parts[fold]),
            by=by,
        )


@dataclass(frozen=True)
class Named:
    """One split whose validation and test patients are named; all others train."""

    validation_patients: tuple[str, ...]
    test_patients: tuple[str, ...]
    count: ClassVar[int] = 1

    def splits(self, patients: Sequence[str | None], seed: int) -> list[Split]:
        """Return the one split."""
        require_patients((*self.validation_patients, *self.test_patients), patients)
        groups, by = shuffled_groups(patients, seed)
        validated, tested = (
            [group for group in groups if patients[group[0]] in names]
            for names in (self.validation_patients, self.test_patients)
        )
        rest = [group for group in groups if group not in validated and group not in tested]
        return [Split(training=indices(rest), validation=indices(validated), test=indices(tested), by=by)]


@dataclass(frozen=True)
class NamedFolds:
    """Each group of patients is tested once, while the first patient of the next group validates.

    Patients that no group names, and samples without a patient, are dealt to the folds' test parts in equal shares.
    """

    groups: tuple[tuple[str, ...], ...]

    @property
    def count(self) -> int:
        """The number of splits."""
        return len(self.groups)

    def splits(self, patients: Sequence[str | None], seed: int) -> list[Split]:
        """Return one split per group."""
        require_patients(tuple(name for names in self.groups for name in names), patients)
        members, by = shuffled_groups(patients, seed)
        named = {patients[group[0]]: group for group in members if patients[group[0]] is not None}
        folds = [[named.pop(name) for name in names] for names in self.groups]
        first = [fold[0] for fold in folds]
        rest = [group for group in members if patients[group[0]] is None or patients[group[0]] in named]
        splits = []
        for number, fold in enumerate(folds):
            validation = first[(number + 1) % len(folds)]
            test = indices([*fold, *rest[number :: len(folds)]])
            training = set(range(len(patients))) - set(test) - set(validation)
            splits.append(Split(tuple(sorted(training)), indices([validation]), test, by))
        return splits


SplitRule = Holdout | KFold | Named | NamedFolds


def shuffled_groups(patients: Sequence[str | None], seed: int) -> tuple[list[list[int]], Literal["patient", "slice"]]:
    """Return the samples of each patient, with the patients in a random order that the seed decides.

    Each sample without a patient is a group of its own. If there is any, the second value is "slice" and not "patient",
    because slices of one unknown patient may get into different parts.
    """
    members: dict[str, list[int]] = {}
    for index, patient in enumerate(patients):
        members.setdefault(f"patient {patient}" if patient is not None else f"slice {index}", []).append(index)
    keys = sorted(members, key=lambda key: members[key][0])
    order = np.random.default_rng(seed).permutation(len(keys))
    by: Literal["patient", "slice"] = "slice" if any(p is None for p in patients) else "patient"
    return [members[keys[i]] for i in order], by


def require_patients(names: Sequence[str], patients: Sequence[str | None]) -> None:
    """Raise SettingsError unless the data have all patients that are named."""
    missing = sorted(set(names) - set(patients))
    if missing:
        raise SettingsError(
            "unknown-patient",
            f"the data have no patient {', '.join(missing)}, whom the experiment's split names; complete the data "
            "sets, or choose an experiment that names nobody, such as chest-own for your own scans",
        )


def balanced_parts(groups: list[list[int]], parts: int) -> list[list[list[int]]]:
    """Deal groups, the largest first, each to the part with the fewest samples; each part keeps the groups' order."""
    dealt: list[list[list[int]]] = [[] for _ in range(parts)]
    sizes = [0] * parts
    for group in sorted(groups, key=len, reverse=True):
        smallest = sizes.index(min(sizes))
        dealt[smallest].append(group)
        sizes[smallest] += len(group)
    place = {group[0]: number for number, group in enumerate(groups)}
    return [sorted(part, key=lambda group: place[group[0]]) for part in dealt]


def groups_up_to(cumulated_shares: np.ndarray, share: float, at_least: int = 1) -> int:
    """Return how many groups together come closest to a share, but at least ``at_least``."""
    return max(at_least, int(np.argmin(np.abs(cumulated_shares - share))) + 1)


def indices(groups: list[list[int]]) -> tuple[int, ...]:
    """Return all samples of some groups, in order."""
    return tuple(sorted(index for group in groups for index in group))
