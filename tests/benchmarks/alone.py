"""Run a command, and print its cost as the last line: seconds, CPU seconds, and peak resident memory in MB.

On Linux a process inherits the peak memory of the process that started it. So this small process starts the measured
command, and not a benchmark that has held a scan in memory.
"""

import json
import resource
import subprocess
import sys
import time

started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000]))  # noqa: T201 - the parent reads it
