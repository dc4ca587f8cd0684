"""An archive is asked to commit itself to keep what it took: Storage Commitment Push Model (PS3.4 J).

The request is an N-ACTION with a transaction UID of ours. The answer is an N-EVENT-REPORT: over the
same association, or over one that the archive opens, now or hours later (`node.accept` lets it in).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.presentation import build_context
from pynetdicom.service_class_n import StorageCommitmentServiceClass

from node.config import Config, DimseDestination
from node.errors import PeerBusy, PeerRefused, PeerUnreachable, SendError
from node.failpoint import failpoint
from node.peer.association import associated, refuse_to_serve
from node.peer.commitment import PROCESSING_FAILURE, PUSH_MODEL, SUCCESS, Hear, heard
from node.peer.echo import VERIFICATION
from node.peer.tls import client_context

INSTANCE: Final = "1.2.840.10008.1.20.1.1"  #: the only one there is (PS3.4 J.3.5)

REQUEST: Final = 1  #: Action Type ID (PS3.4 Table J.3-1)
#: Objects in one request: its answer is one message that has to be kept in memory.
MOST_ITEMS: Final = 500
#: Of an archive's over one association; its report on so many objects has a tenth of this.
MOST_BYTES: Final = 1 << 20
LOOK_EVERY_S: Final = 0.2

#: Of an N-ACTION: it may be otherwise the next time (PS3.7 10.1.4.1.10).
_PASSING: Final = frozenset({PROCESSING_FAILURE, 0x0213})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a Failure Reason says of an object, and what helps."""

    #: "ask" for it again; "send" it again; "wait" for a person, for neither would help
    then: Literal["ask", "send", "wait"]
    sentence: str


#: Failure Reason (0008,1197), PS3.3 C.14.1.1.
FAILURES: Final[Mapping[int, Failure]] = {
    0x0110: Failure(then="ask", sentence="it failed while it processed the request"),
    0x0112: Failure(then="send", sentence="it has no such object"),
    0x0213: Failure(then="ask", sentence="it is out of resources"),
    0x0122: Failure(then="wait", sentence="it does not commit itself to keep objects of this SOP Class"),
    0x0119: Failure(then="wait", sentence="it has the object under another SOP Class"),
    0x0131: Failure(then="ask", sentence="it knows the transaction already"),
}


def failure_of(reason: int) -> Failure:
    """Return what a Failure Reason says; of one that the standard does not know, the object is sent again."""
    return FAILURES.get(reason, Failure(then="send", sentence="it does not say why in terms of the standard"))


def request_commitment(
    name: str,
    destination: DimseDestination,
    transaction_uid: str,
    references: Mapping[str, str],
    config: Config,
    *,
    hear: Hear,
    enough: Callable[[], bool],
) -> None:
    """Ask a destination to commit itself; listen for its report over the same association for a while.

    Parameters
    ----------
    references
        SOP Instance UID -> SOP Class UID of what it took.
    hear
        Called with the report, in another thread, if it comes by this way.
    enough
        Asked now and then whether there is anything left to listen for.

    Raises
    ------
    PeerUnreachable, PeerBusy, PeerRefused
        It could not be asked, or would not have it.
    """

    ear = _Ear()
    contexts = [
        build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        for uid in (PUSH_MODEL, VERIFICATION)  # the latter so that an archive without the service can say so
    ]
    with associated(
        destination.host,
        destination.port,
        destination.ae_title,
        config.node.ae_title,
        contexts,
        timeout_s=destination.timeout_s,
        tls=client_context(config.tls) if destination.tls else None,
        handlers=[(evt.EVT_N_EVENT_REPORT, lambda event: (heard(event, hear), None))],
        serve=ear.serve,
        most_bytes=MOST_BYTES,
        name=name,
    ) as association:
        if PUSH_MODEL not in {cx.abstract_syntax for cx in association.accepted_contexts}:
            raise PeerRefused(f"{name} does no storage commitment.")
        try:
            answer, _ = association.send_n_action(
                _request(transaction_uid, references),
                REQUEST,
                PUSH_MODEL,
                INSTANCE,
            )
        except (RuntimeError, ValueError) as error:
            raise PeerUnreachable(f"{name} ended the association.") from error
        failpoint("prove.asked")
        if "Status" not in answer:
            raise PeerUnreachable(f"{name} did not answer the request for storage commitment.")
        if answer.Status != SUCCESS:
            raise _refusal(name, answer.Status)
        end = time.monotonic() + destination.timeout_s
        while association.is_established and time.monotonic() < end and not enough():
            time.sleep(LOOK_EVERY_S)
        ear.finish(destination.timeout_s)


class _Ear:
    """Hears reports that come over an association of ours."""

    def __init__(self) -> None:
        self._turn = threading.Lock()  #: held while a report is heard and answered

    def finish(self, within_s: float) -> None:
        """Wait until the report at hand has been answered."""
        if self._turn.acquire(timeout=within_s):
            self._turn.release()

    def serve(self, association: Association, message: Any, context_id: int) -> None:
        """Have a report heard, without pynetdicom's pausing; see `node.peer.association`."""
        context = association._accepted_cx.get(context_id)
        if isinstance(message, N_EVENT_REPORT) and context and context.abstract_syntax == PUSH_MODEL:
            with self._turn:
                StorageCommitmentServiceClass(association).SCP(message, context)
        else:
            refuse_to_serve(association, message, context_id)


def _request(transaction_uid: str, references: Mapping[str, str]) -> Dataset:
    told = Dataset()
    told.TransactionUID = transaction_uid
    told.ReferencedSOPSequence = [_reference(uid, sop_class) for uid, sop_class in references.items()]
    return told


def _reference(uid: str, sop_class: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = uid
    return item


def _refusal(name: str, status: int) -> SendError:
    if status in _PASSING:
        return PeerBusy(
            f"{name} cannot take a request for storage commitment just now (status {status:04X})."
        )
    return PeerRefused(f"{name} refuses storage commitment (status {status:04X}).")
