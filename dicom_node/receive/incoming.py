"""Write a data set to disk while it is being received."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from dicom_node.files import PRIVATE_FILE, require_folder


class IncomingFile:
    """Hashes the fragments of a data set as they arrive, and writes them behind the file meta information.

    No fragment stays in memory. A disk error is held back until `beginning`, `open` or `keep` is called: by then the
    peer has sent the whole data set and can be answered. Closing removes the file unless it was kept.
    """

    def __init__(self, path: Path, head: bytes, limit_bytes: int) -> None:
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._path = path
        self._head_bytes = len(head)
        self._hash = hashlib.sha256()
        self._error: OSError | None = None
        self._file: int | None = None
        try:
            require_folder(path.parent)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
            self._append(memoryview(head))
        except OSError as error:
            self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.close()

    def write(self, fragment: memoryview) -> None:
        """Hash and write the next fragment; after an error or above the size limit, only count its bytes."""
        self.size_bytes += len(fragment)
        if self._error is None and not self.is_too_large:
            self._hash.update(fragment)
            try:
                self._append(fragment)
            except OSError as error:
                self._error = error

    def _append(self, view: memoryview) -> None:
        assert self._file is not None  # noqa: S101 - if opening the file failed, this is not called
        while view:
            view = view[os.write(self._file, view) :]

    @property
    def is_too_large(self) -> bool:
        """Whether the data set exceeds the size limit; further fragments are counted, not written."""
        return self.size_bytes > self._limit_bytes

    @property
    def sha256(self) -> str:
        """The SHA-256 of the data set so far, in hexadecimal."""
        return self._hash.hexdigest()

    def beginning(self, count: int) -> bytes:
        """Return the first bytes of the data set, fewer if it is shorter.

        Raises
        ------
        OSError
            The data set could not be written, or the file is closed.
        """
        if self._error or self._file is None:
            raise self._error or OSError("it was closed")
        return os.pread(self._file, count, self._head_bytes)

    def open(self) -> BinaryIO:
        """Open the data set for reading, without the file meta information.

        Raises
        ------
        OSError
            The data set could not be written, or the file cannot be opened.
        """
        if self._error:
            raise self._error
        file = self._path.open("rb")
        file.seek(self._head_bytes)
        return file

    def keep(self, path: Path) -> None:
        """Sync the file to disk, then rename it to ``path``; the caller has to sync the folder.

        Raises
        ------
        OSError
            The data set could not be written, synced or renamed, or the file is closed.
        """
        if self._error or self._file is None:
            raise self._error or OSError(f"{path} was closed")
        os.fsync(self._file)
        self._path.replace(path)
        self._close_file()

    def close(self) -> None:
        """Remove the file unless it was kept."""
        if self._file is not None:
            self._close_file()
            self._path.unlink(missing_ok=True)

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
