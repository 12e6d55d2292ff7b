"""The Celery worker: claim a job, run it, finish it. Apart from the demo, no other module here uses queue or record.

A bell is a Celery message that a job is due (`dicom_node.dispatch.doorbell`); the node rings again for lost ones.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from celery.signals import worker_ready
from sqlalchemy.exc import DBAPIError

from dicom_node.dispatch.doorbell import ANALYZE, listen, make_celery
from dicom_node.dispatch.jobs import Jobs
from dicom_node.errors import NotAnalysable, PassingFailure
from dicom_node.files import Files, keep_private, sync_tree
from dicom_node.log import configure_logging, get_logger
from dicom_node.record.database import open_database
from dicom_node.services import broker_url
from dicom_node.settings import Settings, load_settings
from dicom_node.study import Job
from worker.answer import Answer, answer_study
from worker.method import choose_method, use_threads
from worker.prior import leave_out_fetched, measure_fetched
from worker.reports.history import Prior, Unmeasured

log = get_logger()

STORAGE_PAUSE_SECONDS = 5.0
"""A worker whose storage fails pauses this long after each bell, so that other machines can do these jobs."""


def run_worker(_: argparse.Namespace) -> int:
    """Take jobs until told to stop; a running job is finished first."""
    settings = load_settings()
    configure_logging("worker")
    keep_private()
    use_threads(settings.worker.threads)
    app = make_celery(broker_url(settings))
    runner = JobRunner(settings)
    app.task(name=ANALYZE)(runner.run)
    worker_ready.connect(say_ready)
    return listen(app, f"hilum-{os.getpid()}@{platform.node()}")


def say_ready(**_: object) -> None:
    """Log that the worker takes jobs from now on."""
    log.info("worker_ready", pid=os.getpid())


class JobRunner:
    """Runs one job after another."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        engine = open_database(settings.database_url, settings.storage.folder)
        self._jobs = Jobs(engine, settings.jobs, settings.notification)
        self._files = Files(settings.storage.folder)
        self._method = choose_method(settings.worker)
        self._heartbeat = Heartbeat(self._jobs, settings.jobs.lease_seconds / 3)

    def run(self, job_id: str) -> None:
        """Claim, run and finish a job; a bell for a job that is already taken or done is ignored.

        While the storage fails, no job is claimed: this is not the job's fault and must not count as one of its
        attempts. The bell rings again later.
        """
        if not self._storage_works():
            time.sleep(STORAGE_PAUSE_SECONDS)
            return
        job = self._claim(job_id)
        if job is None:
            return
        started = time.monotonic()
        log.info("job_started", job_id=job_id, study_instance_uid=job.study_instance_uid, attempt=job.attempt)
        try:
            with self._heartbeat.prolonging(job):
                self._finish(job, self._answer(job))
        except PassingFailure as error:
            self._give_back(job, error.code, error.message)
        except MemoryError:
            self._give_back(job, "out-of-memory", "there was not enough memory")
        except Exception as error:  # the outermost handler: whatever broke, the study must be answered
            log.exception("job_broke", job_id=job_id, study_instance_uid=job.study_instance_uid)
            self._give_back(job, *failure_of(error))
        log.info(
            "job_ended",
            job_id=job_id,
            study_instance_uid=job.study_instance_uid,
            seconds=round(time.monotonic() - started, 2),
        )

    def _storage_works(self) -> bool:
        try:
            self._files.require_working()
        except OSError as error:
            log.warning("storage_fails", reason=error.strerror)
            return False
        return True

    def _claim(self, job_id: str) -> Job | None:
        try:
            return self._jobs.claim(job_id)
        except DBAPIError as error:
            log.warning("job_not_claimed", job_id=job_id, error=type(error.orig).__name__)  # the bell rings again
            return None

    def _answer(self, job: Job) -> Answer:
        rejection = NotAnalysable(*job.refusal) if job.refusal else None
        return answer_study(
            job.paths,
            rejection,
            self._results_folder(job),
            self._settings.report,
            self._heartbeat.progress,
            job.earlier,
            job.priors,
            self._method,
            list(self._others(job)),
        )

    def _others(self, job: Job) -> Iterable[Prior | Unmeasured]:
        """Measure the prior that was fetched for the comparison; skip it if an earlier attempt at the job failed.

        The prior may have been the cause: two studies need more time and memory than one.
        """
        fetched = self._files.prior_images(job.study_instance_uid)
        if job.refusal or not fetched or not self._settings.priors.analyze:
            return ()
        if job.attempt > 1:
            reason = "an earlier attempt to measure this study failed, so the prior was left out, to be safe"
            return leave_out_fetched(fetched, job.paths, reason)
        return measure_fetched(
            fetched,
            job.paths,
            self._settings.selection,
            self._method,
            lambda stage, share: self._heartbeat.progress(f"the prior: {stage}", share),
        )

    def _finish(self, job: Job, answer: Answer) -> None:
        """Sync the results to the disk, then enter them into the record and the outbox."""
        sync_tree(self._results_folder(job))
        destinations = [destination.name for destination in self._settings.destinations]
        finished = self._jobs.finish(job, answer.ending, answer.objects, destinations)
        log.info(
            "job_finished" if finished else "lease_lost",
            job_id=job.job_id,
            outcome=answer.ending.state.value,
            code=answer.ending.code,
        )
        if not finished:
            shutil.rmtree(self._results_folder(job))  # another worker has taken over, and its results count

    def _results_folder(self, job: Job) -> Path:
        return self._files.results_folder(job.study_instance_uid, job.job_id, job.lease_token)

    def _give_back(self, job: Job, code: str, message: str) -> None:
        """Give a job back, and remove the files that it wrote if this worker still held its lease.

        Otherwise the record may say that the job has ended, though the reply to that commit was lost, and rows may name
        these files. Files that no row names are removed with the study, like those of a worker that was killed.
        """
        log.warning(
            "job_failed", job_id=job.job_id, study_instance_uid=job.study_instance_uid, code=code, reason=message
        )
        try:
            was_ours = self._jobs.give_back(job, code, message)
        except DBAPIError as error:
            log.warning("job_not_given_back", job_id=job.job_id, error=type(error.orig).__name__)  # its lease expires
            return
        if was_ours:
            shutil.rmtree(self._results_folder(job), ignore_errors=True)


