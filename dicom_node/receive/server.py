"""Accepts connections, each of which gets a prompt association (``reactor``) in place of pynetdicom's own."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from typing import cast

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_node.receive.reactor import PromptAssociation, PromptDIMSE, PromptDUL, StorageHandler
from dicom_node.receive.transport import PromptSocket, Waker
from dicom_node.security.access import Doorkeeper, GuardedACSE
from dicom_node.timers import use_steady_timers

DEFERENCE_SECONDS = 0.002
"""How long a process waits for others to accept a connection, for each association it has open."""
TIMEVAL = struct.Struct("ll")


class PromptServer(ThreadedAssociationServer):
    """A server of prompt associations."""

    def __init__(
        self,
        ae: ApplicationEntity,
        listener: socket.socket,
        evt_handlers: list[evt.EventHandlerType],
        handler: StorageHandler,
        doorkeeper: Doorkeeper,
        tls: ssl.SSLContext | None,
    ) -> None:
        use_steady_timers()
        self.handler = handler
        self.doorkeeper = doorkeeper
        self._tls = tls
        self._listener = listener
        super().__init__(
            ae,
            listener.getsockname()[:2],
            ae.ae_title,
            ae.supported_contexts,
            evt_handlers=evt_handlers,
            request_handler=PromptRequestHandler,
        )
        ae._servers.append(self)  # as AE.start_server does
        self.contexts = SharedContexts(self.contexts)

    def server_bind(self) -> None:
        """Take the listening socket, which other processes may share, in place of one of our own."""
        cast("socket.socket", self.socket).close()
        self.socket = self._listener
        self.server_address = self._listener.getsockname()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; of the processes that listen, the one with the least to do is the quickest."""
        time.sleep(DEFERENCE_SECONDS * len(self.active_associations))
        peer, address = super().get_request()
        # Who stalls in the middle of a PDU must not hold a thread forever. (settimeout would poll before each read.)
        seconds = int(self.ae.network_timeout or 0)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEVAL.pack(seconds, 0))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIMEVAL.pack(seconds, 0))
        if self._tls:  # hands are shaken by the association's thread; here they would keep everyone waiting
            peer = self._tls.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
            peer.settimeout(self.ae.network_timeout)  # OpenSSL would read again and again
        return peer, address

    def verify_request(self, _request: object, _address: object) -> bool:
        """Whether a connection gets a thread."""
        return len(self.active_associations) < self.ae.maximum_associations

    def server_close(self) -> None:
        """Let go of the listening socket; to shut it down would end it for the other processes, too."""
        cast("socket.socket", self.socket).close()

    def stop(self, seconds: float) -> None:
        """Stop listening, abort what is open, and wait for that no longer than some seconds."""
        self.shutdown()
        deadline = time.monotonic() + seconds
        open_associations = cast("list[PromptAssociation]", self.active_associations)
        for association in open_associations:
            association.stop()
        for association in open_associations:
            association.join(max(0.0, deadline - time.monotonic()))


class SharedContexts(list[PresentationContext]):
    """The supported presentation contexts, the same for all associations.

    pynetdicom copies them for each one, which takes 50 ms and more; nothing changes them.
    """

    def __deepcopy__(self, _memo: object) -> SharedContexts:
        return self


class PromptRequestHandler(RequestHandler):
    """Makes the associations of a server prompt ones."""

    server: PromptServer

    def _create_association(self) -> Association:
        # pynetdicom names its classes inside its own methods; giving the finished objects another class
        # is the one way in that copies none of it.
        association = super()._create_association()
        association.__class__ = PromptAssociation
        association.dul.__class__ = PromptDUL
        association.dimse.__class__ = PromptDIMSE
        association.dul.socket.__class__ = PromptSocket
        association.acse.__class__ = GuardedACSE
        cast("GuardedACSE", association.acse).doorkeeper = self.server.doorkeeper
        prompt = cast("PromptAssociation", association)
        prompt.dul.waker = Waker()
        prompt.handler = self.server.handler
        return prompt
