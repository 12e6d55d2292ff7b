"""A deliverer, built as ``hilum deliver`` builds it."""

from __future__ import annotations

from sqlalchemy import Engine

from dicom_node.deliver.commitment import Commitments
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.deliver.outbox import Outbox
from dicom_node.security.audit import AuditTrail
from dicom_node.settings import Settings


def deliverer_of(record: Engine, settings: Settings, trail: AuditTrail | None = None) -> Deliverer:
    """Return a deliverer of a record's results; by default its audit trail is the one of the settings."""
    commitments = Commitments(record, settings.delivery)
    return Deliverer(Outbox(record, settings.delivery), settings, trail or AuditTrail(settings), commitments)
