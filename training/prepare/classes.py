"""Find classes that the parts of a split lack."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from training.datasets.sample import BadData
from training.prepare.prepared import Prepared
from training.prepare.splits import Split


def classes_in(sample: Prepared, names: Sequence[str]) -> frozenset[str]:
    """Return the classes that have at least one pixel in a sample."""
    return frozenset(name for label, name in enumerate(names) if (sample.labels == label).any())


def missing_classes(
    splits: Mapping[int, Split], prepared: Sequence[Prepared], names: Sequence[str], may_lack: Collection[str] = ()
) -> Iterator[str]:
    """Yield a sentence for each split whose validation part lacks a class.

    Parameters
    ----------
    names : sequence of str
        By label, the background first.
    may_lack : collection of str
        Classes that the data need not have.

    Raises
    ------
    BadData
        When the data, or the training part of a split, lack a class that the data must have.
    """
    classes = [classes_in(sample, names) for sample in prepared]
    needed = set(names[1:]) - set(may_lack)
    if absent := sorted(needed.difference(*classes)):
        raise BadData("missing-class", f"no image at all has {', '.join(absent)}; draw it in some, or correct its name")
    deal = "another --seed deals the patients otherwise"
    for number, split in splits.items():
        unlearned, unwatched = (
            ", ".join(sorted(needed.difference(*(classes[index] for index in part))))
            for part in (split.training, split.validation)
        )
        if unlearned:
            raise BadData("missing-class", f"split {number}: no image to learn from has {unlearned}; {deal}")
        if unwatched:
            yield f"split {number}: no validation image has {unwatched}, and its Dice tells nothing of that; {deal}"
