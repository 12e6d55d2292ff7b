"""What Hilum depends on: a broker that is away."""

from __future__ import annotations

import pytest

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
