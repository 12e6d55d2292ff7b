"""The main job with independent software at both ends: DCMTK sends, Orthanc is the PACS, `hilum up` does the rest."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import MRImageStorage
from sqlalchemy import Engine

from dicom_node.record.studies import list_studies, show_study
from dicom_node.settings import ReportSettings
from dicom_node.study import FINAL_JOB_STATES
from tests.browser.conftest import store
from tests.dicom_node.recording import opened
from tests.factories import chest_hu, ct_series
from tests.services import Orthanc, Up, dcmtk, hilum_up, wait_until
from tests.worker.reports.content import texts
from worker.answer import answer_study

pytestmark = [pytest.mark.node, pytest.mark.peer]

QUIET_SECONDS = 1.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hilum")


@pytest.fixture(scope="module")
def up(folder: Path, orthanc: Orthanc) -> Iterator[Up]:
    pacs = {"name": "PACS", "ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.dicom_port}
    with hilum_up(
        folder,
        HILUM_NODE__QUIET_SECONDS=str(QUIET_SECONDS),
        HILUM_DESTINATIONS=json.dumps([pacs]),
        HILUM_REPORT__REJECTION_NOTE="true",
        HILUM_PRIORS__SOURCE="PACS",
    ) as running:
        wait_until(running.ready, "node and worker", 60)
        orthanc.add_modality("hilum", "HILUM", running.port)
        yield running


@pytest.fixture
def record(up: Up, folder: Path) -> Iterator[Engine]:
    with opened(f"sqlite:///{folder}/data/record.sqlite3") as engine:
        yield engine


def send(folder: Path, orthanc: Orthanc, up: Up, *options: str, called: str = "HILUM") -> str:
    """Send a study to the PACS and to Hilum, as a modality or a router does; return its UID."""
    for port, title in ((orthanc.dicom_port, orthanc.ae_title), (up.port, called)):
        command = [dcmtk("storescu"), "-aet", "CT1", "-aec", title, *options, "+sd", "+r", "127.0.0.1", str(port)]
        subprocess.run([*command, str(folder)], check=True, timeout=120)
    return str(pydicom.dcmread(next(folder.rglob("*.dcm")), stop_before_pixels=True).StudyInstanceUID)


def answered(record: Engine, study: str, revision: int = 1) -> dict[str, Any]:
    """Wait until a study is answered and all its results are sent; return its description from the record."""

    def done() -> dict[str, Any] | None:
        row = next((row for row in list_studies(record, 50) if row["study_instance_uid"] == study), None)
        if row is None or row["state"] not in FINAL_JOB_STATES or row["deliveries"]["pending"]:
            return None
        if row["revision"] < revision:
            return None
        return show_study(record, study)

    found: dict[str, Any] = wait_until(done, "the answer", 180)
    return found


def in_pacs(orthanc: Orthanc, study: str) -> dict[str, set[str]]:
    """Return the SOP Instance UIDs that the PACS holds of a study, by modality."""
    found: dict[str, set[str]] = {}
    for series in orthanc.find("Series", StudyInstanceUID=study):
        instances = (orthanc.ask(f"/instances/{identifier}/simplified-tags") for identifier in series["Instances"])
        found.setdefault(series["MainDicomTags"]["Modality"], set()).update(
            tags["SOPInstanceUID"] for tags in instances
        )
    return found


def object_in_pacs(orthanc: Orthanc, sop_instance_uid: str) -> pydicom.Dataset:
    """Return an object as the PACS stores it."""
    (instance,) = orthanc.find("Instance", SOPInstanceUID=sop_instance_uid)
    return pydicom.dcmread(BytesIO(orthanc.download(f"/instances/{instance['ID']}/file")))


def referenced_instances(ds: pydicom.Dataset) -> set[str]:
    """Return every SOP Instance UID that a data set refers to."""
    return {str(element.value) for element in ds.iterall() if element.keyword == "ReferencedSOPInstanceUID"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc, up: Up, folder: Path) -> dict[str, Any]:
    """The description, from the record, of a small chest that was sent and measured."""
    sent = tmp_path_factory.mktemp("chest")
    hu, _, _ = chest_hu()
    ct_series(sent, hu)
    study = send(sent, orthanc, up)
    with opened(f"sqlite:///{folder}/data/record.sqlite3") as engine:
        return answered(engine, study)


def test_the_results_stand_in_the_same_study_in_the_pacs(orthanc: Orthanc, measured: dict[str, Any]) -> None:
    held = in_pacs(orthanc, measured["study_instance_uid"])
    assert measured["state"] == "done"
    assert len(held["CT"]) == 40
    results = {uid for modality, uids in held.items() if modality != "CT" for uid in uids}
    assert results == {sent["sop_instance_uid"] for sent in measured["sent"]}
    assert {"SEG", "SR"} <= set(held)
    assert len(held["SR"]) == 1


def test_every_delivery_is_recorded_as_the_pacs_answered_it(measured: dict[str, Any]) -> None:
    assert {(sent["state"], sent["status"], sent["attempts"]) for sent in measured["sent"]} == {("sent", 0x0000, 1)}
    assert {sent["kind"] for sent in measured["sent"]} >= {"lungs", "infection", "report"}


def test_the_percentage_in_the_record_is_that_of_the_truth(measured: dict[str, Any]) -> None:
    _, lungs, infection = chest_hu()
    assert measured["infected_percent"] == pytest.approx(100 * infection.sum() / (lungs > 0).sum(), abs=1.0)


def test_all_that_the_report_refers_to_is_in_the_pacs(orthanc: Orthanc, measured: dict[str, Any]) -> None:
    held = in_pacs(orthanc, measured["study_instance_uid"])
    (report,) = held["SR"]
    referred = referenced_instances(object_in_pacs(orthanc, report))
    assert referred
    assert referred <= set().union(*held.values())
    assert held["SEG"] <= referred


def test_results_that_the_pacs_routes_back_start_nothing(
    orthanc: Orthanc, up: Up, record: Engine, measured: dict[str, Any]
) -> None:
    study = measured["study_instance_uid"]
    (resource,) = orthanc.find("Study", StudyInstanceUID=study)
    before = in_pacs(orthanc, study)
    orthanc.send("hilum", [resource["ID"]])
    known = [event["outcome"] for event in up.events("instance_known") if event["study_instance_uid"] == study]
    assert known.count("own_result") == len(measured["sent"])
    assert known.count("conflict") == 0
    time.sleep(QUIET_SECONDS + 3)  # by now whatever would start has started
    assert show_study(record, study) == measured
    assert in_pacs(orthanc, study) == before


def test_a_chest_that_cannot_be_measured_is_answered_with_a_report_that_says_why(
    orthanc: Orthanc, up: Up, record: Engine, tmp_path: Path
) -> None:
    hu, _, _ = chest_hu()
    ct_series(tmp_path, hu[:5])
    study = send(tmp_path, orthanc, up)
    answer = answered(record, study)
    assert answer["state"] == "refused"
    held = in_pacs(orthanc, study)
    assert set(held) == {"CT", "SR"}
    (report,) = held["SR"]
    said = " ".join(str(element.value) for element in object_in_pacs(orthanc, report).iterall() if element.VR == "UT")
    assert "expected at least 10 slices, got 5" in said


def test_late_images_bring_a_new_report_that_withdraws_the_first(
    orthanc: Orthanc, up: Up, record: Engine, tmp_path: Path
) -> None:
    hu, _, _ = chest_hu()
    ct_series(tmp_path / "all", hu)
    (tmp_path / "late").mkdir()
    for late in sorted((tmp_path / "all").iterdir())[20:23]:
        late.rename(tmp_path / "late" / late.name)
    study = send(tmp_path / "all", orthanc, up)
    first = answered(record, study)
    assert first["state"] == "refused"

    send(tmp_path / "late", orthanc, up)
    second = answered(record, study, revision=2)

    assert second["state"] == "done"
    (withdrawn,) = (sent["sop_instance_uid"] for sent in first["sent"])
    made = {sent["kind"]: sent["sop_instance_uid"] for sent in second["sent"] if sent not in first["sent"]}
    report, note = (object_in_pacs(orthanc, made[kind]) for kind in ("report", "rejection-note"))
    assert referenced_instances(report.PredecessorDocumentsSequence[0]) == {withdrawn}
    assert referenced_instances(note) == {withdrawn}


def test_a_report_that_only_the_pacs_has_is_compared_with(
    orthanc: Orthanc, up: Up, record: Engine, tmp_path: Path
) -> None:
    hu, _, _ = chest_hu()
    patient = {"PatientID": "PRIOR-1", "IssuerOfPatientID": "HOSPITAL"}
    before = ct_series(tmp_path / "before", hu, StudyDate="20240227", **patient)
    answer_study(before, None, tmp_path / "answer", ReportSettings(), lambda *_: None)
    prior = pydicom.dcmread(tmp_path / "answer" / "report.dcm")
    store(orthanc, tmp_path / "answer")

    ct_series(tmp_path / "now", hu, StudyDate="20240229", **patient)
    answer = answered(record, send(tmp_path / "now", orthanc, up))

    kinds = {sent["kind"]: sent["sop_instance_uid"] for sent in answer["sent"]}
    report = object_in_pacs(orthanc, kinds["report"])
    assert prior.SOPInstanceUID in referenced_instances(report.PertinentOtherEvidenceSequence[0])
    assert "Since the prior study of 2024-02-27, 48 hours before" in " ".join(texts(report))
    assert "trend" in kinds


def test_a_report_of_the_record_is_compared_with(orthanc: Orthanc, up: Up, record: Engine, tmp_path: Path) -> None:
    hu, _, _ = chest_hu()
    first, second = (
        answered(record, send_chest(tmp_path / date, hu, date, orthanc, up)) for date in ("20240227", "20240229")
    )

    made = [{sent["kind"]: sent["sop_instance_uid"] for sent in answer["sent"]} for answer in (first, second)]

    report = object_in_pacs(orthanc, made[1]["report"])
    assert made[0]["report"] in referenced_instances(report.PertinentOtherEvidenceSequence[0])


def send_chest(folder: Path, hu: NDArray[np.int16], date: str, orthanc: Orthanc, up: Up) -> str:
    """Send a study of the patient PRIOR-2 to the PACS and to Hilum; return its UID."""
    ct_series(folder, hu, StudyDate=date, PatientID="PRIOR-2")
    return send(folder, orthanc, up)


def test_a_study_without_ct_gets_no_answer_but_a_reason_in_the_record(
    orthanc: Orthanc, up: Up, record: Engine, tmp_path: Path
) -> None:
    hu, _, _ = chest_hu()
    ct_series(tmp_path, hu[:3], Modality="MR", SOPClassUID=MRImageStorage)
    study = send(tmp_path, orthanc, up)

    def row() -> dict[str, Any]:
        return next(row for row in list_studies(record, 50) if row["study_instance_uid"] == study)

    wait_until(lambda: row()["state"] == "set_aside", "the decision")
    assert row()["reason"] == "expected CT slices; this study holds none"
    assert set(in_pacs(orthanc, study)) == {"MR"}


@pytest.mark.data
def test_a_real_study_comes_back_with_its_results(orthanc: Orthanc, up: Up, record: Engine, shared_data: Path) -> None:
    study = send(shared_data / "ct-studies" / "petct-a0002-b40f", orthanc, up, called="HILUM_STAT")
    answer = answered(record, study)
    assert (answer["state"], answer["priority"]) == ("done", "stat")
    assert {"CT", "SEG", "SR"} <= set(in_pacs(orthanc, study))
    assert {sent["state"] for sent in answer["sent"]} == {"sent"}
