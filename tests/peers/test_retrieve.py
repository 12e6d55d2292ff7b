"""C-FIND and C-MOVE against Orthanc."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from dicom_node.dispatch.retrieve import find_reports, move_series
from dicom_node.errors import PassingFailure
from dicom_node.settings import Destination, Settings
from tests.browser.conftest import store
from tests.services import Orthanc, free_port
from tests.worker.reports.results import make_result

ASKER = Settings(node={"ae_title": "ASKER"})
STRANGER = Settings(node={"ae_title": "STRANGER"})

pytestmark = [pytest.mark.node, pytest.mark.peer]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Dataset:
    """A report in the PACS, beside its study's images and segmentations, and an SR that is not Hilum's."""
    folder = tmp_path_factory.mktemp("prior")
    found = make_result(folder, PatientID="RETRIEVE-1", IssuerOfPatientID="HOSPITAL")
    other = found.read("report")
    other.SOPInstanceUID, other.SeriesInstanceUID, other.SeriesDescription = "2.25.1", "2.25.2", "Dose Report"
    other.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    other.save_as(folder / "other.dcm")
    store(orthanc, folder)
    orthanc.add_modality("asks", "ASKER", free_port())
    return found.read("report")


def peer(orthanc: Orthanc) -> Destination:
    return Destination(name="PACS", ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.dicom_port)


def test_finds_the_series_of_reports_alone(orthanc: Orthanc, report: Dataset) -> None:
    (found,) = find_reports(peer(orthanc), ASKER, "RETRIEVE-1", "HOSPITAL")

    assert (found.study_instance_uid, found.series_instance_uid) == (report.StudyInstanceUID, report.SeriesInstanceUID)


@pytest.mark.parametrize("patient_id", ["RETRIEVE-2", "RETRIEVE", "RETRIEVE*", "RETRIEVE-?", "retrieve-1"])
@pytest.mark.usefixtures("report")
def test_finds_nothing_of_other_patients(orthanc: Orthanc, patient_id: str) -> None:
    assert find_reports(peer(orthanc), ASKER, patient_id, "HOSPITAL") == []


@pytest.mark.usefixtures("report")
def test_says_what_is_missing_where_the_pacs_does_not_know_us(orthanc: Orthanc) -> None:
    found = find_reports(peer(orthanc), ASKER, "RETRIEVE-1", "HOSPITAL")

    with pytest.raises(PassingFailure, match="must know STRANGER as a destination"):
        move_series(peer(orthanc), STRANGER, found)


def test_a_pacs_that_is_down_is_a_passing_failure() -> None:
    nobody = Destination(name="PACS", ae_title="PACS", host="127.0.0.1", port=free_port())

    with pytest.raises(PassingFailure, match="cannot be reached"):
        find_reports(nobody, ASKER, "1", "")
