"""No patient data outside the storage folder: whole and broken studies of a conspicuous name go through `hilum up`."""

from __future__ import annotations

import json
import struct
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest
import redis
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage
from pynetdicom import AE
from sqlalchemy import Engine

from dicom_node.record.studies import list_studies
from dicom_node.study import FINAL_JOB_STATES, StudyState
from tests.dicom_node.dicomweb import Post, service
from tests.dicom_node.raw import RawPeer, store_command
from tests.dicom_node.recording import opened
from tests.dicom_node.webhooks import SECRET, receiving, webhook
from tests.factories import chest_hu, ct_series
from tests.services import Up, free_port, hilum_up, wait_until

pytestmark = [pytest.mark.node, pytest.mark.fault, pytest.mark.filterwarnings("ignore::UserWarning")]

TELLING = {
    "PatientName": "Wolkenstein^Adalbert",
    "PatientID": "TELLINGID42",
    "PatientBirthDate": "19510317",
    "AccessionNumber": "ACCTELLING7",
    "PatientAddress": "Verrat-Gasse 7",
    "ReferringPhysicianName": "Plapperer^Rosa",
    "OperatorsName": "Schwatz^Olga",
    "InstitutionName": "Klinik Verrat",
    "StudyDescription": "Chest of Wolkenstein",
    "SeriesDescription": "Axial for Plapperer",
    "ProtocolName": "Schwatzprotokoll",
    "PatientComments": "Verrat",
}
WORDS = (b"wolkenstein", b"adalbert", b"tellingid", b"19510317", b"acctelling", b"verrat", b"plapperer", b"schwatz")
KEY = SECRET.removeprefix("whsec_").lower().encode()
HU = chest_hu((24, 48, 64))[0]


@dataclass
class Seen:
    """What others on the machine could see of the processes while they worked."""

    redis: bytearray = field(default_factory=bytearray)
    processes: set[str] = field(default_factory=set)
    temporary: dict[str, bytes] = field(default_factory=dict)
    written_to: set[str] = field(default_factory=set)


