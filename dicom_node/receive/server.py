"""Accept connections; each gets a `PromptAssociation` (``reactor``) in place of pynetdicom's association."""

from __future__ import annotations

import errno
import math
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

from dicom_node.log import get_logger
from dicom_node.receive.reactor import PromptAssociation, PromptDIMSE, StorageHandler
from dicom_node.receive.transport import PromptSocket, Waker
from dicom_node.receive.upper_layer import PromptDUL
from dicom_node.security.access import Doorkeeper, GuardedACSE
from dicom_node.timers import use_steady_timers

DEFERENCE_SECONDS = 0.002
"""For each association that it has open, a process waits this long for the others to accept a connection first."""
ENDING_POLL_SECONDS = 0.01
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What accept(2) reports if this process or the machine has no more file descriptors or memory."""
EXHAUSTED_PAUSE_SECONDS = 1.0
TIMEVAL = struct.Struct("ll")
"""C's struct timeval: seconds and microseconds."""

log = get_logger()


def timeval(seconds: float) -> bytes:
    """Return a time as a struct timeval, rounded up: zero means no timeout to a socket."""
    return TIMEVAL.pack(*divmod(math.ceil(seconds * 1e6), 10**6))


class PromptServer(ThreadedAssociationServer):
    """A server that makes a `PromptAssociation` for each connection."""

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
        """Use the given listening socket, which other processes may share, instead of the one just created."""
        cast("socket.socket", self.socket).close()
        self.socket = self._listener
        self.server_address = self._listener.getsockname()

    def server_activate(self) -> None:
        """Leave the socket as it is: it listens already, and here its queue would be cut to five connections."""

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; of the processes that listen, the one with the fewest associations is the quickest."""
        time.sleep(DEFERENCE_SECONDS * len(self.active_associations))
        try:
            peer, address = super().get_request()
        except OSError as error:
            if error.errno in EXHAUSTED:  # the connection stays in the queue, and socketserver would spin silently
                log.warning("connection_waits", reason=error.strerror)
                time.sleep(EXHAUSTED_PAUSE_SECONDS)
            raise
        # A peer that stalls within a PDU must not hold a thread forever. (settimeout would poll before each read.)
        timeout = timeval(self.ae.network_timeout or 0)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        if self._tls:  # the association's thread does the handshake; here it would keep other peers waiting
            peer = self._tls.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
            peer.settimeout(self.ae.network_timeout)  # else a read that timed out would be repeated without end
        return peer, address

    def verify_request(self, _request: object, _address: object) -> bool:
        """Whether a connection gets a thread: only while fewer than the maximum are open."""
        return len(self.active_associations) < self.ae.maximum_associations

    def handle_error(self, _request: object, client_address: tuple[str, int]) -> None:
        """Log that a connection could not be served; socketserver would print the exception with its message."""
        log.exception("connection_broke", peer_address=client_address[0])

    def server_close(self) -> None:
        """Close the listening socket without shutting it down, which would end it for the other processes too."""
        cast("socket.socket", self.socket).close()

    def stop(self, seconds: float) -> None:
        """Stop listening, abort open associations, and wait at most ``seconds`` for them to end."""
        self.shutdown()
        deadline = time.monotonic() + seconds
        # Ask each time: an association may be just beginning, and cannot be joined before its thread runs.
        while time.monotonic() < deadline and (open_associations := self.active_associations):
            for association in cast("list[PromptAssociation]", open_associations):
                association.stop()
            time.sleep(ENDING_POLL_SECONDS)


class SharedContexts(list[PresentationContext]):
    """The supported presentation contexts: one list for all associations.

    pynetdicom makes a deep copy for each association, which takes 50 ms or more, although nothing changes them.
    """

    def __deepcopy__(self, _memo: object) -> SharedContexts:
        return self


class PromptRequestHandler(RequestHandler):
    """Creates an association, and gives it and its parts the classes of this package."""

    server: PromptServer

    def _create_association(self) -> Association:
        # pynetdicom's methods name its classes; changing the class of the finished objects is the only way to
        # replace them without copying its code.
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
