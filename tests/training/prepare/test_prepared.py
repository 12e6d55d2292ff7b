import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import SettingsError
from tests.training.synthetic import SIZE, disc_sample, discs
from training.datasets.sample import INFECTION, LUNG, BadData, Sample
from training.prepare import prepared
from training.prepare.prepared import pixel_volumes, prepare, scans
from training.prepare.preprocess import Preprocess
from training.prepare.target import Target

PREPROCESS = Preprocess((SIZE, SIZE))


def test_a_prepared_folder_is_opened_without_the_data(tmp_path: Path) -> None:
    first = prepare([disc_sample(0), disc_sample(1)], PREPROCESS, Target.of(INFECTION), tmp_path)
    second = prepare([], PREPROCESS, Target.of(INFECTION), tmp_path)
    assert [s.name for s in second] == ["disc-0", "disc-1"]
    assert np.array_equal(first[1].image, second[1].image)
    assert np.array_equal(first[1].labels, second[1].labels)


def test_a_folder_prepared_otherwise_is_refused(tmp_path: Path) -> None:
    prepare([disc_sample(0)], PREPROCESS, Target.of(INFECTION), tmp_path)
    with pytest.raises(SettingsError, match="prepared otherwise"):
        prepare([disc_sample(0)], PREPROCESS, Target.of(LUNG), tmp_path)


def test_a_setting_that_is_added_later_leaves_a_prepared_folder_open(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Later(Preprocess):
        sharpen: bool = False

    Later.__name__ = "Preprocess"
    size = PREPROCESS.size
    prepare([disc_sample(0)], PREPROCESS, Target.of(INFECTION), tmp_path)
    assert len(prepare([], Later(size), Target.of(INFECTION), tmp_path)) == 1
    with pytest.raises(SettingsError, match="prepared otherwise"):
        prepare([], Later(size, sharpen=True), Target.of(INFECTION), tmp_path)


def test_a_folder_prepared_by_a_targets_earlier_code_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "own_target.py"
    source.write_text("from training.prepare.target import Target\n\n\nclass OwnTarget(Target):\n    pass\n")
    spec = importlib.util.spec_from_file_location("own_target", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["own_target"] = module
    spec.loader.exec_module(module)
    target = module.OwnTarget(Target.of(INFECTION).classes)
    prepare([disc_sample(0)], Preprocess((SIZE, SIZE)), target, tmp_path / "prepared")
    assert len(prepare((), Preprocess((SIZE, SIZE)), target, tmp_path / "prepared")) == 1
    source.write_text(source.read_text() + "# another way to make labels\n")
    with pytest.raises(SettingsError, match="prepared otherwise"):
        prepare((), Preprocess((SIZE, SIZE)), target, tmp_path / "prepared")


def test_a_broken_attempt_is_done_again(tmp_path: Path) -> None:
    unannotated = replace(disc_sample(1), masks={})
    with pytest.raises(BadData, match="disc-1: no mask of infection"):
        prepare([disc_sample(0), unannotated], PREPROCESS, Target.of(INFECTION), tmp_path)
    (tmp_path / "index.json.partial").touch()
    assert len(prepare([disc_sample(0)], PREPROCESS, Target.of(INFECTION), tmp_path)) == 1


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    def read() -> Iterator[Sample]:
        yield replace(disc_sample(0), masks={})
        yield replace(disc_sample(1), masks={})
        raise BadData("unreadable-file", "c.nii.gz: cut short")

    with pytest.raises(BadData, match=r"disc-0: no mask .*\ndisc-1: no mask .*\nc.nii.gz: cut short"):
        prepare(read(), PREPROCESS, Target.of(INFECTION), tmp_path)
    assert not (tmp_path / "index.json").exists()


def test_files_that_hilum_did_not_write_are_kept(tmp_path: Path) -> None:
    own = tmp_path / "figure-for-the-paper.png"
    own.write_bytes(b"weeks of work")
    with pytest.raises(SettingsError, match=r"figure-for-the-paper\.png"):
        prepare([disc_sample(0)], PREPROCESS, Target.of(INFECTION), tmp_path)
    assert own.read_bytes() == b"weeks of work"


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no samples"):
        prepare([], PREPROCESS, Target.of(INFECTION), tmp_path)


def test_a_later_class_covers_an_earlier_one(tmp_path: Path) -> None:
    (prepared,) = prepare([disc_sample(0)], PREPROCESS, Target.of(LUNG, INFECTION), tmp_path)
    assert (prepared.labels == 2).sum() == disc_sample(0).mask(INFECTION).sum()
    assert (prepared.labels > 0).sum() == disc_sample(0).mask(LUNG).sum()


def test_the_volume_of_a_pixel_grows_as_the_image_shrinks(tmp_path: Path) -> None:
    spaced = replace(disc_sample(0), spacing_mm=(5.0, 1.0, 1.0))
    (prepared,) = prepare([spaced], Preprocess((SIZE // 2, SIZE // 2)), Target.of(INFECTION), tmp_path)
    assert prepared.voxel_ml == pytest.approx(0.02)


def test_every_slice_has_the_volume_of_its_pixels(tmp_path: Path) -> None:
    samples = [replace(disc_sample(i, slices=i + 1), spacing_mm=(5.0 * (i + 1), 1.0, 1.0)) for i in range(2)]
    volumes = pixel_volumes(prepare(samples, PREPROCESS, Target.of(INFECTION), tmp_path))
    assert volumes.tolist() == [0.005, 0.01, 0.01]


def test_slices_of_a_scan_stand_in_the_order_of_their_position(tmp_path: Path) -> None:
    slices = [replace(disc_sample(i), scan="one", position=10 - i) for i in range(3)]
    (scan,) = scans(prepare(slices, PREPROCESS, Target.of(INFECTION), tmp_path))
    assert [s.name for s in scan] == ["disc-2", "disc-1", "disc-0"]


@pytest.mark.parametrize("content", ['{"name": "mine"}', "[1, 2]", "not JSON"])
def test_an_index_of_somebody_else_is_not_taken_for_ours(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(SettingsError, match=r"holds index\.json, which Hilum did not write"):
        prepare([disc_sample(0)], PREPROCESS, Target.of(INFECTION), tmp_path)
    assert (tmp_path / "index.json").read_text() == content


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_an_image_that_was_cut_short_is_named(tmp_path: Path, share: float) -> None:
    discs(tmp_path)
    path = tmp_path / "00003.image.npy"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        SettingsError, match=rf"00003\.image\.npy: cannot be read whole .*; if it is damaged, remove {tmp_path}, and"
    ):
        discs(tmp_path)


def test_images_are_on_disk_before_the_index_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[list[str]] = []
    monkeypatch.setattr(
        prepared, "sync_tree", lambda folder: synced.append(sorted(path.name for path in folder.iterdir()))
    )
    discs(tmp_path, count=1)
    assert synced == [["00000.image.npy", "00000.labels.npy"]]
