"""Jobs: claimed by one worker, finished once, never stuck, tried a bounded number of times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, invariant, multiple, rule
from sqlalchemy import Engine, select

from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.received import StoredInstance, instances_of
from dicom_node.dispatch.transitions import enqueue, input_sha256
from dicom_node.errors import NotAnalysable
from dicom_node.receive.intake import Intake
from dicom_node.record.database import reading
from dicom_node.record.schema import deliveries, job_inputs, jobs, results
from dicom_node.settings import JobSettings
from dicom_node.study import FINAL_JOB_STATES, REJECTION_NOTE, DeliveryState, Ending, Job, JobState, Priority
from tests.dicom_node.recording import (
    STUDY,
    Clock,
    RecordMachine,
    claimed,
    instance,
    make_job,
    opened,
    receive,
    results_of,
    rows,
)

SETTINGS = JobSettings(lease_seconds=60, sweep_seconds=15, maximum_attempts=3, retry_seconds=30)
TOO_SHORT = NotAnalysable("no-fitting-series", "expected at least 10 slices, got 5")


@pytest.fixture
def queue(record: Engine) -> Jobs:
    return Jobs(record, SETTINGS)


def none_unheard(_: Priority) -> int:
    """Count the unheard bells of a broker that has lost them all."""
    return 0


def state_of(record: Engine, job_id: str) -> dict[str, Any]:
    with reading(record) as connection:
        return dict(connection.execute(select(jobs).where(jobs.c.job_id == job_id)).mappings().one())


@contextmanager
def locked(record: Engine, job_id: str) -> Iterator[None]:
    """Hold the lock of a job's row in PostgreSQL, as a host does that vanished amid a transaction."""
    with record.connect() as vanished:
        vanished.execute(select(jobs).where(jobs.c.job_id == job_id).with_for_update())
        yield


# Enqueueing


def test_a_job_stands_with_its_inputs(record: Engine) -> None:
    job_id = make_job(record, priority=Priority.STAT)
    row = state_of(record, job_id)
    assert (row["state"], row["priority"], row["revision"], row["attempts"]) == (JobState.QUEUED, Priority.STAT, 1, 0)
    assert len(rows(record, job_inputs)) == 2


def test_the_same_inputs_make_no_second_job_and_others_a_new_revision(record: Engine) -> None:
    make_job(record)
    make_job(record)
    assert len(rows(record, jobs)) == 1
    make_job(record, instances=3)
    assert [row["revision"] for row in rows(record, jobs)] == [1, 2]


def test_a_refusal_is_another_job_than_a_measurement_of_the_same_inputs(record: Engine) -> None:
    receive(Intake(record), instance())
    stored = instances_of(record, STUDY)
    assert input_sha256(stored, None) != input_sha256(stored, TOO_SHORT)
    assert input_sha256(stored, None) == input_sha256(list(reversed(stored)), None)
    with record.begin() as connection:
        assert enqueue(connection, STUDY, Priority.ROUTINE, stored, None, TOO_SHORT)
        assert enqueue(connection, STUDY, Priority.ROUTINE, stored, None, None)


# Ringing


def test_a_bell_rings_at_once_and_again_after_the_sweep_interval(queue: Jobs, record: Engine, clock: Clock) -> None:
    job_id = make_job(record)
    assert queue.to_ring(none_unheard) == [(job_id, Priority.ROUTINE)]
    assert queue.to_ring(none_unheard) == []
    clock.pass_(14)
    assert queue.to_ring(none_unheard) == []
    clock.pass_(1)
    assert queue.to_ring(none_unheard) == [(job_id, Priority.ROUTINE)]


def test_no_bell_rings_again_while_the_broker_holds_one_for_each_waiting_job(
    queue: Jobs, record: Engine, clock: Clock
) -> None:
    for number in range(3):
        make_job(record, study=f"1.2.{number}")
    assert len(queue.to_ring(none_unheard)) == 3
    clock.pass_(1000)
    assert queue.to_ring(lambda _: 3) == []
    new = make_job(record, study="1.2.9")
    assert queue.to_ring(lambda _: 3) == [(new, Priority.ROUTINE)]
    clock.pass_(15)
    assert len(queue.to_ring(lambda _: 3)) == 4


