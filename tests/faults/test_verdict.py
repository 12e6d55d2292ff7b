"""The checker finds every kind of fault that it is made for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import Engine

from dicom_node.deliver.outbox import Outbox
from dicom_node.dispatch.jobs import Jobs
from dicom_node.record.database import open_database
from dicom_node.settings import DeliverySettings, JobSettings
from dicom_node.study import Ending, JobState
from tests.dicom_node.recording import STORAGE, make_job, results_of
from tests.faults.document import write_documents
from tests.faults.pacs import Held, Mood
from tests.faults.senders import Study
from tests.faults.storm import Storm
from tests.faults.verdict import Verdict, judge

STUDY = "1.2.3"
IMAGES = {"1.2.3.1.0", "1.2.3.1.1"}


@pytest.fixture
def record(sqlite_url: str) -> Engine:
    return open_database(sqlite_url, STORAGE)


class PACS:
    """Makes objects as the checker gets them from a PACS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.came: list[Held] = []

    def take(
        self, uid: str, refers_to: set[str], *, instead_of: str = "", content: str = "a", kind: str = "SR"
    ) -> None:
        ds = Dataset()
        ds.SOPInstanceUID = uid
        ds.ReferencedInstanceSequence = [reference(one) for one in sorted(refers_to)]
        if instead_of:
            document = Dataset()
            document.ReferencedSOPSequence = [reference(instead_of)]
            ds.PredecessorDocumentsSequence = [document]
        path = self.folder / f"{uid}-{content}.dcm"
        ds.save_as(path, implicit_vr=True, little_endian=True)
        self.came.append(Held(STUDY, uid, kind, f"Hilum {kind}", content, path))


def reference(uid: str) -> Dataset:
    ds = Dataset()
    ds.ReferencedSOPInstanceUID = uid
    return ds


@pytest.fixture
def pacs(tmp_path: Path) -> PACS:
    return PACS(tmp_path)


def verdict(pacs: PACS, record: Engine, acknowledged: set[str] = IMAGES) -> Verdict:
    return judge([Study(STUDY, [], acknowledged=set(acknowledged))], pacs.came, record)


def finish(record: Engine) -> None:
    queue = Jobs(record, JobSettings())
    job = queue.claim(make_job(record))
    assert job
    queue.finish(job, Ending(JobState.DONE), results_of(), ["PACS"])


def test_one_report_on_all_acknowledged_images_is_what_was_promised(pacs: PACS, record: Engine) -> None:
    pacs.take("9.1", IMAGES)
    pacs.take("9.1", IMAGES)  # resent
    assert verdict(pacs, record).clean


def test_no_report_is_found(pacs: PACS, record: Engine) -> None:
    pacs.take("9.1", IMAGES, kind="SEG")
    assert verdict(pacs, record).unanswered == (STUDY,)


def test_an_image_that_no_report_covers_is_found(pacs: PACS, record: Engine) -> None:
    pacs.take("9.1", {"1.2.3.1.0"})
    assert verdict(pacs, record).lost == (STUDY,)


@pytest.mark.parametrize("kind", ["SR", "SEG"])
def test_a_second_result_is_found(pacs: PACS, record: Engine, kind: str) -> None:
    pacs.take("9.1", IMAGES)
    pacs.take("9.2", IMAGES, kind=kind)
    pacs.take("9.3", IMAGES, kind=kind)
    assert verdict(pacs, record).doubled == (STUDY,)


def test_other_bytes_under_the_same_uid_are_found(pacs: PACS, record: Engine) -> None:
    pacs.take("9.1", IMAGES)
    pacs.take("9.1", IMAGES, content="b")
    assert verdict(pacs, record).changed == ("9.1",)


def test_a_result_that_nobody_asked_for_is_found(pacs: PACS, record: Engine) -> None:
    pacs.take("9.1", set())
    assert verdict(pacs, record, set()).unasked == (STUDY,)


def test_a_later_report_must_name_the_one_before(pacs: PACS, record: Engine) -> None:
    pacs.take("9.1", {"1.2.3.1.0"})
    pacs.take("9.2", IMAGES)
    assert verdict(pacs, record).unchained == (STUDY,)


def test_a_later_report_that_names_the_one_before_is_as_promised(pacs: PACS, record: Engine) -> None:
    pacs.take("9.1", {"1.2.3.1.0"})
    pacs.take("9.2", IMAGES, instead_of="9.1")
    assert verdict(pacs, record).clean


def test_a_job_that_is_not_done_is_found(pacs: PACS, record: Engine) -> None:
    make_job(record)
    pacs.take("9.1", IMAGES)
    assert verdict(pacs, record).stuck == (STUDY,)


def test_a_delivery_that_is_not_sent_is_found(pacs: PACS, record: Engine) -> None:
    finish(record)
    pacs.take("9.1", IMAGES)
    assert verdict(pacs, record).stuck == ("deliveries",)


@pytest.mark.parametrize("never_came", range(2))
def test_a_result_that_the_record_calls_sent_and_that_never_came_is_found(
    pacs: PACS, record: Engine, never_came: int
) -> None:
    finish(record)
    outbox = Outbox(record, DeliverySettings())
    token, due = outbox.claim("PACS")
    for number, delivery in enumerate(due):
        outbox.sent(token, delivery, 0)
        if number != never_came:
            pacs.take(delivery.result.sop_instance_uid, IMAGES)
    assert verdict(pacs, record).missing == (STUDY,)


def test_the_document_says_what_a_storm_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.document.FIGURES", tmp_path / "reliability.json")
    monkeypatch.setattr("tests.faults.document.DOCUMENT", tmp_path / "reliability.md")
    clean = Verdict((), (), (), (), (), (), (), ())
    for database in ("sqlite", "postgresql"):
        storm = Storm(database, 20, Counter(node=2), Counter({Mood.FULL: 2}), verdict=clean)
        storm.recoveries["node"] = [1.0, 2.0]
        write_documents(storm)
    said = (tmp_path / "reliability.md").read_text()
    assert said.count("**20 studies through 2 kills: 0 lost, 0 doubled, 0 unanswered") == 2
