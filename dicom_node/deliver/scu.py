"""C-STORE and C-ECHO to a PACS, as an SCU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from dicom_node.deliver.outgoing import ObjectUnreadable, Outgoing, load
from dicom_node.errors import HungUp, PassingFailure
from dicom_node.request.association import open_association
from dicom_node.settings import Destination, Settings
from dicom_node.statuses import SOP_CLASS_NOT_SUPPORTED, SUCCESS

MAXIMUM_CONTEXTS = 128
"""PS3.8 9.3.2.2: presentation context IDs are odd numbers up to 255."""


def send(association: Association, item: Outgoing) -> int:
    """Send an object; return the status that the peer answered.

    If the peer accepted no presentation context for the object, nothing is sent and the status says so (0122).

    Raises
    ------
    ObjectUnreadable
        The file is gone or damaged, or cannot be sent as it is: it lacks a UID, or differs from what its header says.
    HungUp
        The association ended before an answer came.
    """
    if not any(
        c.abstract_syntax == item.sop_class_uid and item.transfer_syntax_uid in c.transfer_syntax
        for c in association.accepted_contexts
    ):
        return SOP_CLASS_NOT_SUPPORTED
    ds = load(item)
    try:
        answer = association.send_c_store(ds)
    except (AttributeError, TypeError, ValueError) as error:  # raised before anything is sent
        raise ObjectUnreadable("object-unreadable", f"it cannot be sent as it is ({type(error).__name__})") from error
    except RuntimeError:  # the association has ended
        answer = Dataset()
    if "Status" not in answer:
        raise HungUp("association-lost", "the association ended before the PACS answered")
    return int(answer.Status)


def batches(objects: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield the objects in their order, in batches whose presentation contexts fit into one association."""
    batch: list[Outgoing] = []
    contexts: set[tuple[str, str]] = set()
    for item in objects:
        if item.context not in contexts and len(contexts) == MAXIMUM_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(item)
        contexts.add(item.context)
    if batch:
        yield batch


def echo(peer: Destination, settings: Settings) -> None:
    """Verify that a peer answers C-ECHO.

    Raises
    ------
    PassingFailure
        The peer cannot be reached, or does not answer.
    """
    contexts = [(str(Verification), str(ImplicitVRLittleEndian))]
    with open_association(peer, settings, contexts, settings.delivery.network_timeout_seconds) as association:
        if not association.is_established or association.send_c_echo().get("Status") != SUCCESS:
            raise PassingFailure("echo-failed", f"{peer.name} can be reached but does not answer C-ECHO")
