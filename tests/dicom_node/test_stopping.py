"""Signals that come at any moment, and more than one at once."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

WAITS = {
    "for as long as it takes": "stop.wait()",
    "again and again": "\nwhile not stop.wait(1e-6): pass",
}
SIGNALS = 200


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("_attempt", range(3))
def test_a_process_stops_though_a_signal_interrupts_its_wait_or_another_signal(wait: str, _attempt: int) -> None:
    program = f"from dicom_node.stopping import stop_on_signals\nstop = stop_on_signals(); print(flush=True); {wait}"
    program += "\nprint('stopped', flush=True)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(SIGNALS):
            process.send_signal(signal.SIGTERM)  # as if the parent's end and the service manager both sent some
        try:
            assert process.wait(10) in (0, -signal.SIGTERM)  # the latter if a signal comes while Python itself ends
            assert process.stdout.read() == b"stopped\n"
        finally:
            process.kill()
