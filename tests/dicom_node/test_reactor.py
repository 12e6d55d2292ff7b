"""What the reactor does in place of pynetdicom."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RSP, DIMSEMessage  # type: ignore[attr-defined]  # made at run time
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.reactor import LAST_COMMAND_FRAGMENT, presentation_data_values, store_response

values = st.lists(
    st.tuples(st.integers(0, 127).map(lambda n: 2 * n + 1), st.binary(min_size=1, max_size=40)), max_size=5
)


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


@pytest.mark.parametrize("status", [0x0000, 0xA700, 0xC000])
def test_the_answer_to_c_store_is_the_one_pynetdicom_encodes(status: int) -> None:
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo, answer.Status = 7, status
    answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    message = C_STORE_RSP()
    message.primitive_to_message(answer)
    (theirs,) = message.encode_msg(3, 16384)
    assert (3, LAST_COMMAND_FRAGMENT + store_response(answer)) == tuple(theirs.presentation_data_value_list[0])


def test_the_answer_to_c_store_is_read_back() -> None:
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo, answer.Status = 65535, 0xA700
    answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    primitive, message = P_DATA(), DIMSEMessage()
    primitive.presentation_data_value_list.append((1, LAST_COMMAND_FRAGMENT + store_response(answer)))
    assert message.decode_msg(primitive)
    assert (message.command_set.Status, message.command_set.MessageIDBeingRespondedTo) == (0xA700, 65535)
