"""The SCP of C-ECHO and C-STORE: from an association to a stored instance.

The response is success (0x0000) only after the bytes are synced under their final name, their folder is synced and
the row is committed. Pixels are never decoded here.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable

from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.association import Association as PynetdicomAssociation
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StorageCommitmentPushModel,
    Verification,
)
from sqlalchemy.exc import DBAPIError

from dicom_node.beside import Beside
from dicom_node.errors import RejectedInput, SettingsError
from dicom_node.files import Files
from dicom_node.log import get_logger
from dicom_node.receive.dimse import AFFECTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID, CommandSet
from dicom_node.receive.incoming import IncomingFile
from dicom_node.receive.intake import Arrival, Intake
from dicom_node.receive.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, file_meta, glance, identify
from dicom_node.receive.recorder import Recorder
from dicom_node.receive.server import PromptServer
from dicom_node.security.access import Doorkeeper
from dicom_node.security.audit import AuditTrail, Receipts
from dicom_node.settings import NodeSettings
from dicom_node.statuses import CANNOT_UNDERSTAND, DOES_NOT_MATCH_SOP_CLASS, OUT_OF_RESOURCES, SUCCESS
from dicom_node.study import Association, Instance, Priority, Reception

TRANSFER_SYNTAXES = [*ALL_TRANSFER_SYNTAXES, "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"]
"""Including two retired JPEG transfer syntaxes, which archives still hold and the worker can read."""

GLANCE_BYTES = 2**14
"""How much of a data set `glance` gets: enough for the UIDs of most instances."""

ACCEPT_POLL_SECONDS = 1.0
STOPPING_SECONDS = 5.0
WAITING_CONNECTIONS = 128
CONNECTIONS_WITHOUT_ASSOCIATION = 64
"""How many peers may be connected besides the associations: those not associated yet, and those being rejected."""
SECONDS_WITHOUT_ASSOCIATION = 30.0
"""How long a peer may be connected without an association before Hilum disconnects it."""

log = get_logger()


def storage_classes() -> list[str]:
    """Return the SOP classes whose instances the node accepts: all storage SOP classes."""
    return [str(context.abstract_syntax) for context in AllStoragePresentationContexts]


def listen(settings: NodeSettings) -> socket.socket:
    """Return the socket on which the node listens for peers.

    Raises
    ------
    SettingsError
        Hilum cannot listen there: the address is not of this machine, or another process uses the port, for example.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=WAITING_CONNECTIONS)
    except OSError as error:
        raise SettingsError(
            "cannot-listen",
            f"cannot listen on node.host {settings.host}, node.port {settings.port}: {error.strerror}",
        ) from error
    listener.setblocking(False)  # several processes see a connection arrive; those that do not get it must not block
    return listener


