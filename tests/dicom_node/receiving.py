"""A receiver on the loopback interface, and functions that send to it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time
from sqlalchemy import Engine

from dicom_node.deliver.commitment import Commitments
from dicom_node.files import Files
from dicom_node.receive.intake import Intake
from dicom_node.receive.scp import Receiver, listen
from dicom_node.security.audit import AuditTrail
from dicom_node.settings import DeliverySettings, NodeSettings, Settings


@contextmanager
def listening(
    record: Engine,
    folder: Path,
    tls: ssl.SSLContext | None = None,
    trail: AuditTrail | None = None,
    **settings: Any,
) -> Iterator[int]:
    """Run a receiver until the ``with`` block ends; yield its port."""
    files = Files(folder)
    files.make_folders()
    node = NodeSettings(port=0, **settings)
    on_report = Commitments(record, DeliverySettings(first_retry_seconds=1)).on_report
    receiver = Receiver(Intake(record), files, node, tls, trail or AuditTrail(Settings()), on_report)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dicom_node.receive.scp.ACCEPT_POLL_SECONDS", 0.02)  # stops sooner
        listener = listen(node)
        receiver.start(threading.Event(), listener)
        try:
            yield listener.getsockname()[1]
        finally:
            receiver.stop()


@contextmanager
def associated(
    port: int, *contexts: tuple[str, str], called: str = "HILUM", patience_seconds: float = 30.0
) -> Iterator[Association]:
    ae = AE("SENDER")
    ae.acse_timeout = ae.dimse_timeout = patience_seconds
    for sop_class, syntax in contexts or [(CTImageStorage, ExplicitVRLittleEndian)]:
        ae.add_requested_context(sop_class, syntax)
    association = ae.associate("127.0.0.1", port, ae_title=called)
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def answer_to_association(port: int, *, called: str = "HILUM", calling: str = "SENDER") -> str:
    """Associate with the node; return "accepted", or the reason for which it rejects."""
    ae = AE(calling)
    ae.add_requested_context(Verification)
    for _ in range(5):  # pynetdicom's requestor misses one rejection in some hundreds
        association = ae.associate("127.0.0.1", port, ae_title=called)
        if association.is_established:
            association.release()
            return "accepted"
        if association.is_rejected:
            break
    return str(association.acceptor.primitive.reason_str)


def send(port: int, *objects: Dataset, called: str = "HILUM") -> list[int]:
    contexts = {(str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for ds in objects}
    with associated(port, *contexts, called=called) as association:
        return [association.send_c_store(ds).Status for ds in objects]


def stored_files(storage: Path) -> list[Path]:
    return sorted(path for path in storage.rglob("*") if path.is_file())


def send_bytes(
    port: int,
    data: bytes,
    *,
    sop_class: str = CTImageStorage,
    sop: str = "1.2.3.4",
    syntax: str = ImplicitVRLittleEndian,
) -> int:
    """Send bytes by C-STORE that pynetdicom would not encode; return the status."""
    with associated(port, (sop_class, syntax)) as association:
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, sop
        request.DataSet = BytesIO(data)
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        answer = association.dimse.get_msg(block=True)[1]
        association._reactor_checkpoint.set()
        assert answer is not None
        return int(answer.Status)


def data_set(**uids: str) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    for keyword, value in uids.items():
        setattr(ds, keyword, value)
    return ds


def encoded(ds: Dataset) -> bytes:
    data = encode(ds, is_implicit_vr=True, is_little_endian=True)
    assert data is not None
    return data
