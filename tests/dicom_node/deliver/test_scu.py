"""Delivering to a PACS that takes, warns, rejects, fails or hangs up, as real ones do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt
from sqlalchemy import Engine

from dicom_node.deliver.breaker import FAILURES_TO_OPEN
from dicom_node.deliver.destination import send_files
from dicom_node.deliver.order import TRIES_AHEAD
from dicom_node.deliver.outbox import Outbox
from dicom_node.deliver.outgoing import Outcome, Outgoing
from dicom_node.deliver.scu import MAXIMUM_CONTEXTS, echo, send
from dicom_node.dispatch.jobs import Jobs
from dicom_node.errors import Defect, PassingFailure
from dicom_node.record.schema import deliveries
from dicom_node.settings import (
    JobSettings,
    NodeSettings,
    Settings,
    StorageSettings,
)
from dicom_node.statuses import is_passing, is_success
from dicom_node.study import DeliveryState, Ending, JobState
from tests.dicom_node.delivering import (
    deliver,
    deliverer_of,
    delivery_states,
    finish_study_with_files,
    settings_with_pacs,
    write_results,
)
from tests.dicom_node.pacs import RESULT_CLASSES, StoreAnswer, StoringPACS, storing_pacs
from tests.dicom_node.recording import STUDY, claimed, make_job, results_of, rows
from tests.services import free_port, wait_until

pytestmark = pytest.mark.node


@contextmanager
def stalled(peer: StoringPACS) -> Iterator[None]:
    """Make the PACS stop reading as soon as an object begins to arrive; its connection stays open."""
    stop = threading.Event()
    peer.on_data = lambda event: stop.wait(30) if len(event.data) > 10_000 else None
    try:
        yield
    finally:
        stop.set()


@pytest.fixture
def record(sqlite_record: Engine, tmp_path: Path) -> Engine:
    """A record in whose outbox a segmentation and a report wait."""
    finish_study_with_files(sqlite_record, tmp_path / "results")
    return sqlite_record


def test_results_are_sent_in_order_and_recorded_as_the_pacs_answered(record: Engine) -> None:
    with storing_pacs() as peer:
        deliver(record, settings_with_pacs(peer.port))
        deliver(record, settings_with_pacs(peer.port))
    assert peer.taken == [(result.sop_instance_uid, ExplicitVRLittleEndian) for result in results_of()]
    assert delivery_states(record) == [(DeliveryState.SENT, 0x0000)] * 2


def test_an_association_asks_for_what_the_objects_need_and_no_more(record: Engine) -> None:
    asked: list[list[tuple[str, list[str]]]] = []

    def answer(event: evt.Event) -> int:
        contexts = event.assoc.requestor.requested_contexts
        asked.append([(str(cx.abstract_syntax), [str(syntax) for syntax in cx.transfer_syntax]) for cx in contexts])
        return 0x0000

    with storing_pacs(answer) as peer:
        deliver(record, settings_with_pacs(peer.port))
    syntaxes = ExplicitVRLittleEndian, ImplicitVRLittleEndian
    assert asked == [[(sop_class, [syntax]) for sop_class in RESULT_CLASSES for syntax in syntaxes]] * 2


def test_a_pacs_that_takes_the_default_transfer_syntax_alone_gets_the_results(record: Engine) -> None:
    with storing_pacs(syntaxes=(ImplicitVRLittleEndian,)) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.SENT, 0x0000)] * 2
    assert {syntax for _, syntax in peer.taken} == {ImplicitVRLittleEndian}


def test_a_pacs_that_takes_both_gets_the_results_as_they_are(record: Engine) -> None:
    with storing_pacs(syntaxes=(ImplicitVRLittleEndian, ExplicitVRLittleEndian)) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert {syntax for _, syntax in peer.taken} == {ExplicitVRLittleEndian}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_what_is_converted_to_the_default_transfer_syntax_keeps_its_values(tmp_path: Path, syntax: str) -> None:
    ds, item, private = Dataset(), Dataset(), Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SpecificCharacterSet = SegmentationStorage, "1.2.3", "ISO_IR 192"
    ds.PatientName = "M\u00fcller^Zo\u00eb"
    item.TextValue, item.EncapsulatedDocument = "nested", b"%PDF"  # their lengths have 2 and 4 bytes in Explicit VR
    ds.ContentSequence = [item]
    private.EncapsulatedDocument = b"%PDF"
    block = ds.private_block(0x0099, "HILUM TEST", create=True)
    block.add_new(1, "LO", "text")
    block.add_new(2, "US", [1, 2])
    block.add_new(3, "SQ", [private])
    ds.add_new(0x00091234, "UN", b"\x01\x02\x03\x04")
    ds.BitsAllocated = ds.SamplesPerPixel = 1
    ds.PixelData = bytes(range(256)) * 3
    ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(tmp_path / "seg", enforce_file_format=True)
    came: list[Dataset] = []

    def answer(event: evt.Event) -> int:
        came.append(event.dataset)
        return 0x0000

    answers: list[object] = []
    with storing_pacs(answer, syntaxes=(ImplicitVRLittleEndian,)) as peer:
        settings = settings_with_pacs(peer.port)
        objects = [Outgoing(tmp_path / "seg", SegmentationStorage, syntax)]
        send_files(settings.destinations[0], settings, objects, lambda answer: answers.append(answer.status))
    assert answers == [0x0000]
    (got,) = came
    assert (got.PatientName, got.PixelData, got.BitsAllocated) == (ds.PatientName, ds.PixelData, 1)
    assert got.ContentSequence[0] == item
    assert got[0x00091234].value == b"\x01\x02\x03\x04"
    # Implicit VR does not say what private elements are; their bytes are the same.
    assert got[0x00991001].value == b"text"
    assert got[0x00991002].value == b"\x01\x00\x02\x00"
    assert got[0x00991003].value.endswith(b"\x42\x00\x11\x00" + b"\x04\x00\x00\x00%PDF")


def test_what_is_compressed_is_sent_as_it_is_or_not_at_all(tmp_path: Path) -> None:
    compressed = Outgoing(tmp_path / "never read", SegmentationStorage, RLELossless)
    answers: list[str] = []
    with storing_pacs(syntaxes=(ImplicitVRLittleEndian,)) as peer:
        settings = settings_with_pacs(peer.port)
        send_files(settings.destinations[0], settings, [compressed], lambda answer: answers.append(answer.message))
    assert answers == ["the PACS takes Segmentation Storage, but not in RLE Lossless"]


def test_hilum_calls_by_its_own_ae_title(record: Engine) -> None:
    callers: list[str] = []

    def answer(event: evt.Event) -> int:
        callers.append(event.assoc.requestor.ae_title)
        return 0x0000

    with storing_pacs(answer) as peer:
        settings = settings_with_pacs(peer.port)
        deliver(record, settings.model_copy(update={"node": NodeSettings(ae_title="CHEST")}))
    assert callers == ["CHEST"] * 2


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_means_that_the_instance_was_kept(record: Engine, status: int) -> None:
    with storing_pacs(lambda _: status) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.SENT, status)] * 2


def test_what_the_pacs_holds_already_counts_as_sent(record: Engine) -> None:
    with storing_pacs(lambda _: 0x0111) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.SENT, 0x0111)] * 2


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0122, 0x0124])
def test_a_refusal_is_final(record: Engine, status: int) -> None:
    with storing_pacs(lambda _: status) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.REJECTED, status)] * 2


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0110])
def test_a_pacs_out_of_resources_is_tried_again(record: Engine, status: int) -> None:
    with storing_pacs(lambda _: status) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.PENDING, status)] * 2
    assert {row["attempts"] for row in rows(record, deliveries)} == {1}


def test_instances_are_told_apart(record: Engine) -> None:
    with storing_pacs(
        lambda event: 0xC000 if event.request.AffectedSOPClassUID == SegmentationStorage else 0x0000
    ) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.REJECTED, 0xC000), (DeliveryState.SENT, 0x0000)]


def test_a_class_the_pacs_does_not_know_is_refused_and_the_rest_is_sent(record: Engine) -> None:
    with storing_pacs(classes=(ComprehensiveSRStorage,)) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.REJECTED, 0x0122), (DeliveryState.SENT, 0x0000)]
    assert rows(record, deliveries)[0]["message"] == "the PACS does not take Segmentation Storage"


def test_a_pacs_that_takes_a_class_in_other_transfer_syntaxes_alone_is_said_to_do_so(record: Engine) -> None:
    with storing_pacs(syntaxes=(RLELossless,)) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.REJECTED, 0x0122)] * 2
    assert rows(record, deliveries)[0]["message"] == (
        "the PACS takes Segmentation Storage, but not in Explicit VR Little Endian or Implicit VR Little Endian"
    )


@pytest.mark.parametrize("result", [1, 2])
def test_of_a_pacs_that_rejects_a_context_for_another_reason_no_reason_is_made_up(tmp_path: Path, result: int) -> None:
    rejected = SimpleNamespace(abstract_syntax=SegmentationStorage, result=result)
    association: Any = SimpleNamespace(accepted_contexts=[], rejected_contexts=[rejected])
    answer = send(association, Outgoing(tmp_path / "never read", SegmentationStorage, ExplicitVRLittleEndian))
    assert (answer.outcome, answer.status) == (Outcome.REFUSED, 0x0122)
    assert answer.message == "the PACS rejected the presentation contexts for Segmentation Storage"


def test_a_pacs_that_knows_none_of_our_classes_refuses_them(record: Engine) -> None:
    with storing_pacs(classes=()) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.REJECTED, 0x0122)] * 2


def test_a_pacs_that_is_away_is_tried_again(record: Engine) -> None:
    deliver(record, settings_with_pacs(free_port()))
    assert delivery_states(record) == [(DeliveryState.PENDING, None)] * 2
    assert all("cannot be reached" in str(row["message"]) for row in rows(record, deliveries))


def test_what_failed_together_is_tried_again_together(record: Engine) -> None:
    deliver(record, settings_with_pacs(free_port()))
    assert len({row["due_at"] for row in rows(record, deliveries)}) == 1


def test_a_pacs_that_comes_back_gets_everything_once(record: Engine) -> None:
    port = free_port()
    settings = settings_with_pacs(port, first_retry_seconds=0.01)
    deliver(record, settings)
    with storing_pacs(port=port) as peer:
        wait_until(
            lambda: (deliver(record, settings), delivery_states(record))[1] == [(DeliveryState.SENT, 0)] * 2, "delivery"
        )
    assert len(peer.taken) == 2


def test_a_pacs_that_rejects_us_is_tried_again(record: Engine) -> None:
    ae = AE("PACS")
    ae.add_supported_context(SegmentationStorage)
    ae.require_called_aet = True
    ae.ae_title = "OTHER"
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    try:
        deliver(record, settings_with_pacs(server.server_address[1]))
    finally:
        ae.shutdown()
    assert delivery_states(record) == [(DeliveryState.PENDING, None)] * 2
    message = str(rows(record, deliveries)[0]["message"])
    assert "rejected the association" in message
    assert "Called AE title not recognised" in message


@pytest.mark.parametrize("host", ["pacs.invalid", "pacs..hospital"])
def test_a_pacs_whose_name_leads_nowhere_is_tried_again(record: Engine, host: str) -> None:
    settings = settings_with_pacs(free_port())
    away = settings.destinations[0].model_copy(update={"host": host})
    deliver(record, settings.model_copy(update={"destinations": (away,)}))
    assert delivery_states(record) == [(DeliveryState.PENDING, None)] * 2
    assert "no address" in str(rows(record, deliveries)[0]["message"])


def test_a_pacs_that_aborts_before_it_answers_is_tried_again(record: Engine) -> None:
    def answer(event: evt.Event) -> int:
        event.assoc.abort()
        return 0x0000

    with storing_pacs(answer) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.PENDING, None)] * 2


def test_a_pacs_that_hangs_up_is_not_waited_for(record: Engine) -> None:
    def answer(event: evt.Event) -> int:
        event.assoc.abort()
        return 0x0000

    with storing_pacs(answer) as peer:
        started = time.monotonic()
        deliver(record, settings_with_pacs(peer.port, network_timeout_seconds=20))
    assert time.monotonic() - started < 10


def test_what_was_taken_before_an_abort_is_not_sent_again(record: Engine) -> None:
    def answer(event: evt.Event) -> int:
        if event.request.AffectedSOPClassUID == ComprehensiveSRStorage:
            event.assoc.abort()
        return 0x0000

    with storing_pacs(answer) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.SENT, 0x0000), (DeliveryState.PENDING, None)]


def hang_up_on(*sop_instance_uids: str) -> StoreAnswer:
    """Return the answer of a PACS that ends the association at certain objects and takes all others."""

    def answer(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID in sop_instance_uids:
            event.assoc.abort()
        return 0x0000

    return answer


def test_objects_on_which_the_pacs_hangs_up_hold_up_no_other_study(sqlite_record: Engine, tmp_path: Path) -> None:
    studies = [f"1.2.{number}" for number in range(FAILURES_TO_OPEN + 1)]
    for study in studies:
        finish_study_with_files(sqlite_record, tmp_path / study, study)
    with storing_pacs(hang_up_on(*(results_of(study)[0].sop_instance_uid for study in studies[:-1]))) as peer:
        deliver(sqlite_record, settings_with_pacs(peer.port))
    assert delivery_states(sqlite_record) == [(DeliveryState.PENDING, None)] * 6 + [(DeliveryState.SENT, 0x0000)] * 2


def test_after_eight_attempts_an_object_on_which_the_pacs_hangs_up_does_not_hold_up_the_rest_of_its_answer(
    record: Engine,
) -> None:
    with record.begin() as connection:
        connection.execute(deliveries.update().values(attempts=TRIES_AHEAD))
    with storing_pacs(hang_up_on(results_of()[0].sop_instance_uid)) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.PENDING, None), (DeliveryState.SENT, 0x0000)]


def test_a_second_answer_of_a_job_arrives_though_the_pacs_hangs_up_on_its_first(
    sqlite_record: Engine, tmp_path: Path
) -> None:
    """`hilum retry` measures a study whose job was given up and reported as such."""
    queue, job_id = Jobs(sqlite_record, JobSettings(maximum_attempts=1)), make_job(sqlite_record)
    first, second = "1.2.3.1", "1.2.3.2"
    for answer in (first, second):
        write_results(tmp_path / answer, answer)
    queue.give_back(claimed(queue, job_id), "defect", "it broke")
    queue.finish(claimed(queue, job_id), Ending(JobState.REFUSED), results_of(first, tmp_path / first)[:1], ("PACS",))
    assert queue.retry(STUDY) == 1
    queue.finish(claimed(queue, job_id), Ending(JobState.DONE), results_of(second, tmp_path / second), ("PACS",))
    with sqlite_record.begin() as connection:
        connection.execute(deliveries.update().values(attempts=TRIES_AHEAD))
    with storing_pacs(hang_up_on(results_of(first)[0].sop_instance_uid)) as peer:
        deliver(sqlite_record, settings_with_pacs(peer.port))
    assert delivery_states(sqlite_record) == [(DeliveryState.PENDING, None), *[(DeliveryState.SENT, 0x0000)] * 2]


def test_a_pacs_that_hangs_up_between_two_instances_is_tried_again(
    record: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung_up = threading.Event()

    def answer(event: evt.Event) -> int:
        def hang_up() -> None:
            event.assoc.abort()
            hung_up.set()

        threading.Timer(0.2, hang_up).start()
        return 0x0000

    with storing_pacs(answer) as peer:
        settings = settings_with_pacs(peer.port)
        sent = Outbox.sent

        def sent_then_wait(*arguments: Any) -> bool:
            done = sent(*arguments)
            hung_up.wait(5)
            return done

        monkeypatch.setattr(Outbox, "sent", sent_then_wait)  # the PACS hangs up before the next one
        deliverer_of(record, settings).deliver(settings.destinations[0], threading.Event())
    assert delivery_states(record) == [(DeliveryState.SENT, 0x0000), (DeliveryState.PENDING, None)]


def test_a_clock_set_forward_ends_no_delivery(record: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    true_time = time.time

    def answer(_: evt.Event) -> int:
        monkeypatch.setattr(time, "time", lambda: true_time() + 5 * 3600.0)
        time.sleep(0.2)  # long enough for pynetdicom to look at the association's timers
        return 0x0000

    with storing_pacs(answer) as peer:
        deliver(record, settings_with_pacs(peer.port))
    assert delivery_states(record) == [(DeliveryState.SENT, 0x0000)] * 2


def test_a_pacs_that_never_answers_is_left_and_tried_again(record: Engine) -> None:
    stop = threading.Event()

    def answer(_: evt.Event) -> int:
        stop.wait(10)
        return 0x0000

    with storing_pacs(answer) as peer:
        deliver(record, settings_with_pacs(peer.port, network_timeout_seconds=0.5))
        stop.set()
    assert delivery_states(record)[0] == (DeliveryState.PENDING, None)


def write_large(path: Path, size: int) -> Outgoing:
    """Write an object that is larger than what the buffers of both sockets hold."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SegmentationStorage, "1.2.3"
    ds.PixelData = bytes(size)
    ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return Outgoing(path, SegmentationStorage, ExplicitVRLittleEndian)