def test_more_bells_than_routine_jobs_hide_no_lost_bell_of_an_urgent_one(
    queue: Jobs, record: Engine, clock: Clock
) -> None:
    make_job(record)
    urgent = make_job(record, study="1.2.9", priority=Priority.STAT)
    unheard = {Priority.ROUTINE: 2, Priority.STAT: 0}
    queue.to_ring(unheard.__getitem__)
    clock.pass_(15)
    assert queue.to_ring(unheard.__getitem__) == [(urgent, Priority.STAT)]


@pytest.mark.node
def test_a_job_that_a_vanished_host_has_locked_keeps_no_bell_of_another_from_ringing(postgres_url: str) -> None:
    with opened(postgres_url) as record:
        queue, stuck, other = Jobs(record, SETTINGS), make_job(record, study="1.1"), make_job(record, study="1.2")
        with locked(record, stuck):
            assert queue.to_ring(none_unheard) == [(other, Priority.ROUTINE)]
        assert queue.to_ring(none_unheard) == [(stuck, Priority.ROUTINE)]


def test_no_bell_rings_for_a_job_that_runs_or_is_done(queue: Jobs, record: Engine, clock: Clock) -> None:
    job = claimed(queue, make_job(record))
    clock.pass_(30)
    assert queue.to_ring(none_unheard) == []
    assert queue.finish(job, Ending(JobState.DONE), (), ())
    clock.pass_(1000)
    assert queue.to_ring(none_unheard) == []


# Claiming


def test_a_claim_hands_out_all_that_a_worker_needs(queue: Jobs, record: Engine) -> None:
    job = claimed(queue, make_job(record, rejection=TOO_SHORT))
    assert (job.study_instance_uid, job.revision, job.attempt) == (STUDY, 1, 1)
    assert job.paths == tuple(Path(f"/storage/{STUDY}/{STUDY}.1.{n}-bytes.dcm") for n in range(2))
    assert job.refusal == (TOO_SHORT.code, TOO_SHORT.message)


def test_a_later_revision_is_told_what_it_replaces(queue: Jobs, record: Engine) -> None:
    first = results_of()
    queue.finish(claimed(queue, make_job(record)), Ending(JobState.DONE), first, [])

    later = claimed(queue, make_job(record, instances=3))

    assert later.earlier == tuple(result.path for result in first)


def test_a_note_is_no_part_of_the_answer_that_a_later_revision_replaces(queue: Jobs, record: Engine) -> None:
    segmentation, report = results_of()
    note = replace(report, sop_instance_uid="1.2.3.9.3", kind=REJECTION_NOTE, path=Path("/storage/results/note.dcm"))
    queue.finish(claimed(queue, make_job(record)), Ending(JobState.DONE), (segmentation, report, note), [])

    assert claimed(queue, make_job(record, instances=3)).earlier == (segmentation.path, report.path)


def test_a_job_of_another_study_replaces_nothing(queue: Jobs, record: Engine) -> None:
    queue.finish(claimed(queue, make_job(record)), Ending(JobState.DONE), results_of(), [])

    assert claimed(queue, make_job(record, study="1.2.4")).earlier == ()


def test_a_job_is_claimed_by_one(queue: Jobs, record: Engine) -> None:
    job_id = make_job(record)
    claimed(queue, job_id)
    assert queue.claim(job_id) is None


def test_a_job_nobody_knows_is_not_claimed(queue: Jobs) -> None:
    assert queue.claim("00000000-0000-0000-0000-000000000000") is None


