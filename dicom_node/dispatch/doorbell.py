"""The doorbell: a job's id through Celery on Redis. It may be lost; the record may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError

from dicom_node.errors import PassingFailure
from dicom_node.study import Priority

ANALYZE = "hilum.analyze"
"""The one task's name: the node publishes by name and never imports the worker."""


def make_celery(broker_url: str) -> Celery:
    """Return the Celery application that node and worker share."""
    app = Celery("hilum", broker=broker_url)
    app.conf.update(
        # No limit to unacknowledged bells: a worker that could not acknowledge one, because Redis died just then, would
        # hear no other. It takes one job at a time all the same (solo pool), and the sweep rings again for lost ones.
        worker_prefetch_multiplier=0,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # by default a worker ends after 47 minutes without Redis
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        # By default Redis queues are served in turn; so every stat job goes before any routine one.
        broker_transport_options={
            "queue_order_strategy": "priority",
            "max_retries": 0,  # else six seconds of trying again; the next turn does that
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
        },
    )
    return app


def listen(app: Celery, hostname: str) -> int:
    """Hear bells until told to stop: one job at a time, and every stat job before any routine one.

    Returns
    -------
    int
        The process's exit status. Celery's own command line drops it, and a worker that breaks would seem to have
        been told to stop.
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
    """Turn what Celery raises on a broker that does not answer into a passing failure."""
    try:
        yield
    except (OperationalError, RedisError, OSError) as error:
        raise PassingFailure("broker-unreachable", "Redis does not answer; check broker.url and the server") from error


class Doorbell:
    """Rings for a job."""

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
        """Return how many bells wait in a queue for a worker.

        Raises
        ------
        PassingFailure
            The broker does not answer.
        """
        with broker_failures(), self._app.connection_or_acquire() as connection:
            count: int = connection.default_channel.queue_declare(queue=priority.value).message_count
            return count