@contextmanager
def watching(up: Up) -> Iterator[Seen]:
    """Watch processes, their open files, the temporary folder and Redis until the ``with`` block ends."""
    seen, stop = Seen(), threading.Event()
    (redis_socket,) = up.runtime.glob("hilum-*/redis.sock")
    client = redis.Redis(unix_socket_path=str(redis_socket))

    def look() -> None:
        while not stop.wait(0.05):
            for process in [psutil.Process(up.process.pid), *up.tree]:
                with suppress(psutil.NoSuchProcess):
                    seen.processes |= {*process.cmdline(), process.name(), *process.environ().values()}
                    seen.written_to |= {f.path for f in process.open_files() if f.mode != "r"}
            for path in up.runtime.rglob("*"):
                with suppress(OSError):
                    if path.is_file():
                        seen.temporary[str(path)] = path.read_bytes()

    def listen() -> None:
        with client.monitor() as monitor, suppress(redis.ConnectionError):
            for command in monitor.listen():
                seen.redis.extend(command["command"].encode("utf-8", "replace"))
                if stop.is_set():
                    return

    threads = [threading.Thread(target=work, daemon=True) for work in (look, listen)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        with suppress(redis.ConnectionError):
            client.ping()  # wakes the listening thread
        for thread in threads:
            thread.join(10)


def telling(paths: Sequence[Path]) -> list[pydicom.Dataset]:
    """Return the objects, with the attributes of a patient who is easy to find in any output."""
    objects = [pydicom.dcmread(path) for path in paths]
    for ds in objects:
        for keyword, value in TELLING.items():
            setattr(ds, keyword, value)
    return objects


def send(port: int, objects: Sequence[pydicom.Dataset]) -> list[int]:
    ae = AE("CT1")
    for pair in {(str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for ds in objects}:
        ae.add_requested_context(*pair)
    association = ae.associate("127.0.0.1", port, ae_title="HILUM")
    assert association.is_established
    statuses = [int(association.send_c_store(ds).Status) for ds in objects]
    association.release()
    return statuses


def studies(folder: Path) -> dict[str, list[pydicom.Dataset]]:
    """Return studies with every possible outcome, all of the same telling patient."""
    whole = telling(ct_series(folder / "whole", HU))
    gap = telling(ct_series(folder / "gap", HU, keep=[n for n in range(24) if n != 11]))
    mr = telling(ct_series(folder / "mr", HU[:3], Modality="MR"))
    for ds in mr:
        ds.SOPClassUID = MRImageStorage
    cut = telling(ct_series(folder / "cut", HU))
    for ds in cut:
        ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]
    garbled = telling(ct_series(folder / "garbled", HU, transfer_syntax=JPEG2000Lossless))
    for ds in garbled:
        ds.PixelData = ds.PixelData[:40] + b"\xff" * 40 + ds.PixelData[80:]
    numbers = telling(ct_series(folder / "numbers", HU))
    for ds in numbers:
        ds["RescaleSlope"]._value = "Wolkenstein"  # pydicom would refuse to set it
        ds["Rows"]._value = 60000
    twice = telling(ct_series(folder / "twice", HU))
    changed = telling(ct_series(folder / "twice-changed", HU))
    for one, other in zip(twice, changed, strict=True):
        other.SOPInstanceUID, other.StudyInstanceUID = one.SOPInstanceUID, one.StudyInstanceUID
        other.SeriesInstanceUID, other.PatientName = one.SeriesInstanceUID, "Adalbert^Another"
    return {
        "whole": whole,
        "gap": gap,
        "mr": mr,
        "cut": cut,
        "garbled": garbled,
        "numbers": numbers,
        "twice": twice + changed,
    }


def send_broken(port: int, ds: pydicom.Dataset) -> None:
    """Send objects that the node refuses.

    One is without a Study Instance UID, one ends within the patient's name, in one the name has a wrong length, and one
    is no DICOM.
    """
    del ds.file_meta, ds.StudyInstanceUID
    written = BytesIO()
    ds.save_as(written, implicit_vr=False, little_endian=True)
    data = written.getvalue()
    context = (CTImageStorage, ExplicitVRLittleEndian)
    name = data.index(b"Wolkenstein")
    wrong_length = data[: name - 2] + struct.pack("<H", 0xFFFF) + data[name:]
    for broken in (data, data[: name + 5], wrong_length, b"Wolkenstein" * 99):
        with RawPeer(port).associate(context) as peer:
            assert peer.store(store_command(sop=str(ds.SOPInstanceUID)), broken) != 0x0000


def told_by(folder: Path, port: int) -> dict[str, str]:
    """Return the environment variables that set a webhook."""
    settings = webhook(folder, port)
    return {"HILUM_NOTIFICATION__URL": settings.url, "HILUM_NOTIFICATION__SECRET": str(settings.secret)}


def all_answered(record: Engine, count: int) -> bool:
    rows = list_studies(record, 50)
    ended = {*FINAL_JOB_STATES, StudyState.SET_ASIDE}
    return len(rows) == count and all(row["state"] in ended for row in rows)


def quote(post: Post) -> tuple[int, bytes]:
    """Refuse an object; the answer quotes the patient's name from it."""
    return 409, str(post.data_sets[0].PatientName).encode()


def test_nothing_of_the_patient_leaves_the_storage_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sent = studies(tmp_path / "sent")
    with ExitStack() as around:
        receiver, quoting = around.enter_context(receiving()), around.enter_context(service(quote))
        pacs = {"name": "away", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
        destinations = json.dumps([pacs, {"name": "quoting", "url": quoting.url}])
        environment = {"HILUM_NODE__QUIET_SECONDS": "1", "HILUM_DESTINATIONS": destinations}
        up = around.enter_context(hilum_up(tmp_path, **environment, **told_by(tmp_path, receiver.port)))
        wait_until(up.ready, "node and worker", 60)
        with watching(up) as seen, opened(f"sqlite:///{tmp_path}/data/record.sqlite3") as record:
            for objects in sent.values():
                assert set(send(up.port, objects)) == {0x0000}
            send_broken(up.port, sent["whole"][0])
            wait_until(lambda: all_answered(record, len(sent)), "all answers", 180)
            wait_until(lambda: up.events("delivery_failed"), "a delivery that fails")
            states = {row["study_instance_uid"]: row["state"] for row in list_studies(record, 50)}
            answered = sum(state in ("done", "refused") for state in states.values())
            wait_until(lambda: len(receiver.ids) == answered, "the webhook to be told of each")
            wait_until(lambda: any(row["deliveries"]["rejected"] for row in list_studies(record, 50)), "a refusal")
        up.process.terminate()
        up.process.wait(30)
        log = up.log.read_bytes()
    outcomes = {name: states[str(objects[-1].StudyInstanceUID)] for name, objects in sent.items() if name != "whole"}
    assert outcomes["mr"] == "set_aside"
    assert "failed" not in outcomes.values()
    said = "".join(capfd.readouterr()).encode()
    elsewhere = {
        "the log": log,
        "standard output": said,
        "Redis": bytes(seen.redis),
        "the webhook": repr(receiver.taken).encode(),
        "the process list": "\n".join(seen.processes).encode("utf-8", "surrogateescape"),
        "the record": b"".join(path.read_bytes() for path in (tmp_path / "data").glob("record.sqlite3*")),
        **seen.temporary,
    }
    found = {place: [word for word in (*WORDS, KEY) if word in content.lower()] for place, content in elsewhere.items()}
    assert {place: words for place, words in found.items() if words} == {}
    assert all(elsewhere[place] for place in ("the log", "Redis", "the webhook", "the process list", "the record"))
    allowed = (tmp_path / "data", up.runtime, Path("/dev"), up.log)
    outside = {path for path in seen.written_to if not any(Path(path).is_relative_to(folder) for folder in allowed)}
    assert outside == set()


def test_what_looks_for_the_patient_would_find_it() -> None:
    written = BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        (ds,) = telling(ct_series(Path(folder), np.zeros((1, 8, 8), np.int16)))
    ds.save_as(written)
    assert all(word in written.getvalue().lower() for word in WORDS)