def test_a_job_given_back_is_claimed_only_when_it_is_due(queue: Jobs, record: Engine, clock: Clock) -> None:
    job_id = make_job(record)
    assert queue.give_back(claimed(queue, job_id), "out-of-memory", "there was not enough memory")
    assert queue.claim(job_id) is None
    assert queue.to_ring(none_unheard) == []
    clock.pass_(30)
    assert queue.to_ring(none_unheard) == [(job_id, Priority.ROUTINE)]
    assert claimed(queue, job_id).attempt == 2


def test_a_worker_whose_clock_lags_a_little_claims_a_job_that_was_rung_for(
    queue: Jobs, record: Engine, clock: Clock
) -> None:
    job_id = make_job(record)
    clock.jump(-2)
    assert queue.claim(job_id)


# The lease


def test_a_renewed_lease_is_not_swept(queue: Jobs, record: Engine, clock: Clock) -> None:
    job = claimed(queue, make_job(record))
    clock.pass_(59)
    assert queue.renew(job, "lungs (40%)")
    assert state_of(record, job.job_id)["stage"] == "lungs (40%)"
    clock.pass_(59)
    assert queue.sweep() == 0


def test_a_lease_that_ran_out_is_taken_back_and_can_do_nothing(queue: Jobs, record: Engine, clock: Clock) -> None:
    lost = claimed(queue, make_job(record))
    clock.pass_(61)
    assert queue.sweep() == 1
    taken = claimed(queue, lost.job_id)
    assert not queue.renew(lost, "late")
    assert not queue.give_back(lost, "late", "late")
    assert not queue.finish(lost, Ending(JobState.DONE), results_of(), ["PACS"])
    assert rows(record, results) == []
    assert queue.finish(taken, Ending(JobState.DONE), results_of(), ["PACS"])


@pytest.mark.node
def test_a_job_that_a_vanished_host_has_locked_keeps_no_other_from_being_taken_back(
    postgres_url: str, clock: Clock
) -> None:
    with opened(postgres_url) as record:
        queue, stuck, other = Jobs(record, SETTINGS), make_job(record, study="1.1"), make_job(record, study="1.2")
        for job_id in (stuck, other):
            claimed(queue, job_id)
        clock.pass_(61)
        with locked(record, stuck):
            assert queue.sweep() == 1
            assert state_of(record, other)["state"] == JobState.QUEUED
        assert queue.sweep() == 1
        assert state_of(record, stuck)["state"] == JobState.QUEUED


def test_a_lease_is_as_long_as_the_settings_of_its_worker_say(queue: Jobs, record: Engine, clock: Clock) -> None:
    worker = Jobs(record, SETTINGS.model_copy(update={"lease_seconds": 3600}))
    job = claimed(worker, make_job(record))
    assert queue.sweep() == 0
    clock.pass_(3599)
    assert worker.renew(job, "lungs (40%)")
    assert queue.sweep() == 0
    clock.pass_(3601)
    assert queue.sweep() == 1


def test_a_lease_that_began_before_its_length_was_recorded_runs_out(queue: Jobs, record: Engine, clock: Clock) -> None:
    """The lease of a worker that began before an update of Hilum has no recorded length."""
    claimed(queue, make_job(record))
    with record.begin() as connection:
        connection.execute(jobs.update().values(lease_seconds=None))
    assert queue.sweep() == 0
    clock.pass_(61)
    assert queue.sweep() == 1


def test_a_slow_worker_that_was_not_missed_may_still_finish(queue: Jobs, record: Engine, clock: Clock) -> None:
    job = claimed(queue, make_job(record))
    clock.pass_(1000)
    assert queue.finish(job, Ending(JobState.DONE), (), ())
    assert queue.sweep() == 0


# Finishing


