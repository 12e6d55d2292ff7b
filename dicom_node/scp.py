"""From an association to a stored instance: C-ECHO and C-STORE, as an SCP.

Success (0x0000) goes back only after the bytes are synced under their final name, their folder is synced and
the row is committed. Pixels are never decoded here.
"""

from __future__ import annotations

import hashlib
import threading
import time
import weakref
import zlib
from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.association import Association as PynetdicomAssociation
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time
from pynetdicom.transport import ThreadedAssociationServer
from sqlalchemy.exc import DBAPIError

from dicom_node.errors import RejectedInput
from dicom_node.files import Files
from dicom_node.headers import UNREADABLE
from dicom_node.intake import Intake
from dicom_node.log import get_logger
from dicom_node.reactor import PromptRequestHandler
from dicom_node.settings import NodeSettings
from dicom_node.study import Association, Instance, Priority, Reception

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
"""Statuses of C-STORE, PS3.4 table B.2-1."""

IMPLEMENTATION_CLASS_UID = UID("2.25.197482354617463829405172039485761203948")
IMPLEMENTATION_VERSION_NAME = "HILUM_0.1"

LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""Younger than pynetdicom's list."""

LAST_IDENTIFYING_TAG = 0x0020000E
LONGEST_HEADER_BYTES = 2**20
LONGEST_UID = 64
ACCEPT_POLL_SECONDS = 1.0

log = get_logger()


class Receiver:
    """Handles the events of the associations that bring instances."""

    def __init__(self, intake: Intake, files: Files, settings: NodeSettings) -> None:
        self._intake = intake
        self._files = files
        self._settings = settings
        self._ae = AE(ae_title=settings.ae_title)
        self._associations: weakref.WeakKeyDictionary[PynetdicomAssociation, Association] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Listen; returns at once."""
        ae = self._ae
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_associations = self._settings.maximum_associations
        ae.maximum_pdu_size = self._settings.maximum_pdu_bytes
        ae.network_timeout = self._settings.network_timeout_seconds
        ae.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        ae.add_supported_context(LABEL_MAP_SEGMENTATION_STORAGE, ALL_TRANSFER_SYNTAXES)
        ends = (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)
        self._server = ae.make_server(
            (self._settings.host, self._settings.port),
            evt_handlers=[(evt.EVT_C_STORE, self.on_store), *((end, self.on_end) for end in ends)],
            server_class=ThreadedAssociationServer,
            request_handler=PromptRequestHandler,
        )
        ae._servers.append(self._server)  # start_server would; it takes no request handler
        threading.Thread(target=self._server.serve_forever, args=(ACCEPT_POLL_SECONDS,), daemon=True).start()

    @property
    def port(self) -> int:
        """The port that is listened on; the settings may leave it to the system with 0."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stop listening and abort what is open; a sender keeps what it was not told is safe."""
        self._ae.shutdown()

    def on_store(self, event: evt.Event) -> int:
        """Answer C-STORE."""
        started = time.monotonic()
        try:
            reception, instance = self._store(event)
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

    def _store(self, event: evt.Event) -> tuple[Reception, Instance]:
        """Write an instance to the disk, then into the record."""
        request, syntax = event.request, UID(event.context.transfer_syntax)
        if not isinstance(request, C_STORE) or request.DataSet is None:
            raise RejectedInput("data-set-missing", "expected a data set after the C-STORE command, got none")
        data: bytes = request.DataSet.getvalue()
        ds = identify(data, syntax)
        if (
            str(ds.SOPInstanceUID) != request.AffectedSOPInstanceUID
            or str(ds.SOPClassUID) != request.AffectedSOPClassUID
        ):
            raise RejectedInput(
                "sop-mismatch",
                "expected the SOP class and instance that the command names; the data set holds others",
            )
        instance = Instance(
            study_instance_uid=str(ds.StudyInstanceUID),
            series_instance_uid=str(ds.SeriesInstanceUID),
            sop_instance_uid=str(ds.SOPInstanceUID),
            sop_class_uid=str(ds.SOPClassUID),
            transfer_syntax_uid=str(syntax),
            sha256=(sha256 := hashlib.sha256(data).hexdigest()),
            size_bytes=len(data),
            path=self._files.instance_path(
                str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID), sha256
            ),
        )
        association = self._association(event.assoc)
        self._files.write(instance.path, (file_meta(instance, association), data))
        stat = association.called_ae_title == self._settings.stat_ae_title
        reception = self._intake.record(instance, association, Priority.STAT if stat else Priority.ROUTINE)
        if reception is Reception.OWN_RESULT:
            instance.path.unlink(missing_ok=True)  # it lies among the results already
        return reception, instance

    def _association(self, assoc: PynetdicomAssociation) -> Association:
        """Return the record of an association; it begins with its first instance: probes leave none."""
        with self._lock:
            known = self._associations.get(assoc)
        if known:
            return known
        opened = self._intake.open_association(
            assoc.requestor.ae_title.strip(), assoc.acceptor.ae_title.strip(), str(assoc.requestor.address)
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
        try:
            self._intake.close_association(association.association_id)
        except DBAPIError as error:
            # It will be taken for dead once it has been silent for association_idle_seconds.
            log.warning(
                "association_left_open",
                association_id=association.association_id,
                error=type(error.orig).__name__,
            )


def identify(data: bytes, transfer_syntax: UID) -> Dataset:
    """Return the elements that place an instance in its study; reads no further than the series' UID.

    Raises
    ------
    RejectedInput
        One of the UIDs is missing, too long, or the data set cannot be read.
    """
    try:
        if transfer_syntax == DeflatedExplicitVRLittleEndian:
            # Only the beginning is inflated, whatever the rest would grow to.
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, LONGEST_HEADER_BYTES)
        ds = read_dataset(
            BytesIO(data),
            is_implicit_VR=transfer_syntax.is_implicit_VR,
            is_little_endian=transfer_syntax.is_little_endian,
            stop_when=beyond_identity,
            specific_tags=[BaseTag(tag) for tag in (0x00080016, 0x00080018, 0x0020000D, LAST_IDENTIFYING_TAG)],
        )
        missing = [
            name
            for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
            if not ds.get(name)
        ]
        too_long = any(len(str(element.value)) > LONGEST_UID for element in ds)
    except UNREADABLE as error:
        raise RejectedInput(
            "data-set-unreadable", f"expected a data set in {transfer_syntax.name}; it cannot be read"
        ) from error
    if missing:
        raise RejectedInput("uid-missing", f"expected {', '.join(missing)} in the data set; send it complete")
    if too_long:
        raise RejectedInput("uid-too-long", f"expected UIDs of at most {LONGEST_UID} characters (PS3.5 9.1)")
    return ds


def beyond_identity(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    """Whether everything that identifies an instance has been read."""
    return int(tag) > LAST_IDENTIFYING_TAG


def file_meta(instance: Instance, association: Association) -> bytes:
    """Return preamble and file meta information (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(instance.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(instance.sop_instance_uid)
    meta.TransferSyntaxUID = UID(instance.transfer_syntax_uid)
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    meta.SourceApplicationEntityTitle = association.calling_ae_title
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    return bytes(128) + b"DICM" + buffer.getvalue()
