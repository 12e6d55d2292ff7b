"""Files: safe names, private modes, and the order that survives a power cut."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.files import ABANDONED_SECONDS, Files, remove_abandoned, safe_name, sync_tree

UID = st.from_regex(r"[0-9]{1,10}(\.[0-9]{1,10}){0,4}", fullmatch=True)
HOSTILE = st.text() | st.sampled_from(["", ".", "..", "../..", "/etc/passwd", "1/2", "1.2\x00", "1" * 65, "...", "-rf"])
SHA256 = "ab" * 32


@given(UID)
def test_a_plain_uid_is_its_own_name(uid: str) -> None:
    assert safe_name(uid) == uid


@given(HOSTILE)
def test_any_text_becomes_one_harmless_path_component(text: str) -> None:
    name = safe_name(text)
    assert 1 <= len(name) <= 64
    assert set(name) <= set("x0123456789abcdef.")
    assert name.strip(".")
    assert name[0] not in "-"


@given(HOSTILE, HOSTILE)
def test_different_uids_have_different_names(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_uid_leads_out_of_the_storage_folder(study: str, series: str, sop: str) -> None:
    path = Files(Path("/storage")).instance_path(study, series, sop, SHA256)
    assert Path(os.path.normpath(path)) == path
    assert path.parents[2] == Path("/storage/instances")


def test_other_bytes_under_the_same_uid_lie_apart(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.instance_path("1", "2", "3", "a" * 64) != files.instance_path("1", "2", "3", "b" * 64)


def test_a_relative_storage_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = Files(Path("data"))
    monkeypatch.chdir("/")
    assert files.instance_path("1", "2", "3", SHA256).is_relative_to(tmp_path / "data")


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.dcm"
    Files(tmp_path).write(path, (b"DICM", memoryview(b"pixels")))
    assert path.read_bytes() == b"DICMpixels"


def test_writing_the_same_again_leaves_one_file(tmp_path: Path) -> None:
    for _ in range(2):
        Files(tmp_path).write(tmp_path / "s" / "c.dcm", (b"same",))
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["c.dcm"]


def test_files_and_folders_are_closed_to_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = tmp_path / "data" / "study" / "c.dcm"
        Files(tmp_path / "data").write(path, (b"private",))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path.parent.parent)} == {0o700}


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "s").mkdir()
    monkeypatch.setattr("dicom_node.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Files(tmp_path).write(tmp_path / "s" / "c.dcm", (b"lost",))
    assert list((tmp_path / "s").iterdir()) == []


def test_bytes_are_synced_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def logged_fsync(descriptor: int) -> None:
        what = Path(f"/proc/self/fd/{descriptor}").readlink()
        order.append(f"sync {what.suffix or what.name}")
        fsync(descriptor)

    def logged_replace(path: Path, target: Path) -> Path:
        order.append("rename")
        return replace(path, target)

    monkeypatch.setattr("dicom_node.files.os.fsync", logged_fsync)
    monkeypatch.setattr(Path, "replace", logged_replace)
    Files(tmp_path).write(tmp_path / "study" / "series" / "c.dcm", (b"safe",))
    assert order == [f"sync {tmp_path.name}", "sync study", "sync .part", "rename", "sync series"]


def test_a_tree_is_synced_with_every_file_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out" / "inner").mkdir(parents=True)
    (tmp_path / "out" / "inner" / "seg.dcm").write_bytes(b"1")
    synced: set[str] = set()
    monkeypatch.setattr("dicom_node.files.os.fsync", lambda fd: synced.add(Path(f"/proc/self/fd/{fd}").readlink().name))
    sync_tree(tmp_path / "out")
    assert synced == {"out", "inner", "seg.dcm"}


def test_free_space_is_told_before_anything_is_stored(tmp_path: Path) -> None:
    files = Files(tmp_path / "new")
    files.make_folders()
    assert files.free_bytes() > 0


def test_looking_at_a_storage_that_is_not_there_makes_none(tmp_path: Path) -> None:
    files = Files(tmp_path / "unmounted")
    with pytest.raises(OSError, match="No such file"):
        files.free_bytes()
    with pytest.raises(OSError, match="see that the storage is mounted"):
        files.make_place(files.instance_path("1.2", "1.2.3", "1.2.3.4", SHA256))
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_half_written_is_removed_and_the_rest_is_not(tmp_path: Path) -> None:
    files = Files(tmp_path)
    left, growing = files.incoming_path(), files.incoming_path()
    stored = files.instance_path("1.2", "1.2.3", "1.2.3.4", "0" * 64)
    for path in (left, growing, stored):
        files.write(path, [b"bytes"])
    for path in (left, stored):
        os.utime(path, (0, 0))
    assert {part: remove_abandoned(part) for part, _ in files.half_written()} == {left: True, growing: False}
    assert not remove_abandoned(left)
    assert not left.exists()
    assert growing.exists()
    assert stored.exists()


def test_images_of_a_prior_that_a_killed_node_was_fetching_are_removed(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with files.fetching_prior("1.2.3") as keep:
        keep("1.2.9", b"whole")
    killed, fetching = (tmp_path / "priors" / "1.2.4" / name for name in ("killed.part", "fetching.part"))
    for part in (killed, fetching):
        files.write(part / "1.2.8.dcm", [b"half"])
    os.utime(killed, (0, 0))
    assert sorted(files.half_written()) == [(fetching, "1.2.4"), (killed, "1.2.4")]
    assert [remove_abandoned(part) for part in (fetching, killed)] == [False, True]
    assert not killed.exists()
    assert fetching.exists()
    assert len(files.prior_images("1.2.3")) == 1


def test_without_a_storage_folder_nothing_is_half_written(tmp_path: Path) -> None:
    assert Files(tmp_path / "none").half_written() == []


def test_a_nearly_full_disk_takes_no_new_study_and_goes_on_with_those_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path, reserve_bytes=1000)
    free = 1000
    files.make_folders()
    monkeypatch.setattr(Files, "free_bytes", lambda _: free)
    files.make_place(files.instance_path("1.2", "1.2.3", "1.2.3.4", SHA256))
    free = 999
    files.make_place(files.instance_path("1.2", "1.2.4", "1.2.4.5", SHA256))
    with pytest.raises(OSError, match="refuse_free_gib"):
        files.make_place(files.instance_path("1.3", "1.3.3", "1.3.3.4", SHA256))


def test_a_trial_file_that_a_dead_process_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    files = Files(tmp_path)
    for killed_in in ("unlink", "replace"):  # when it was written, or before it had its name
        with monkeypatch.context() as patched:
            patched.setattr(Path, killed_in, die)
            with pytest.raises(KeyboardInterrupt):
                files.try_writing()
    left = list(tmp_path.iterdir())
    assert len(left) == 2
    for path in left:
        os.utime(path, (0, 0))
    assert [remove_abandoned(path) for path, _ in files.half_written()] == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_folders_that_another_process_has_just_made_are_synced_too_and_known_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path)
    files.make_folders()
    path = files.instance_path("1.2", "1.2.3", "1.2.3.4", SHA256)
    path.parent.mkdir(parents=True)
    synced: list[Path] = []
    monkeypatch.setattr("dicom_node.files.sync", synced.append)
    files.make_place(path)
    assert synced == [tmp_path / "instances", tmp_path / "instances" / "1.2"]
    files.make_place(path.with_name("another.dcm"))
    assert len(synced) == 2


def test_folders_that_retention_removed_are_made_and_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path)
    files.make_folders()
    path = files.instance_path("1.2", "1.2.3", "1.2.3.4", SHA256)
    files.make_place(path)
    files.remove_study("1.2", time.time())
    synced: list[Path] = []
    monkeypatch.setattr("dicom_node.files.sync", synced.append)
    files.make_place(path)
    assert path.parent.is_dir()
    assert synced == [tmp_path / "instances", tmp_path / "instances" / "1.2"]


def test_a_priors_images_are_there_all_at_once(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with files.fetching_prior("1.2.3") as keep:
        keep("1.2.9", b"one")
        keep("../1.2.8", b"two")
        assert files.prior_images("1.2.3") == []
    assert sorted(path.read_bytes() for path in files.prior_images("1.2.3")) == [b"one", b"two"]
    assert files.prior_images("1.2.4") == []


def test_of_a_prior_that_came_in_part_nothing_is_kept(tmp_path: Path) -> None:
    files = Files(tmp_path)

    def fetch(*uids: str, broken: bool) -> None:
        with files.fetching_prior("1.2.3") as keep:
            for uid in uids:
                keep(uid, b"image")
            if broken:
                raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - raised by this test
        fetch("1.2.8", broken=True)
    assert files.prior_images("1.2.3") == []
    fetch("1.2.9", broken=False)
    assert [path.name for path in files.prior_images("1.2.3")] == ["1.2.9.dcm"]


def test_two_nodes_that_fetch_the_same_prior_do_not_mix_their_images(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with files.fetching_prior("1.2.3") as keep:
        keep("1.2.8", b"image")
        with files.fetching_prior("1.2.3") as keep_too:
            keep_too("1.2.8", b"image")
            keep_too("1.2.9", b"image")
    assert [path.name for path in files.prior_images("1.2.3")] == ["1.2.8.dcm", "1.2.9.dcm"]


def test_no_prior_is_fetched_onto_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="less space is left"), Files(tmp_path, 1e30).fetching_prior("1.2.3"):
        pass


def test_a_priors_images_go_with_the_study(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with files.fetching_prior("1.2.3") as keep:
        keep("1.2.9", b"image")
    files.remove_study("1.2.3", time.time() + 2 * ABANDONED_SECONDS)
    assert not list((tmp_path / "priors").iterdir())
