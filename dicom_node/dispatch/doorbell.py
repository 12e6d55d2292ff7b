"""The doorbell: a Celery message, through Redis, that tells a worker the id of a job that is due.

To ring is to send such a message, a bell. A bell may be lost: the record holds the job, and the sweep rings again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError

from dicom_node.errors import PassingFailure
from dicom_node.study import Priority

ANALYZE = "hilum.analyze"
"""The name of the only Celery task: the node publishes by name and never imports the worker."""


def make_celery(broker_url: str) -> Celery:
    """Return the Celery application that node and worker share."""
    app = Celery("hilum", broker=broker_url)
    app.conf.update(
        # No limit to unacknowledged bells: with one, a worker that could not acknowledge a bell because Redis died at
        # that moment would never hear another. It still takes one job at a time (solo pool), and the sweep rings again
        # for jobs whose bells were lost.
        worker_prefetch_multiplier=0,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # by default a worker ends after 47 minutes without Redis
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        # By default, Redis queues are served in turn. With "priority", every stat job goes before any routine one.
        broker_transport_options={
            "queue_order_strategy": "priority",
            "max_retries": 0,  # by default kombu retries for six seconds; here the next turn tries again
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
        },
    )
    return app


def listen(app: Celery, hostname: str) -> int:
    """Run a worker until told to stop: one job at a time, and every stat job before any routine one.

    Returns
    -------
    int
        The process's exit status. Celery's own command line drops it, so that a worker that broke would look like
        one that was told to stop.
    """
    worker = app.Worker(
        hostname=hostname,
        pool_cls="solo",
        queues=[Priority.STAT.value, Priority.ROUTINE.value],
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return 1 if worker.exitcode is None else worker.exitcode


@contextmanager
def broker_failures() -> Iterator[None]:
    """Turn the exceptions that Celery raises if the broker does not answer into a PassingFailure."""
    try:
        yield
    except (OperationalError, RedisError, OSError) as error:
        raise PassingFailure("broker-unreachable", "Redis does not answer; check broker.url and the server") from error


class Doorbell:
    """Rings for jobs, and counts the bells that no worker has heard yet."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring(self, job_id: str, priority: Priority) -> None:
        """Put the job's id into its queue.

        Raises
        ------
        PassingFailure
            The broker does not answer; the sweep will ring again.
        """
        with broker_failures():
            self._app.send_task(ANALYZE, args=(job_id,), queue=priority.value, retry=False)

    def count_unheard(self, priority: Priority) -> int:
        """Return how many bells of a queue no worker has heard yet.

        Raises
        ------
        PassingFailure
            The broker does not answer.
        """
        with broker_failures(), self._app.connection_or_acquire() as connection:
            count: int = connection.default_channel.queue_declare(queue=priority.value).message_count
            return count
