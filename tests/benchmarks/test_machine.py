import resource
import sys

from tests.benchmarks.machine import run_alone

MB = 1_000_000


def test_what_is_run_alone_is_not_charged_with_the_memory_of_the_benchmark():
    bytes(bytearray(300 * MB))

    run = run_alone([sys.executable, "-c", "print('done')"])

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 > 300
    assert run.output == "done"
    assert run.peak_mb < 200
