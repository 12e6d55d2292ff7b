"""Storage commitment against PACS that report at once, later, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, SegmentationStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time
from sqlalchemy import Connection, Engine, update
from structlog.testing import capture_logs

from dicom_node.deliver.commitment import STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE, Commitments, Request, ask
from dicom_node.deliver.destination import verify
from dicom_node.deliver.outbox import Outbox, retry_pause
from dicom_node.dispatch.jobs import Jobs
from dicom_node.errors import PassingFailure
from dicom_node.record.database import reading
from dicom_node.record.retention import Retention
from dicom_node.record.schema import deliveries, instances, studies
from dicom_node.request.association import open_association
from dicom_node.settings import (
    DeliverySettings,
    Destination,
    JobSettings,
    NodeSettings,
    Settings,
    StorageSettings,
)
from dicom_node.study import DeliveryState, Ending, JobState, StudyState
from tests.dicom_node.delivering import deliverer_of, write_results
from tests.dicom_node.pacs import serving
from tests.dicom_node.receiving import listening
from tests.dicom_node.recording import (
    STUDY,
    Clock,
    claimed,
    finish_study,
    make_job,
    opened,
    results_of,
    revise_study,
    rows,
)
from tests.services import wait_until

pytestmark = pytest.mark.node

ALL, FAILURES_EXIST = 1, 2
"""Event Type IDs (PS3.4 J.3.3.1)."""
NO_SUCH_OBJECT = 0x0112
SETTINGS = DeliverySettings(first_retry_seconds=10, network_timeout_seconds=5)


class PACS:
    """Takes every object; ``report`` is called for each request for storage commitment."""

    def __init__(self, report: Callable[[PACS, evt.Event], None]) -> None:
        self.port = 0
        self.report = report
        self.taken: list[str] = []
        self.asked: list[Dataset] = []
        self.statuses: list[int | None] = []
        self.answer = 0x0000

    def on_store(self, event: evt.Event) -> int:
        self.taken.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def on_action(self, event: evt.Event) -> tuple[int, None]:
        self.asked.append(event.action_information)
        threading.Timer(0.1, self.report, (self, event)).start()
        return self.answer, None

    @property
    def settings(self) -> Settings:
        destination = Destination(
            name="PACS", ae_title="PACS", host="127.0.0.1", port=self.port, storage_commitment=True
        )
        return Settings.model_construct(node=NodeSettings(), delivery=SETTINGS, destinations=(destination,))


@contextmanager
def pacs(report: Callable[[PACS, evt.Event], None], *, offers: bool = True, also: str = "") -> Iterator[PACS]:
    running, ae = PACS(report), AE("PACS")
    for sop_class in (SegmentationStorage, ComprehensiveSRStorage):
        ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
    for service in [str(STORAGE_COMMITMENT)] * offers + [also] * bool(also):
        ae.add_supported_context(service)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_C_STORE, running.on_store),
        (evt.EVT_N_ACTION, running.on_action),
    ]
    with serving(ae, handlers) as running.port:
        yield running


def report_on(asked: Dataset, missing: int = 0) -> tuple[Dataset, int]:
    """Return a report that promises all objects except the first ``missing``, and its event type."""
    ds = Dataset()
    ds.TransactionUID = asked.TransactionUID
    ds.ReferencedSOPSequence = list(asked.ReferencedSOPSequence)[missing:]
    if missing:
        ds.FailedSOPSequence = list(asked.ReferencedSOPSequence)[:missing]
        for item in ds.FailedSOPSequence:
            item.FailureReason = NO_SUCH_OBJECT
    return ds, FAILURES_EXIST if missing else ALL


def at_once(peer: PACS, event: evt.Event) -> None:
    """Report on the association on which the request came."""
    ds, kind = report_on(peer.asked[-1])
    status, _ = event.assoc.send_n_event_report(ds, kind, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
    peer.statuses.append(status.get("Status"))


def never(_peer: PACS, _event: evt.Event) -> None:
    """Send no report."""


def report_later(port: int, peer: PACS, missing: int = 0) -> int | None:
    """Report on an association that the PACS opens; return the status of the answer."""
    ae = AE("PACS")
    ae.add_requested_context(STORAGE_COMMITMENT)
    role = build_role(STORAGE_COMMITMENT, scp_role=True)
    association = ae.associate("127.0.0.1", port, ae_title="HILUM", ext_neg=[role])
    assert association.is_established
    assert association.accepted_contexts[0].as_scp
    ds, kind = report_on(peer.asked[-1], missing)
    status, _ = association.send_n_event_report(ds, kind, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
    association.release()
    found: int | None = status.get("Status")
    return found


@pytest.fixture
def record(sqlite_record: Engine, tmp_path: Path) -> Engine:
    """A record in whose outbox a segmentation and a report wait."""
    write_results(tmp_path / "results", STUDY)
    finish_study(sqlite_record, folder=tmp_path / "results")
    return sqlite_record


def turn(record: Engine, peer: PACS) -> None:
    """Send due deliveries, and ask for storage commitment."""
    deliverer_of(record, peer.settings).turn(peer.settings.destinations[0], threading.Event())


def committed(record: Engine) -> list[bool]:
    return [row["committed_at"] is not None for row in rows(record, deliveries)]


def test_a_report_on_the_same_association_is_heard(record: Engine) -> None:
    with pacs(at_once) as peer:
        turn(record, peer)
        wait_until(lambda: peer.statuses, "the report", 5)
    (asked,) = peer.asked
    assert [item.ReferencedSOPInstanceUID for item in asked.ReferencedSOPSequence] == peer.taken
    assert peer.statuses == [0x0000]
    assert committed(record) == [True, True]


def test_a_report_that_comes_later_on_an_association_of_the_pacs_is_heard(record: Engine, tmp_path: Path) -> None:
    with (
        pacs(never) as peer,
        pytest.MonkeyPatch.context() as patched,
        listening(record, tmp_path / "storage") as port,
    ):
        patched.setattr("dicom_node.deliver.commitment.SAME_ASSOCIATION_SECONDS", 0.1)
        turn(record, peer)
        assert committed(record) == [False, False]
        assert report_later(port, peer) == 0x0000
        assert report_later(port, peer) == 0x0000  # reported twice
    assert committed(record) == [True, True]


def test_what_a_pacs_does_not_keep_is_sent_again(
    record: Engine, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.deliver.commitment.SAME_ASSOCIATION_SECONDS", 0.1)
    with (
        pacs(never) as peer,
        listening(record, tmp_path / "storage") as port,
    ):
        turn(record, peer)
        report_later(port, peer, missing=1)
        assert committed(record) == [False, True]
        row = rows(record, deliveries)[0]
        assert row["state"] == DeliveryState.PENDING
        assert "does not keep it (failure reason 0x0112)" in str(row["message"])
        clock.pass_(60)
        turn(record, peer)
        assert [str(item.ReferencedSOPInstanceUID) for item in peer.asked[-1].ReferencedSOPSequence] == peer.taken[:1]
        report_later(port, peer)
    assert peer.taken == [peer.taken[0], peer.taken[1], peer.taken[0]]
    assert committed(record) == [True, True]


def test_a_pacs_that_does_not_report_is_asked_again_after_a_while(
    record: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.deliver.commitment.SAME_ASSOCIATION_SECONDS", 0.1)
    with pacs(never) as peer:
        for _ in range(3):
            turn(record, peer)
        assert len(peer.asked) == 1
        clock.pass_(SETTINGS.commitment_retry_seconds)
        turn(record, peer)
    first, second = peer.asked
    assert first.TransactionUID != second.TransactionUID


def test_a_pacs_without_storage_commitment_gets_everything_all_the_same(record: Engine) -> None:
    with pacs(never, offers=False) as peer:
        turn(record, peer)
    assert len(peer.taken) == 2
    assert [row["state"] for row in rows(record, deliveries)] == [DeliveryState.SENT] * 2
    assert committed(record) == [False, False]


@pytest.mark.parametrize("asked", [True, False])
def test_a_check_says_that_a_pacs_offers_no_storage_commitment_if_it_is_to_be_asked(asked: bool) -> None:
    with pacs(never, offers=False, also=Verification) as peer:
        destination = peer.settings.destinations[0].model_copy(update={"storage_commitment": asked})
        if asked:
            with pytest.raises(PassingFailure, match="PACS does not offer storage commitment"):
                verify(destination, peer.settings)
        else:
            assert verify(destination, peer.settings).endswith("answers C-ECHO")


def test_a_refused_request_is_a_warning_in_the_log(record: Engine) -> None:
    with pacs(never) as peer, capture_logs() as said:
        peer.answer = 0x0213
        turn(record, peer)
    (told,) = [entry for entry in said if entry["event"].startswith("commitment")]
    assert (told["event"], told["log_level"], told["status"]) == ("commitment_refused", "warning", 0x0213)


def test_a_destination_is_not_asked_unless_the_settings_say_so(record: Engine) -> None:
    with pacs(never) as peer:
        destination = peer.settings.destinations[0].model_copy(update={"storage_commitment": False})
        deliverer_of(record, peer.settings).turn(destination, threading.Event())
    assert len(peer.taken) == 2
    assert peer.asked == []


def test_a_pacs_that_hangs_up_before_it_is_asked_has_not_answered(record: Engine) -> None:
    service = str(STORAGE_COMMITMENT), str(ImplicitVRLittleEndian)
    with (
        pacs(never) as peer,
        open_association(peer.settings.destinations[0], peer.settings, [service], timeout_seconds=2) as association,
    ):
        association.abort()
        assert ask(association, Request("2.25.1", ()), Commitments(record, SETTINGS)) is None


def test_what_was_sent_of_a_study_that_was_removed_is_not_asked_for(record: Engine, tmp_path: Path) -> None:
    later = results_of("1.2.4", tmp_path / "later")
    queue = Jobs(record, JobSettings())
    job = claimed(queue, make_job(record, study="1.2.4"))
    queue.finish(job, Ending(JobState.DONE), later, ("PACS",))
    with record.begin() as connection:
        connection.execute(update(deliveries).values(state=DeliveryState.SENT, sent_at=0.0))
        connection.execute(update(studies).values(state=StudyState.SELECTED))
        connection.execute(update(instances).values(stored_at=0.0))
    storage = StorageSettings(folder=tmp_path / "storage")
    assert Retention(record, Settings.model_construct(storage=storage, destinations=())).remove("1.2.3")

    commitments = Commitments(record, SETTINGS)
    asked = commitments.begin("PACS")
    assert asked is not None
    assert [uid for _, uid in asked.references] == [result.sop_instance_uid for result in later]
    assert commitments.begin("PACS") is None


def send_all(outbox: Outbox) -> None:
    """Send what is due; a rejection note is only once its report was sent."""
    token, due = outbox.claim("PACS")
    while due:
        for delivery in due:
            outbox.sent(token, delivery, 0x0000)
        token, due = outbox.claim("PACS")


def report_missing(request: Request, count: int) -> Dataset:
    """Return a report of a PACS that keeps none of the first few objects."""
    ds = Dataset()
    ds.TransactionUID = request.transaction_uid
    ds.FailedSOPSequence = []
    for _, sop_instance_uid in request.references[:count]:
        item = Dataset()
        item.ReferencedSOPInstanceUID, item.FailureReason = sop_instance_uid, NO_SUCH_OBJECT
        ds.FailedSOPSequence.append(item)
    return ds


def states(record: Engine) -> list[object]:
    return [row["state"] for row in rows(record, deliveries)]


def test_what_a_note_has_withdrawn_is_not_asked_for(sqlite_record: Engine) -> None:
    outbox = Outbox(sqlite_record, SETTINGS)
    finish_study(sqlite_record)
    send_all(outbox)
    newer = revise_study(sqlite_record)
    send_all(outbox)
    asked = Commitments(sqlite_record, SETTINGS).begin("PACS")
    assert asked is not None
    assert [uid for _, uid in asked.references] == [result.sop_instance_uid for result in newer]


def test_what_a_note_withdraws_while_a_report_is_awaited_is_not_sent_again(sqlite_record: Engine) -> None:
    outbox, commitments = Outbox(sqlite_record, SETTINGS), Commitments(sqlite_record, SETTINGS)
    finish_study(sqlite_record)
    send_all(outbox)
    asked = commitments.begin("PACS")
    assert asked is not None
    revise_study(sqlite_record)
    send_all(outbox)
    commitments.settle(report_missing(asked, 2))
    assert states(sqlite_record) == [DeliveryState.SENT] * 4


def test_what_a_note_withdraws_at_the_moment_of_a_report_is_not_sent_again(
    record_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(record_url) as record, ThreadPoolExecutor() as pool:
        outbox, commitments = Outbox(record, SETTINGS), Commitments(record, SETTINGS)
        finish_study(record)
        send_all(outbox)
        asked = commitments.begin("PACS")
        assert asked is not None
        revise_study(record)
        token, (report,) = outbox.claim("PACS")
        outbox.sent(token, report, 0x0000)
        token, (note,) = outbox.claim("PACS")
        pauses = 0

        def pause(settings: DeliverySettings, attempts: int) -> float:
            nonlocal pauses
            pauses += 1
            if pauses == 2:  # the first object's row is changed, the transaction not committed
                wait([pool.submit(outbox.sent, token, note, 0x0000)], timeout=0.5)
            return retry_pause(settings, attempts)

        monkeypatch.setattr("dicom_node.deliver.commitment.retry_pause", pause)
        commitments.settle(report_missing(asked, 2))
        pool.shutdown()
        assert DeliveryState.PENDING not in states(record)


def test_two_processes_that_look_at_once_do_not_both_ask(record: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with record.begin() as connection:
        connection.execute(update(deliveries).values(state=DeliveryState.SENT))
    others: list[Request | None] = []

    @contextmanager
    def slowly(engine: Engine) -> Iterator[Connection]:
        with reading(engine) as connection:
            yield connection
        monkeypatch.undo()
        others.append(Commitments(record, SETTINGS).begin("PACS"))

    monkeypatch.setattr("dicom_node.deliver.commitment.reading", slowly)
    assert Commitments(record, SETTINGS).begin("PACS") is None
    (other,) = others
    assert other is not None
    assert len(other.references) == 2


def test_a_report_on_a_transaction_nobody_began_changes_nothing(record: Engine) -> None:
    ds = Dataset()
    ds.TransactionUID = "1.2.3"
    with pacs(never) as peer:
        turn(record, peer)
    before = rows(record, deliveries)
    Commitments(record, SETTINGS).settle(ds)
    assert rows(record, deliveries) == before
