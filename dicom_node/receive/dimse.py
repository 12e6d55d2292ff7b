"""Split P-DATA-TF PDUs, parse DIMSE command sets, and encode the response to C-STORE (PS3.7 9.1.1, 9.3.1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

P_DATA_TF_TYPE = 0x04
PDV_HEADER = struct.Struct(">LB")
"""Length and presentation context ID (PS3.8 9.3.5.1)."""
ANSWER_HEADER = struct.Struct(">BxLLBB")
"""Header of a P-DATA-TF PDU with one item: PDU type and length; item length, presentation context ID, message control
header (PS3.8 9.3.5)."""
COMMAND = 0x01
LAST = 0x02
"""Bits of the message control header (PS3.8 E.2)."""

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
C_ECHO_RQ = 0x0030
N_EVENT_REPORT_RQ = 0x0100
NO_DATA_SET = 0x0101
"""Values of Command Field, and the Command Data Set Type of a message without a data set (PS3.7 E.1)."""

AFFECTED_SOP_CLASS_UID = 0x0002
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
COMMAND_DATA_SET_TYPE = 0x0800
STATUS = 0x0900
AFFECTED_SOP_INSTANCE_UID = 0x1000
"""Element numbers in group 0000."""

ELEMENT = struct.Struct("<HHL")
US = struct.Struct("<H")


def presentation_data_values(body: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the presentation context ID and the value of each item of a P-DATA-TF PDU (PS3.8 9.3.5.1).

    The value begins with its message control header.

    Raises
    ------
    ValueError
        The lengths of the items do not add up to that of the PDU, or an item lacks its control header.
    """
    at = 0
    while at < len(body):
        if at + PDV_HEADER.size >= len(body):
            raise ValueError("a presentation data value without control header")
        length, context_id = PDV_HEADER.unpack_from(body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise ValueError("a presentation data value that is longer than its PDU")
        yield context_id, body[at + PDV_HEADER.size : end]
        at = end


@dataclass(frozen=True)
class CommandSet:
    """The command set of a message: its elements of group 0000 by number, and its presentation context."""

    context_id: int
    elements: dict[int, bytes]

    def number(self, element: int) -> int | None:
        """Return the value of an element of VR US; None if it is absent or not 2 bytes long."""
        value = self.elements.get(element, b"")
        return int(US.unpack(value)[0]) if len(value) == US.size else None

    def uid(self, element: int) -> str:
        """Return the UID in an element without its padding; empty if the element is absent."""
        return self.elements.get(element, b"").decode("latin-1").rstrip("\0 ")

    def answer(self, status: int) -> bytes:
        """Return the PDU with the response to this C-STORE request (PS3.7 9.3.1.2)."""
        body = b"".join(
            (
                encoded(AFFECTED_SOP_CLASS_UID, self.elements.get(AFFECTED_SOP_CLASS_UID, b"")),
                encoded(COMMAND_FIELD, US.pack(C_STORE_RSP)),
                encoded(MESSAGE_ID_BEING_RESPONDED_TO, self.elements[MESSAGE_ID]),
                encoded(COMMAND_DATA_SET_TYPE, US.pack(NO_DATA_SET)),
                encoded(STATUS, US.pack(status)),
                encoded(AFFECTED_SOP_INSTANCE_UID, self.elements.get(AFFECTED_SOP_INSTANCE_UID, b"")),
            )
        )
        command = encoded(0x0000, struct.pack("<L", len(body))) + body
        item = len(command) + 2
        return ANSWER_HEADER.pack(P_DATA_TF_TYPE, item + 4, item, self.context_id, COMMAND | LAST) + command


def read_command(context_id: int, data: bytes) -> CommandSet:
    """Parse a command set, which is always in Implicit VR Little Endian (PS3.7 6.3.1).

    Raises
    ------
    ValueError
        The bytes are not a command set.
    """
    elements, at = {}, 0
    while at < len(data):
        if at + ELEMENT.size > len(data):
            raise ValueError("an element of a command without a length")
        group, element, length = ELEMENT.unpack_from(data, at)
        at += ELEMENT.size
        if group or at + length > len(data):
            raise ValueError("an element that is longer than its command, or of another group")
        elements[element] = data[at : at + length]
        at += length
    return CommandSet(context_id, elements)


def encoded(element: int, value: bytes) -> bytes:
    """Encode an element of group 0000; pad its value to an even length with NUL, as for UIDs."""
    padded = value + b"\0" * (len(value) % 2)
    return ELEMENT.pack(0x0000, element, len(padded)) + padded
