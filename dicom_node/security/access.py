"""Access control: associations are accepted by AE titles, address and number, or rejected (PS3.8 9.3.4)."""

from __future__ import annotations

import ipaddress
import socket
import threading
from enum import Enum

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicom_node.errors import SettingsError
from dicom_node.log import get_logger
from dicom_node.security.audit import AuditTrail, Participant
from dicom_node.settings import NodeSettings

APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"
"""The DICOM application context, PS3.7 A.2.1."""

log = get_logger()


class Refusal(Enum):
    """Why a peer is refused: result, source and reason of the A-ASSOCIATE-RJ (PS3.8 table 9-21).

    A peer that fails TLS gets no A-ASSOCIATE-RJ.
    """

    TLS = ()
    APPLICATION_CONTEXT = (1, 1, 2)
    CALLING_AE_TITLE = (1, 1, 3)
    CALLED_AE_TITLE = (1, 1, 7)
    TOO_MANY_ASSOCIATIONS = (2, 3, 2)

    @property
    def code(self) -> str:
        """The stable name in logs and audit messages."""
        return self.name.lower().replace("_", "-")


class Doorkeeper:
    """Decides which associations a process accepts."""

    def __init__(self, settings: NodeSettings, trail: AuditTrail) -> None:
        self._settings = settings
        self._trail = trail
        self._inside: set[Association] = set()
        self._lock = threading.Lock()

    def refusal(self, request: A_ASSOCIATE, address: str) -> Refusal | None:
        """Return why an association is refused, regardless of how many are open; None if it may be accepted."""
        settings = self._settings
        if request.application_context_name != APPLICATION_CONTEXT_NAME:
            return Refusal.APPLICATION_CONTEXT
        called = request.called_ae_title.strip()
        if not settings.any_called_ae_title and called not in (settings.ae_title, settings.stat_ae_title):
            return Refusal.CALLED_AE_TITLE
        calling = request.calling_ae_title.strip()
        if settings.senders and not any(
            sender.ae_title == calling and (not sender.addresses or is_within(address, sender.addresses))
            for sender in settings.senders
        ):
            return Refusal.CALLING_AE_TITLE
        return None

    def note_refusal(
        self, refusal: Refusal, address: str | None, calling: str = "", called: str = "", error: str = ""
    ) -> None:
        """Write to the log and the audit trail that a peer was refused."""
        log.warning(
            "association_refused",
            code=refusal.code,
            calling_ae_title=calling,
            called_ae_title=called,
            peer_address=address,
            error=error,
        )
        self._trail.refused(Participant(calling, address or "", is_requestor=True), refusal.code)

    def note_abort(self, association: Association, code: str) -> None:
        """Write to the log that Hilum aborts an association; if it is not established yet, to the audit trail too."""
        request, address = association.requestor.primitive, association.requestor.address
        calling, called = "", ""  # of a request that cannot be read
        if isinstance(request, A_ASSOCIATE):
            calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        log.warning(
            "association_aborted", code=code, calling_ae_title=calling, called_ae_title=called, peer_address=address
        )
        if not association.is_established:
            self._trail.refused(Participant(calling, address or "", is_requestor=True), code)

    def has_room_for(self, association: Association) -> bool:
        """Whether one more association may be open; if so, this one counts as open from now on."""
        with self._lock:
            self._inside = {one for one in self._inside if one.is_alive() and not (one.is_released or one.is_aborted)}
            if len(self._inside) >= self._settings.maximum_associations:
                return False
            self._inside.add(association)
            return True


class GuardedACSE(ACSE):
    """Asks the doorkeeper before it negotiates an association.

    A handler of EVT_REQUESTED would not do: pynetdicom ignores its exceptions, and the peer would be accepted.
    """

    doorkeeper: Doorkeeper

    def negotiate_association(self) -> None:
        """Refuse the association, or negotiate it."""
        request, requestor = self.requestor.primitive, self.requestor
        if not isinstance(request, A_ASSOCIATE):  # an abort
            self.assoc.kill()
            return
        refusal = self.doorkeeper.refusal(request, requestor.address or "")
        if refusal is None and not self.doorkeeper.has_room_for(self.assoc):
            refusal = Refusal.TOO_MANY_ASSOCIATIONS
        if refusal is None:
            super().negotiate_association()
            return
        self.doorkeeper.note_refusal(
            refusal, requestor.address, request.calling_ae_title.strip(), request.called_ae_title.strip()
        )
        self.send_reject(*refusal.value)
        evt.trigger(self.assoc, evt.EVT_REJECTED, {})
        self.assoc.kill()


def is_within(address: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    """Whether an address lies in one of the networks; an IPv4-mapped IPv6 address counts as IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def require_security(settings: NodeSettings, *, tls: bool) -> None:
    """Refuse to listen to a network without TLS, unless the settings allow it.

    Raises
    ------
    SettingsError
        The settings do not allow it; the message says what can be done.
    """
    if tls or settings.allow_unsecured or is_loopback(settings.host):
        return
    raise SettingsError(
        "unsecured",
        f"node.host {settings.host} lets other machines connect, but DICOM without TLS encrypts nothing and "
        "authenticates nobody. Set tls.certificate, tls.key and tls.authorities; or, if the network itself is closed "
        "(a hospital's imaging network, a container's), set node.allow_unsecured = true "
        "(HILUM_NODE__ALLOW_UNSECURED=true) and list who may send in [[node.senders]]; or listen only to this machine "
        'with node.host = "127.0.0.1"',
    )


def is_loopback(host: str) -> bool:
    """Whether a name or address leads only to this machine; True if it leads nowhere: listening will fail."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return True
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)
