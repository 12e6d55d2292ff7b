"""What stands around Hilum: a broker that is away, and a PACS that sends the results back."""

from __future__ import annotations

import time

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from dicom_node.record.studies import show_study
from tests.faults.conftest import Hospital
from tests.faults.senders import Scanner
from tests.services import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.node]


def test_studies_that_come_while_redis_is_away_are_answered_once_it_is_back(hospital: Hospital) -> None:
    study = Scanner(6).study(1)
    redis, node = hospital.site.services["redis"], hospital.site.services["node"]
    begin = node.log.stat().st_size
    hospital.site.stop("redis")
    hospital.send(study)
    wait_until(lambda: show_study(hospital.record, study.study_instance_uid)["jobs"], "the job", 30)
    wait_until(lambda: node.events("dispatch_failed", begin), "a bell that nobody hears", 30)
    assert not hospital.pacs.reports(study.study_instance_uid)
    redis.wanted = True
    hospital.settled(study)
    hospital.assert_answered_once(study)


def test_results_that_the_pacs_sends_back_start_nothing(hospital: Hospital) -> None:
    study = Scanner(6).study(2)
    hospital.send(study)
    held = {one.sop_instance_uid: one for one in hospital.settled(study)}
    before = show_study(hospital.record, study.study_instance_uid)
    back = [pydicom.dcmread(one.path, force=True) for one in held.values()]
    ae = AE("PACS")
    for ds in back:
        ae.add_requested_context(ds.SOPClassUID, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", hospital.site.port, ae_title="HILUM")
    assert [association.send_c_store(ds).Status for ds in back] == [0x0000] * len(back)
    association.release()
    time.sleep(1.5 + 3)  # the quiet time, and a few turns: whatever would start has started
    assert show_study(hospital.record, study.study_instance_uid) == before
    hospital.assert_answered_once(study)


def test_a_late_image_leads_to_a_new_report_that_names_the_one_before(hospital: Hospital) -> None:
    study = Scanner(6).study(3, late=1)
    hospital.send(study)
    (first,) = {one.sop_instance_uid for one in hospital.settled(study) if one.modality == "SR"}
    study.images = [*study.images, *study.late]
    hospital.send(study)
    wait_until(lambda: len(hospital.pacs.reports(study.study_instance_uid)) == 2, "the second report", 60)
    reports = hospital.pacs.reports(study.study_instance_uid)
    (second,) = set(reports) - {first}
    assert reports[second].predecessors() == {first}
    hospital.settled(study)
    hospital.assert_answered_once(study)
