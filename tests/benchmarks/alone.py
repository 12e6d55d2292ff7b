"""Run a command and say, as the last line, what it took: seconds, CPU seconds, and its peak of resident memory in MB.

Linux counts the peak of the process that starts another as that of the other, too. So one as small as this starts what
is measured, and not a benchmark that has held a scan.
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
