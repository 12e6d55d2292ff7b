"""PACS on the loopback interface that answer C-STORE or C-FIND as a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, SegmentationStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelFind as Find,
)
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from dicom_node.settings import Destination

StoreAnswer = Callable[[evt.Event], int]
FindAnswers = Iterator[tuple[int, Dataset | None]]
RESULT_CLASSES = (SegmentationStorage, ComprehensiveSRStorage)
"""The SOP classes of what `recording.results_of` returns."""


@contextmanager
def serving(ae: AE, handlers: list[evt.EventHandlerType], port: int = 0) -> Iterator[int]:
    """Let an application entity answer associations, by default on any free port; yield the port."""
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        ae.shutdown()


class StoringPACS:
    """Answers each C-STORE with the status that ``answer`` returns; ``answer`` may also abort the association."""

    def __init__(self, port: int, answer: StoreAnswer) -> None:
        self.port = port
        self.answer = answer
        self.taken: list[tuple[str, str]] = []
        self.on_data: Callable[[evt.Event], object] = lambda _: None

    def on_store(self, event: evt.Event) -> int:
        status = self.answer(event)
        self.taken.append((str(event.request.AffectedSOPInstanceUID), str(event.context.transfer_syntax)))
        return status


@contextmanager
def storing_pacs(
    answer: StoreAnswer = lambda _: 0x0000,
    classes: tuple[str, ...] = RESULT_CLASSES,
    port: int = 0,
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,),
) -> Iterator[StoringPACS]:
    """Run a PACS that answers C-STORE with ``answer``, and offers C-ECHO; by default on any free port."""
    ae = AE("PACS")
    ae.add_supported_context(Verification)
    for sop_class in classes:
        ae.add_supported_context(sop_class, list(syntaxes))
    running = StoringPACS(0, answer)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_C_STORE, running.on_store),
        (evt.EVT_DATA_RECV, lambda event: running.on_data(event)),
    ]
    with serving(ae, handlers, port) as running.port:
        yield running


@contextmanager
def queried_pacs(answer: Callable[[evt.Event], FindAnswers] | None = None, *offered: str) -> Iterator[Destination]:
    """Run a PACS that answers C-FIND with ``answer``; without it, one that offers C-ECHO and what is in ``offered``."""
    ae = AE("PACS")
    for service in (Find,) if answer else (Verification, *offered):
        ae.add_supported_context(service)
    handlers: list[evt.EventHandlerType] = [(evt.EVT_C_FIND, answer)] if answer else []
    with serving(ae, handlers) as port:
        yield Destination(name="PACS", ae_title="PACS", host="127.0.0.1", port=port)
