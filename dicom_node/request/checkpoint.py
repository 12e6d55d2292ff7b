"""Send by pynetdicom without losing responses.

Before it sends a request, pynetdicom 3.0 pauses the thread of its reactor, which leaves the response to the sending
thread. But it takes a reactor for paused that was told to go on and has not run since. On a busy machine, such a
reactor runs when the response arrives, takes it and drops it; the sending thread waits until its timeout (pynetdicom's
issues 435, 842 and 875).

It also releases an association whose connection has ended, if the reactor has not noticed that yet, and waits for the
answer until its timeout.
"""

from __future__ import annotations

import threading
import time

from pynetdicom.association import Association


class Checkpoint:
    """A gate at which the reactor waits while it is closed; it replaces pynetdicom's `threading.Event`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_open = True
        self.is_waiting = False
        """Whether the reactor is at the checkpoint and stays there until it is opened."""

    def set(self) -> None:
        """Open the checkpoint; a reactor at it counts as not waiting from now on, even before its thread runs."""
        with self._changed:
            self._is_open, self.is_waiting = True, False
            self._changed.notify_all()

    def clear(self) -> None:
        """Close the checkpoint."""
        with self._changed:
            self._is_open = False

    def wait(self) -> None:
        """Wait until it is opened; go on even if it is closed again by then, as the reactor must have its turns."""
        with self._changed:
            self.is_waiting = not self._is_open
            while self.is_waiting:
                self._changed.wait()


class PausingAssociation(Association):
    """A requested association that reports its reactor as paused only if it is, and releases no ended connection."""

    _reactor_checkpoint: Checkpoint  # type: ignore[assignment]  # it has the methods of `threading.Event` that are used

    @property
    def _is_paused(self) -> bool:
        """Whether the reactor takes no responses: it waits at the checkpoint, or was ended."""
        return self._reactor_checkpoint.is_waiting or self._kill

    @_is_paused.setter
    def _is_paused(self, _: bool) -> None:
        """Ignore the value: the reactor sets it by itself, but too late."""

    def release(self) -> None:
        """Release the association, unless its connection has ended."""
        if not self.is_established:
            return
        self._reactor_checkpoint.clear()
        while not self._is_paused:
            time.sleep(0.0001)
        if self.dul.is_alive() and not self._kill:
            super().release()
        self._reactor_checkpoint.set()


def keep_answers(association: Association) -> None:
    """Keep the reactor of an association that was just requested from dropping responses."""
    association._reactor_checkpoint = Checkpoint()  # type: ignore[assignment]  # as above
    association.__class__ = PausingAssociation
