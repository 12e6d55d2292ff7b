"""Modalities that push small studies, send images again until they are acknowledged, and remember which were."""

from __future__ import annotations

import copy
import queue
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from dicom_node.request.checkpoint import keep_answers
from tests.factories import chest_hu, ct_series

ROOT = "1.2.826.0.1.3680043.8.498.54"
SENDERS_TIMEOUT_SECONDS = 30.0
STUDIES_OF_A_PATIENT = 9
"""More than one, because a worker reads the reports on a patient's other studies."""
LARGE = (40, 192, 256)
"""A worker needs some seconds to measure it, so that a test can catch the worker at it."""


@dataclass
class Study:
    """A study to send, and which of its images were acknowledged."""

    study_instance_uid: str
    images: list[Dataset]
    late: list[Dataset] = field(default_factory=list)
    """Images to send only after the study was answered."""
    acknowledged: set[str] = field(default_factory=set)
    times_sent: int = 0

    @property
    def unacknowledged(self) -> list[Dataset]:
        return [image for image in self.images if str(image.SOPInstanceUID) not in self.acknowledged]


class Scanner:
    """Makes studies: chests of a few tiny slices, and some with too few slices to be measured."""

    def __init__(self, seed: int = 0, shape: tuple[int, int, int] = (12, 24, 32)) -> None:
        self._seed = seed
        hu, _, _ = chest_hu(shape)
        slices, rows, columns = shape
        with tempfile.TemporaryDirectory() as folder:
            paths = ct_series(Path(folder), hu, spacing_mm=(240.0 / slices, 288.0 / rows, 384.0 / columns))
            self._images = [pydicom.dcmread(path) for path in paths]

    def study(self, number: int, slices: int = 12, *, late: int = 0) -> Study:
        """Return a study of a new UID; with fewer than 10 slices it cannot be measured, and the report says so."""
        uid = f"{ROOT}.{self._seed}.{number}"
        images = []
        for position, template in enumerate(self._images[:slices], 1):
            image = copy.deepcopy(template)
            image.StudyInstanceUID, image.SeriesInstanceUID = uid, f"{uid}.1"
            image.FrameOfReferenceUID, image.SOPInstanceUID = f"{uid}.2", f"{uid}.1.{position}"
            image.PatientID = f"{self._seed}-{number // STUDIES_OF_A_PATIENT}"
            image.file_meta = template.file_meta
            images.append(image)
        kept_back = images[slices - late :]
        return Study(uid, images[: slices - late], kept_back)


def associate(port: int, sop_classes: Iterable[str] = (CTImageStorage,)) -> Association:
    """Request an association with Hilum; return it, established or not."""
    ae = AE("SCANNER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = SENDERS_TIMEOUT_SECONDS
    ae.connection_timeout = SENDERS_TIMEOUT_SECONDS
    for sop_class in sop_classes:
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="HILUM")
    keep_answers(association)
    return association


def send_once(port: int, study: Study) -> list[int | None]:
    """Send images that are not acknowledged yet over one association; return their statuses, None for no answer."""
    images = study.unacknowledged
    if not images:
        return []
    association = associate(port, sorted({str(image.SOPClassUID) for image in images}))
    if not association.is_established:
        return [None] * len(images)
    statuses: list[int | None] = []
    for image in images:
        try:
            answer = association.send_c_store(image)
        except (RuntimeError, OSError):  # the association is not established any more
            answer = Dataset()
        statuses.append(answer.get("Status"))
        study.times_sent += 1
        if answer.get("Status") == 0x0000:
            study.acknowledged.add(str(image.SOPInstanceUID))
    if association.is_established:
        association.release()
    return statuses


def send_until_acknowledged(port: int, study: Study, stop: threading.Event) -> None:
    """Send as a modality does: again and again, until every image is acknowledged."""
    while study.unacknowledged and not stop.is_set():
        send_once(port, study)
        if study.unacknowledged:
            time.sleep(0.2)


class Senders:
    """Several modalities that send studies at the same time."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._waiting: queue.Queue[Study] = queue.Queue()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def put(self, study: Study) -> None:
        """Queue a study for the next free modality."""
        self._waiting.put(study)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                study = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            send_until_acknowledged(self._port, study, self._stop)
            self._waiting.task_done()

    def idle(self) -> bool:
        """Whether every queued study has been acknowledged."""
        return self._waiting.unfinished_tasks == 0

    def close(self) -> None:
        """Stop sending."""
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
