"""C-STORE and C-ECHO to a PACS, as an SCU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from dicom_node.deliver.commitment import STORAGE_COMMITMENT
from dicom_node.deliver.outgoing import Answer, ObjectUnreadable, Outcome, Outgoing, answer_of, load
from dicom_node.errors import HungUp, PassingFailure
from dicom_node.request.association import open_association
from dicom_node.settings import Destination, Settings
from dicom_node.statuses import SOP_CLASS_NOT_SUPPORTED, SUCCESS

MAXIMUM_CONTEXTS = 128
"""PS3.8 9.3.2.2: presentation context IDs are odd numbers up to 255."""
CLASS_NOT_SUPPORTED = 3
SYNTAXES_NOT_SUPPORTED = 4
"""Results of a presentation context that the peer rejected, PS3.8 table 9-18."""


def send(association: Association, item: Outgoing) -> Answer:
    """Send an object, preferably as it is stored, else converted to the default transfer syntax; return the answer.

    If the peer accepted no presentation context for the object, nothing is sent and the answer says so (0122).

    Raises
    ------
    ObjectUnreadable
        The file is gone or damaged, or cannot be sent as it is: it lacks a UID, or differs from what its header says.
    HungUp
        The association ended before an answer came.
    """
    accepted = {(c.abstract_syntax, syntax) for c in association.accepted_contexts for syntax in c.transfer_syntax}
    if accepted.isdisjoint(item.contexts):
        return Answer(Outcome.REFUSED, SOP_CLASS_NOT_SUPPORTED, why_rejected(association, item))
    ds = load(item)
    try:
        answer = association.send_c_store(ds)  # it prefers the data set's own transfer syntax
    except (AttributeError, TypeError, ValueError) as error:  # raised before anything is sent
        raise ObjectUnreadable("object-unreadable", f"it cannot be sent as it is ({type(error).__name__})") from error
    except RuntimeError:  # the association has ended
        answer = Dataset()
    if "Status" not in answer:
        raise HungUp("association-lost", "the association ended before the PACS answered")
    return answer_of(int(answer.Status))


def why_rejected(association: Association, item: Outgoing) -> str:
    """Return why the peer accepted no presentation context for an object."""
    name = UID(item.sop_class_uid).name
    results = {c.result for c in association.rejected_contexts if c.abstract_syntax == item.sop_class_uid}
    if SYNTAXES_NOT_SUPPORTED in results:
        return f"the PACS takes {name}, but not in {' or '.join(UID(syntax).name for _, syntax in item.contexts)}"
    if CLASS_NOT_SUPPORTED in results:
        return f"the PACS does not take {name}"
    return f"the PACS rejected the presentation contexts for {name}"


def batches(objects: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield the objects in their order, in batches whose presentation contexts fit into one association."""
    batch: list[Outgoing] = []
    contexts: set[tuple[str, str]] = set()
    for item in objects:
        if len(contexts.union(item.contexts)) > MAXIMUM_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(item)
        contexts.update(item.contexts)
    if batch:
        yield batch


def echo(peer: Destination, settings: Settings) -> None:
    """Verify that a peer answers C-ECHO, and that it offers storage commitment if it is to be asked for that.

    Raises
    ------
    PassingFailure
        The peer cannot be reached, does not answer, or does not offer storage commitment.
    """
    asked = [Verification, STORAGE_COMMITMENT] if peer.storage_commitment else [Verification]
    contexts = [(str(service), str(ImplicitVRLittleEndian)) for service in asked]
    with open_association(peer, settings, contexts, settings.delivery.network_timeout_seconds) as association:
        if not association.is_established or association.send_c_echo().get("Status") != SUCCESS:
            raise PassingFailure("echo-failed", f"{peer.name} can be reached but does not answer C-ECHO")
        if len(association.accepted_contexts) < len(asked):
            raise not_committing(peer)


def not_committing(peer: Destination) -> PassingFailure:
    """Return the error for a peer that should be asked for storage commitment, and does not offer it."""
    return PassingFailure(
        "no-storage-commitment",
        f"{peer.name} does not offer storage commitment; turn it on there for this AE title, or off here "
        "(storage_commitment)",
    )
