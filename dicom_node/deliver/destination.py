"""Connections to destinations of both kinds: to a PACS by an association, to a DICOMweb service by HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from dicom_node.deliver.http import phrase
from dicom_node.deliver.outgoing import Answer, Outgoing
from dicom_node.deliver.scu import batches, echo, send
from dicom_node.deliver.stow import open_service
from dicom_node.errors import PassingFailure
from dicom_node.request.association import open_association
from dicom_node.settings import AnyDestination, Settings, WebDestination

Store = Callable[[Outgoing], Answer]
"""Sends an object and returns the destination's answer; raises ObjectUnreadable or PassingFailure."""


@contextmanager
def open_destination(destination: AnyDestination, settings: Settings, objects: Iterable[Outgoing]) -> Iterator[Store]:
    """Connect to a destination for the time of a ``with``; ``objects`` are those that may be sent meanwhile.

    Raises
    ------
    PassingFailure
        The destination cannot be reached, or does not let Hilum in.
    """
    if isinstance(destination, WebDestination):
        with open_service(destination, settings) as service:
            yield service.store
    else:
        contexts = [context for item in objects for context in item.contexts]
        timeout_seconds = settings.delivery.network_timeout_seconds
        with open_association(destination, settings, contexts, timeout_seconds) as association:
            yield lambda item: send(association, item)


def send_files(
    destination: AnyDestination, settings: Settings, objects: Sequence[Outgoing], on_answer: Callable[[Answer], None]
) -> None:
    """Send files in their order, and call ``on_answer`` with each answer.

    They go over one connection, or over several if an association cannot name the presentation contexts of all.

    Raises
    ------
    PassingFailure
        The destination cannot be reached, or failed at the file that the message names.
    """
    for batch in batches(objects):
        item = None
        try:
            with open_destination(destination, settings, batch) as store:
                for item in batch:
                    on_answer(store(item))
        except PassingFailure as error:
            if item is None:
                raise
            raise type(error)(error.code, f"{item.path}: {error.message}") from error


def verify(destination: AnyDestination, settings: Settings) -> str:
    """Test a destination without sending it an object; return how it answered.

    Raises
    ------
    PassingFailure
        The destination does not answer, or not as it should.
    """
    if isinstance(destination, WebDestination):
        with open_service(destination, settings) as service:
            return f"{destination.url} answers {phrase(service.verify())} to a STOW-RS request without an object"
    echo(destination, settings)
    return f"{destination.ae_title} at {destination.host}:{destination.port} answers C-ECHO"
