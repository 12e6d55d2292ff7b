"""The outbox: each result once to each destination, retried with growing pauses."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, invariant, multiple, rule
from sqlalchemy import Engine

from dicom_node.deliver.order import TRIES_AHEAD
from dicom_node.deliver.outbox import LEASE_SECONDS, Outbox, longest_pause
from dicom_node.dispatch.jobs import Jobs
from dicom_node.record.database import open_database
from dicom_node.record.schema import deliveries
from dicom_node.settings import DeliverySettings, JobSettings
from dicom_node.study import Delivery, DeliveryState, Ending, JobState
from tests.dicom_node.recording import (
    STORAGE,
    STUDY,
    Clock,
    RecordMachine,
    claimed,
    finish_study,
    make_job,
    results_of,
    revise_study,
    rows,
)
from tests.services import wait_until

SETTINGS = DeliverySettings(first_retry_seconds=10, longest_retry_seconds=3600)


def send_all(outbox: Outbox) -> None:
    token, due = outbox.claim("PACS")
    for delivery in due:
        outbox.sent(token, delivery, 0)


@pytest.fixture
def outbox(record: Engine) -> Outbox:
    return Outbox(record, SETTINGS)


def row_of(record: Engine, delivery_id: int) -> dict[str, Any]:
    return next(row for row in rows(record, deliveries) if row["delivery_id"] == delivery_id)


def test_due_deliveries_come_in_the_order_they_were_made(outbox: Outbox, record: Engine) -> None:
    finish_study(record)
    _, due = outbox.claim("PACS")
    assert [delivery.result for delivery in due] == list(results_of())
    assert {delivery.study_instance_uid for delivery in due} == {STUDY}


def test_each_destination_has_deliveries_of_its_own(outbox: Outbox, record: Engine) -> None:
    finish_study(record, destinations=("PACS", "ARCHIVE"))
    token, due = outbox.claim("PACS")
    assert outbox.sent(token, due[0], 0)
    assert len(outbox.claim("ARCHIVE")[1]) == 2
    assert outbox.claim("ELSEWHERE")[1] == []


def test_what_is_claimed_is_not_handed_out_again(outbox: Outbox, record: Engine) -> None:
    finish_study(record)
    assert len(outbox.claim("PACS")[1]) == 2
    assert outbox.claim("PACS")[1] == []


def test_a_dead_senders_deliveries_are_free_again_after_its_lease(outbox: Outbox, record: Engine, clock: Clock) -> None:
    finish_study(record)
    late, due = outbox.claim("PACS")
    clock.pass_(LEASE_SECONDS + 1)
    token, again = outbox.claim("PACS")
    assert again == due
    assert not outbox.sent(late, due[0], 0)
    assert not outbox.failed(late, due[0], None, "late")
    assert outbox.sent(token, again[0], 0)


def test_what_is_released_is_due_at_once_and_was_not_tried(outbox: Outbox, record: Engine) -> None:
    finish_study(record)
    token, due = outbox.claim("PACS")
    outbox.release(token, due)
    assert outbox.claim("PACS")[1] == due


def test_a_sender_whose_lease_is_another_ones_now_releases_nothing(
    outbox: Outbox, record: Engine, clock: Clock
) -> None:
    finish_study(record)
    late, due = outbox.claim("PACS")
    clock.pass_(LEASE_SECONDS + 1)
    assert outbox.claim("PACS")[1] == due
    outbox.release(late, due)
    assert outbox.claim("PACS")[1] == []


def test_sent_is_what_the_destination_said_and_is_never_sent_again(
    outbox: Outbox, record: Engine, clock: Clock
) -> None:
    finish_study(record)
    token, due = outbox.claim("PACS")
    for delivery in due:
        assert outbox.sent(token, delivery, 0xB007)
    row = row_of(record, due[0].delivery_id)
    assert (row["state"], row["status"], row["sent_at"]) == (DeliveryState.SENT, 0xB007, clock.seconds)
    clock.pass_(1e6)
    assert outbox.claim("PACS")[1] == []
    assert outbox.resend(STUDY, waiting_too=True) == 0


def test_a_permanent_refusal_stops_until_someone_asks_again(outbox: Outbox, record: Engine, clock: Clock) -> None:
    finish_study(record)
    token, due = outbox.claim("PACS")
    outbox.sent(token, due[0], 0)
    assert outbox.rejected(token, due[1], 0xC000, "cannot understand")
    clock.pass_(1e6)
    assert outbox.claim("PACS")[1] == []
    assert outbox.resend(STUDY, waiting_too=True) == 1
    assert [(d.delivery_id, d.attempts) for d in outbox.claim("PACS")[1]] == [(due[1].delivery_id, 1)]


def test_a_passing_failure_is_tried_later_and_later_up_to_a_ceiling(
    outbox: Outbox, record: Engine, clock: Clock
) -> None:
    finish_study(record)
    for ceiling in (10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600):
        token, due = outbox.claim("PACS")
        assert due
        for delivery in due:
            assert outbox.failed(token, delivery, None, "unreachable")
        pause = row_of(record, due[0].delivery_id)["due_at"] - clock.seconds
        assert ceiling / 2 <= pause <= ceiling
        assert outbox.claim("PACS")[1] == []
        clock.pass_(ceiling)


def test_a_destination_that_is_down_for_months_is_still_tried(outbox: Outbox, record: Engine, clock: Clock) -> None:
    finish_study(record)
    with record.begin() as connection:
        connection.execute(deliveries.update().values(attempts=5000))
    token, due = outbox.claim("PACS")
    assert outbox.failed(token, due[0], None, "unreachable")
    assert row_of(record, due[0].delivery_id)["due_at"] - clock.seconds <= 3600


def test_a_study_that_nobody_knows_has_nothing_to_retry(outbox: Outbox) -> None:
    assert outbox.resend("1.2.99", waiting_too=True) == 0


def test_a_retry_leaves_other_studies_alone(outbox: Outbox, record: Engine) -> None:
    for study in ("1.2.1", "1.2.2"):
        finish_study(record, study)
    token, due = outbox.claim("PACS")
    for delivery in due:
        outbox.rejected(token, delivery, 0xC000, "no")
    assert outbox.resend("1.2.1", waiting_too=True) == 2
    assert {delivery.study_instance_uid for delivery in outbox.claim("PACS")[1]} == {"1.2.1"}


def test_two_senders_never_hold_the_same_delivery(record_url: str, record: Engine) -> None:
    for number in range(5):
        finish_study(record, f"1.2.{number}")
    engines = [open_database(record_url, STORAGE) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        claimed = list(pool.map(lambda engine: Outbox(engine, SETTINGS).claim("PACS")[1], engines))
    ids = [delivery.delivery_id for due in claimed for delivery in due]
    assert sorted(ids) == sorted(row["delivery_id"] for row in rows(record, deliveries))
    for engine in engines:
        engine.dispose()


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_newer_revision_waits_until_the_earlier_one_is_taken_or_refused(
    outbox: Outbox, record: Engine, clock: Clock, is_taken: bool
) -> None:
    finish_study(record)
    token, due = outbox.claim("PACS")
    outbox.sent(token, due[0], 0)
    outbox.failed(token, due[1], 0xA700, "out of resources")
    newer, _ = revise_study(record)
    assert outbox.claim("PACS")[1] == []
    clock.pass_(10)
    token, (earlier,) = outbox.claim("PACS")
    assert earlier.delivery_id == due[1].delivery_id
    assert outbox.claim("PACS")[1] == []
    outbox.sent(token, earlier, 0) if is_taken else outbox.rejected(token, earlier, 0xC000, "no")
    assert [d.result for d in outbox.claim("PACS")[1]] == [newer]


def test_a_second_answer_of_the_same_job_waits_for_its_first(outbox: Outbox, record: Engine, clock: Clock) -> None:
    """`hilum retry` measures a study whose job was given up and reported as such; the results withdraw that report."""
    queue, job_id = Jobs(record, JobSettings(maximum_attempts=1)), make_job(record)
    queue.give_back(claimed(queue, job_id), "defect", "it broke")
    assert queue.finish(claimed(queue, job_id), Ending(JobState.REFUSED), results_of()[:1], ("PACS",))
    assert queue.retry(STUDY) == 1
    assert queue.finish(claimed(queue, job_id), Ending(JobState.DONE), results_of("1.2.3.2"), ("PACS",))
    token, (first,) = outbox.claim("PACS")
    assert first.result == results_of()[0]
    outbox.failed(token, first, 0xA700, "out of resources")
    assert outbox.claim("PACS")[1] == []
    clock.pass_(10)
    token, (first,) = outbox.claim("PACS")
    outbox.sent(token, first, 0)
    assert [d.result for d in outbox.claim("PACS")[1]] == list(results_of("1.2.3.2"))


@pytest.mark.usefixtures("clock")  # on a slow machine, what failed would be due again before the test ends
def test_a_revision_waits_neither_for_other_destinations_nor_for_other_studies(outbox: Outbox, record: Engine) -> None:
    finish_study(record, destinations=("PACS", "ARCHIVE"))
    finish_study(record, "1.2.4")
    for destination, stuck in (("PACS", STUDY), ("ARCHIVE", None)):
        token, due = outbox.claim(destination)
        for delivery in due:
            if delivery.study_instance_uid == stuck:
                outbox.failed(token, delivery, 0xA700, "out of resources")
            else:
                outbox.sent(token, delivery, 0)
    newer, _ = revise_study(record, destinations=("PACS", "ARCHIVE"))
    newer_of_another, _ = revise_study(record, "1.2.4")
    assert [d.result for d in outbox.claim("PACS")[1]] == [newer_of_another]
    assert [d.result for d in outbox.claim("ARCHIVE")[1]] == [newer]


def test_an_earlier_revision_that_fails_every_time_is_tried_before_the_newer_and_holds_it_up_no_longer(
    outbox: Outbox, record: Engine, clock: Clock
) -> None:
    finish_study(record)
    newer, _ = revise_study(record)
    for _ in range(TRIES_AHEAD):
        token, due = outbox.claim("PACS")
        assert [d.result for d in due] == list(results_of())
        for delivery in due:
            outbox.failed(token, delivery, 0x0110, "processing failure")
        clock.pass_(longest_pause(SETTINGS, due[0].attempts))
    token, due = outbox.claim("PACS")
    assert [d.result for d in due] == [*results_of(), newer]
    for delivery in due:
        outbox.failed(token, delivery, None, "unreachable")
    clock.pass_(longest_pause(SETTINGS, 0))
    assert [d.result for d in outbox.claim("PACS")[1]] == [*results_of(), newer]


def test_a_newer_revision_waits_for_an_earlier_one_that_another_sender_holds_however_often_it_failed(
    outbox: Outbox, record: Engine, clock: Clock
) -> None:
    finish_study(record)
    for _ in range(TRIES_AHEAD):
        token, due = outbox.claim("PACS")
        for delivery in due:
            outbox.failed(token, delivery, 0x0110, "processing failure")
        clock.pass_(longest_pause(SETTINGS, due[0].attempts))
    token, due = outbox.claim("PACS")
    newer, _ = revise_study(record)
    assert outbox.claim("PACS")[1] == []
    for delivery in due:
        outbox.failed(token, delivery, 0x0110, "processing failure")
    assert [d.result for d in outbox.claim("PACS")[1]] == [*results_of(), newer]


def test_a_clock_set_back_holds_up_no_delivery(outbox: Outbox, record: Engine, clock: Clock) -> None:
    finish_study(record)
    outbox.claim("PACS")  # and dies
    clock.jump(-86_400)
    assert len(outbox.claim("PACS")[1]) == 2


@pytest.mark.parametrize("back_seconds", [60, 3000, 86_400])
def test_a_clock_set_back_holds_up_no_first_attempt(
    outbox: Outbox, record: Engine, clock: Clock, back_seconds: float
) -> None:
    finish_study(record)
    clock.jump(-back_seconds)
    assert len(outbox.claim("PACS")[1]) == 2


def test_a_clock_set_back_prolongs_no_pause_beyond_the_longest_of_its_attempt(
    outbox: Outbox, record: Engine, clock: Clock
) -> None:
    finish_study(record)
    token, due = outbox.claim("PACS")
    for delivery in due:
        outbox.failed(token, delivery, None, "away")
    clock.jump(-60)
    assert len(outbox.claim("PACS")[1]) == 2


def test_dead_letters_are_sent_again_all_or_those_of_a_study_or_destination(outbox: Outbox, record: Engine) -> None:
    for study in ("1.2.1", "1.2.2"):
        finish_study(record, study, ("PACS", "ARCHIVE"))
    for destination in ("PACS", "ARCHIVE"):
        token, due = outbox.claim(destination)
        for delivery in due:
            outbox.rejected(token, delivery, 0xC000, "no")
    assert outbox.resend("1.2.1", "PACS") == 2
    assert {(d.study_instance_uid, d.attempts) for d in outbox.claim("PACS")[1]} == {("1.2.1", 1)}
    assert outbox.resend(destination="ARCHIVE") == 4
    assert outbox.resend() == 2


def test_what_waits_for_a_destination_that_nobody_names_is_counted(outbox: Outbox, record: Engine) -> None:
    finish_study(record, destinations=("PACS", "OLD"))
    token, due = outbox.claim("OLD")
    outbox.sent(token, due[0], 0)
    outbox.rejected(token, due[1], 0xC000, "no")
    assert outbox.stranded(["PACS"]) == {"OLD": 1}
    assert outbox.stranded(["PACS", "OLD"]) == {}


def test_what_one_destination_has_not_taken_goes_to_another_once(outbox: Outbox, record: Engine) -> None:
    finish_study(record, "1.2.1", ("OLD",))
    finish_study(record, "1.2.2", ("OLD", "PACS"))
    token, due = outbox.claim("OLD")
    outbox.sent(token, due[0], 0)
    outbox.rejected(token, due[1], 0xC000, "no")
    assert outbox.redirect("OLD", "PACS") == 1
    assert not outbox.sent(token, due[1], 0)
    assert [d.result for d in outbox.claim("PACS")[1]] == [due[1].result, *results_of("1.2.2")]
    assert outbox.stranded(["PACS"]) == {}


def test_what_goes_to_another_destination_amid_an_attempt_is_due_there_and_not_sent_by_that_attempt(
    outbox: Outbox, record: Engine
) -> None:
    finish_study(record, destinations=("OLD",))
    token, due = outbox.claim("OLD")
    assert outbox.redirect("OLD", "PACS") == 2
    assert not outbox.sent(token, due[0], 0)
    assert [d.result for d in outbox.claim("PACS")[1]] == list(results_of())


def test_what_a_note_has_withdrawn_is_not_sent_after_it(outbox: Outbox, record: Engine) -> None:
    finish_study(record, destinations=("PACS", "OLD"))
    for destination in ("PACS", "OLD"):
        token, due = outbox.claim(destination)
        outbox.rejected(token, due[1], 0xC000, "no")
        outbox.sent(token, due[0], 0) if destination == "PACS" else outbox.failed(token, due[0], None, "away")
    report, note = revise_study(record)
    send_all(outbox)
    assert len(rows(record, deliveries)) == 6
    send_all(outbox)
    assert outbox.resend(destination="PACS") == 0
    assert outbox.redirect("OLD", "PACS") == 0
    sent = {results_of()[0].sop_instance_uid, report.sop_instance_uid, note.sop_instance_uid}
    assert {row["sop_instance_uid"] for row in rows(record, deliveries)} == sent


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_note_waits_until_the_report_of_its_answer_is_taken(
    outbox: Outbox, record: Engine, clock: Clock, is_refused: bool
) -> None:
    """The note hides the earlier report: without the newer one, none would be left."""
    finish_study(record)
    send_all(outbox)
    report, note = revise_study(record)
    token, (delivery,) = outbox.claim("PACS")
    assert delivery.result == report
    assert outbox.claim("PACS")[1] == []
    outbox.rejected(token, delivery, 0xC000, "no") if is_refused else outbox.failed(token, delivery, 0xA700, "full")
    assert outbox.claim("PACS")[1] == []
    assert outbox.resend(STUDY, waiting_too=True)
    send_all(outbox)
    assert [d.result for d in outbox.claim("PACS")[1]] == [note]


def test_a_note_that_waits_for_the_report_of_its_answer_holds_up_no_newer_answer(
    outbox: Outbox, record: Engine
) -> None:
    finish_study(record)
    send_all(outbox)
    revise_study(record)
    token, (report,) = outbox.claim("PACS")
    outbox.rejected(token, report, 0xC000, "no")
    queue = Jobs(record, JobSettings())
    newest = replace(report.result, sop_instance_uid="1.2.3.9.3")
    queue.finish(claimed(queue, make_job(record, instances=4)), Ending(JobState.DONE), (newest,), ("PACS",))
    assert [d.result for d in outbox.claim("PACS")[1]] == [newest]


def test_an_earlier_note_is_sent_after_a_later_one_too(outbox: Outbox, record: Engine) -> None:
    """Each note withdraws other objects."""
    finish_study(record)
    revise_study(record)
    for _ in range(2):
        send_all(outbox)
    token, (note,) = outbox.claim("PACS")
    outbox.rejected(token, note, 0xC000, "no")
    queue = Jobs(record, JobSettings())
    last = replace(note.result, sop_instance_uid="1.2.3.9.3")
    queue.finish(claimed(queue, make_job(record, instances=4)), Ending(JobState.DONE), (last,), ("PACS",))
    token, (delivery,) = outbox.claim("PACS")
    outbox.sent(token, delivery, 0)
    assert outbox.resend() == 1


def test_a_retry_holds_up_no_newer_revision_that_was_free_before(outbox: Outbox, record: Engine, clock: Clock) -> None:
    finish_study(record)
    newer, _ = revise_study(record)
    for _ in range(TRIES_AHEAD):
        token, due = outbox.claim("PACS")
        for delivery in due:
            outbox.failed(token, delivery, 0x0110, "processing failure")
        clock.pass_(longest_pause(SETTINGS, due[0].attempts))
    assert outbox.resend(STUDY, waiting_too=True) == 4
    assert [d.result for d in outbox.claim("PACS")[1]] == [*results_of(), newer]


def test_what_was_sent_or_waits_is_no_dead_letter(outbox: Outbox, record: Engine) -> None:
    finish_study(record)
    token, due = outbox.claim("PACS")
    outbox.sent(token, due[0], 0)
    assert outbox.resend() == 0


def test_deliveries_are_held_for_as_long_as_they_are_being_sent(
    outbox: Outbox, record: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.deliver.outbox.LEASE_SECONDS", lease := 0.3)
    finish_study(record)
    token, due = outbox.claim("PACS")

    def held_until() -> float:
        return float(row_of(record, due[0].delivery_id)["lease_until"])

    with outbox.holding(token):
        for _ in range(2):
            before = held_until()
            clock.pass_(0.9 * lease)
            wait_until(lambda before=before: held_until() > before, "a renewed lease")
        assert outbox.claim("PACS")[1] == []
    clock.pass_(1.1 * lease)
    time.sleep(lease)  # the lease is not renewed any more
    assert outbox.claim("PACS")[1] == due


# All operations in random order


@dataclass(frozen=True)
class Held:
    """A delivery that a sender claimed. The sender may not know that it has lost the delivery since."""

    token: str
    delivery: Delivery


class LifeOfDeliveries(RecordMachine):
    """Senders that start, die and come back, destinations that take and reject, and an administrator, in any order."""

    held = Bundle("held")
    destinations = st.sampled_from(["PACS", "ARCHIVE"])

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(self.engine, SETTINGS)
        finish_study(self.engine, "1.2.1", ("PACS", "ARCHIVE"))
        finish_study(self.engine, "1.2.2", ("ARCHIVE",))
        self.expected = {row["delivery_id"]: self.place(row) for row in self.rows()}
        self.holders: dict[object, str] = {}

    def rows(self) -> list[dict[str, Any]]:
        return rows(self.engine, deliveries)

    @staticmethod
    def place(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["sop_instance_uid"], row["destination"], row["state"]

    def let_go(self, held: Held) -> bool:
        """Note that a sender holds a delivery no more; return whether the sender had held it."""
        is_there = self.holders.get(held.delivery.delivery_id) == held.token
        if is_there:
            del self.holders[held.delivery.delivery_id]
        return is_there

    def now_in(self, held: Held, state: DeliveryState) -> None:
        sop_instance_uid, destination, before = self.expected[held.delivery.delivery_id]
        assert before == DeliveryState.PENDING
        self.expected[held.delivery.delivery_id] = sop_instance_uid, destination, state

    @rule(seconds=st.sampled_from([1, LEASE_SECONDS + 1, 10_000]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_(seconds)

    @rule(target=held, destination=destinations)
    def claim(self, destination: str) -> Any:
        due = {
            row["delivery_id"]
            for row in self.rows()
            if (row["destination"], row["state"]) == (destination, DeliveryState.PENDING)
            and max(row["due_at"], row["lease_until"] or 0) <= self.clock.seconds
        }
        token, claimed = self.outbox.claim(destination)
        assert {delivery.delivery_id for delivery in claimed} == due
        self.holders |= dict.fromkeys(due, token)
        return multiple(*(Held(token, delivery) for delivery in claimed))

    @rule(one=held)
    def send(self, one: Held) -> None:
        is_there = self.let_go(one)
        assert self.outbox.sent(one.token, one.delivery, 0) == is_there
        if is_there:
            self.now_in(one, DeliveryState.SENT)

    @rule(one=held)
    def refuse(self, one: Held) -> None:
        is_there = self.let_go(one)
        assert self.outbox.rejected(one.token, one.delivery, 0xC000, "no") == is_there
        if is_there:
            self.now_in(one, DeliveryState.REJECTED)

    @rule(one=held)
    def fail(self, one: Held) -> None:
        is_there = self.let_go(one)
        assert self.outbox.failed(one.token, one.delivery, None, "away") == is_there

    @rule(one=held)
    def release(self, one: Held) -> None:
        self.let_go(one)
        self.outbox.release(one.token, [one.delivery])

    @rule()
    def resend(self) -> None:
        refused = {key: place for key, place in self.expected.items() if place[2] == DeliveryState.REJECTED}
        assert self.outbox.resend() == len(refused)
        self.expected |= {key: (*place[:2], DeliveryState.PENDING) for key, place in refused.items()}

    @rule(source=destinations)
    def redirect(self, source: str) -> None:
        (to,) = {"PACS", "ARCHIVE"} - {source}
        known = {sop_instance_uid for sop_instance_uid, destination, _ in self.expected.values() if destination == to}
        moved = 0
        for key, (sop_instance_uid, destination, state) in list(self.expected.items()):
            if destination == source and state != DeliveryState.SENT:
                self.holders.pop(key, None)
                del self.expected[key]
                if sop_instance_uid not in known:
                    self.expected[key] = sop_instance_uid, to, DeliveryState.PENDING
                    moved += 1
        assert self.outbox.redirect(source, to) == moved

    @invariant()
    def each_result_waits_was_refused_or_was_taken_once_where_it_is_meant_to_be(self) -> None:
        there = {row["delivery_id"]: self.place(row) for row in self.rows()}
        assert there == self.expected
        assert len({place[:2] for place in there.values()}) == len(there)
        assert len({sop_instance_uid for sop_instance_uid, *_ in there.values()}) == 4

    @invariant()
    def each_delivery_is_in_the_hand_that_claimed_it_last_until_that_lets_it_go(self) -> None:
        assert {row["delivery_id"]: row["lease_token"] for row in self.rows() if row["lease_token"]} == self.holders


TestLifeOfDeliveries = LifeOfDeliveries.TestCase
TestLifeOfDeliveries.settings = settings(
    max_examples=15, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow]
)
