"""Results whose files exist, and a deliverer of them, built as ``hilum deliver`` builds it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import Engine

from dicom_node.deliver.commitment import Commitments
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.deliver.outbox import Outbox
from dicom_node.record.schema import deliveries
from dicom_node.security.audit import AuditTrail
from dicom_node.settings import DeliverySettings, Destination, NodeSettings, Settings
from tests.dicom_node import recording
from tests.dicom_node.recording import STUDY, results_of, rows


def deliverer_of(record: Engine, settings: Settings, trail: AuditTrail | None = None) -> Deliverer:
    """Return a deliverer of a record's results; by default its audit trail is the one of the settings."""
    commitments = Commitments(record, settings.delivery)
    return Deliverer(Outbox(record, settings.delivery), settings, trail or AuditTrail(settings), commitments)


def settings_with_pacs(*ports: int, **delivery: Any) -> Settings:
    """Return settings with a PACS at each of one or two ports of this machine."""
    names = ("PACS", "ARCHIVE")
    return Settings.model_construct(
        node=NodeSettings(),
        delivery=DeliverySettings(**({"first_retry_seconds": 1000, "network_timeout_seconds": 2} | delivery)),
        destinations=tuple(
            Destination(name=name, ae_title="PACS", host="127.0.0.1", port=port)
            for name, port in zip(names, ports, strict=False)
        ),
    )


def write_results(folder: Path, study: str) -> None:
    """Write the files of a study's two results."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in results_of(study, folder):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = result.sop_class_uid, result.sop_instance_uid, study
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(result.path, enforce_file_format=True)


def finish_study_with_files(
    record: Engine, folder: Path, study: str = STUDY, destinations: tuple[str, ...] = ("PACS",)
) -> None:
    """Record a study whose two results wait in the outbox, and write their files."""
    write_results(folder, study)
    recording.finish_study(record, study, destinations, folder)


def deliver(record: Engine, settings: Settings) -> None:
    """Deliver what is due to every destination of the settings."""
    deliverer = deliverer_of(record, settings)
    for destination in settings.destinations:
        deliverer.deliver(destination, threading.Event())


def delivery_states(record: Engine) -> list[tuple[object, object]]:
    """Return state and status of each delivery."""
    return [(row["state"], row["status"]) for row in rows(record, deliveries)]