class Receiver:
    """Serves the associations that bring instances.

    Parameters
    ----------
    on_event_report : callable
        Handles a report of a PACS on storage commitment (N-EVENT-REPORT) and returns the status.
    """

    def __init__(
        self,
        intake: Intake,
        files: Files,
        settings: NodeSettings,
        tls: ssl.SSLContext | None,
        trail: AuditTrail,
        on_event_report: Callable[[evt.Event], tuple[int, None]],
    ) -> None:
        self._intake = intake
        self._tls = tls
        self._trail = trail
        self._on_event_report = on_event_report
        self._receipts = Receipts(trail)
        self._recorder = Recorder(intake)
        self._files = files
        self._settings = settings
        self._ae = AE(ae_title=settings.ae_title)
        self._associations: weakref.WeakKeyDictionary[PynetdicomAssociation, Association] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def start(self, stop: threading.Event, listener: socket.socket) -> None:
        """Begin to accept connections on a listening socket, which several processes may share; return at once.

        If the thread that accepts them breaks, it sets ``stop``, and `check` raises.
        """
        ae = self._ae
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_associations = self._settings.maximum_associations + CONNECTIONS_WITHOUT_ASSOCIATION
        ae.maximum_pdu_size = self._settings.maximum_pdu_bytes
        ae.network_timeout = self._settings.network_timeout_seconds
        ae.acse_timeout = SECONDS_WITHOUT_ASSOCIATION
        ae.add_supported_context(Verification)
        for sop_class_uid in storage_classes():
            ae.add_supported_context(sop_class_uid, TRANSFER_SYNTAXES)
        ends = (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)
        handlers: list[evt.EventHandlerType] = [(end, self.on_end) for end in ends]
        handlers.append((evt.EVT_N_EVENT_REPORT, self._on_event_report))
        # A PACS may report on an association that it requests itself; there, too, it is the SCP (PS3.4 J.3.3).
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        doorkeeper = Doorkeeper(self._settings, self._trail)
        self._server = PromptServer(ae, listener, handlers, self, doorkeeper, self._tls)
        self._accepting = Beside("accept", lambda: self._server.serve_forever(ACCEPT_POLL_SECONDS), stop)

    def stop(self) -> None:
        """Stop listening and abort open associations; a sender keeps the instances that got no success response."""
        self._server.stop(STOPPING_SECONDS)

    def check(self) -> None:
        """Raise Defect if the thread that accepts connections broke."""
        self._accepting.check()

    def open_data_set(
        self, association: PynetdicomAssociation, command: CommandSet, transfer_syntax_uid: str
    ) -> IncomingFile:
        """Return the file to which the data set of a C-STORE is written while it arrives."""
        return IncomingFile(
            self._files.incoming_path(),
            file_meta(
                command.uid(AFFECTED_SOP_CLASS_UID),
                command.uid(AFFECTED_SOP_INSTANCE_UID),
                transfer_syntax_uid,
                association.requestor.ae_title.strip(),
            ),
            self._settings.maximum_object_bytes,
        )

    def store(
        self, association: PynetdicomAssociation, command: CommandSet, transfer_syntax_uid: str, incoming: IncomingFile
    ) -> int:
        """Store and record a received instance; return the status of the response."""
        started = time.monotonic()
        try:
            instance = self._keep(command, transfer_syntax_uid, incoming)
            reception = self._record(instance, self._association(association))
        except RejectedInput as error:
            log.warning("instance_refused", code=error.code, reason=error.message)
            return DOES_NOT_MATCH_SOP_CLASS if error.code == "sop-mismatch" else CANNOT_UNDERSTAND
        except (OSError, DBAPIError) as error:
            kind = error.strerror if isinstance(error, OSError) else type(error.orig).__name__
            log.warning("instance_not_stored", code="out-of-resources", error=str(kind))
            return OUT_OF_RESOURCES
        if reception is not Reception.NEW:
            log.info(
                "instance_known",
                outcome=reception.value,
                study_instance_uid=instance.study_instance_uid,
                sop_instance_uid=instance.sop_instance_uid,
                seconds=round(time.monotonic() - started, 4),
            )
        return SUCCESS

    def _keep(self, command: CommandSet, transfer_syntax_uid: str, incoming: IncomingFile) -> Instance:
        """Check a received data set and move its file to its final path; return the instance."""
        if incoming.is_too_large:
            limit = self._settings.maximum_object_bytes
            raise RejectedInput(
                "object-too-large",
                f"expected at most {limit} bytes (node.maximum_object_bytes), got {incoming.size_bytes}",
            )
        syntax = UID(transfer_syntax_uid)
        identity = glance(incoming.beginning(GLANCE_BYTES), syntax)
        if identity is None:
            with incoming.open() as data:
                identity = identify(data, syntax)
        sop_class, sop, study, series = identity
        if (sop_class, sop) != (command.uid(AFFECTED_SOP_CLASS_UID), command.uid(AFFECTED_SOP_INSTANCE_UID)):
            raise RejectedInput(
                "sop-mismatch",
                "expected the SOP class and instance that the command names; the data set holds others",
            )
        instance = Instance(
            study_instance_uid=study,
            series_instance_uid=series,
            sop_instance_uid=sop,
            sop_class_uid=sop_class,
            transfer_syntax_uid=transfer_syntax_uid,
            sha256=incoming.sha256,
            size_bytes=incoming.size_bytes,
            path=self._files.instance_path(study, series, sop, incoming.sha256),
        )
        self._files.make_place(instance.path)
        incoming.keep(instance.path)
        return instance

    def _record(self, instance: Instance, association: Association) -> Reception:
        """Record a stored instance; return what its arrival meant."""
        stat = association.called_ae_title == self._settings.stat_ae_title
        reception = self._recorder.record(Arrival(instance, association, Priority.STAT if stat else Priority.ROUTINE))
        if reception is Reception.OWN_RESULT:
            instance.path.unlink(missing_ok=True)  # the folder of results has it already
        if reception in (Reception.NEW, Reception.CONFLICT):
            self._receipts.note(association, instance)
        return reception

    def _association(self, assoc: PynetdicomAssociation) -> Association:
        """Return the recorded association; it is recorded with its first instance, so C-ECHO alone leaves no row."""
        with self._lock:
            known = self._associations.get(assoc)
        if known:
            return known
        # pynetdicom's acceptor has Hilum's own AE title; the called AE title is in the request.
        called = assoc.requestor.primitive.called_ae_title if assoc.requestor.primitive else ""
        opened = self._intake.open_association(
            assoc.requestor.ae_title.strip(), (called or "").strip(), str(assoc.requestor.address)
        )
        with self._lock:
            self._associations[assoc] = opened
        return opened

    def on_end(self, event: evt.Event) -> None:
        """Record that an association was released, aborted or lost."""
        with self._lock:
            association = self._associations.pop(event.assoc, None)
        if association is None:
            return
        self._receipts.tell(association)
        try:
            self._intake.close_association(association.association_id)
        except (DBAPIError, OSError) as error:
            # It stops keeping its studies incomplete once it has been silent for association_idle_seconds.
            cause = error.orig if isinstance(error, DBAPIError) else error
            log.warning("association_left_open", association_id=association.association_id, error=type(cause).__name__)
