"""A data set on its way to the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.receive.incoming import IncomingFile

LIMIT_BYTES = 2**20


@given(fragments=st.lists(st.binary(max_size=50)))
def test_what_is_kept_is_the_head_and_every_fragment(
    tmp_path_factory: pytest.TempPathFactory, fragments: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("incoming")
    data = b"".join(fragments)
    with IncomingFile(folder / "x.part", b"head", LIMIT_BYTES) as incoming:
        for fragment in fragments:
            incoming.write(memoryview(fragment))
        with incoming.open() as file:
            assert file.read() == data
        assert (incoming.size_bytes, incoming.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        incoming.keep(folder / "kept.dcm")
    assert (folder / "kept.dcm").read_bytes() == b"head" + data
    assert [path.name for path in folder.iterdir()] == ["kept.dcm"]


def test_what_is_not_kept_is_removed(tmp_path: Path) -> None:
    with IncomingFile(tmp_path / "x.part", b"head", LIMIT_BYTES) as incoming:
        incoming.write(memoryview(b"data"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_removed_meanwhile_is_reported_and_closed(tmp_path: Path) -> None:
    with IncomingFile(tmp_path / "x.part", b"head", LIMIT_BYTES) as incoming:
        (tmp_path / "x.part").unlink()  # as an abandoned file is removed, here because the clock was set forward
        with pytest.raises(FileNotFoundError):
            incoming.keep(tmp_path / "kept.dcm")


def test_a_failing_disk_is_reported_when_the_file_is_to_be_kept_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with IncomingFile(tmp_path / "x.part", b"head", LIMIT_BYTES) as incoming:
        with monkeypatch.context() as patched:
            patched.setattr("os.write", full)
            incoming.write(memoryview(b"lost"))
        incoming.write(memoryview(b"later, when there is room again"))
        with pytest.raises(OSError, match="No space"):
            incoming.keep(tmp_path / "kept.dcm")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_reported_when_the_file_is_to_be_kept(tmp_path: Path) -> None:
    with IncomingFile(tmp_path / "unmounted" / "x.part", b"head", LIMIT_BYTES) as incoming:
        incoming.write(memoryview(b"data"))
        with pytest.raises(OSError, match="see that the storage is mounted"):
            incoming.keep(tmp_path / "kept.dcm")
    assert list(tmp_path.iterdir()) == []
