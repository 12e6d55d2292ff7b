"""Success means safe. The page cache survives a kill -9, so these tests check the order of system calls instead."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.senders import Scanner, associate
from tests.faults.site import QUICK
from tests.services import free_port, missing, running, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.node]

CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)$")
RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. \w+ resumed>")
OPEN = re.compile(r'"(?P<path>[^"]*)"')


def calls(log: str) -> Iterator[tuple[str, str]]:
    """Yield name and arguments of every call in the order in which the calls returned; sends count when they begin."""
    unfinished: dict[str, tuple[str, str]] = {}
    for line in log.splitlines():
        if match := CALL.match(line):
            call = match["name"], match["rest"]
            if line.endswith("<unfinished ...>") and not call[0].startswith("send"):
                unfinished[match["pid"]] = call
            else:
                yield call
        elif (match := RESUMED.match(line)) and match["pid"] in unfinished:
            yield unfinished.pop(match["pid"])


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """The system calls of a node from the first byte of an image to the answer."""
    strace = shutil.which("strace") or missing("strace")
    folder, port = tmp_path_factory.mktemp("traced"), free_port()
    environment = QUICK | {
        "HILUM_NODE__PORT": str(port),
        "HILUM_STORAGE__FOLDER": str(folder / "storage"),
        "HILUM_BROKER__URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    watched = "trace=openat,mkdir,mkdirat,rename,renameat,renameat2,fsync,fdatasync,write,pwrite64,sendto,sendmsg"
    command = [strace, "-f", "-yy", "-s", "0", "-o", folder / "calls", "-e", watched]
    log, image = folder / "log", Scanner(7).study(1).images[0]
    with (
        log.open("wb") as output,
        running(
            [*command, sys.executable, "-m", "dicom_node", "node"],
            env=os.environ | environment,
            stderr=output,
            cwd=folder,
        ) as tracer,
    ):
        wait_until(lambda: "listening" in log.read_text(), "the node", 60)
        association = associate(port)
        assert association.send_c_store(image).Status == 0x0000
        done = list(calls((folder / "calls").read_text()))
        association.release()
        for node in psutil.Process(tracer.pid).children():
            node.terminate()  # strace would leave it running
    began = next(i for i, (name, rest) in enumerate(done) if name == "openat" and ".part" in rest and "O_CREAT" in rest)
    answered = next(i for i, (name, rest) in enumerate(done[began:], began) if is_answer(name, rest))
    return done[began : answered + 1]


def is_answer(name: str, rest: str) -> bool:
    return name in ("sendto", "sendmsg", "write") and "<TCP" in rest


def where(traced: list[tuple[str, str]], pattern: str) -> int:
    """Return the index of the last call that matches."""
    found = [i for i, (name, rest) in enumerate(traced) if re.search(pattern, f"{name}({rest}")]
    assert found, f"no {pattern} before the answer"
    return found[-1]


def test_the_trace_ends_with_the_answer(traced: list[tuple[str, str]]) -> None:
    assert is_answer(*traced[-1])
    assert not any(is_answer(*call) for call in traced[:-1])


def test_bytes_name_folder_and_row_are_synced_in_this_order_before_success(traced: list[tuple[str, str]]) -> None:
    written = where(traced, r"^write\(\d+<[^>]*\.part>")
    synced = where(traced, r"^f(data)?sync\(\d+<[^>]*\.part>")
    renamed = where(traced, r"^rename\w*\(.*\.part.*\.dcm")
    folder_synced = where(traced, r"^fsync\(\d+<[^>]*/instances/[^/]+/[^/>]+>")
    row_written = where(traced, r"^pwrite64\(\d+<[^>]*record\.sqlite3-wal>")
    row_synced = where(traced, r"^f(data)?sync\(\d+<[^>]*record\.sqlite3-wal>")
    order = [written, synced, renamed, folder_synced, row_written, row_synced, len(traced) - 1]
    assert order == sorted(order)


def test_every_new_folder_is_synced_into_the_one_above(traced: list[tuple[str, str]]) -> None:
    made = [OPEN.search(rest) for name, rest in traced if name.startswith("mkdir")]
    assert len([match for match in made if match]) >= 2
    for match in made:
        assert match
        folder = Path(match["path"])
        made_at = where(traced, rf'^mkdir\w*\(.*"{re.escape(str(folder))}"')
        assert made_at < where(traced, rf"^fsync\(\d+<{re.escape(str(folder.parent))}>")
