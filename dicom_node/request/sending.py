"""Wait for a response from the moment its request was sent.

pynetdicom 3.0 counts its timeout for a response from the moment it queues the request. Over a slow line, an object that
takes longer than the timeout to send would never arrive, however steadily the peer reads it.
"""

from __future__ import annotations

import time
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

POLL_SECONDS = 0.001


class CountingDUL(DULServiceProvider):
    """Counts the PDUs of messages that are to be sent, and those that the connection has taken."""

    queued = 0
    sent = 0

    def send_pdu(self, primitive: Any) -> None:
        """Queue a PDU."""
        self.queued += isinstance(primitive, P_DATA)
        super().send_pdu(primitive)

    def _send(self, pdu: Any) -> None:
        super()._send(pdu)
        self.sent += isinstance(pdu, P_DATA_TF)


class PatientDIMSE(DIMSEServiceProvider):
    """Lets the timeout for a response begin when the request was sent.

    Sending ends by itself: with a socket's timeout, if the peer stops reading.
    """

    def get_msg(self, block: bool = False) -> Any:
        """Return the next message with its presentation context, or twice None if there is none in time."""
        dul = cast(CountingDUL, self.dul)
        while block and dul.sent < dul.queued and self.msg_queue.empty() and dul.is_alive():
            time.sleep(POLL_SECONDS)
        return super().get_msg(block)


def send_without_hurry(association: Association) -> None:
    """Let the timeouts of an association that was just requested count from when a request was sent."""
    association.dul.__class__ = CountingDUL
    association.dimse.__class__ = PatientDIMSE
