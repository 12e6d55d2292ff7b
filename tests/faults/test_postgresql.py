"""PostgreSQL is killed with all its processes, and restarted: Hilum continues without help."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest

from tests.faults.conftest import Hospital, hospital_in
from tests.faults.pacs import OUT_OF_RESOURCES
from tests.faults.senders import Scanner, Senders, send_once
from tests.services import postgres_cluster, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.node]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with (
        postgres_cluster() as postgres,
        hospital_in(tmp_path_factory.mktemp("postgresql"), postgres=postgres) as there,
    ):
        yield there


@pytest.fixture(autouse=True)
def _nobody_else_ends(hospital: Hospital) -> Iterator[None]:
    others = [service for name, service in hospital.site.services.items() if name != "postgresql"]
    before = [service.starts for service in others]
    yield
    assert [service.starts for service in others] == before


def test_senders_keep_their_copies_while_postgresql_is_away(hospital: Hospital) -> None:
    before, meanwhile = Scanner(31).study(1), Scanner(31).study(2)
    hospital.send(before)
    postgresql = hospital.site.services["postgresql"]
    postgresql.wanted = False
    postgresql.kill()
    assert set(send_once(hospital.site.port, meanwhile)) == {OUT_OF_RESOURCES}
    postgresql.wanted = True
    wait_until(hospital.site.ready, "PostgreSQL", 30)
    hospital.send(meanwhile)
    for study in (before, meanwhile):
        hospital.settled(study)
    hospital.assert_answered_once(before, meanwhile)


def test_senders_are_told_while_postgresql_hangs(hospital: Hospital) -> None:
    study = Scanner(33).study(1, late=11)  # one image at first: each takes half a minute
    server = psutil.Process(hospital.site.services["postgresql"].pid)
    hanging = [server, *server.children()]
    for process in hanging:
        process.suspend()
    try:
        assert set(send_once(hospital.site.port, study)) == {OUT_OF_RESOURCES}
    finally:
        for process in hanging:
            process.resume()
    study.images, study.late = study.images + study.late, []
    hospital.send(study)
    hospital.settled(study)
    hospital.assert_answered_once(study)


def test_what_is_acknowledged_while_postgresql_dies_is_kept_and_answered(hospital: Hospital) -> None:
    studies = [Scanner(32).study(number) for number in range(8)]
    senders = Senders(hospital.site.port, 4)
    for study in studies:
        senders.put(study)
    for _ in range(3):
        time.sleep(0.5)  # while studies are received
        hospital.site.kill_until_ready("postgresql")
    wait_until(senders.idle, "the senders", 60)
    senders.close()
    for study in studies:
        hospital.settled(study)
    hospital.assert_answered_once(*studies)
