"""STOW-RS to Orthanc's DICOMweb plugin."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from sqlalchemy import Engine

from dicom_node.deliver.destination import verify
from dicom_node.dispatch.jobs import Jobs
from dicom_node.errors import PassingFailure
from dicom_node.record.schema import deliveries
from dicom_node.settings import DeliverySettings, JobSettings, NodeSettings, Settings, WebDestination
from dicom_node.study import DeliveryState, Ending, JobState, Result
from tests.dicom_node.delivering import deliverer_of
from tests.dicom_node.recording import claimed, make_job, opened, rows
from tests.factories import ct_series
from tests.services import DICOMWEB_PLUGIN, Orthanc, missing

pytestmark = [pytest.mark.node, pytest.mark.peer]


def settings_for(url: str) -> Settings:
    service = WebDestination(name="PACS", url=url)
    return Settings.model_construct(node=NodeSettings(), delivery=DeliverySettings(), destinations=(service,))


@pytest.fixture
def settings(orthanc: Orthanc) -> Settings:
    if not DICOMWEB_PLUGIN.is_file():
        missing("Orthanc's DICOMweb plugin")
    return settings_for(f"http://127.0.0.1:{orthanc.http_port}/dicom-web/")


@pytest.fixture
def results(tmp_path: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in ct_series(tmp_path / "results", np.zeros((3, 64, 64), np.int16))]


@pytest.fixture
def record(sqlite_url: str, results: list[pydicom.Dataset]) -> Iterator[Engine]:
    """A record in whose outbox three objects wait."""
    with opened(sqlite_url) as engine:
        jobs = Jobs(engine, JobSettings())
        job = claimed(jobs, make_job(engine))
        found = [
            Result(ds.SOPInstanceUID, ds.SOPClassUID, ds.file_meta.TransferSyntaxUID, "seg", Path(str(ds.filename)))
            for ds in results
        ]
        jobs.finish(job, Ending(JobState.DONE), found, ["PACS"])
        yield engine


def deliver(record: Engine, settings: Settings) -> list[object]:
    deliverer_of(record, settings).turn(settings.destinations[0], threading.Event())
    return [row["state"] for row in rows(record, deliveries)]


def test_orthanc_takes_results_and_takes_them_again(
    orthanc: Orthanc, settings: Settings, record: Engine, results: list[pydicom.Dataset]
) -> None:
    assert deliver(record, settings) == [DeliveryState.SENT] * 3
    with record.begin() as connection:
        connection.execute(deliveries.update().values(state=DeliveryState.PENDING))  # as if the answers had been lost
    assert deliver(record, settings) == [DeliveryState.SENT] * 3
    held = orthanc.find("Instance", StudyInstanceUID=results[0].StudyInstanceUID)
    assert sorted(one["MainDicomTags"]["SOPInstanceUID"] for one in held) == sorted(ds.SOPInstanceUID for ds in results)
    sent = {str(ds.SOPInstanceUID): ds.PixelData for ds in results}
    for one in held:
        content = orthanc.download(f"/instances/{one['ID']}/file")
        ds = pydicom.dcmread(BytesIO(content))
        assert ds.PixelData == sent[ds.SOPInstanceUID]


def test_what_orthanc_cannot_read_is_not_taken_for_sent_and_holds_up_no_other(
    settings: Settings, record: Engine, results: list[pydicom.Dataset]
) -> None:
    path = Path(str(results[1].filename))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert deliver(record, settings) == [DeliveryState.SENT, DeliveryState.PENDING, DeliveryState.SENT]


def test_orthanc_is_verified(settings: Settings) -> None:
    assert "HTTP 200 OK" in verify(settings.destinations[0], settings)


def test_a_url_that_is_no_services_is_told(orthanc: Orthanc) -> None:
    elsewhere = settings_for(f"http://127.0.0.1:{orthanc.http_port}/")
    with pytest.raises(PassingFailure, match="check url"):
        verify(elsewhere.destinations[0], elsewhere)
