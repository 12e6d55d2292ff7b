"""The files of the storage: their paths, and how they are written safely.

::

    <storage>/incoming/<random>.part
    <storage>/instances/<study>/<series>/<SOP instance>-<hash>.dcm
    <storage>/results/<study>/<job>/<lease>/...
    <storage>/priors/<study>/images/<SOP instance>.dcm

Paths are made of UIDs that came over the network, so each is checked: one that is not a plain UID is replaced by its
hash. File names of instances contain a hash of the content, so that writing the same bytes again is harmless, and
different bytes under the same UID are kept apart.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UID = re.compile(r"[0-9.]{1,64}")
PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
ABANDONED_SECONDS = 3600.0
"""An association that brings nothing for this long is dead: node.network_timeout_seconds is far shorter."""
OF_STUDIES = ("instances", "results", "priors")
"""The folders that hold one folder for each study."""
MOST_SYNCED = 1000
"""How many folders of series a process remembers as synced; the names of others are synced again."""
ROOM_FOR_RESULTS_BYTES = 2**28
"""Enough for the segmentations of 2000 slices of 512x512, uncompressed."""


class Files:
    """The storage folder, to whose files the record refers; all processes share it.

    Parameters
    ----------
    reserve_bytes : float
        If less than this is free on the disk, no new study is stored.
    """

    def __init__(self, folder: Path, reserve_bytes: float = 0) -> None:
        self._folder = folder.absolute()
        self._instances = self._folder / "instances"
        self._reserve_bytes = reserve_bytes
        self._synced: set[Path] = set()

    def make_folders(self) -> None:
        """Create the folders for instances.

        Only a starting node does so. If they are missing later, the storage is not mounted, and files written into its
        mount point would be hidden once it is.
        """
        for folder in (self._instances, self.incoming_path().parent):
            make_folder(folder)

    def has_instances(self) -> bool:
        """Whether the folder of all instances exists; it does not if the storage is not mounted."""
        return self._instances.is_dir()

    def instance_path(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str, sha256: str
    ) -> Path:
        """Return the path of an instance with this content."""
        folder = self._instances / safe_name(study_instance_uid) / safe_name(series_instance_uid)
        return folder / f"{safe_name(sop_instance_uid)}-{sha256[:16]}.dcm"

    def make_place(self, path: Path) -> None:
        """Create the folder of an instance, and sync its name and the study's, even if others have created them.

        Raises
        ------
        OSError
            The disk failed, or the storage is not mounted; or the disk is nearly full and the study is new.
        """
        series, study = path.parent, path.parent.parent
        if series in self._synced and series.is_dir():
            return
        if not study.is_dir():
            require_folder(self._instances)
            self._require_room()
        for folder in (study, series):
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            sync(folder.parent)
        if len(self._synced) >= MOST_SYNCED:
            self._synced.clear()
        self._synced.add(series)

    def _require_room(self) -> None:
        if self.free_bytes() < self._reserve_bytes:
            raise OSError(errno.ENOSPC, "less space is left than storage.refuse_free_gib")

    def incoming_path(self) -> Path:
        """Return a new path for an instance while it is being received."""
        return self._folder / "incoming" / f"{uuid.uuid4()}.part"

    def results_folder(self, study_instance_uid: str, job_id: str, lease_token: str) -> Path:
        """Return the folder for the results of one run of a job; runs never share a folder."""
        return self._folder / "results" / safe_name(study_instance_uid) / job_id / lease_token

    def has_results(self) -> bool:
        """Whether the folder of all results exists; it does not if the storage is not mounted."""
        return (self._folder / "results").is_dir()

    def prior_images(self, study_instance_uid: str) -> list[Path]:
        """Return the images of an earlier study that were fetched for the comparison with this study."""
        return sorted((self._prior_folder(study_instance_uid) / "images").glob("*.dcm"))

    @contextmanager
    def fetching_prior(self, study_instance_uid: str) -> Iterator[Callable[[str, bytes], None]]:
        """Yield a function that writes an image, given its SOP Instance UID and its bytes.

        When the ``with`` ends without an error, all images appear at once in the folder of the study's prior.

        Raises
        ------
        OSError
            The disk failed, or is nearly full.
        """
        self._require_room()
        images = self._prior_folder(study_instance_uid) / "images"
        part = images.with_name(f"{uuid.uuid4()}.part")
        try:
            yield lambda sop_instance_uid, content: self.write(part / f"{safe_name(sop_instance_uid)}.dcm", [content])
            if part.is_dir() and not images.is_dir():  # another node may have been faster
                part.rename(images)
                sync(images.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _prior_folder(self, study_instance_uid: str) -> Path:
        return self._folder / "priors" / safe_name(study_instance_uid)

    def write(self, path: Path, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file so that it survives a power cut once this returns.

        The bytes are written and synced under a temporary name, the file is renamed, and the folder is synced.
        """
        make_folder(path.parent)
        part = path.with_name(f".{uuid.uuid4()}.part")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        sync(path.parent)

    def half_written(self) -> list[tuple[Path, str]]:
        """Return the half-written instances and priors, and the trial files, that processes have made and not removed.

        Each comes with its study's folder name, if it is a prior, or "".
        """
        others = [
            (path, "") for where in ("incoming/*.part", ".*.part", ".*.check") for path in self._folder.glob(where)
        ]
        return others + [(path, path.parent.name) for path in self._folder.glob("priors/*/*.part")]

    def with_files(self, study_instance_uids: Iterable[str]) -> list[str]:
        """Return those of these studies that have a folder on the disk; only three folders have to be listed."""
        there = {path.name for kind in OF_STUDIES for path in self._folder.glob(f"{kind}/*")}
        return [uid for uid in study_instance_uids if safe_name(uid) in there]

    def remove_study(self, study_instance_uid: str, time: float) -> None:
        """Remove the instances, results and prior images of a study after the record has dropped its instances.

        A file written in the last `ABANDONED_SECONDS` before ``time`` may be on its way into the record and stays.
        """
        oldest = time - ABANDONED_SECONDS
        for kind in OF_STUDIES:
            folder = self._folder / kind / safe_name(study_instance_uid)
            for path in sorted(folder.rglob("*"), reverse=True):  # a folder's contents before the folder itself
                if path.is_dir():
                    remove_empty(path)
                else:
                    remove_old(path, oldest)
            remove_empty(folder)

    def require_working(self) -> None:
        """Test that the storage is mounted, writable and has room for results.

        Raises
        ------
        OSError
            The storage is not mounted, read-only or full, or failed.
        """
        require_folder(self._instances)
        if self.free_bytes() < ROOM_FOR_RESULTS_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.try_writing()

    def try_writing(self) -> None:
        """Write a file and remove it; raise OSError if that fails."""
        path = self._folder / f".{uuid.uuid4()}.check"
        self.write(path, [b"hilum"])
        path.unlink()

    def free_bytes(self) -> int:
        """Return the space left on the disk."""
        return shutil.disk_usage(self._folder).free


