"""Work beside the main thread."""

from __future__ import annotations

import threading

import pytest

from dicom_node.beside import Beside
from dicom_node.errors import Defect


def test_work_that_breaks_stops_the_process_with_a_defect() -> None:
    stop = threading.Event()
    beside = Beside("breaks", lambda: 1 / 0, stop)
    assert stop.wait(5)
    with pytest.raises(Defect):
        beside.check()


def test_work_that_ends_stops_nothing() -> None:
    stop = threading.Event()
    beside = Beside("ends", lambda: None, stop)
    beside.join(5)
    beside.check()
    assert not stop.is_set()
