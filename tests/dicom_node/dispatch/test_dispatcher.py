"""From a whole study to a queued job, and lost jobs back to the queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedSRStorage, SegmentationStorage, XRayRadiationDoseSRStorage
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from dicom_node.dispatch.dispatcher import Dispatcher
from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.priors import Patient, PriorFetcher
from dicom_node.errors import PassingFailure
from dicom_node.files import Files
from dicom_node.receive.intake import Intake
from dicom_node.record.schema import instances, job_inputs, jobs, series, studies
from dicom_node.settings import JobSettings, NodeSettings, SelectionSettings, Settings, StorageSettings
from dicom_node.study import Ending, Instance, JobState, Priority, Reception, StudyActivity, StudyState
from tests.dicom_node.recording import Bell, Clock, claimed, instance, receive, results_of, rows, take_turn
from tests.factories import ct_series
from tests.services import wait_until

HU = np.full((4, 8, 8), -800, np.int16)
SETTINGS = Settings.model_construct(
    node=NodeSettings(quiet_seconds=30, association_idle_seconds=60),
    selection=SelectionSettings.model_construct(minimum_slices=3, minimum_extent_mm=10.0),  # few small slices
    jobs=JobSettings(lease_seconds=60, sweep_seconds=15),
)


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def dispatcher(record: Engine, bell: Bell, clock: Clock, tmp_path: Path) -> Dispatcher:
    settings = SETTINGS.model_copy(update={"storage": StorageSettings(folder=tmp_path / "storage")})
    return Dispatcher(record, bell, settings)  # type: ignore[arg-type]  # rings as a Doorbell does


Send = Callable[..., list[Reception]]


@pytest.fixture
def send(record: Engine, tmp_path: Path) -> Send:
    """Store files and record them, as the receiver does."""
    files, intake = Files(tmp_path / "storage"), Intake(record)

    def stored(path: Path) -> Instance:
        ds, content = pydicom.dcmread(path, stop_before_pixels=True), path.read_bytes()
        received = instance(
            ds.SOPInstanceUID,
            content.hex(),
            study=ds.StudyInstanceUID,
            series=ds.SeriesInstanceUID,
            sop_class=ds.SOPClassUID,
        )
        place = files.instance_path(
            received.study_instance_uid, received.series_instance_uid, received.sop_instance_uid, received.sha256
        )
        files.write(place, (content,))
        return Instance(**{**vars(received), "path": place})

    def send(paths: list[Path], priority: Priority = Priority.ROUTINE) -> list[Reception]:
        return receive(intake, *(stored(path) for path in paths), priority=priority)

    return send


def pass_quiet(dispatcher: Dispatcher, clock: Clock) -> None:
    clock.pass_(31)
    take_turn(dispatcher)


def jobs_in(record: Engine) -> list[dict[str, Any]]:
    """Return the jobs, the oldest first."""
    return sorted(rows(record, jobs), key=lambda job: float(str(job["created_at"])))


def chest(folder: Path, study: str = "1.2.3", series_uid: str = "1.2.3.1", **attributes: Any) -> list[Path]:
    attributes = {"StudyInstanceUID": study, "SeriesInstanceUID": series_uid} | attributes
    return ct_series(folder, HU, **attributes)


def test_an_urgent_study_is_dispatched_before_those_that_came_first(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch = Dispatcher.dispatch

    def dispatch_in_a_second(self: Dispatcher, activity: StudyActivity) -> None:
        clock.pass_(1)
        dispatch(self, activity)

    monkeypatch.setattr(Dispatcher, "dispatch", dispatch_in_a_second)
    send(chest(tmp_path / "routine"))
    send(chest(tmp_path / "stat", "1.2.4", "1.2.4.1"), Priority.STAT)
    pass_quiet(dispatcher, clock)
    assert [job["study_instance_uid"] for job in jobs_in(record)] == ["1.2.4", "1.2.3"]


def test_an_urgent_study_that_came_while_a_pacs_was_slow_overtakes_those_that_wait(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(self: PriorFetcher, uid: str, *_: object) -> None:
        clock.pass_(60)
        if uid == "1.2.3":
            send(chest(tmp_path / "stat", "1.2.5", "1.2.5.1"), Priority.STAT)
            clock.pass_(60)

    monkeypatch.setattr(PriorFetcher, "fetch", fetch)
    send(chest(tmp_path / "first"))
    send(chest(tmp_path / "second", "1.2.4", "1.2.4.1"))
    clock.pass_(31)
    for _ in range(3):
        take_turn(dispatcher)
    assert [job["study_instance_uid"] for job in jobs_in(record)] == ["1.2.3", "1.2.5", "1.2.4"]


def test_nothing_happens_before_the_quiet_time(
    dispatcher: Dispatcher, send: Send, record: Engine, bell: Bell, tmp_path: Path
) -> None:
    send(chest(tmp_path))
    take_turn(dispatcher)
    assert jobs_in(record) == []
    assert bell.rung == []


def test_a_whole_study_becomes_one_job_with_its_series_and_rings_once(
    dispatcher: Dispatcher, send: Send, record: Engine, bell: Bell, clock: Clock, tmp_path: Path
) -> None:
    send(chest(tmp_path))
    pass_quiet(dispatcher, clock)
    take_turn(dispatcher)
    (job,) = jobs_in(record)
    assert (job["series_instance_uid"], job["revision"], job["priority"]) == ("1.2.3.1", 1, Priority.ROUTINE)
    assert len(rows(record, job_inputs)) == 4
    assert bell.rung == [(job["job_id"], Priority.ROUTINE)]
    assert rows(record, studies)[0]["state"] == StudyState.SELECTED


def test_identical_re_sends_make_no_job(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    paths = chest(tmp_path)
    send(paths)
    pass_quiet(dispatcher, clock)
    assert send(paths) == [Reception.IDENTICAL] * 4
    pass_quiet(dispatcher, clock)
    assert len(jobs_in(record)) == 1


def test_a_late_image_of_the_series_makes_a_second_revision(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    first, *rest = chest(tmp_path)
    send(rest)
    pass_quiet(dispatcher, clock)
    send([first])
    pass_quiet(dispatcher, clock)
    assert [job["revision"] for job in jobs_in(record)] == [1, 2]
    inputs = [row["job_id"] for row in rows(record, job_inputs)]
    assert [inputs.count(job["job_id"]) for job in jobs_in(record)] == [3, 4]


def test_a_study_is_dispatched_though_its_sender_died_with_the_node_before_the_clock_was_set_back(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *rest = chest(tmp_path)
    with monkeypatch.context() as dying:
        dying.setattr(Intake, "close_association", lambda *_: None)
        send([first])
    take_turn(dispatcher)
    clock.jump(-12 * 3600)
    send(rest)
    take_turn(dispatcher)
    assert jobs_in(record) == []
    clock.pass_(61)
    take_turn(dispatcher)
    assert len(jobs_in(record)) == 1


def test_a_late_series_that_is_not_chosen_makes_no_revision(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    send(chest(tmp_path / "a"))
    pass_quiet(dispatcher, clock)
    send(chest(tmp_path / "b", series_uid="1.2.3.2", ConvolutionKernel="LUNG"))
    pass_quiet(dispatcher, clock)
    assert len(jobs_in(record)) == 1
    reasons = {str(row["series_instance_uid"]): str(row["reason"]) for row in rows(record, series)}
    assert reasons["1.2.3.1"].startswith("selected")
    assert "was preferred to" in reasons["1.2.3.2"]


def test_a_better_series_that_comes_late_makes_a_revision(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    send(chest(tmp_path / "a", ConvolutionKernel="LUNG"))
    pass_quiet(dispatcher, clock)
    send(chest(tmp_path / "b", series_uid="1.2.3.2"))
    pass_quiet(dispatcher, clock)
    assert [job["series_instance_uid"] for job in jobs_in(record)] == ["1.2.3.1", "1.2.3.2"]


@pytest.mark.parametrize(
    "late",
    [
        {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]},
        {"Modality": "SR", "SOPClassUID": XRayRadiationDoseSRStorage},
    ],
)
def test_what_comes_after_the_removal_and_cannot_be_measured_leaves_the_measurement(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path, late: dict[str, Any]
) -> None:
    send(chest(tmp_path / "a"))
    pass_quiet(dispatcher, clock)
    queue = Jobs(record, JobSettings())
    job = queue.claim(str(jobs_in(record)[0]["job_id"]))
    assert job
    assert queue.finish(job, Ending(JobState.DONE), results_of("1.2.3"), ())
    with record.begin() as connection:  # as retention removes them
        connection.execute(job_inputs.delete())
        connection.execute(instances.delete())
    send(chest(tmp_path / "b", series_uid="1.2.3.2", **late))
    pass_quiet(dispatcher, clock)
    assert [job["state"] for job in jobs_in(record)] == [JobState.DONE]
    (study,) = rows(record, studies)
    assert study["state"] == StudyState.SELECTED
    assert str(study["reason"]).startswith("the earlier answer stays: ")


def test_our_own_results_routed_back_start_nothing(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, bell: Bell, tmp_path: Path
) -> None:
    send(chest(tmp_path))
    pass_quiet(dispatcher, clock)
    queue = Jobs(record, SETTINGS.jobs)
    job = claimed(queue, bell.rung[0][0])
    queue.finish(job, Ending(JobState.DONE), results_of(), ["PACS"])
    own = [instance(result.sop_instance_uid, sop_class=result.sop_class_uid) for result in results_of()]
    assert receive(Intake(record), *own) == [Reception.OWN_RESULT] * 2
    pass_quiet(dispatcher, clock)
    assert len(jobs_in(record)) == 1


def test_a_conflicting_image_makes_no_revision_and_the_first_bytes_are_measured(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    paths = chest(tmp_path / "a")
    send(paths)
    other = pydicom.dcmread(paths[0])
    other.PatientComments = "changed"
    other.save_as(tmp_path / "other.dcm")
    assert send([tmp_path / "other.dcm"]) == [Reception.CONFLICT]
    pass_quiet(dispatcher, clock)
    assert len(rows(record, instances)) == 5
    assert len(rows(record, job_inputs)) == 4


def test_a_study_without_ct_is_set_aside_with_its_reason(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, bell: Bell, tmp_path: Path
) -> None:
    send(chest(tmp_path, Modality="SEG", SOPClassUID=SegmentationStorage))
    pass_quiet(dispatcher, clock)
    (study,) = rows(record, studies)
    assert (study["state"], study["reason"]) == (
        StudyState.SET_ASIDE,
        "expected CT slices; this study holds none",
    )
    assert bell.rung == []


def test_a_chest_ct_that_cannot_be_measured_becomes_a_job_that_only_reports(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    send(chest(tmp_path)[:2])
    pass_quiet(dispatcher, clock)
    (job,) = jobs_in(record)
    assert (job["refusal_code"], job["series_instance_uid"]) == ("no-fitting-series", None)
    assert len(rows(record, job_inputs)) == 2


@pytest.mark.parametrize("how", ["called AE title", "requested procedure priority"])
def test_what_is_urgent_goes_to_the_stat_queue(
    dispatcher: Dispatcher, send: Send, clock: Clock, bell: Bell, tmp_path: Path, how: str
) -> None:
    by_title = how == "called AE title"
    paths = chest(tmp_path, RequestedProcedurePriority="ROUTINE" if by_title else "STAT")
    send(paths, Priority.STAT if by_title else Priority.ROUTINE)
    pass_quiet(dispatcher, clock)
    assert [priority for _, priority in bell.rung] == [Priority.STAT]


def test_a_late_image_changes_no_refusal_of_a_removed_study(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    send(chest(tmp_path / "a"))
    pass_quiet(dispatcher, clock)
    queue = Jobs(record, JobSettings())
    job = claimed(queue, jobs_in(record)[0]["job_id"])
    queue.finish(job, Ending(JobState.REFUSED), results_of(), ())
    with record.begin() as connection:  # as retention removes them
        connection.execute(job_inputs.delete())
        connection.execute(instances.delete())
        connection.execute(studies.update().values(removed_at=clock.seconds))
    send(chest(tmp_path / "b")[:1])
    pass_quiet(dispatcher, clock)
    assert [job["state"] for job in jobs_in(record)] == [JobState.REFUSED]


def test_the_patient_is_that_of_the_chosen_series(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    """Issuer of Patient ID is optional, so a modality's other objects may lack it."""
    other = {"SOPClassUID": EnhancedSRStorage, "Modality": "SR"}
    send(
        chest(tmp_path / "chosen", PatientID="4711", IssuerOfPatientID="HOSPITAL")
        + chest(tmp_path / "other", series_uid="1.2.3.2", PatientID="4711", **other)[:1]
    )
    pass_quiet(dispatcher, clock)
    assert [study["patient_key"] for study in rows(record, studies)] == [Patient("4711", "HOSPITAL").key]


