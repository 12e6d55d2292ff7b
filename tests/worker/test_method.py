from __future__ import annotations

import subprocess
import sys


def test_thresholds_need_no_torch() -> None:
    program = (
        "import sys, worker.tasks, worker.analyze; from worker.method import choose_method;"
        "from dicom_node.settings import WorkerSettings; choose_method(WorkerSettings(method='thresholds'));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
