"""Retention removes studies whose results are delivered, and nothing else."""

from __future__ import annotations

import errno
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.received import instances_of
from dicom_node.dispatch.transitions import enqueue
from dicom_node.files import Files, remove_abandoned
from dicom_node.receive.intake import Intake
from dicom_node.record.retention import Retention
from dicom_node.record.schema import associations, deliveries, instances, jobs, results, studies
from dicom_node.settings import JobSettings, Settings, StorageSettings
from dicom_node.study import JobState, Priority, StudyState
from tests.dicom_node.record.storing import answer_study, mark_sent, settings_with_retention, store_study
from tests.dicom_node.recording import STUDY, Clock, instance, receive, record_one, revise_study, rows

DAY = 86400.0


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def revise(record: Engine, to: tuple[str, ...] = ("PACS",)) -> list[str]:
    """Answer the study anew and deliver that; return its new SOP Instance UIDs."""
    newer = [result.sop_instance_uid for result in revise_study(record, destinations=to)]
    for _ in newer if to else ():  # the note follows the report
        mark_sent(record)
    with record.begin() as connection:
        connection.execute(studies.update().values(state=StudyState.SELECTED))
    return newer


def test_a_delivered_study_goes_by_age_and_its_answer_stays_in_the_record(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    images, found = store_study(record, files), answer_study(record, files)
    mark_sent(record)
    clock.pass_(DAY - 1)
    Retention(record, settings_with_retention(tmp_path)).turn()
    assert all(path.exists() for path in [*images, *found])
    clock.pass_(2)
    Retention(record, settings_with_retention(tmp_path)).turn()
    assert not any(path.exists() for path in [*images, *found])
    assert not (tmp_path / "instances" / STUDY).exists()
    assert rows(record, instances) == []
    assert len(rows(record, results)) == len(rows(record, deliveries)) == 2
    assert rows(record, studies)[0]["removed_at"] == clock.seconds


def test_a_study_goes_though_an_earlier_revision_failed(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    """`hilum retry` queues the newest revision alone, so nothing could end the wait for an earlier one."""
    store_study(record, files)
    answer_study(record, files, state=JobState.FAILED)
    revise(record)
    clock.pass_(DAY + 1)
    Retention(record, settings_with_retention(tmp_path)).turn()
    assert rows(record, instances) == []


@pytest.mark.parametrize(
    ("done", "why"),
    [
        ("received", "its images are arriving"),
        ("failed", "it has no answer yet"),
        ("answered", "not every PACS has accepted every result"),
        ("sent", "not every PACS has promised to keep the results"),
        ("went nowhere", "its worker knew no [[destinations]]"),
        ("removed", "none of its images are left"),
    ],
)
def test_what_keeps_a_study_is_told(
    record: Engine, files: Files, tmp_path: Path, clock: Clock, done: str, why: str
) -> None:
    store_study(record, files)
    if done != "received":
        state = JobState.FAILED if done == "failed" else JobState.DONE
        answer_study(record, files, state=state, to=() if done == "went nowhere" else ("PACS",))
    if done in ("sent", "removed"):
        mark_sent(record)
    clock.pass_(DAY)
    retention = Retention(record, settings_with_retention(tmp_path, commitment=done == "sent"))
    assert retention.remove(STUDY) == (done == "removed")
    (told,) = retention.why_kept(STUDY)
    assert why in told


@pytest.mark.parametrize("last", ["image", "image again", "answer", "delivery"])
def test_the_days_are_counted_from_the_last_that_happened(
    record: Engine, files: Files, tmp_path: Path, clock: Clock, last: str
) -> None:
    images = store_study(record, files, count=1)
    if last == "delivery":
        answer_study(record, files)
    clock.pass_(0.75 * DAY)
    if last == "image again":
        with record.begin() as connection:
            connection.execute(studies.update().values(state=StudyState.SET_ASIDE))
        store_study(record, files, count=1)
    elif last == "image":
        store_study(record, files)
        with record.begin() as connection:
            connection.execute(studies.update().values(state=StudyState.SET_ASIDE))
    elif last == "answer":
        answer_study(record, files, state=JobState.SET_ASIDE)
    else:
        mark_sent(record)
    for days, is_there in ((0.75, True), (0.5, False)):
        clock.pass_(days * DAY)
        Retention(record, settings_with_retention(tmp_path)).turn()
        assert images[0].exists() == is_there


@pytest.mark.parametrize("what", ["unsent", "partly sent", "refused by the PACS", "failed", "running", "receiving"])
def test_what_is_not_delivered_never_goes(
    record: Engine, files: Files, tmp_path: Path, clock: Clock, what: str
) -> None:
    images = store_study(record, files)
    if what == "failed":
        answer_study(record, files, state=JobState.FAILED)
    elif what == "running":
        answer_study(record, files, state=JobState.RUNNING)
    elif what != "receiving":
        answer_study(record, files)
        mark_sent(record, {"unsent": 0, "partly sent": 1, "refused by the PACS": 1}[what])
    if what == "refused by the PACS":
        with record.begin() as connection:
            connection.execute(deliveries.update().where(deliveries.c.state != "sent").values(state="rejected"))
    clock.pass_(1000 * DAY)
    retention = Retention(record, settings_with_retention(tmp_path))
    retention.turn()
    assert not retention.remove(STUDY)
    assert all(path.exists() for path in images)
    assert len(rows(record, instances)) == 2


def test_without_a_destination_nobody_has_the_answer_and_nothing_goes(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    images = store_study(record, files)
    answer_study(record, files, to=())
    clock.pass_(1000 * DAY)
    Retention(record, settings_with_retention(tmp_path)).turn()
    assert all(path.exists() for path in images)


def test_a_study_whose_newest_answer_went_nowhere_is_kept_though_an_earlier_one_was_delivered(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    images = store_study(record, files)
    answer_study(record, files)
    mark_sent(record)
    revise(record, to=())
    clock.pass_(1000 * DAY)
    Retention(record, settings_with_retention(tmp_path)).turn()
    assert all(path.exists() for path in images)


def test_an_earlier_answer_that_a_note_has_withdrawn_before_it_was_delivered_keeps_nothing(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    images = store_study(record, files)
    withdrawn = answer_study(record, files)
    with record.begin() as connection:
        connection.execute(deliveries.update().values(state="rejected"))
    revise(record)
    assert len(rows(record, results)) - len(rows(record, deliveries)) == len(withdrawn)
    clock.pass_(2 * DAY)
    Retention(record, settings_with_retention(tmp_path)).turn()
    assert not any(path.exists() for path in images)


def test_where_commitment_is_asked_for_nothing_goes_before_it(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    images = store_study(record, files)
    answer_study(record, files)
    mark_sent(record)
    clock.pass_(1000 * DAY)
    retention = Retention(record, settings_with_retention(tmp_path, commitment=True))
    retention.turn()
    assert all(path.exists() for path in images)
    with record.begin() as connection:
        connection.execute(deliveries.update().values(committed_at=clock.seconds))
    retention.turn()
    assert not any(path.exists() for path in images)


def test_no_commitment_is_awaited_to_what_a_note_has_withdrawn(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    images = store_study(record, files)
    answer_study(record, files)
    mark_sent(record)
    newer = revise(record)
    with record.begin() as connection:
        theirs = deliveries.c.sop_instance_uid.in_(newer)
        connection.execute(deliveries.update().where(theirs).values(committed_at=clock.seconds))
    clock.pass_(2 * DAY)
    Retention(record, settings_with_retention(tmp_path, commitment=True)).turn()
    assert not any(path.exists() for path in images)


@pytest.mark.parametrize("again", [False, True])
def test_a_study_whose_images_are_just_arriving_is_not_removed_by_hand(
    record: Engine, files: Files, tmp_path: Path, clock: Clock, again: bool
) -> None:
    images = store_study(record, files)
    with record.begin() as connection:
        connection.execute(studies.update().values(state=StudyState.SET_ASIDE))
    if again:
        clock.pass_(1000 * DAY)
        store_study(record, files)
    retention = Retention(record, settings_with_retention(tmp_path))
    clock.pass_(299)
    assert not retention.remove(STUDY)
    assert all(path.exists() for path in images)
    clock.pass_(2)
    assert retention.remove(STUDY)


def test_a_study_that_was_set_aside_goes_by_age(record: Engine, files: Files, tmp_path: Path, clock: Clock) -> None:
    images = store_study(record, files)
    with record.begin() as connection:
        connection.execute(studies.update().values(state=StudyState.SET_ASIDE))
    clock.pass_(2 * DAY)
    Retention(record, settings_with_retention(tmp_path)).turn()
    assert not any(path.exists() for path in images)


def test_nothing_goes_by_age_unless_the_settings_say_so(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    images = store_study(record, files)
    answer_study(record, files)
    mark_sent(record)
    clock.pass_(1000 * DAY)
    Retention(record, settings_with_retention(tmp_path, keep_days=None)).turn()
    assert all(path.exists() for path in images)


def test_associations_go_with_the_last_study_they_brought(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    intake = Intake(record)
    both, still_open = (intake.open_association("SENDER", "HILUM", "127.0.0.1") for _ in range(2))
    store_study(record, files, "1.2.1")  # on its own association
    record_one(intake, instance("1.2.1.1.8", study="1.2.1"), both)
    record_one(intake, instance("1.2.1.1.9", study="1.2.1"), still_open)
    record_one(intake, instance("1.2.2.1.1", study="1.2.2"), both)
    intake.close_association(both.association_id)
    with record.begin() as connection:
        connection.execute(studies.update().values(state=StudyState.SET_ASIDE))
    retention = Retention(record, settings_with_retention(tmp_path))
    clock.pass_(301)

    assert retention.remove("1.2.1")
    assert {row["association_id"] for row in rows(record, associations)} == {
        both.association_id,
        still_open.association_id,
    }
    assert retention.remove("1.2.2")
    assert [row["association_id"] for row in rows(record, associations)] == [still_open.association_id]


def test_an_association_that_nobody_closed_is_forgotten_after_a_week_unless_it_brought_what_is_kept(
    record: Engine, tmp_path: Path, clock: Clock
) -> None:
    intake = Intake(record)
    left, brought = (intake.open_association("SENDER", "HILUM", "127.0.0.1") for _ in range(2))
    record_one(intake, instance(), brought)
    clock.pass_(6 * DAY)
    recent = intake.open_association("SENDER", "HILUM", "127.0.0.1")
    retention = Retention(record, settings_with_retention(tmp_path, keep_days=None))

    def kept() -> list[object]:
        return [row["association_id"] for row in rows(record, associations)]

    retention.turn()
    assert kept() == [one.association_id for one in (left, brought, recent)]
    clock.pass_(1.1 * DAY)
    retention.turn()
    assert kept() == [one.association_id for one in (brought, recent)]


def test_other_studies_are_left_alone(record: Engine, files: Files, tmp_path: Path, clock: Clock) -> None:
    gone, kept = store_study(record, files, "1.2.1"), store_study(record, files, "1.2.2")
    answer_study(record, files, "1.2.1")
    mark_sent(record)
    clock.pass_(2 * DAY)
    Retention(record, settings_with_retention(tmp_path)).turn()
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


def test_an_image_that_is_just_coming_in_again_is_not_removed(
    record: Engine, files: Files, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image, *_), _ = store_study(record, files), answer_study(record, files)
    mark_sent(record)
    clock.pass_(2 * DAY)
    os.utime(image, (clock.seconds, clock.seconds))  # written again, and not recorded yet
    Retention(record, settings_with_retention(tmp_path)).turn()
    assert image.exists()
    assert [path.name for path in image.parent.iterdir()] == [image.name]


def test_a_removal_that_was_cut_short_is_finished_at_the_next_start(
    record: Engine, files: Files, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = store_study(record, files)
    answer_study(record, files)
    mark_sent(record)
    clock.pass_(2 * DAY)
    with monkeypatch.context() as killed:
        killed.setattr(Files, "remove_study", lambda *_: None)
        assert Retention(record, settings_with_retention(tmp_path)).remove(STUDY, math.inf)
    assert all(path.exists() for path in images)
    Retention(record, settings_with_retention(tmp_path)).finish()
    assert not any(path.exists() for path in images)


def test_files_that_were_new_when_their_study_was_removed_go_an_hour_later(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    images, found = store_study(record, files), answer_study(record, files)
    mark_sent(record)
    clock.pass_(301)
    for path in (*images, *found):
        os.utime(path, (clock.seconds, clock.seconds))
    retention = Retention(record, settings_with_retention(tmp_path))
    assert retention.remove(STUDY)
    retention.turn()
    assert all(path.exists() for path in (*images, *found))
    clock.pass_(3601)
    retention.turn()
    assert not any(path.exists() for path in (*images, *found))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The warnings that are logged, as pairs of action and fields."""
    lines: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        "dicom_node.record.retention.log.warning", lambda action, **fields: lines.append((action, fields))
    )
    return lines


def keep_files_of(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the removal of a study's files fail."""
    remove = Files.remove_study

    def refuse(self: Files, study_instance_uid: str, time: float) -> None:
        if study_instance_uid == study:
            raise OSError(errno.EPERM, "Operation not permitted")
        remove(self, study_instance_uid, time)

    monkeypatch.setattr(Files, "remove_study", refuse)


def test_a_study_whose_files_cannot_be_removed_holds_up_no_other(
    record: Engine,
    files: Files,
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    told: list[tuple[str, dict[str, Any]]],
) -> None:
    keep_files_of("1.2.1", monkeypatch)
    retention = Retention(record, settings_with_retention(tmp_path))
    for others in (("1.2.1", "1.2.2"), ("1.2.3",)):  # first it is due with another, then left over
        images = {study: store_study(record, files, study) for study in others}
        with record.begin() as connection:
            connection.execute(studies.update().values(state=StudyState.SET_ASIDE))
        clock.pass_(2 * DAY)
        told.clear()
        retention.turn()
        assert {study: any(path.exists() for path in images[study]) for study in others} == {
            study: study == "1.2.1" for study in others
        }
        reason = {"reason": "Operation not permitted", "study_instance_uid": "1.2.1"}
        assert told == [("removal_failed", reason)]


def test_what_was_abandoned_and_cannot_be_removed_keeps_nothing_else_and_is_told_once_an_hour(
    record: Engine,
    files: Files,
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    told: list[tuple[str, dict[str, Any]]],
) -> None:
    def remove(part: Path) -> bool:
        if part.parent.name == "1.2.1":
            raise PermissionError(errno.EACCES, "Permission denied")
        return remove_abandoned(part)

    for part in (tmp_path / "priors" / study / "killed.part" for study in ("1.2.1", "1.2.2", "1.2.3")):
        files.write(part / "image.dcm", [b"half"])
        os.utime(part, (0, 0))
    monkeypatch.setattr("dicom_node.record.retention.remove_abandoned", remove)
    storage = StorageSettings(folder=tmp_path, warn_free_gib=2.0**40)
    retention = Retention(record, Settings.model_construct(storage=storage, destinations=()))
    retention.turn()
    assert told[1:] == [("removal_failed", {"reason": "Permission denied", "study_instance_uid": "1.2.1"})]
    assert [study for _, study in files.half_written()] == ["1.2.1"]
    clock.pass_(3599)
    retention.turn()
    assert [action for action, _ in told].count("removal_failed") == 1
    assert [action for action, _ in told].count("disk_low") == 2


def test_of_removed_studies_only_those_with_files_are_looked_at(
    record: Engine, files: Files, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    for study in ("1.2.1", "1.2.2"):
        store_study(record, files, study)
    with record.begin() as connection:
        connection.execute(studies.update().values(state=StudyState.SET_ASIDE))
    clock.pass_(2 * DAY)
    Retention(record, settings_with_retention(tmp_path)).turn()
    (tmp_path / "results" / "1.2.2").mkdir(parents=True)
    monkeypatch.setattr(Files, "remove_study", lambda _self, study, _time: looked_at.append(study))
    Retention(record, settings_with_retention(tmp_path)).finish()
    assert looked_at == ["1.2.2"]


def removed(record: Engine, files: Files, tmp_path: Path, clock: Clock) -> None:
    """Record a study that was answered and sent, and then removed by retention."""
    store_study(record, files)
    answer_study(record, files)
    mark_sent(record)
    clock.pass_(2 * DAY)
    Retention(record, settings_with_retention(tmp_path)).turn()


def test_a_study_that_is_sent_again_whole_after_its_removal_starts_nothing(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    removed(record, files, tmp_path, clock)
    store_study(record, files)
    with record.begin() as connection:
        stored = instances_of(record, STUDY)
    with record.begin() as connection:
        assert not enqueue(connection, STUDY, Priority.ROUTINE, stored, f"{STUDY}.1", None)


def test_a_given_up_study_that_was_removed_is_measured_once_it_is_sent_again(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    store_study(record, files)
    answer_study(record, files, state=JobState.REFUSED)
    mark_sent(record)
    with record.begin() as connection:
        connection.execute(jobs.update().values(given_up=True))
    clock.pass_(2 * DAY)
    Retention(record, settings_with_retention(tmp_path)).turn()
    queue = Jobs(record, JobSettings())
    assert queue.retry(STUDY) == 0
    images = store_study(record, files)
    stored = instances_of(record, STUDY)
    with record.begin() as connection:
        assert not enqueue(connection, STUDY, Priority.ROUTINE, stored, f"{STUDY}.1", None)
    assert queue.retry(STUDY) == 1
    job = queue.claim(str(rows(record, jobs)[0]["job_id"]))
    assert job
    assert sorted(job.paths) == sorted(images)


def test_images_that_come_after_the_removal_are_a_study_of_their_own(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    removed(record, files, tmp_path, clock)
    receive(Intake(record), instance(f"{STUDY}.1.99"))
    assert [one.sop_instance_uid for one in instances_of(record, STUDY)] == [f"{STUDY}.1.99"]


def test_no_promise_is_awaited_for_results_that_were_removed_before_it_was_asked_for(
    record: Engine, files: Files, tmp_path: Path, clock: Clock
) -> None:
    """Else a study that is sent again would stay for ever: commitment is not requested for objects that are gone."""
    removed(record, files, tmp_path, clock)
    images = store_study(record, files)
    with record.begin() as connection:
        connection.execute(studies.update().values(state=StudyState.SELECTED))
    clock.pass_(2 * DAY)
    Retention(record, settings_with_retention(tmp_path, commitment=True)).turn()
    assert not any(path.exists() for path in images)


def test_a_disk_that_fills_is_told_every_minute(
    record: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "dicom_node.record.retention.log.warning", lambda action, **fields: told.append({action: fields})
    )
    storage = StorageSettings(folder=tmp_path, warn_free_gib=2.0**40)
    waits: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            if len(waits) == 2:
                self.set()
            return self.is_set()

    Retention(record, Settings.model_construct(storage=storage, destinations=())).run(Stop())
    assert [list(event) for event in told] == [["disk_low"]] * 2
    assert waits == [60, 60]
