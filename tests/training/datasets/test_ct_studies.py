from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.factories import chest_hu, ct_series
from training import datasets
from training.datasets.sample import BadData


def write_labels(path: Path, images: list[Path], infected: set[int]) -> None:
    rows = [f"{dcmread(p).SOPInstanceUID},{int(i in infected)}" for i, p in enumerate(images)]
    path.write_text("\n".join(["sop_instance_uid,infected", *reversed(rows)]) + "\n")


def test_verdicts_go_with_their_slices(tmp_path: Path) -> None:
    images = ct_series(tmp_path / "covid-1", chest_hu((5, 24, 32))[0])
    write_labels(tmp_path / "covid-1.labels.csv", images, {1, 2})
    (sample,) = datasets.read("ct-studies", tmp_path)
    assert sample.infected is not None
    assert sample.infected.tolist() == [False, True, True, False, False]
    assert sample.masks == {}


def test_a_healthy_study_has_an_empty_infection_mask(tmp_path: Path) -> None:
    ct_series(tmp_path / "normal-1", chest_hu((5, 24, 32))[0])
    (sample,) = datasets.read("ct-studies", tmp_path)
    assert not sample.mask("infection").any()


def test_a_study_without_labels_has_no_verdict(tmp_path: Path) -> None:
    ct_series(tmp_path / "other-1", chest_hu((5, 24, 32))[0])
    (sample,) = datasets.read("ct-studies", tmp_path)
    assert sample.infected is None
    assert "infection" not in sample.masks


def test_a_slice_without_a_label_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    images = ct_series(tmp_path / "covid-1", chest_hu((5, 24, 32))[0])
    write_labels(tmp_path / "covid-1.labels.csv", images[:4], {1, 2})
    with pytest.raises(BadData, match=r"covid-1.labels.csv: 1 of 5 slices have no row"):
        list(datasets.read("ct-studies", tmp_path))


def test_labels_without_their_columns_are_named(tmp_path: Path) -> None:
    ct_series(tmp_path / "covid-1", chest_hu((5, 24, 32))[0])
    (tmp_path / "covid-1.labels.csv").write_text("uid;infected\n")
    with pytest.raises(BadData, match=r"covid-1.labels.csv: expected rows with the columns infected, sop_instance_uid"):
        list(datasets.read("ct-studies", tmp_path))


def test_a_verdict_other_than_0_or_1_is_named(tmp_path: Path) -> None:
    images, table = ct_series(tmp_path / "covid-1", chest_hu((5, 24, 32))[0]), tmp_path / "covid-1.labels.csv"
    write_labels(table, images, {1})
    table.write_text(table.read_text().replace(",1\n", ",yes\n"))
    with pytest.raises(BadData, match=r"covid-1.labels.csv: infected is 0 or 1, got 'yes'"):
        list(datasets.read("ct-studies", tmp_path))


@pytest.mark.data
def test_the_real_studies_have_the_verdicts_of_their_radiologists(shared_data: Path) -> None:
    samples = {s.name: s for s in datasets.read("ct-studies", shared_data)}
    verdicts = {name: None if s.infected is None else int(np.sum(s.infected)) for name, s in samples.items()}
    assert verdicts == {"covid-p001": 80, "cap-001": 10, "normal-001": 0, "petct-a0002-b40f": None}


def test_a_study_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "covid-1").mkdir()
    with pytest.raises(BadData, match="covid-1: expected CT images"):
        list(datasets.read("ct-studies", tmp_path))
