"""An object to send, and a destination's answer to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import PassingFailure
from dicom_node.headers import UNREADABLE
from dicom_node.statuses import is_passing, is_success

CONVERTED = frozenset({ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian})
"""The transfer syntaxes that pynetdicom converts to the default one: it neither decompresses nor swaps bytes."""


@dataclass(frozen=True)
class Outgoing:
    """An object to send."""

    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str

    @property
    def contexts(self) -> list[tuple[str, str]]:
        """The presentation contexts in which it can be sent: SOP class and transfer syntax, as it is stored first.

        PS3.5 10.1 asks every sender to offer the default transfer syntax, and some peers accept no other.
        """
        syntaxes = [self.transfer_syntax_uid]
        if self.transfer_syntax_uid in CONVERTED:
            syntaxes.append(str(ImplicitVRLittleEndian))
        return [(self.sop_class_uid, syntax) for syntax in syntaxes]


class ObjectUnreadable(PassingFailure):
    """An object cannot be read from the disk, or not be sent as it is; others can still use the connection."""


class ObjectGone(ObjectUnreadable):
    """The object's file does not exist."""


class Outcome(Enum):
    """What a destination did with an object: took it, may take it later, or refused it for good."""

    TAKEN = "taken"
    PASSING = "not taken now"
    REFUSED = "refused"


@dataclass(frozen=True)
class Answer:
    """A destination's answer to an object."""

    outcome: Outcome
    status: int | None
    """The DICOM status, if there is one: that of C-STORE, or the failure or warning reason of STOW-RS."""
    message: str = ""
    """Why it was not taken."""


def read_outgoing(path: Path) -> Outgoing:
    """Return the object in a file."""
    ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    return Outgoing(path, str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID))


def load(item: Outgoing, **options: Any) -> Dataset:
    """Return the data set of an object; ``options`` are those of `pydicom.dcmread`.

    Raises
    ------
    ObjectUnreadable
        The file is gone or damaged.
    """
    try:
        ds = pydicom.dcmread(item.path, **options)
        whole = ds.SOPClassUID == item.sop_class_uid
    except FileNotFoundError as error:
        raise ObjectGone("object-gone", "its file is gone") from error
    except UNREADABLE as error:
        raise ObjectUnreadable("object-unreadable", f"the file cannot be read ({type(error).__name__})") from error
    if not whole:
        raise ObjectUnreadable("object-unreadable", "the file holds another object than it should")
    return ds


def answer_of(status: int) -> Answer:
    """Return the answer that a status of C-STORE means."""
    return Answer(Outcome.TAKEN, status) if is_success(status) else failure(status)


def failure(status: int) -> Answer:
    """Return the answer that a status of C-STORE, or a failure reason of STOW-RS, means for an object not taken."""
    if is_passing(status):
        return Answer(Outcome.PASSING, status, f"the PACS answered {status:#06x}, out of resources")
    return Answer(Outcome.REFUSED, status, f"the PACS answered {status:#06x} and will not take it")
