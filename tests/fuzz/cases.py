"""Hostile and broken messages that no peer should send, each made from a seed and a number."""

from __future__ import annotations

import random
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)
from pynetdicom.dsutils import encode

from tests.dicom_node.raw import DATA, associate_request, command_set, fragment, pdu, store_command, store_message

SUCCESS, NOT_SUPPORTED, MISMATCH, CANNOT_UNDERSTAND = 0x0000, 0x0122, 0xA900, 0xC000
STORED_OR_NOT = frozenset({SUCCESS, MISMATCH, CANNOT_UNDERSTAND})
ANY = STORED_OR_NOT | {NOT_SUPPORTED}
"""Statuses with which C-STORE may be answered (PS3.4 table B.2-1, PS3.7 9.1.1.1.9).

Out of Resources must not occur here.
"""

SYNTAXES = {
    ImplicitVRLittleEndian: (True, True),
    ExplicitVRLittleEndian: (False, True),
    ExplicitVRBigEndian: (False, False),
}
STUDIES = 40
"""So few that many cases send to the same study."""
SERIES_UID_TAG = b"\x20\x00\x0e\x00"


@dataclass(frozen=True)
class Case:
    """Bytes to send, the allowed statuses of an answer, and whether exactly one answer must come (``certain``)."""

    kind: str
    request: bytes
    payload: bytes
    answers: frozenset[int] = ANY
    certain: bool = False


def image(rng: random.Random, **attributes: object) -> Dataset:
    """Return a small CT image of one of a few studies, with a new SOP Instance UID."""
    study = f"1.2.826.0.1.{rng.randrange(STUDIES)}"
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{study}.{rng.getrandbits(60)}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{study}.{rng.randrange(3)}"
    ds.ImageType, ds.Modality, ds.BodyPartExamined = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "CHEST"
    ds.PatientName, ds.PatientID = f"Patient^{rng.randrange(5)}", str(rng.randrange(5))
    ds.StudyDescription, ds.PatientBirthDate = "Chest", rng.choice(["19500101", "", "00000000"])
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, rng.randrange(300)], [1, 0, 0, 0, 1, 0]
    ds.Rows = ds.Columns = 16
    ds.PixelSpacing, ds.SliceThickness = [1, 1], 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelData = rng.randbytes(512)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def encoded(ds: Dataset, syntax: str = ImplicitVRLittleEndian) -> bytes:
    """Return a data set's bytes."""
    implicit, little = SYNTAXES[syntax]
    data = encode(ds, is_implicit_vr=implicit, is_little_endian=little)
    assert data is not None
    return data


def store(
    kind: str, ds: Dataset, data: bytes, syntax: str, answers: frozenset[int], *, sop_class: str = CTImageStorage
) -> Case:
    """Return a C-STORE that must be answered."""
    request = associate_request([(CTImageStorage, syntax)])
    message = store_message(store_command(sop_class, str(ds.SOPInstanceUID)), data)
    return Case(kind, request, message, answers, certain=True)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return bytes with some of them changed, left out, repeated or added."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 1, 2, 4, 50))
        how = rng.randrange(5)
        if how == 0:
            changed[at : at + length] = rng.randbytes(length)
        elif how == 1:
            del changed[at : at + length]
        elif how == 2:
            changed[at:at] = changed[at : at + length]
        elif how == 3:
            changed[at : at + length] = rng.choice((b"\0", b"\xff")) * length
        else:
            changed[at:at] = rng.randbytes(length)
    return bytes(changed)


def mutated_request(rng: random.Random) -> Case:
    """An A-ASSOCIATE-RQ with changed bytes, followed by a valid C-STORE."""
    ds = image(rng)
    message = store_message(store_command(sop=str(ds.SOPInstanceUID)), encoded(ds))
    return Case("association request", mutated(rng, associate_request()), message)


def mutated_message(rng: random.Random) -> Case:
    """A whole C-STORE with changed bytes, PDU headers included."""
    ds = image(rng)
    message = store_message(store_command(sop=str(ds.SOPInstanceUID)), encoded(ds), rng.choice((7, 100, 16000)))
    return Case("message", associate_request(), mutated(rng, message))