def test_finishing_puts_every_result_into_the_outbox_of_every_destination(queue: Jobs, record: Engine) -> None:
    job = claimed(queue, make_job(record))
    assert queue.finish(job, Ending(JobState.DONE, infected_percent=12.5), results_of(), ["PACS", "ARCHIVE"])
    row = state_of(record, job.job_id)
    assert (row["state"], row["infected_percent"], row["stage"]) == (JobState.DONE, 12.5, "")
    assert [(r["kind"], r["position"]) for r in rows(record, results)] == [("seg", 0), ("sr", 1)]
    assert {(d["sop_instance_uid"], d["destination"], d["state"]) for d in rows(record, deliveries)} == {
        (result.sop_instance_uid, name, DeliveryState.PENDING)
        for result in results_of()
        for name in ("PACS", "ARCHIVE")
    }


def test_a_job_is_finished_once(queue: Jobs, record: Engine) -> None:
    job = claimed(queue, make_job(record))
    assert queue.finish(job, Ending(JobState.DONE), results_of(), ["PACS"])
    assert not queue.finish(job, Ending(JobState.DONE), results_of(), ["PACS"])
    assert len(rows(record, deliveries)) == 2


def test_results_known_already_keep_their_first_bytes(queue: Jobs, record: Engine) -> None:
    first = claimed(queue, make_job(record))
    queue.finish(first, Ending(JobState.DONE), results_of(folder=Path("/first")), ["PACS"])
    second = claimed(queue, make_job(record, instances=3))
    assert queue.finish(second, Ending(JobState.DONE), results_of(folder=Path("/second")), ["PACS"])
    assert {Path(str(row["path"])).parent for row in rows(record, results)} == {Path("/first")}
    assert len(rows(record, deliveries)) == 2


def test_a_refused_job_names_its_code_and_reason(queue: Jobs, record: Engine) -> None:
    job = claimed(queue, make_job(record))
    assert queue.finish(job, Ending(JobState.REFUSED, code="gap", message="a slice is missing"), results_of(), ["PACS"])
    row = state_of(record, job.job_id)
    assert (row["state"], row["code"], row["message"]) == (JobState.REFUSED, "gap", "a slice is missing")


# Failing


def fail_until_given_up(queue: Jobs, job_id: str, clock: Clock) -> int:
    """Fail every measurement until the job only reports, and fail that once; return how many measurements it took."""
    for attempt in range(1, 100):
        clock.pass_(10_000)
        job = claimed(queue, job_id)
        if job.refusal and "tried several times" in job.refusal[1]:
            queue.give_back(job, "still", "still")
            return attempt - 1
        assert queue.give_back(job, "out-of-memory", "there was not enough memory")
    raise AssertionError("never given up")


def test_the_pause_between_attempts_doubles(queue: Jobs, record: Engine, clock: Clock) -> None:
    job_id = make_job(record)
    pauses = []
    for _ in range(2):
        queue.give_back(claimed(queue, job_id), "x", "x")
        pauses.append(state_of(record, job_id)["due_at"] - clock.seconds)
        clock.pass_(pauses[-1])
    assert pauses == [30, 60]


def test_a_job_tried_often_enough_is_reported_on_and_not_measured(queue: Jobs, record: Engine, clock: Clock) -> None:
    job_id = make_job(record)
    assert fail_until_given_up(queue, job_id, clock) == 3
    clock.pass_(10_000)
    job = claimed(queue, job_id)
    assert job.refusal is not None
    code, message = job.refusal
    assert code == "out-of-memory"
    assert "there was not enough memory" in message


def test_a_job_whose_workers_die_every_time_is_given_up_too(queue: Jobs, record: Engine, clock: Clock) -> None:
    """A study that kills its worker leaves no worker to give the job back."""
    job_id = make_job(record)
    for _ in range(3):
        assert claimed(queue, job_id).refusal is None
        clock.pass_(61)
        assert queue.sweep() == 1
    refusal = claimed(queue, job_id).refusal
    assert refusal is not None
    assert refusal[0] == "worker-lost"


def test_a_job_that_cannot_even_be_reported_on_fails_for_good(queue: Jobs, record: Engine, clock: Clock) -> None:
    job_id = make_job(record)
    for _ in range(6):
        claimed(queue, job_id)
        clock.pass_(61)
        queue.sweep()
    assert state_of(record, job_id)["state"] == JobState.FAILED
    assert queue.claim(job_id) is None


