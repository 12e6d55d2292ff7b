"""Studies with files in the storage: received, answered and delivered."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Engine

from dicom_node.deliver.outbox import Outbox
from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.received import instances_of
from dicom_node.dispatch.transitions import enqueue
from dicom_node.files import Files
from dicom_node.receive.intake import Intake
from dicom_node.record.schema import jobs, studies
from dicom_node.settings import DeliverySettings, Destination, JobSettings, Settings, StorageSettings
from dicom_node.study import Ending, JobState, Priority
from tests.dicom_node.recording import STUDY, instance, receive, results_of, rows


def settings_with_retention(folder: Path, *, commitment: bool = False, keep_days: float | None = 1.0) -> Settings:
    """Return settings with a PACS, and with a limit of age for the studies in a folder."""
    pacs = Destination(name="PACS", ae_title="PACS", host="127.0.0.1", port=104, storage_commitment=commitment)
    storage = StorageSettings(folder=folder, keep_days=keep_days)
    return Settings.model_construct(storage=storage, destinations=(pacs,))


def store_study(record: Engine, files: Files, study: str = STUDY, count: int = 2) -> list[Path]:
    """Receive images whose files were written long ago; return their paths."""
    stored = []
    for number in range(count):
        one = instance(f"{study}.1.{number}", study=study)
        one = replace(one, path=files.instance_path(study, one.series_instance_uid, one.sop_instance_uid, one.sha256))
        files.write(one.path, [b"image"])
        os.utime(one.path, (0, 0))
        stored.append(one)
    receive(Intake(record), *stored)
    return [one.path for one in stored]


def answer_study(
    record: Engine, files: Files, study: str = STUDY, state: JobState = JobState.DONE, to: tuple[str, ...] = ("PACS",)
) -> list[Path]:
    """Dispatch and answer a study; return the paths of its results."""
    inputs = instances_of(record, study)
    with record.begin() as connection:
        connection.execute(studies.update().where(studies.c.study_instance_uid == study).values(state="selected"))
        enqueue(connection, study, Priority.ROUTINE, inputs, f"{study}.1", None)
    queue = Jobs(record, JobSettings())
    (job_id,) = [row["job_id"] for row in rows(record, jobs) if row["study_instance_uid"] == study]
    job = queue.claim(str(job_id))
    assert job
    folder = files.results_folder(study, job.job_id, job.lease_token)
    found = results_of(study, folder) if state in (JobState.DONE, JobState.REFUSED) else ()
    for result in found:
        files.write(result.path, [b"result"])
        os.utime(result.path, (0, 0))
    assert queue.finish(job, Ending(state), found, to)
    return [result.path for result in found]


def mark_sent(record: Engine, count: int = 2) -> None:
    """Record that the PACS has accepted results that wait for it."""
    outbox = Outbox(record, DeliverySettings())
    token, due = outbox.claim("PACS")
    for delivery in due[:count]:
        outbox.sent(token, delivery, 0x0000)
