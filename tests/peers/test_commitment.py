"""Storage commitment against Orthanc, which reports later, on an association that it opens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from sqlalchemy import Engine

from dicom_node.record.schema import deliveries
from dicom_node.settings import DeliverySettings, Destination, NodeSettings, Settings
from tests.dicom_node.delivering import deliverer_of, finish_study_with_files
from tests.dicom_node.receiving import listening
from tests.dicom_node.recording import opened, rows
from tests.services import Orthanc, wait_until

pytestmark = [pytest.mark.node, pytest.mark.peer]

STUDY = "1.2.826.0.1.3680043.8.498.55.1"
SETTINGS = DeliverySettings(first_retry_seconds=1, network_timeout_seconds=10)


@pytest.fixture
def record(sqlite_url: str, tmp_path: Path) -> Iterator[Engine]:
    with opened(sqlite_url) as engine:
        finish_study_with_files(engine, tmp_path / "results", STUDY)
        for path in (tmp_path / "results").iterdir():
            ds = pydicom.dcmread(path)
            ds.PatientID, ds.SeriesInstanceUID = "SYNTHETIC-1", f"{ds.SOPInstanceUID}.1"
            ds.save_as(path)
        yield engine


def committed(record: Engine) -> list[bool]:
    return [row["committed_at"] is not None for row in rows(record, deliveries)]


def test_orthanc_commits_to_what_it_took_and_not_to_what_it_lost(
    orthanc: Orthanc, record: Engine, tmp_path: Path
) -> None:
    pacs = Destination(
        name="PACS",
        ae_title=orthanc.ae_title,
        host="127.0.0.1",
        port=orthanc.dicom_port,
        storage_commitment=True,
    )
    settings = Settings.model_construct(node=NodeSettings(), delivery=SETTINGS, destinations=(pacs,))
    deliverer = deliverer_of(record, settings)
    with listening(record, tmp_path / "storage") as port:
        orthanc.add_modality("hilum", "HILUM", port)  # replaces another test's modality of this name
        deliverer.deliver(pacs, threading.Event())
        first = min(str(row["sop_instance_uid"]) for row in rows(record, deliveries))
        (lost,) = orthanc.find("Instance", SOPInstanceUID=first)
        orthanc.ask(f"/instances/{lost['ID']}", method="DELETE")
        deliverer.turn(pacs, threading.Event())
        wait_until(lambda: committed(record) == [False, True], "the first report", 30)
        assert "does not keep it" in str(rows(record, deliveries)[0]["message"])

        def all_committed() -> bool:
            deliverer.turn(pacs, threading.Event())
            return committed(record) == [True, True]

        wait_until(all_committed, "the second report", 30)
