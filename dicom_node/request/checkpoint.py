"""Sending by pynetdicom without losing answers.

Before it sends, pynetdicom 3.0 has its reactor's thread pause, so that the answer is left to the sender. But it takes a
reactor for paused that was told to go on and has not run since. On a busy machine such a reactor runs when the answer
comes, takes it and drops it; the sender waits until its timeout (pynetdicom's issues 435, 842 and 875).
"""

from __future__ import annotations

import threading

from pynetdicom.association import Association


class Checkpoint:
    """Where the reactor waits while it is closed; in place of pynetdicom's `threading.Event`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_open = True
        self.is_waiting = False
        """Whether the reactor is here, and stays until the checkpoint is opened."""

    def set(self) -> None:
        """Open it: whoever waits goes on, and is not waiting from now on."""
        with self._changed:
            self._is_open, self.is_waiting = True, False
            self._changed.notify_all()

    def clear(self) -> None:
        """Close it."""
        with self._changed:
            self._is_open = False

    def wait(self) -> None:
        """Return as soon as it is opened, even if it is closed again by then: the reactor must have its turns."""
        with self._changed:
            self.is_waiting = not self._is_open
            while self.is_waiting:
                self._changed.wait()


class PausingAssociation(Association):
    """A requested association whose reactor is paused when it says so."""

    _reactor_checkpoint: Checkpoint  # type: ignore[assignment]  # it has of `threading.Event` what is used

    @property
    def _is_paused(self) -> bool:
        """Whether the reactor leaves answers alone; one that has ended does."""
        return self._reactor_checkpoint.is_waiting or self._kill

    @_is_paused.setter
    def _is_paused(self, _: bool) -> None:
        """The reactor writes it down by itself, too late."""


def keep_answers(association: Association) -> None:
    """Give an association that was just requested a reactor that drops no answer."""
    association._reactor_checkpoint = Checkpoint()  # type: ignore[assignment]  # as above
    association.__class__ = PausingAssociation
