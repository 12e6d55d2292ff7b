"""With Hilum's checkpoint pynetdicom's reactor drops no answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from dicom_node.request.association import open_association
from dicom_node.request.checkpoint import Checkpoint
from tests.dicom_node.delivering import settings_with_pacs
from tests.dicom_node.pacs import storing_pacs
from tests.services import wait_until


@pytest.fixture
def association() -> Iterator[Association]:
    with storing_pacs() as peer:
        settings = settings_with_pacs(peer.port)
        echo = str(Verification), str(ImplicitVRLittleEndian)
        with open_association(settings.destinations[0], settings, [echo], timeout_seconds=2) as association:
            yield association


@pytest.mark.node
def test_a_reactor_that_was_told_to_go_on_counts_as_paused_no_longer(association: Association) -> None:
    for _ in range(20):
        association._reactor_checkpoint.clear()
        wait_until(lambda: association._is_paused, "the pause")
        association._reactor_checkpoint.set()
        assert not association._is_paused  # whether or not its thread has run since
        association._reactor_checkpoint.clear()
        wait_until(lambda: association._is_paused, "the next pause")
        association._reactor_checkpoint.set()


@pytest.mark.node
def test_nobody_waits_for_a_reactor_that_has_ended(association: Association) -> None:
    association.abort()
    association._reactor_checkpoint.clear()
    assert association._is_paused


@pytest.mark.node
def test_answers_are_heard_over_a_mended_association(association: Association) -> None:
    assert [association.send_c_echo().Status for _ in range(20)] == [0x0000] * 20


@pytest.fixture
def waiting() -> Iterator[tuple[Checkpoint, threading.Thread]]:
    """A closed checkpoint, and a thread that waits there."""
    checkpoint = Checkpoint()
    checkpoint.clear()
    thread = threading.Thread(target=checkpoint.wait, daemon=True)
    thread.start()
    wait_until(lambda: checkpoint.is_waiting, "the thread")
    yield checkpoint, thread
    checkpoint.set()


def test_who_waits_at_a_closed_checkpoint_stays(waiting: tuple[Checkpoint, threading.Thread]) -> None:
    _, thread = waiting
    thread.join(0.1)
    assert thread.is_alive()


def test_each_opening_lets_pass_who_waits_however_short_it_is(waiting: tuple[Checkpoint, threading.Thread]) -> None:
    checkpoint, thread = waiting
    checkpoint.set()
    checkpoint.clear()
    thread.join(10)
    assert not thread.is_alive()
