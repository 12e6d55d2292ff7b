"""The bytes of C-STORE messages, compared with pynetdicom's."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import (
    C_STORE_RQ,
    C_STORE_RSP,
)
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.receive.dimse import (
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    COMMAND_FIELD,
    MESSAGE_ID,
    presentation_data_values,
    read_command,
)

values = st.lists(
    st.tuples(st.integers(0, 127).map(lambda n: 2 * n + 1), st.binary(min_size=1, max_size=40)), max_size=5
)
uids = st.from_regex(r"[12]\.[1-9][0-9]{0,20}(\.[1-9][0-9]{0,15}){0,2}", fullmatch=True)


@given(values=values)
def test_presentation_data_values_are_those_pynetdicom_encodes(values: list[tuple[int, bytes]]) -> None:
    primitive = P_DATA()
    primitive.presentation_data_value_list.extend(values)
    body = memoryview(P_DATA_TF(primitive).encode())[6:]
    assert [(context_id, bytes(value)) for context_id, value in presentation_data_values(body)] == values


@pytest.mark.parametrize(
    "body",
    [
        struct.pack(">LBB", 200, 1, 3),  # longer than the PDU
        struct.pack(">LB", 1, 1),  # without control header
        struct.pack(">LBB", 0, 1, 3),
        b"\x00\x00",
    ],
)
def test_lengths_that_do_not_add_up_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="presentation data value"):
        list(presentation_data_values(memoryview(body)))


def store_request(sop_class: str, sop: str, message_id: int) -> bytes:
    """Return the command set of a C-STORE-RQ as pynetdicom encodes it."""
    request = C_STORE()
    request.MessageID, request.Priority = message_id, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, sop
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    return bytes(next(message.encode_msg(3, 16384)).presentation_data_value_list[0][1][1:])


@given(sop_class=uids, sop=uids, message_id=st.integers(0, 65535))
def test_a_command_is_read_as_pynetdicom_encodes_it(sop_class: str, sop: str, message_id: int) -> None:
    command = read_command(3, store_request(sop_class, sop, message_id))
    assert (command.number(COMMAND_FIELD), command.number(MESSAGE_ID)) == (1, message_id)
    assert (command.uid(AFFECTED_SOP_CLASS_UID), command.uid(AFFECTED_SOP_INSTANCE_UID)) == (sop_class, sop)


@pytest.mark.parametrize(
    "data",
    [b"\0\0", struct.pack("<HHL", 0, 2, 9) + b"1.2", struct.pack("<HHL", 8, 0x16, 0)],
    ids=["cut off", "longer than the command", "another group"],
)
def test_bytes_that_are_no_command_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="an element"):
        read_command(1, data)


@given(sop_class=uids, sop=uids, message_id=st.integers(0, 65535), status=st.sampled_from([0, 0xA700, 0xC000]))
def test_the_answer_to_c_store_is_the_one_pynetdicom_encodes(
    sop_class: str, sop: str, message_id: int, status: int
) -> None:
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo, answer.Status = message_id, status
    answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID = sop_class, sop
    message = C_STORE_RSP()
    message.primitive_to_message(answer)
    (primitive,) = message.encode_msg(3, 16384)
    assert read_command(3, store_request(sop_class, sop, message_id)).answer(status) == P_DATA_TF(primitive).encode()
