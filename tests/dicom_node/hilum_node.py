"""`hilum node` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from tests.services import free_port


class Node:
    """A running `hilum node`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def associate(self) -> Association:
        ae = AE()
        ae.add_requested_context(Verification)
        return ae.associate("127.0.0.1", self.port, ae_title="HILUM")

    def answers(self) -> bool:
        association = self.associate()
        if not association.is_established:
            return False
        status = association.send_c_echo().Status
        association.release()
        return bool(status == 0x0000)

    def others(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def hilum_node(folder: Path, port: int | None = None) -> Iterator[Node]:
    """Run `hilum node` in a folder, and kill it when the ``with`` block ends."""
    port = port or free_port()
    environment = os.environ | {
        "HILUM_NODE__PORT": str(port),
        "HILUM_STORAGE__FOLDER": str(folder / "storage"),
        "HILUM_BROKER__URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    log = folder / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "dicom_node", "node"]
        process = subprocess.Popen(command, env=environment, stderr=output, cwd=folder)
        try:
            yield Node(process, port, log)
        finally:
            process.kill()
            process.wait()


def threads_of(pid: int) -> int:
    """Return the number of a process's threads."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
