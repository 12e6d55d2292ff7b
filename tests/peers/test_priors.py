"""A prior without a report: fetched from Orthanc by C-GET, measured, and compared with in the new report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.dispatch.dispatcher import Dispatcher
from dicom_node.dispatch.retrieve import find_last_chest_ct, get_series
from dicom_node.files import Files
from dicom_node.receive.intake import Intake
from dicom_node.record.database import open_database
from dicom_node.record.paths import as_file
from dicom_node.record.schema import jobs, results, studies
from dicom_node.settings import Destination, Settings
from dicom_node.study import Instance, JobState
from tests.browser.conftest import store
from tests.dicom_node.recording import Bell, instance, receive, rows, take_turn
from tests.factories import chest_hu, ct_series
from tests.services import Orthanc, free_port
from tests.worker.reports.content import texts
from worker.tasks import JobRunner

pytestmark = [pytest.mark.node, pytest.mark.peer, pytest.mark.filterwarnings("ignore::UserWarning")]

HU = chest_hu((24, 48, 64))[0]
PATIENT = {"PatientID": "MEASURED-PRIOR-1", "IssuerOfPatientID": "HOSPITAL"}


def study(folder: Path, date: str, uid: str, **attributes: Any) -> list[Path]:
    words = {"StudyDescription": "CT CHEST", "BodyPartExamined": "CHEST", "StudyTime": "101112"}
    return ct_series(folder / uid, HU, **(PATIENT | words | {"StudyDate": date, "StudyInstanceUID": uid} | attributes))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Destination:
    """A PACS with studies of the patient and of others, which knows the AE title ASKER."""
    folder = tmp_path_factory.mktemp("studies")
    study(folder, "20240101", "1.2.826.1")
    study(folder, "20240220", "1.2.826.2")
    study(folder, "20240225", "1.2.826.3", StudyDescription="CT HEAD", BodyPartExamined="HEAD")
    study(folder, "20240226", "1.2.826.4", PatientID="MEASURED-PRIOR-10")
    study(folder, "20240227", "1.2.826.5", IssuerOfPatientID="OTHER")
    study(folder, "20240228", "1.2.826.6", Modality="MR")
    study(folder, "20240301", "1.2.826.7")
    store(orthanc, folder)
    orthanc.add_modality("asks-priors", "ASKER", free_port())
    return Destination(name="PACS", ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.dicom_port)


def settings_for(source: Destination, folder: Path, ae_title: str = "ASKER") -> Settings:
    return Settings(
        node={"ae_title": ae_title, "quiet_seconds": 0.001},
        storage={"folder": folder / "storage", "refuse_free_gib": 0, "warn_free_gib": 0},
        destinations=[source],
        priors={"source": "PACS", "analyze": True},
    )


def test_the_last_chest_ct_of_the_patient_before_the_study_is_found(source: Destination, tmp_path: Path) -> None:
    found = find_last_chest_ct(source, settings_for(source, tmp_path), "MEASURED-PRIOR-1", "HOSPITAL", "20240301101112")

    assert {one.study_instance_uid for one in found} == {"1.2.826.2"}


def test_images_come_as_they_are_stored(source: Destination, tmp_path: Path) -> None:
    settings, got = settings_for(source, tmp_path), dict[str, bytes]()
    found = find_last_chest_ct(source, settings, "MEASURED-PRIOR-1", "HOSPITAL", "20240301")

    get_series(source, settings, found, got.__setitem__)

    assert len(got) == len(HU)
    for uid, content in got.items():
        (tmp_path / "image.dcm").write_bytes(content)
        ds = dcmread(tmp_path / "image.dcm")
        assert (ds.SOPInstanceUID, ds.StudyInstanceUID) == (uid, "1.2.826.2")
        assert ds.pixel_array.shape == HU.shape[1:]


def test_a_disk_that_fails_is_the_reason(source: Destination, tmp_path: Path) -> None:
    settings = settings_for(source, tmp_path)
    found = find_last_chest_ct(source, settings, "MEASURED-PRIOR-1", "HOSPITAL", "20240301")

    def fail(_uid: str, _content: bytes) -> None:
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        get_series(source, settings, found, fail)


def test_the_comparison_with_a_prior_that_nobody_analysed_stands_in_the_report(
    source: Destination, tmp_path: Path
) -> None:
    settings = settings_for(source, tmp_path)
    record = open_database(settings.database_url, settings.storage.folder)
    images = study(settings.storage.folder / "instances", "20240301", "1.2.826.7")
    receive(Intake(record), *(as_instance(path) for path in images))

    take_turn(Dispatcher(record, Bell(), settings))  # type: ignore[arg-type]  # rings as a Doorbell does
    (job,) = rows(record, jobs)
    JobRunner(settings).run(str(job["job_id"]))

    assert [row["state"] for row in rows(record, jobs)] == [JobState.DONE]
    assert len(Files(settings.storage.folder).prior_images("1.2.826.7")) == len(HU)
    assert [row["study_instance_uid"] for row in rows(record, studies)] == ["1.2.826.7"]
    sent = [dcmread(as_file(record, str(row["path"]))) for row in rows(record, results)]
    assert {ds.StudyInstanceUID for ds in sent} == {"1.2.826.7"}
    said = texts(next(ds for ds in sent if ds.Modality == "SR"))
    assert "For the comparison the prior study of 2024-02-20 was measured now, in the same way." in said


def as_instance(path: Path) -> Instance:
    ds = dcmread(path, stop_before_pixels=True)
    received = instance(
        ds.SOPInstanceUID, study=ds.StudyInstanceUID, series=ds.SeriesInstanceUID, sop_class=ds.SOPClassUID
    )
    return Instance(**{**vars(received), "path": path})