def test_a_refusal_that_cannot_be_reported_keeps_its_reason_and_fails(
    queue: Jobs, record: Engine, clock: Clock
) -> None:
    """A job that only reports fails for good; it does not become another job that only reports."""
    job_id = make_job(record, rejection=TOO_SHORT)
    for _ in range(3):
        assert claimed(queue, job_id).refusal == (TOO_SHORT.code, TOO_SHORT.message)
        clock.pass_(61)
        queue.sweep()
    assert state_of(record, job_id)["state"] == JobState.FAILED


# Trying again by hand


def test_a_given_up_job_is_measured_again_on_demand(queue: Jobs, record: Engine, clock: Clock) -> None:
    job_id = make_job(record)
    fail_until_given_up(queue, job_id, clock)
    clock.pass_(10_000)
    queue.finish(claimed(queue, job_id), Ending(JobState.REFUSED), results_of(), ["PACS"])
    assert queue.retry(STUDY) == 1
    job = claimed(queue, job_id)
    assert (job.refusal, job.attempt) == (None, 1)
    assert job.earlier == tuple(result.path for result in results_of())  # the report that the job was given up
    again = results_of("1.2.3.2", Path("/storage/again"))
    queue.finish(job, Ending(JobState.DONE), again, ["PACS"])
    assert claimed(queue, make_job(record, instances=3)).earlier == tuple(result.path for result in again)


def test_a_job_that_is_tried_again_on_demand_is_rung_for_at_once(queue: Jobs, record: Engine, clock: Clock) -> None:
    job_id = make_job(record)
    fail_until_given_up(queue, job_id, clock)
    clock.pass_(10_000)
    assert queue.to_ring(none_unheard) == [(job_id, Priority.ROUTINE)]
    queue.finish(claimed(queue, job_id), Ending(JobState.REFUSED), results_of(), ["PACS"])
    assert queue.retry(STUDY) == 1
    assert queue.to_ring(none_unheard) == [(job_id, Priority.ROUTINE)]


def test_a_failed_refusal_is_reported_again_on_demand_and_not_measured(
    queue: Jobs, record: Engine, clock: Clock
) -> None:
    job_id = make_job(record, rejection=TOO_SHORT)
    for _ in range(3):
        claimed(queue, job_id)
        clock.pass_(61)
        queue.sweep()
    assert queue.retry(STUDY) == 1
    assert claimed(queue, job_id).refusal == (TOO_SHORT.code, TOO_SHORT.message)


@pytest.mark.parametrize("state", [JobState.DONE, JobState.REFUSED, JobState.SET_ASIDE])
def test_a_job_that_was_answered_is_not_tried_again(queue: Jobs, record: Engine, state: JobState) -> None:
    queue.finish(claimed(queue, make_job(record)), Ending(state), (), ())
    assert queue.retry(STUDY) == 0


def test_a_waiting_or_running_job_is_not_tried_again(queue: Jobs, record: Engine) -> None:
    job_id = make_job(record)
    assert queue.retry(STUDY) == 0
    claimed(queue, job_id)
    assert queue.retry(STUDY) == 0


# All operations in random order