def test_an_image_without_a_patient_id_leaves_the_study_its_patient(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    """The worker measures such a series too, under the ID that its other images have."""
    send(chest(tmp_path / "some", PatientID="4711") + chest(tmp_path / "one", PatientID="", InstanceNumber=99)[:1])
    pass_quiet(dispatcher, clock)
    assert [study["patient_key"] for study in rows(record, studies)] == [Patient("4711", "").key]


def test_a_broker_that_is_down_loses_nothing(
    dispatcher: Dispatcher, send: Send, clock: Clock, bell: Bell, record: Engine, tmp_path: Path
) -> None:
    send(chest(tmp_path))
    bell.broken = True
    with pytest.raises(PassingFailure):
        pass_quiet(dispatcher, clock)
    bell.broken = False
    clock.pass_(15)
    take_turn(dispatcher)
    assert [job_id for job_id, _ in bell.rung] == [jobs_in(record)[0]["job_id"]]


def test_a_job_whose_worker_died_rings_again(
    dispatcher: Dispatcher, send: Send, clock: Clock, bell: Bell, record: Engine, tmp_path: Path
) -> None:
    send(chest(tmp_path))
    pass_quiet(dispatcher, clock)
    assert Jobs(record, SETTINGS.jobs).claim(bell.rung[0][0])
    bell.unheard = 0
    clock.pass_(61)
    take_turn(dispatcher)
    assert len(bell.rung) == 2


def test_a_study_whose_files_cannot_be_read_waits_and_holds_up_no_other(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path
) -> None:
    send(chest(tmp_path / "a", "1.2.1"))
    send(chest(tmp_path / "b", "1.2.2"))
    (gone,) = (tmp_path / "storage" / "instances" / "1.2.1").iterdir()
    gone.rename(tmp_path / "unmounted")
    pass_quiet(dispatcher, clock)
    assert [job["study_instance_uid"] for job in jobs_in(record)] == ["1.2.2"]
    (tmp_path / "unmounted").rename(gone)
    clock.pass_(2)
    take_turn(dispatcher)
    assert [job["study_instance_uid"] for job in jobs_in(record)] == ["1.2.2", "1.2.1"]


def take_turns_for(dispatcher: Dispatcher, clock: Clock, seconds: int) -> list[str]:
    """Take a turn every five seconds for this many seconds; return the logged events."""
    with capture_logs() as logged:
        for _ in range(seconds // 5):
            clock.pass_(5)
            take_turn(dispatcher)
    return [line["event"] for line in logged]


def test_a_study_with_an_image_that_stays_unreadable_is_answered_all_the_same(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path
) -> None:
    send(chest(tmp_path))
    Path(str(rows(record, instances)[0]["path"])).unlink()
    pass_quiet(dispatcher, clock)
    logged = take_turns_for(dispatcher, clock, 240)
    assert jobs_in(record) == []
    logged += take_turns_for(dispatcher, clock, 60)
    (job,) = jobs_in(record)
    assert (job["series_instance_uid"], job["refusal_code"], len(rows(record, job_inputs))) == ("1.2.3.1", None, 4)
    assert logged.count("dispatch_failed") < 10
    assert rows(record, studies)[0]["reason"] == "1 of 4 stored files could not be read"
    assert str(rows(record, series)[0]["reason"]).endswith(", 1 of 4 stored files could not be read")


def test_failures_of_another_kind_do_not_count_as_attempts_to_read(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: StudyActivity) -> None:
        raise OperationalError(None, None, Exception("away"))

    send(chest(tmp_path))
    with monkeypatch.context() as database_away:
        database_away.setattr(dispatcher, "dispatch", fails)
        take_turns_for(dispatcher, clock, 3600)
    Path(str(rows(record, instances)[0]["path"])).unlink()
    while not (jobs_in(record) or rows(record, studies)[0]["reason"]):
        take_turns_for(dispatcher, clock, 5)
    assert jobs_in(record) == []


def lose(record: Engine, series_uid: str) -> list[Path]:
    """Make the files of a series disappear from their paths; return the paths."""
    paths = [Path(str(row["path"])) for row in rows(record, instances) if row["series_instance_uid"] == series_uid]
    for path in paths:
        path.rename(path.with_suffix(".lost"))
    return paths


def test_a_study_waits_for_the_images_of_a_series_that_might_be_the_better_one(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path
) -> None:
    send(chest(tmp_path / "smooth"))
    send(chest(tmp_path / "sharp", series_uid="1.2.3.2", ConvolutionKernel="LUNG"))
    lost = lose(record, "1.2.3.1")
    take_turns_for(dispatcher, clock, 1200)
    assert jobs_in(record) == []
    assert "a stored file cannot be read" in str(rows(record, studies)[0]["reason"])
    for path in lost:
        path.with_suffix(".lost").rename(path)
    take_turns_for(dispatcher, clock, 600)
    assert [job["series_instance_uid"] for job in jobs_in(record)] == ["1.2.3.1"]
    assert rows(record, studies)[0]["reason"] == ""


@pytest.mark.parametrize(
    "attributes", [{"ConvolutionKernel": "LUNG"}, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}]
)
def test_a_study_does_not_wait_for_images_of_a_series_that_cannot_be_the_better_one(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path, attributes: dict[str, Any]
) -> None:
    send(chest(tmp_path / "smooth"))
    send(chest(tmp_path / "other", series_uid="1.2.3.2", **attributes))
    lost = next(row["path"] for row in rows(record, instances) if row["series_instance_uid"] == "1.2.3.2")
    Path(str(lost)).unlink()
    take_turns_for(dispatcher, clock, 1200)
    assert [job["series_instance_uid"] for job in jobs_in(record)] == ["1.2.3.1"]
    assert rows(record, studies)[0]["reason"] == "1 of 8 stored files could not be read"


def test_a_lost_scout_holds_back_no_study(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path
) -> None:
    send(chest(tmp_path / "chest"))
    send(chest(tmp_path / "scout", series_uid="1.2.3.2")[:1])
    lose(record, "1.2.3.2")
    take_turns_for(dispatcher, clock, 1200)
    assert [job["series_instance_uid"] for job in jobs_in(record)] == ["1.2.3.1"]


def test_lost_files_that_are_no_ct_images_keep_no_study_and_are_told(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path
) -> None:
    send(chest(tmp_path / "a"))
    send(chest(tmp_path / "b", series_uid="1.2.3.2", Modality="SEG", SOPClassUID=SegmentationStorage))
    lose(record, "1.2.3.2")
    take_turns_for(dispatcher, clock, 1200)
    assert [job["series_instance_uid"] for job in jobs_in(record)] == ["1.2.3.1"]
    assert rows(record, studies)[0]["reason"] == "4 of 8 stored files could not be read"
    reasons = {row["series_instance_uid"]: row["reason"] for row in rows(record, series)}
    assert reasons["1.2.3.2"] == "4 of 4 stored files could not be read"


def test_a_study_without_a_readable_image_waits_with_its_reason_until_they_are_back(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path
) -> None:
    send(chest(tmp_path))
    (gone,) = (tmp_path / "storage" / "instances" / "1.2.3").iterdir()
    gone.rename(tmp_path / "aside")
    pass_quiet(dispatcher, clock)
    (study,) = rows(record, studies)
    assert study["state"] == StudyState.RECEIVING
    assert "a stored file cannot be read" in str(study["reason"])
    assert len(take_turns_for(dispatcher, clock, 1200)) < 20
    assert [study["state"] for study in rows(record, studies)] == [StudyState.RECEIVING]
    (tmp_path / "aside").rename(gone)
    take_turns_for(dispatcher, clock, 600)
    assert [(job["series_instance_uid"], job["refusal_code"]) for job in jobs_in(record)] == [("1.2.3.1", None)]
    assert rows(record, studies)[0]["reason"] == ""


def test_while_the_storage_is_away_no_image_counts_as_lost_and_studies_go_on_soon_after(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path
) -> None:
    send(chest(tmp_path))
    storage = tmp_path / "storage"
    storage.rename(tmp_path / "unmounted")
    storage.mkdir()
    logged = take_turns_for(dispatcher, clock, 1200)
    assert len(logged) <= 121
    (study,) = rows(record, studies)
    assert study["state"] == StudyState.RECEIVING
    assert "see that the storage is mounted" in str(study["reason"])
    storage.rmdir()
    (tmp_path / "unmounted").rename(storage)
    Path(str(rows(record, instances)[0]["path"])).rename(tmp_path / "late.dcm")  # some come back later than others
    take_turns_for(dispatcher, clock, 30)
    assert jobs_in(record) == []
    (tmp_path / "late.dcm").rename(str(rows(record, instances)[0]["path"]))
    take_turns_for(dispatcher, clock, 60)
    assert [(job["series_instance_uid"], job["refusal_code"]) for job in jobs_in(record)] == [("1.2.3.1", None)]


def test_a_study_that_nobody_foresaw_holds_up_no_other_and_is_left_alone_longer_and_longer(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    dispatch = dispatcher.dispatch

    def breaks(activity: StudyActivity) -> None:
        if activity.study_instance_uid == "1.2.1":
            tried.append(clock.steady)
            raise MemoryError
        dispatch(activity)

    monkeypatch.setattr(dispatcher, "dispatch", breaks)
    send(chest(tmp_path / "a", "1.2.1"))
    send(chest(tmp_path / "b", "1.2.2"))
    clock.pass_(31)
    for _ in range(200):
        take_turn(dispatcher)
        clock.pass_(10)
    assert [job["study_instance_uid"] for job in jobs_in(record)] == ["1.2.2"]
    (reason,) = (row["reason"] for row in rows(record, studies) if row["study_instance_uid"] == "1.2.1")
    assert reason == "a defect of Hilum (MemoryError); its log says where"
    pauses = list(np.diff(tried))
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] <= 600


def test_a_study_that_broke_once_is_dispatched_after_a_pause(
    dispatcher: Dispatcher, send: Send, clock: Clock, record: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(chest(tmp_path))
    with monkeypatch.context() as short_of_memory:
        short_of_memory.setattr(dispatcher, "dispatch", lambda _: [][1])
        pass_quiet(dispatcher, clock)
    clock.pass_(5)
    take_turn(dispatcher)
    assert len(jobs_in(record)) == 1


def test_bells_do_not_pile_up_while_jobs_wait_for_a_worker(
    dispatcher: Dispatcher, send: Send, clock: Clock, bell: Bell, tmp_path: Path
) -> None:
    send(chest(tmp_path))
    pass_quiet(dispatcher, clock)
    for _ in range(20):
        clock.pass_(15)
        take_turn(dispatcher)
    assert len(bell.rung) == 1


def test_bells_that_the_broker_forgot_ring_again_within_the_sweep_interval(
    dispatcher: Dispatcher, send: Send, clock: Clock, bell: Bell, tmp_path: Path
) -> None:
    send(chest(tmp_path / "a", "1.2.1"))
    send(chest(tmp_path / "b", "1.2.2"))
    pass_quiet(dispatcher, clock)
    bell.unheard = 0
    clock.pass_(15)
    take_turn(dispatcher)
    assert len(bell.rung) == 4


def test_two_dispatchers_make_one_job(record: Engine, send: Send, clock: Clock, bell: Bell, tmp_path: Path) -> None:
    send(chest(tmp_path))
    clock.pass_(31)
    start = threading.Barrier(2)

    def turn() -> None:
        start.wait()
        take_turn(Dispatcher(record, bell, SETTINGS))  # type: ignore[arg-type]  # rings as a Doorbell does

    threads = [threading.Thread(target=turn) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs_in(record)) == 1
    assert len(bell.rung) == 1


def test_a_clock_set_back_does_not_hold_up_a_study(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, bell: Bell, tmp_path: Path
) -> None:
    send(chest(tmp_path))
    take_turn(dispatcher)
    clock.jump(-86_400)
    pass_quiet(dispatcher, clock)
    assert [job_id for job_id, _ in bell.rung] == [job["job_id"] for job in jobs_in(record)] != []


def test_a_clock_set_forward_does_not_cut_a_study_short(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    take_turn(dispatcher)
    send(chest(tmp_path))
    clock.pass_(1)
    clock.jump(3600)
    take_turn(dispatcher)
    assert jobs_in(record) == []


def test_a_broker_that_hangs_holds_up_no_study(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, bell: Bell, tmp_path: Path
) -> None:
    hangs, rung, stop = threading.Event(), threading.Event(), threading.Event()

    def ring(_job_id: str, _priority: Priority) -> None:
        rung.set()
        hangs.wait(30)

    bell.ring = ring  # type: ignore[method-assign]  # a broker that accepts the connection and never answers
    send(chest(tmp_path / "a", "1.2.1"))
    clock.pass_(31)
    running = threading.Thread(target=dispatcher.run, args=(stop,))
    running.start()
    try:
        assert rung.wait(10)
        send(chest(tmp_path / "b", "1.2.2"))
        clock.pass_(31)
        wait_until(lambda: len(jobs_in(record)) == 2, "the second job", 10)
    finally:
        stop.set()
        hangs.set()
        running.join()


def test_the_reason_of_an_unreadable_file_stands_under_its_own_series(
    dispatcher: Dispatcher, send: Send, record: Engine, clock: Clock, tmp_path: Path
) -> None:
    paths = chest(tmp_path)
    send(paths)
    for stored in rows(record, instances):
        Path(str(stored["path"])).write_bytes(b"")
    pass_quiet(dispatcher, clock)
    assert [(row["series_instance_uid"], row["reason"]) for row in rows(record, series)] == [
        ("1.2.3.1", "4 objects could not be read as DICOM")
    ]
