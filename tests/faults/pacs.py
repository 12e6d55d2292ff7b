"""A PACS that misbehaves as real ones do, and remembers every object that it received."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from types import TracebackType

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from dicom_node.deliver.commitment import STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
from tests.dicom_node.dicomweb import Answer, Post, response, service
from tests.services import free_port

OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0xA700, 0xC000
ALL_KEPT = 1
"""Event Type ID (PS3.4 J.3.3.1)."""


class Mood(StrEnum):
    """How the PACS behaves."""

    WELL = "well"
    SLOW = "slow"
    FULL = "full"  # some instances are answered with 0xA700
    REFUSING = "refusing"  # some instances are answered with 0xC000
    HANGING_UP = "hanging up"  # in mid-transfer, before the instance is kept
    FORGETTING = "forgetting"  # the instance is kept, and the association ends before the answer
    DOWN = "down"


@dataclass(frozen=True)
class Held:
    """An object that the PACS received; there is one for each time that it came."""

    study_instance_uid: str
    sop_instance_uid: str
    modality: str
    kind: str
    """Series Description, which is different for each kind of result."""
    sha256: str
    path: Path

    def references(self) -> frozenset[str]:
        """Return every SOP Instance UID that the object refers to."""
        found = pydicom.dcmread(self.path, force=True).iterall()
        return frozenset(str(e.value) for e in found if e.keyword == "ReferencedSOPInstanceUID")

    def predecessors(self) -> frozenset[str]:
        """Return the SOP Instance UIDs of the reports that this one names as its predecessors (PS3.3 C.17.2)."""
        documents = pydicom.dcmread(self.path, force=True).get("PredecessorDocumentsSequence") or []
        found = (e for document in documents for e in document.iterall() if e.keyword == "ReferencedSOPInstanceUID")
        return frozenset(str(e.value) for e in found)


def report_commitment(association: Association, request: Dataset) -> None:
    """Report commitment to all objects of a request, unless the association is gone."""
    with suppress(RuntimeError):
        association.send_n_event_report(request, ALL_KEPT, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)


class BrokenPACS:
    """Listens on the loopback interface until its ``with`` block ends; ``set_mood`` breaks or repairs it."""

    ae_title = "PACS"

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.port = free_port()
        self.came: list[Held] = []
        self.mood = Mood.WELL
        self.spoiled: set[str] = set()
        """The studies whose results its present mood has spoiled: of each study at least the first result."""
        self.commits = True
        """Whether it reports on requests for storage commitment, all of which it accepts."""
        self.asked: list[str] = []
        """SOP Instance UIDs of all requests for storage commitment, one for each time it was asked."""
        self._random = Random(seed)  # noqa: S311 - reproducible chance; protects nothing
        self._lock = threading.Lock()
        self._close: Callable[[], object] | None = None

    def __enter__(self) -> BrokenPACS:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.set_mood(self.mood)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.set_mood(Mood.DOWN)

    @property
    def destination(self) -> dict[str, object]:
        """The settings of this destination."""
        return {"name": "PACS", "ae_title": self.ae_title, "host": "127.0.0.1", "port": self.port}

    def set_mood(self, mood: Mood) -> None:
        """Break or repair the PACS."""
        self.mood, self.spoiled = mood, set()
        if mood is Mood.DOWN and self._close:
            self._close()
            self._close = None
        elif mood is not Mood.DOWN and not self._close:
            self._close = self._listen()

    def _listen(self) -> Callable[[], object]:
        """Start to listen; return the function that stops it."""
        ae = AE(ae_title=self.ae_title)
        ae.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        ae.add_supported_context(STORAGE_COMMITMENT)
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_ACTION, self._on_action),
        ]
        ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return ae.shutdown

    def _on_store(self, event: evt.Event) -> int:
        status = self._take(event.dataset, event.request.DataSet.getvalue(), event.encoded_dataset())
        if status is None:
            event.assoc.abort()
        return status or 0x0000

    def _on_action(self, event: evt.Event) -> tuple[int, None]:
        """Accept a request for storage commitment, and report on the same association (PS3.4 J.3.3)."""
        request = event.action_information
        self.asked += [str(item.ReferencedSOPInstanceUID) for item in request.ReferencedSOPSequence]
        if self.commits:
            threading.Timer(0.1, report_commitment, (event.assoc, request)).start()
        return 0x0000, None

    def _take(self, ds: Dataset, data_set: bytes, file: bytes) -> int | None:
        """Treat an object as the mood demands; return the status, or None to hang up."""
        mood, spoiled, study = self.mood, self.spoiled, str(ds.StudyInstanceUID)
        if mood is Mood.WELL or (self._random.random() >= 0.4 and study in spoiled):
            self._keep(ds, data_set, file)
            return 0x0000
        if mood is Mood.SLOW:
            time.sleep(0.3)
        if mood in (Mood.SLOW, Mood.FORGETTING):
            self._keep(ds, data_set, file)
        spoiled.add(study)
        return {Mood.SLOW: 0x0000, Mood.FULL: OUT_OF_RESOURCES, Mood.REFUSING: CANNOT_UNDERSTAND}.get(mood)

    def _keep(self, ds: Dataset, data_set: bytes, file: bytes) -> None:
        digest = hashlib.sha256(data_set).hexdigest()
        path = self.folder / f"{ds.SOPInstanceUID}-{digest[:16]}.dcm"
        path.write_bytes(file)
        held = Held(
            study_instance_uid=str(ds.StudyInstanceUID),
            sop_instance_uid=str(ds.SOPInstanceUID),
            modality=str(ds.Modality),
            kind=str(ds.SeriesDescription),
            sha256=digest,
            path=path,
        )
        with self._lock:
            self.came.append(held)

    def reports(self, study_instance_uid: str) -> dict[str, Held]:
        """Return the structured reports of a study by their SOP Instance UID."""
        with self._lock:
            return {
                held.sop_instance_uid: held
                for held in self.came
                if held.study_instance_uid == study_instance_uid and held.modality == "SR"
            }


class BrokenService(BrokenPACS):
    """The same as a DICOMweb service, with STOW-RS."""

    @property
    def destination(self) -> dict[str, object]:
        return {"name": "WEB", "url": f"http://127.0.0.1:{self.port}"}

    def _listen(self) -> Callable[[], object]:
        listening = ExitStack()
        listening.enter_context(service(self._answer, port=self.port))
        return listening.close

    def _answer(self, post: Post) -> Answer:
        (ds,), (file,) = post.data_sets, post.objects
        status = self._take(ds, file, file)
        if status is None:
            raise ConnectionAbortedError
        return (409, response(post, failure=status)) if status else (200, response(post))
