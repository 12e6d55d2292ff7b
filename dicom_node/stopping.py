"""How a process is told to stop."""

from __future__ import annotations

import _thread
import ctypes
import signal
import threading

PR_SET_PDEATHSIG = 1
"""From Linux's prctl.h."""


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and Ctrl-C set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: set_by_signal(stop))
    return stop


def set_by_signal(event: threading.Event) -> None:
    """Set an event from a signal's handler.

    A handler interrupts its thread anywhere. Setting an event takes the event's lock: if the thread, or another handler
    that this one interrupted, held the lock already, the handler would wait for itself forever. So another thread sets
    the event; starting it with `_thread` takes no lock of Python's own.
    """
    if not event.is_set():
        _thread.start_new_thread(event.set, ())


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, however it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