def test_a_pacs_that_reads_slowly_gets_an_object_that_takes_longer_than_its_answer_may(tmp_path: Path) -> None:
    read, answers = 0, list[Outcome]()

    def slowly(event: evt.Event) -> None:
        nonlocal read
        before, read = read, read + len(event.data)
        if before >> 20 < read >> 20:
            time.sleep(0.2)

    large = write_large(tmp_path / "large", 24 * 2**20)
    with storing_pacs() as peer:
        peer.on_data = slowly
        settings = settings_with_pacs(peer.port, network_timeout_seconds=3)
        send_files(settings.destinations[0], settings, [large], lambda answer: answers.append(answer.outcome))
    assert answers == [Outcome.TAKEN]


def test_a_pacs_that_stops_reading_in_mid_object_is_left_and_tried_again(tmp_path: Path) -> None:
    large, failures = write_large(tmp_path / "large", 40 * 2**20), list[str]()

    def send_it() -> None:
        with pytest.raises(PassingFailure) as caught:
            send_files(settings.destinations[0], settings, [large], lambda _: None)
        failures.append(caught.value.code)

    with storing_pacs() as peer, stalled(peer):
        settings = settings_with_pacs(peer.port, network_timeout_seconds=0.5)
        sending = threading.Thread(target=send_it, daemon=True)
        sending.start()
        sending.join(10)
        assert failures == ["association-lost"]