def mutated_command(rng: random.Random) -> Case:
    """A C-STORE with a wrong command set, in valid PDUs."""
    ds = image(rng)
    elements = store_command(sop=str(ds.SOPInstanceUID))
    if rng.random() < 0.5:
        number = rng.choice(list(elements))
        elements[number] = rng.choice((b"", rng.randbytes(2), rng.randbytes(70), b"\xff\xff"))
    command = command_set(elements)
    if rng.random() < 0.5:
        command = mutated(rng, command)
    data = fragment(encoded(ds), command=False, last=True)
    return Case("command", associate_request(), pdu(DATA, fragment(command, command=True, last=True)) + pdu(DATA, data))


def mutated_data(rng: random.Random) -> Case:
    """A data set with changed bytes, in any transfer syntax."""
    ds, syntax = image(rng), rng.choice(list(SYNTAXES))
    return store("data set", ds, mutated(rng, encoded(ds, syntax)), syntax, STORED_OR_NOT)


def truncated(rng: random.Random) -> Case:
    """A data set that ends early; if its UIDs are there it must be stored, for the PACS may know why it ends there."""
    ds = image(rng)
    data = encoded(ds)
    at = data.index(SERIES_UID_TAG)
    identified = at + 8 + struct.unpack_from("<L", data, at + 4)[0]
    cut = rng.randrange(len(data))
    return store(
        "truncated",
        ds,
        data[:cut],
        ImplicitVRLittleEndian,
        frozenset({SUCCESS if cut >= identified else CANNOT_UNDERSTAND}),
    )


def wrong_length(rng: random.Random) -> Case:
    """A data set with an element that claims a wrong length."""
    ds = image(rng)
    data = bytearray(encoded(ds))
    starts = list(element_starts(data))
    struct.pack_into("<L", data, rng.choice(starts) + 4, rng.choice((0, 1, 3, 2**16, 2**31, 2**32 - 2, 2**32 - 1)))
    return store("wrong length", ds, bytes(data), ImplicitVRLittleEndian, STORED_OR_NOT)


def element_starts(data: bytes | bytearray) -> Iterator[int]:
    """Yield the offset of each element of a flat data set in Implicit VR."""
    at = 0
    while at < len(data):
        yield at
        at += 8 + struct.unpack_from("<L", data, at + 4)[0]


def deflated(rng: random.Random) -> Case:
    """A deflated data set: whole, broken, or with an element before or after its UIDs that inflates a thousandfold."""
    ds = image(rng)
    how = rng.choice(("whole", "broken", "bomb after", "bomb before"))
    data = encoded(ds, ExplicitVRLittleEndian)
    bomb = zeros(4 * 2**20)
    if how == "bomb after":
        data += b"\xe0\x7f\x10\x00OB\0\0" + struct.pack("<L", len(bomb)) + bomb
    elif how == "bomb before":
        data = b"\x08\x00\x01\x00UT\0\0" + struct.pack("<L", len(bomb)) + bomb + data
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    small = deflate.compress(data) + deflate.flush()
    if how == "broken":
        small = mutated(rng, small)
    answers = {"broken": STORED_OR_NOT, "bomb before": frozenset({CANNOT_UNDERSTAND})}.get(how, frozenset({SUCCESS}))
    return store(f"deflated, {how}", ds, small, DeflatedExplicitVRLittleEndian, answers)


def zeros(count: int) -> bytes:
    """Return zeros, from a buffer that is made only once."""
    return ZEROS[:count]


ZEROS = bytes(4 * 2**20)