class LifeOfJobs(RecordMachine):
    """Workers that start, freeze, die and come back, in any order, while the clock advances by any step."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.queue = Jobs(self.engine, SETTINGS)
        self.job_ids = [make_job(self.engine, study=f"1.2.{number}") for number in range(2)]
        self.finished: dict[str, int] = dict.fromkeys(self.job_ids, 0)
        self.claims: dict[str, int] = dict.fromkeys(self.job_ids, 0)
        self.holder: dict[str, str] = {}

    def row(self, job_id: str) -> dict[str, Any]:
        return state_of(self.engine, job_id)

    def holds(self, job: Job) -> bool:
        return self.holder.get(job.job_id) == job.lease_token

    @rule(seconds=st.sampled_from([1, 30, 61, 10_000]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_(seconds)

    @rule(target=leases, which=st.integers(0, 1))
    def claim(self, which: int) -> Any:
        before = self.row(self.job_ids[which])
        job = self.queue.claim(self.job_ids[which])
        claimable = before["state"] == JobState.QUEUED and before["due_at"] <= self.clock.seconds
        assert (job is not None) == claimable
        if job is None:
            return multiple()
        self.claims[job.job_id] += 1
        self.holder[job.job_id] = job.lease_token
        return job

    @rule(job=leases)
    def renew(self, job: Job) -> None:
        assert self.queue.renew(job, "stage") == self.holds(job)

    @rule(job=leases, state=st.sampled_from(sorted(FINAL_JOB_STATES - {JobState.FAILED})))
    def finish(self, job: Job, state: JobState) -> None:
        finished = self.queue.finish(job, Ending(state), results_of(job.study_instance_uid), ["PACS"])
        assert finished == self.holds(job)
        if finished:
            self.finished[job.job_id] += 1
            del self.holder[job.job_id]

    @rule(job=consumes(leases))
    def give_back(self, job: Job) -> None:
        assert self.queue.give_back(job, "passing", "it failed") == self.holds(job)
        if self.holds(job):
            del self.holder[job.job_id]

    @rule()
    def sweep(self) -> None:
        lost = [job_id for job_id in self.holder if self.row(job_id)["lease_until"] <= self.clock.seconds]
        assert self.queue.sweep() == len(lost)
        for job_id in lost:
            del self.holder[job_id]

    @invariant()
    def a_job_runs_only_in_someones_hand(self) -> None:
        running = {job_id for job_id in self.job_ids if self.row(job_id)["state"] == JobState.RUNNING}
        assert running == set(self.holder)

    @invariant()
    def a_job_finishes_at_most_once_and_its_results_stand_once(self) -> None:
        assert max(self.finished.values()) <= 1
        assert len(rows(self.engine, deliveries)) <= 2 * sum(self.finished.values())

    @invariant()
    def attempts_are_bounded(self) -> None:
        assert max(self.claims.values()) <= 2 * SETTINGS.maximum_attempts

    @invariant()
    def nothing_is_stuck(self) -> None:
        """Whatever happened before, every job that is not final can be claimed again soon if nothing else happens."""
        open_jobs = {job_id for job_id in self.job_ids if self.row(job_id)["state"] not in FINAL_JOB_STATES}
        with self.engine.connect() as connection:
            later = self.clock.seconds + 10_000
            waiting = (jobs.c.state == JobState.QUEUED) & (jobs.c.due_at <= later)
            swept = (jobs.c.state == JobState.RUNNING) & (jobs.c.lease_until < later)
            found = set(connection.scalars(select(jobs.c.job_id).where(waiting | swept)))
        assert found == open_jobs


TestLifeOfJobs = LifeOfJobs.TestCase
TestLifeOfJobs.settings = settings(
    max_examples=15, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_clock_set_back_keeps_no_job_waiting(queue: Jobs, record: Engine, clock: Clock) -> None:
    job_id = make_job(record)
    clock.jump(-86_400)
    assert [ring for ring, _ in queue.to_ring(none_unheard)] == [job_id]
    assert queue.claim(job_id)


def test_a_bell_rung_before_the_clock_was_set_back_rings_again(queue: Jobs, record: Engine, clock: Clock) -> None:
    make_job(record)
    queue.to_ring(none_unheard)
    clock.jump(-86_400)
    assert queue.to_ring(none_unheard)


@pytest.mark.parametrize("lease_seconds", [60, 3600])
@pytest.mark.parametrize("lengths_back", [1.5, 24])
def test_a_dead_workers_lease_ends_although_the_clock_was_set_back(
    queue: Jobs, record: Engine, clock: Clock, lease_seconds: float, lengths_back: float
) -> None:
    worker = Jobs(record, SETTINGS.model_copy(update={"lease_seconds": lease_seconds}))
    assert worker.claim(make_job(record))
    clock.jump(-lengths_back * lease_seconds)
    assert queue.sweep() == 1


def test_a_worker_whose_clock_runs_a_little_ahead_keeps_its_lease(queue: Jobs, record: Engine, clock: Clock) -> None:
    assert queue.claim(make_job(record))
    clock.jump(-10)
    assert queue.sweep() == 0


def test_a_newer_revision_takes_the_place_of_one_that_still_waits(queue: Jobs, record: Engine) -> None:
    first, second = make_job(record), make_job(record, instances=3)
    assert queue.claim(first) is None
    assert queue.claim(second)
    assert [(row["state"], row["code"]) for row in rows(record, jobs)] == [
        (JobState.SET_ASIDE, "superseded"),
        (JobState.RUNNING, ""),
    ]


def test_inputs_that_are_chosen_again_after_others_took_their_place_are_measured(queue: Jobs, record: Engine) -> None:
    first, second = make_job(record), make_job(record, instances=3)
    two_images, three_images = (instances_of(record, STUDY)[:count] for count in (2, 3))

    def choose(inputs: list[StoredInstance]) -> bool:
        with record.begin() as connection:
            return enqueue(connection, STUDY, Priority.ROUTINE, inputs, f"{STUDY}.1", None)

    assert choose(two_images)
    assert not choose(two_images)
    assert choose(three_images)
    assert choose(two_images)
    assert [(row["revision"], row["state"]) for row in rows(record, jobs)] == [
        (1, JobState.SET_ASIDE),
        (2, JobState.SET_ASIDE),
        (3, JobState.SET_ASIDE),
        (4, JobState.SET_ASIDE),
        (5, JobState.QUEUED),
    ]
    *_, newest = (str(row["job_id"]) for row in rows(record, jobs))
    assert queue.claim(first) is None
    assert queue.claim(second) is None
    job = queue.claim(newest)
    assert job
    assert job.paths == tuple(image.path for image in two_images)


def test_inputs_that_are_chosen_again_after_others_were_answered_are_answered_again(
    queue: Jobs, record: Engine
) -> None:
    """Else the study's newest answer would be one to other images, such as to a part of those sent again."""
    for images in (2, 3):
        job = queue.claim(make_job(record, instances=images))
        assert job
        queue.finish(job, Ending(JobState.DONE), results_of(f"1.2.{images}"), [])
    inputs = instances_of(record, STUDY)[:2]
    with record.begin() as connection:
        assert enqueue(connection, STUDY, Priority.ROUTINE, inputs, f"{STUDY}.1", None)
        assert not enqueue(connection, STUDY, Priority.ROUTINE, inputs, f"{STUDY}.1", None)
    assert sorted((row["revision"], row["state"]) for row in rows(record, jobs)) == [
        (1, JobState.DONE),
        (2, JobState.DONE),
        (3, JobState.QUEUED),
    ]


def test_a_newer_revision_waits_for_the_one_before_it_so_that_its_report_can_name_it(
    queue: Jobs, record: Engine, clock: Clock
) -> None:
    first = queue.claim(make_job(record))
    second = make_job(record, instances=3)
    assert first
    assert queue.claim(second) is None
    clock.pass_(61)
    queue.sweep()  # its worker died: it waits again
    assert queue.claim(second) is None
    first = queue.claim(first.job_id)
    assert first
    queue.finish(first, Ending(JobState.DONE), results_of(), [])
    assert queue.claim(second)


def test_what_a_newer_revision_answered_is_not_tried_again(queue: Jobs, record: Engine) -> None:
    first = queue.claim(make_job(record))
    assert first
    queue.finish(first, Ending(JobState.FAILED), [], [])
    second = queue.claim(make_job(record, instances=3))
    assert second
    queue.finish(second, Ending(JobState.DONE), results_of(), [])
    assert queue.retry(STUDY) == 0
