"""Bytes from a peer are read completely and in order, in whatever pieces they arrive."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.receive import transport
from dicom_node.receive.transport import PromptSocket, Waker


@contextmanager
def connected(read_ahead_bytes: int) -> Iterator[tuple[PromptSocket, socket.socket]]:
    """Yield a transport that reads from a connected socket, and the peer's socket."""
    ours, theirs = socket.socketpair()
    subject = object.__new__(PromptSocket)  # like pynetdicom's class, it cannot be made without an association
    subject.socket, subject.deadline = ours, math.inf
    waker = Waker()
    with ours, theirs, pytest.MonkeyPatch.context() as patched:
        patched.setattr(transport, "READ_AHEAD_BYTES", read_ahead_bytes)
        subject.begin(waker)
        yield subject, theirs
    waker.close()


@given(pieces=st.lists(st.binary(min_size=1, max_size=60)), read_ahead_bytes=st.integers(1, 100))
def test_pieces_are_read_as_they_were_sent(pieces: list[bytes], read_ahead_bytes: int) -> None:
    with connected(read_ahead_bytes) as (subject, peer):
        peer.sendall(b"".join(pieces))
        for piece in pieces:
            assert subject.peek(1) == piece[:1]
            assert subject.take(len(piece)) == piece


@given(sent=st.binary(max_size=50), more=st.integers(1, 50), read_ahead_bytes=st.integers(1, 100))
def test_a_peer_that_closes_early_leaves_less(sent: bytes, more: int, read_ahead_bytes: int) -> None:
    with connected(read_ahead_bytes) as (subject, peer):
        peer.sendall(sent)
        peer.close()
        assert subject.recv(len(sent) + more) == b""


def test_what_takes_too_long_is_not_waited_for() -> None:
    with connected(100) as (subject, peer):
        subject.deadline = time.monotonic() - 1
        peer.sendall(b"late")
        with pytest.raises(TimeoutError):
            subject.peek(5)


def test_a_waker_ends_a_wait() -> None:
    waker, (ours, theirs) = Waker(), socket.socketpair()
    with ours, theirs:
        threading.Timer(0.05, waker.wake).start()
        assert not waker.wait(ours.fileno(), 60)
        theirs.sendall(b"x")
        assert waker.wait(ours.fileno(), 60)
    waker.close()
    waker.wake()