def failure_of(error: Exception) -> tuple[str, str]:
    """Return the code and the message for an error that no job should raise."""
    if isinstance(error, OSError) and error.strerror:  # libraries raise OSErrors of their own, without a strerror
        return "storage-failed", f"a file could not be written or read ({error.strerror}); see to the storage"
    return "defect", f"a defect of Hilum ({type(error).__name__}); its log says where"


class Heartbeat:
    """Renews a job's lease while it runs, and writes its stage into the record.

    Its one thread lives as long as the worker: a worker that a study has left without memory could not start another
    thread, and so could not even report the failure.
    """

    def __init__(self, jobs: Jobs, seconds: float) -> None:
        self._jobs = jobs
        self._seconds = seconds
        self._job: Job | None = None
        self._stage = ""
        self._changed = threading.Condition()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    @contextmanager
    def prolonging(self, job: Job) -> Iterator[None]:
        """Renew this job's lease while the ``with`` block runs."""
        self._turn_to(job)
        try:
            yield
        finally:
            self._turn_to(None)

    def progress(self, stage: str, share: float) -> None:
        """Remember the stage; the next heartbeat writes it into the record."""
        self._stage = f"{stage} ({share:.0%})"

    def _turn_to(self, job: Job | None) -> None:
        with self._changed:
            self._job, self._stage = job, ""
            self._changed.notify()

    def _beat(self) -> None:
        while True:
            with self._changed:
                changed = self._changed.wait(self._seconds if self._job else None)
                job = self._job
            if changed or job is None:
                continue
            try:
                self._jobs.renew(job, self._stage)
            except Exception as error:  # if this thread ended, no later job would keep its lease
                with suppress(MemoryError):
                    log.warning("heartbeat_failed", job_id=job.job_id, error=type(error).__name__)
