"""A site that the tests share: each test sends its own studies, and repairs what it broke."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dicom_node.errors import NotForHilum
from dicom_node.record.studies import show_study
from dicom_node.study import FINAL_JOB_STATES
from tests.dicom_node.recording import opened
from tests.faults.clock import Clock
from tests.faults.pacs import BrokenPACS, BrokenService, Held
from tests.faults.senders import Study, send_once
from tests.faults.site import Service, Site, site
from tests.faults.verdict import judge
from tests.services import PostgresServer, wait_until


@dataclass
class Hospital:
    """A site, its PACS and DICOMweb service, and its record."""

    site: Site
    pacs: BrokenPACS
    service: BrokenService
    record: Engine

    def send(self, study: Study) -> None:
        """Send a study; all its images must be acknowledged at once."""
        assert set(send_once(self.site.port, study)) == {0x0000}

    def is_settled(self, study: Study) -> bool:
        """Whether a study was answered and all its results were delivered."""
        try:
            shown = show_study(self.record, study.study_instance_uid)
        except NotForHilum:  # none of its images is recorded yet
            return False
        if not shown["jobs"] or any(job["state"] not in FINAL_JOB_STATES for job in shown["jobs"]):
            return False
        return not shown["deliveries"]["pending"] and not shown["deliveries"]["rejected"]

    def worker_at(self, study: Study, attempt: int = 1) -> Service:
        """Wait until a worker has begun an attempt at a study; return this worker."""

        def worker() -> Service | None:
            for name in ("worker-1", "worker-2"):
                for event in self.site.services[name].events("job_started"):
                    if event["study_instance_uid"] == study.study_instance_uid and event["attempt"] == attempt:
                        return self.site.services[name]
            return None

        found: Service = wait_until(worker, f"attempt {attempt}", 60)
        return found

    def settled(self, study: Study, seconds: float = 90) -> list[Held]:
        """Wait until a study was answered and all its results were delivered; return the objects the PACS received."""
        wait_until(lambda: self.is_settled(study), "the answer", seconds)
        return [held for held in self.pacs.came if held.study_instance_uid == study.study_instance_uid]

    def assert_answered_once(self, *studies: Study) -> None:
        """Assert, for these studies, that what both destinations received fits what the senders were told."""
        uids = {study.study_instance_uid for study in studies}
        for destination in (self.pacs, self.service):
            came = [held for held in destination.came if held.study_instance_uid in uids]
            verdict = judge(studies, came, self.record, str(destination.destination["name"]))
            assert verdict.clean, verdict


@contextmanager
def hospital_in(
    folder: Path,
    *,
    postgres: PostgresServer | None = None,
    clock: Clock | None = None,
    commitment: bool = False,
    **environment: str,
) -> Iterator[Hospital]:
    """Run Redis, node, delivery and two workers, with a PACS and a DICOMweb service that can be broken."""
    url = postgres.url("postgres") if postgres else f"sqlite:///{folder}/record.sqlite3"
    services = ("redis", "node", "deliver", "worker-1", "worker-2")
    with BrokenPACS(folder / "pacs") as pacs, BrokenService(folder / "service") as service:
        destinations = [pacs.destination | {"storage_commitment": commitment}, service.destination]
        with (
            site(folder / "site", url, destinations, services, postgres=postgres, clock=clock, **environment) as there,
            opened(url) as record,
        ):
            yield Hospital(there, pacs, service, record)


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """The hospital that most tests share."""
    with hospital_in(tmp_path_factory.mktemp("hospital")) as there:
        yield there
