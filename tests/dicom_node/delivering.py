"""A deliverer, as the process makes it that delivers."""

from __future__ import annotations

from sqlalchemy import Engine

from dicom_node.deliver.commitment import Commitments
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.deliver.outbox import Outbox
from dicom_node.security.audit import AuditTrail
from dicom_node.settings import Settings


def deliverer_of(record: Engine, settings: Settings, trail: AuditTrail | None = None) -> Deliverer:
    """Return what sends a record's results; without a trail, it tells nobody."""
    commitments = Commitments(record, settings.delivery)
    return Deliverer(Outbox(record, settings.delivery), settings, trail or AuditTrail(settings), commitments)