def sequences(rng: random.Random) -> Case:
    """Sequences before the UIDs: nested very deep, nested so and never closed, or one of very many items."""
    ds = image(rng)
    data = encoded(ds)
    start, item = b"\x08\x00\x40\x11" + b"\xff" * 4, b"\xfe\xff\x00\xe0" + b"\xff" * 4
    item_end, sequence_end = b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
    at = next(at for at in element_starts(data) if data[at : at + 4] > b"\x08\x00\x40\x11" and data[at] != 8)
    count = rng.choice((10, 1000, 20000))
    how = rng.choice(("deep", "deep and open", "many"))
    body = {
        "deep": (start + item) * count + (item_end + sequence_end) * count,
        "deep and open": (start + item) * count,
        "many": start + (item + item_end) * count + sequence_end,
    }[how]
    answers = frozenset({SUCCESS}) if how == "many" else STORED_OR_NOT
    return store(f"sequences, {how}", ds, data[:at] + body + data[at:], ImplicitVRLittleEndian, answers)


TEMPORARY = tempfile.gettempdir()
UIDS = (
    *(
        "../../../../tmp/hilum-escaped",
        f"{TEMPORARY}/hilum-escaped",
        "..",
        ".",
        "1/../../../hilum-escaped",
        "~/hilum-escaped",
    ),
    *("1.2.3\\..\\..", "%2e%2e%2f", "con", "-rf", "1.2.3;rm", "$(id)", "'; DROP TABLE studies; --", "1" * 64),
)
BAD_UIDS = ("1" * 65, "1.2\n3", "1.2\x003.4", "a" * 5000, "\x7f")


def odd_uids(rng: random.Random) -> Case:
    """A data set with a UID that is a path, a command, too long, or otherwise malformed."""
    bad = rng.random() < 0.3
    uid = rng.choice(BAD_UIDS if bad else UIDS)
    keyword = rng.choice(("StudyInstanceUID", "SeriesInstanceUID"))
    ds = image(rng)
    wanted = str(getattr(ds, keyword)).encode()
    data = encoded(ds)
    tag = {"StudyInstanceUID": b"\x20\x00\x0d\x00", "SeriesInstanceUID": SERIES_UID_TAG}[keyword]
    at = data.index(tag)
    length = struct.unpack_from("<L", data, at + 4)[0]
    assert data[at + 8 : at + 8 + len(wanted)] == wanted
    value = uid.encode() + b"\0" * (len(uid) % 2)
    data = data[: at + 4] + struct.pack("<L", len(value)) + value + data[at + 8 + length :]
    is_list = "\\" in uid  # more than one value
    answers = frozenset({CANNOT_UNDERSTAND if bad or is_list else SUCCESS})
    return store("odd UIDs", ds, data, ImplicitVRLittleEndian, answers)


def conflicting(rng: random.Random) -> Case:
    """An image with one of a few SOP Instance UIDs and new bytes each time: to be kept aside and acknowledged."""
    ds = image(rng, StudyInstanceUID="1.2.826.0.2", SeriesInstanceUID="1.2.826.0.2.1")
    ds.SOPInstanceUID = f"1.2.826.0.2.{rng.randrange(10)}"
    return store("conflicting", ds, encoded(ds), ImplicitVRLittleEndian, frozenset({SUCCESS}))


def mismatching(rng: random.Random) -> Case:
    """An object of another SOP class than its context, or another SOP instance than its command says."""
    ds = image(rng)
    if rng.random() < 0.5:
        return store(
            "another class",
            ds,
            encoded(ds),
            ImplicitVRLittleEndian,
            frozenset({NOT_SUPPORTED}),
            sop_class=MRImageStorage,
        )
    other = image(rng)
    return store("another instance", other, encoded(ds), ImplicitVRLittleEndian, frozenset({MISMATCH}))


def noise(rng: random.Random) -> Case:
    """Bytes that are not DICOM."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(64)
    said = rng.choice((b"", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", hello, rng.randbytes(300), b"\0" * 300))
    return Case("noise", said, b"")


KINDS: tuple[Callable[[random.Random], Case], ...] = (
    mutated_request, mutated_message, mutated_command, mutated_data, truncated, wrong_length, deflated, sequences,
    odd_uids, conflicting, mismatching, noise,
)  # fmt: skip


def make_case(seed: int, number: int) -> Case:
    """Return a case; it is the same for the same seed and number."""
    rng = random.Random(f"{seed} {number}")  # noqa: S311 - reproducible
    return KINDS[number % len(KINDS)](rng)
