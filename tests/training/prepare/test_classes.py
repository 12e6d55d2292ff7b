from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.synthetic import SIZE, disc_sample
from training.datasets.sample import INFECTION, LUNG, BadData
from training.prepare.classes import missing_classes
from training.prepare.prepared import Prepared, prepare
from training.prepare.preprocess import Preprocess
from training.prepare.splits import Split
from training.prepare.target import Target

TARGET = Target.of(LUNG, INFECTION)


@pytest.fixture
def prepared(tmp_path: Path) -> list[Prepared]:
    """Three prepared images, of which only the first has infection."""
    samples = [disc_sample(number) for number in range(3)]
    healthy = {INFECTION: np.zeros((1, SIZE, SIZE), np.bool_)}
    samples[1:] = [replace(sample, masks={**sample.masks, **healthy}) for sample in samples[1:]]
    return prepare(samples, Preprocess((SIZE, SIZE)), TARGET, tmp_path)


def split(training: int, validation: int) -> dict[int, Split]:
    return {4: Split((training,), (validation,), (2,), "slice")}


def test_a_training_part_without_a_class_is_refused(prepared: list[Prepared]) -> None:
    with pytest.raises(BadData, match="split 4: no image to learn from has infection; another --seed"):
        list(missing_classes(split(1, 0), prepared, TARGET.names))
    assert not list(missing_classes(split(1, 0), prepared, TARGET.names, may_lack=[INFECTION]))


def test_a_class_that_no_image_has_is_not_said_to_depend_on_the_seed(prepared: list[Prepared]) -> None:
    with pytest.raises(BadData, match=r"^no image at all has infection; draw it in some, or correct its name$"):
        list(missing_classes(split(1, 2), prepared[1:] * 2, TARGET.names))


def test_a_validation_part_without_a_class_is_told(prepared: list[Prepared]) -> None:
    (said,) = missing_classes(split(0, 1), prepared, TARGET.names)
    assert said.startswith("split 4: no validation image has infection, and its Dice tells nothing")
    assert not list(missing_classes(split(0, 0), prepared, TARGET.names))
