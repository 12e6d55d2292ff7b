"""A small PACS for the demo and for trying things out: it stores every object that it receives as a file."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from dicom_node.files import safe_name
from dicom_node.statuses import SUCCESS


class SmallPACS:
    """Listens on loopback while its ``with`` block runs, on a port that the system chooses."""

    ae_title = "PACS"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._ae = AE(ae_title=self.ae_title)
        self._ae.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            self._ae.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)

    def __enter__(self) -> SmallPACS:
        handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, self._on_store)]
        self._server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self._ae.shutdown()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None  # noqa: S101 - start_server returns a server unless it blocks
        return int(self._server.server_address[1])

    def _on_store(self, event: evt.Event) -> int:
        ds = event.dataset
        folder = self.folder / safe_name(str(ds.StudyInstanceUID)) / safe_name(str(ds.SeriesInstanceUID))
        with self._lock:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{safe_name(str(ds.SOPInstanceUID))}.dcm").write_bytes(event.encoded_dataset())
        return SUCCESS

    def objects(self, study_instance_uid: str) -> list[Path]:
        """Return the files of a study."""
        with self._lock:
            return sorted((self.folder / safe_name(study_instance_uid)).rglob("*.dcm"))
