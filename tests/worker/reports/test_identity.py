from __future__ import annotations

import struct
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword

from worker.reports.identity import REQUIRED, identity_of

ENCODED_NAMES = [
    ("ISO_IR 100", "Müller^José", "Müller^José".encode("latin-1")),
    ("ISO_IR 101", "Dvořák^Jiří", "Dvořák^Jiří".encode("iso8859-2")),
    ("ISO_IR 144", "Щербаков^Илья", "Щербаков^Илья".encode("iso8859-5")),
    ("ISO_IR 126", "Διονυσιος", "Διονυσιος".encode("iso8859-7")),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东", "Wang^XiaoDong=王^小东".encode()),
    ("GB18030", "Wang^XiaoDong=王^小东", "Wang^XiaoDong=王^小东".encode("gb18030")),
    ("GBK", "Wang^XiaoDong=王^小东", "Wang^XiaoDong=王^小东".encode("gbk")),
    (
        "\\ISO 2022 IR 58",
        "Zhang^XiaoDong=张^小东",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
    ),
    (
        "\\ISO 2022 IR 87",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
    ),
    (
        "\\ISO 2022 IR 149",
        "Hong^Gildong=洪^吉洞=홍^길동",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
]


def header(**values: bytes | str) -> Dataset:
    """Return a header as read from a file with exactly these values (Implicit VR, PS3.5 7.1.3)."""
    encoded = {"StudyInstanceUID": b"1.2.3", **{k: v.encode() if isinstance(v, str) else v for k, v in values.items()}}
    elements = sorted((tag_for_keyword(keyword) or 0, value) for keyword, value in encoded.items())
    stream = b""
    for tag, value in elements:
        padded = value + b" " * (len(value) % 2)
        stream += struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(padded)) + padded
    return dcmread(BytesIO(stream), force=True)


@pytest.mark.parametrize(("character_set", "name", "encoded"), ENCODED_NAMES, ids=lambda value: str(value)[:20])
def test_names_survive_every_character_set(character_set: str, name: str, encoded: bytes) -> None:
    identity = identity_of(header(SpecificCharacterSet=character_set, PatientName=encoded))

    assert written(identity).PatientName == name
    assert identity.SpecificCharacterSet == "ISO_IR 192"


def written(ds: Dataset) -> Dataset:
    """Return a data set written to a file and read again."""
    file = BytesIO()
    ds.save_as(file, implicit_vr=False, little_endian=True)
    return dcmread(BytesIO(file.getvalue()), force=True)


@pytest.mark.parametrize("character_set", ["", "LATIN", "ISO_IR 999"])
def test_text_of_no_known_character_set_is_utf_8_or_latin_1(character_set: str) -> None:
    for encoded in ("Müller^José".encode(), "Müller^José".encode("latin-1")):
        identity = identity_of(header(SpecificCharacterSet=character_set, PatientName=encoded))
        assert identity.PatientName == "Müller^José"


def test_every_required_attribute_is_present_and_empty_where_unknown() -> None:
    identity = identity_of(header())

    assert [identity[keyword].value or "" for keyword in REQUIRED] == [""] * len(REQUIRED)


@pytest.mark.parametrize(
    ("sex", "kept"), [("M", "M"), ("f", "F"), ("Male", "M"), ("female", "F"), ("O", "O"), ("U", ""), ("1", "")]
)
def test_sex_is_one_of_the_three_or_empty(sex: str, kept: str) -> None:
    assert identity_of(header(PatientSex=sex)).PatientSex == kept


@pytest.mark.parametrize(
    ("keyword", "malformed"),
    [
        ("StudyDate", "2024-02-29"),
        ("StudyDate", "20240230"),
        ("PatientBirthDate", "UNKNOWN"),
        ("StudyTime", "10:11:12"),
        ("StudyTime", "256199"),
        ("PatientAge", "39"),
        ("PatientWeight", "70 kg"),
        ("TimezoneOffsetFromUTC", "CET"),
    ],
)
def test_what_is_malformed_is_blanked(keyword: str, malformed: str) -> None:
    assert not identity_of(header(**{keyword: malformed}))[keyword].value


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDate", "20240229"),
        ("StudyTime", "101112.123456"),
        ("PatientAge", "039Y"),
        ("PatientWeight", "70.5"),
        ("PatientID", "0042"),
        ("IssuerOfPatientID", "HOSPITAL"),
        ("AccessionNumber", "far longer than sixteen characters"),
        ("TimezoneOffsetFromUTC", "-0330"),
        ("InstitutionName", "St. Elsewhere"),
        ("StudyInstanceUID", "1.02.not a UID"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.filterwarnings("ignore:The value length")
def test_what_is_well_formed_or_identifies_stays_exactly(keyword: str, value: str) -> None:
    assert str(written(identity_of(header(**{keyword: value})))[keyword].value) == value


def test_private_attributes_and_other_modules_stay_behind() -> None:
    identity = identity_of(header(PatientID="1", SeriesDescription="Chest", KVP="120"))

    assert "SeriesDescription" not in identity
    assert "KVP" not in identity


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_sequence_that_is_none_is_left_out() -> None:
    ds = Dataset()
    ds.add_new("OtherPatientIDsSequence", "LO", "not a sequence")
    assert "OtherPatientIDsSequence" not in identity_of(ds)


@pytest.mark.parametrize("items", [[], [Dataset()]])
def test_an_empty_sequence_is_left_out(items: list[Dataset]) -> None:
    ds = Dataset()
    ds.IssuerOfAccessionNumberSequence = ds.OtherPatientIDsSequence = items

    identity = identity_of(written(ds))

    assert "IssuerOfAccessionNumberSequence" not in identity
    assert "OtherPatientIDsSequence" not in identity


@pytest.mark.parametrize(
    ("long", "kept"),
    [
        ("72.574779999999997", "72.57478"),
        ("-0.12345678901234567890", "-0.1234567890123"),
        ("9" * 400, ""),
    ],
)
def test_a_number_that_is_too_long_is_rounded(long: str, kept: str) -> None:
    assert str(identity_of(header(PatientWeight=long))["PatientWeight"].value or "") == kept


def test_sequences_of_identity_come_along() -> None:
    item = struct.pack("<HHL", 0x0040, 0x0032, 6) + b"1.2.40" + struct.pack("<HHL", 0x0040, 0x0033, 4) + b"ISO "
    sequence = struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item

    identity = identity_of(header(IssuerOfPatientIDQualifiersSequence=sequence))

    assert written(identity).IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID == "1.2.40"


@pytest.mark.parametrize("parent", ["ISO_IR 100", "ISO_IR 192"])
@pytest.mark.parametrize("own", ["ISO_IR 144", None])
def test_an_item_is_decoded_by_its_own_character_set_and_written_in_that_of_all(parent: str, own: str | None) -> None:
    ds, item = Dataset(), Dataset()
    ds.SpecificCharacterSet = parent
    if own:
        item.SpecificCharacterSet = own
    item.PatientID = "Щ" if own else "Ü"
    ds.OtherPatientIDsSequence = [item]
    (other,) = written(identity_of(written(ds))).OtherPatientIDsSequence
    assert other.PatientID == item.PatientID
    assert "SpecificCharacterSet" not in other