def test_each_destination_is_served_whatever_becomes_of_the_others(sqlite_record: Engine, tmp_path: Path) -> None:
    finish_study_with_files(sqlite_record, tmp_path / "results", destinations=("PACS", "ARCHIVE"))
    with storing_pacs() as peer:
        deliver(sqlite_record, settings_with_pacs(free_port(), peer.port))
    assert len(peer.taken) == 2
    assert {(row["destination"], row["state"]) for row in rows(sqlite_record, deliveries)} == {
        ("PACS", DeliveryState.PENDING),
        ("ARCHIVE", DeliveryState.SENT),
    }


@pytest.mark.parametrize("harm", ["gone", "empty", "cut off"])
def test_a_result_that_cannot_be_read_holds_up_no_other(sqlite_record: Engine, tmp_path: Path, harm: str) -> None:
    finish_study_with_files(sqlite_record, tmp_path / "a", "1.2.1")
    finish_study_with_files(sqlite_record, tmp_path / "b", "1.2.2")
    broken = results_of("1.2.1", tmp_path / "a")[0].path
    if harm == "gone":
        broken.unlink()
    else:
        broken.write_bytes(b"" if harm == "empty" else broken.read_bytes()[:200])
    with storing_pacs() as peer:
        deliver(sqlite_record, stored_in(tmp_path / "not mounted", settings_with_pacs(peer.port)))
    states = [row["state"] for row in rows(sqlite_record, deliveries)]
    assert states == [DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.SENT, DeliveryState.SENT]