def keep_private() -> None:
    """Set the umask so that other users have no access to files that this process creates."""
    os.umask(0o777 & ~PRIVATE_FOLDER)


def safe_name(uid: str) -> str:
    """Return a UID as a file name; one that is not a plain UID becomes a hash."""
    if UID.fullmatch(uid) and uid.strip("."):
        return uid
    return "x" + hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def remove_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    with suppress(OSError):
        folder.rmdir()


def remove_old(path: Path, oldest: float) -> None:
    """Remove a file unless it was written at ``oldest`` (seconds since the epoch) or later.

    It is renamed and its time is read once more, so that a new file written to the path meanwhile is not removed.
    """
    if path.stat().st_mtime >= oldest:
        return
    aside = path.with_name(f".{uuid.uuid4()}.removed")
    path.rename(aside)
    if aside.stat().st_mtime < oldest:
        aside.unlink()
    elif not path.exists():
        aside.rename(path)


def remove_abandoned(part: Path) -> bool:
    """Remove a half-written file or folder if it is so old that its writer must be dead; return whether it was."""
    with suppress(FileNotFoundError):  # it was completed meanwhile, or removed by another node
        if part.stat().st_mtime < time.time() - ABANDONED_SECONDS:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
            return True
    return False


def require_folder(folder: Path) -> None:
    """Raise OSError unless a folder of the storage exists."""
    if not folder.is_dir():
        raise OSError(errno.ENOENT, "no images are there; see that the storage is mounted")


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each synced into the one above."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Sync the content of a file, or the names in a folder, to the disk, so that they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync a folder and everything below it to the disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)