def stored_in(folder: Path, settings: Settings) -> Settings:
    return settings.model_copy(update={"storage": StorageSettings(folder=folder)})


def test_a_result_whose_file_is_gone_from_the_storage_is_given_up(sqlite_record: Engine, tmp_path: Path) -> None:
    finish_study_with_files(sqlite_record, tmp_path / "results")
    gone = results_of(folder=tmp_path / "results")[0].path
    kept = gone.read_bytes()
    gone.unlink()
    with storing_pacs() as peer:
        settings = stored_in(tmp_path, settings_with_pacs(peer.port))
        deliver(sqlite_record, settings)
        assert delivery_states(sqlite_record) == [(DeliveryState.REJECTED, None), (DeliveryState.SENT, 0x0000)]
        assert "gone" in str(rows(sqlite_record, deliveries)[0]["message"])
        gone.write_bytes(kept)
        assert Outbox(sqlite_record, settings.delivery).resend() == 1
        deliver(sqlite_record, settings)
    assert delivery_states(sqlite_record) == [(DeliveryState.SENT, 0x0000)] * 2


def test_two_deliverers_send_each_result_once(sqlite_record: Engine, tmp_path: Path) -> None:
    for number in range(5):
        finish_study_with_files(sqlite_record, tmp_path / str(number), f"1.2.{number}")
    with storing_pacs() as peer:
        threads = [
            threading.Thread(target=deliver, args=(sqlite_record, settings_with_pacs(peer.port))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(peer.taken) == len(set(peer.taken)) == 10


def test_stopping_does_not_wait_for_a_pacs_that_is_slow(sqlite_record: Engine, tmp_path: Path) -> None:
    """Else SIGTERM is followed by SIGKILL, and claimed deliveries wait until their lease expires."""
    for number in range(10):
        finish_study_with_files(sqlite_record, tmp_path / str(number), f"1.2.{number}")
    stop = threading.Event()

    def answer(_: evt.Event) -> int:
        stop.set()
        return 0x0000

    with storing_pacs(answer) as peer:
        settings = settings_with_pacs(peer.port)
        deliverer_of(sqlite_record, settings).run(stop)
    assert len(peer.taken) < 20
    due = Outbox(sqlite_record, settings.delivery).claim("PACS")[1]
    assert len(due) == 20 - len(peer.taken)


def test_c_echo_verifies_a_peer() -> None:
    with storing_pacs() as peer:
        settings = settings_with_pacs(peer.port)
        echo(settings.destinations[0], settings)


def test_c_echo_of_nobody_is_a_passing_failure_that_names_the_peer() -> None:
    settings = settings_with_pacs(free_port())
    with pytest.raises(PassingFailure, match=r"PACS at 127\.0\.0\.1:\d+\) cannot be reached"):
        echo(settings.destinations[0], settings)


def test_c_echo_of_a_peer_without_verification_is_a_passing_failure() -> None:
    ae = AE("PACS")
    ae.add_supported_context(SegmentationStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    settings = settings_with_pacs(server.server_address[1])
    try:
        with pytest.raises(PassingFailure, match="does not answer C-ECHO"):
            echo(settings.destinations[0], settings)
    finally:
        ae.shutdown()


def test_a_status_is_success_or_passing_or_final() -> None:
    assert not [status for status in range(0x10000) if is_success(status) and is_passing(status)]
    assert [status for status in range(0x10000) if is_success(status)] == [0x0000, 0x0111, 0xB000, 0xB006, 0xB007]


def test_more_contexts_than_an_association_holds_take_several(sqlite_record: Engine, tmp_path: Path) -> None:
    classes = tuple(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
    objects = []
    for sop_class in classes:
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = sop_class, f"{sop_class}.1"
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(tmp_path / sop_class, enforce_file_format=True)
        objects.append(Outgoing(tmp_path / sop_class, sop_class, ExplicitVRLittleEndian))
    answers: list[int | None] = []
    with storing_pacs(classes=classes) as peer:
        settings = settings_with_pacs(peer.port)
        send_files(settings.destinations[0], settings, objects, lambda answer: answers.append(answer.status))
    assert len(classes) > MAXIMUM_CONTEXTS
    assert answers == [0x0000] * len(classes)
    assert [sop_instance_uid for sop_instance_uid, _ in peer.taken] == [f"{sop_class}.1" for sop_class in classes]


def test_a_pacs_that_is_away_is_left_alone_after_three_attempts(sqlite_record: Engine, tmp_path: Path) -> None:
    for number in range(6):
        finish_study_with_files(sqlite_record, tmp_path / str(number), f"1.2.{number}")
    deliver(sqlite_record, settings_with_pacs(free_port()))
    tried = [row["attempts"] for row in rows(sqlite_record, deliveries)]
    assert tried == [1] * 6 + [0] * 6
    assert not any(row["lease_token"] for row in rows(sqlite_record, deliveries))


def test_once_a_pacs_is_back_all_that_waited_for_it_is_due_at_once(sqlite_record: Engine, tmp_path: Path) -> None:
    port = free_port()
    settings = settings_with_pacs(port, first_retry_seconds=0.2, longest_retry_seconds=1000)
    for number in range(5):
        finish_study_with_files(sqlite_record, tmp_path / str(number), f"1.2.{number}")
    with sqlite_record.begin() as connection:
        connection.execute(deliveries.update().where(deliveries.c.delivery_id <= 6).values(attempts=20))
    deliverer = deliverer_of(sqlite_record, settings)
    deliverer.deliver(settings.destinations[0], threading.Event())
    with storing_pacs(port=port) as peer:

        def all_sent() -> bool:
            deliverer.deliver(settings.destinations[0], threading.Event())
            return delivery_states(sqlite_record) == [(DeliveryState.SENT, 0x0000)] * 10

        wait_until(all_sent, "delivery", 20)
    assert len(peer.taken) == 10


@contextmanager
def delivering(record: Engine, settings: Settings) -> Iterator[None]:
    """Deliver as a newly started process does."""
    stop = threading.Event()
    running = threading.Thread(target=deliverer_of(record, settings).run, args=(stop,))
    running.start()
    try:
        yield
    finally:
        stop.set()
        running.join()


def test_what_waits_for_a_pacs_is_tried_when_delivery_starts_again(record: Engine) -> None:
    port = free_port()
    settings = settings_with_pacs(port)
    deliver(record, settings)
    assert delivery_states(record) == [(DeliveryState.PENDING, None)] * 2
    with storing_pacs(port=port), delivering(record, settings):
        wait_until(lambda: delivery_states(record) == [(DeliveryState.SENT, 0x0000)] * 2, "delivery", 10)


def test_what_waits_is_sent_with_the_first_that_a_pacs_takes_after_a_start(record: Engine, tmp_path: Path) -> None:
    port = free_port()
    settings = settings_with_pacs(port)
    deliverer = deliverer_of(record, settings)
    deliverer.deliver(settings.destinations[0], threading.Event())  # the PACS is still away
    finish_study_with_files(record, tmp_path / "later", "1.2.4")
    with storing_pacs(port=port):
        for _ in range(2):
            deliverer.deliver(settings.destinations[0], threading.Event())
    assert delivery_states(record) == [(DeliveryState.SENT, 0x0000)] * 4


def test_a_pacs_that_is_slow_holds_up_no_other(sqlite_record: Engine, tmp_path: Path) -> None:
    finish_study_with_files(sqlite_record, tmp_path / "results", destinations=("PACS", "ARCHIVE"))
    go_on, stop = threading.Event(), threading.Event()

    def slow(_: evt.Event) -> int:
        go_on.wait(20)
        return 0x0000

    with storing_pacs(slow) as first, storing_pacs() as second:
        settings = settings_with_pacs(first.port, second.port, network_timeout_seconds=30)
        running = threading.Thread(target=deliverer_of(sqlite_record, settings).run, args=(stop,))
        running.start()
        try:
            wait_until(lambda: len(second.taken) == 2, "the other destination", 10)
        finally:
            stop.set()
            go_on.set()
            running.join()


def test_a_part_that_breaks_ends_the_process_instead_of_leaving_a_destination_unserved(
    record: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox, "claim", lambda *_: 1 / 0)
    settings = settings_with_pacs(free_port())
    with pytest.raises(Defect, match="broke"):
        deliverer_of(record, settings).run(threading.Event())
