"""Objects go to an archive by C-STORE (PS3.4 Annex B), all over one association.

Bytes are sent as they are on disk. Only to a peer that does not take their transfer syntax
they go in another one, and only where that loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.config import DimseDestination
from node.errors import PeerBusy, PeerRefused, PeerUnreachable, SendError
from node.failpoint import failpoint
from node.log import get_log
from node.model import Receipt, ResultObject, StandIn
from node.peer.association import GuardedAE, finish_within
from node.peer.rejection import rejection_of
from node.send.classes import RESULT_CLASSES, Negotiated, class_name, remedy, taken_of
from node.send.status import Verdict, family_of

#: A peer that takes less than this is as good as gone; sets the time limit of a large object.
SLOWEST_BYTES_PER_S = 50_000
#: Smaller PDUs than this would cost more memory than the object itself.
SMALLEST_PDU_BYTES = 1024

#: Their numbers are the odd ones of a byte (PS3.8 9.3.2.2).
MOST_CONTEXTS = 128

#: What can be said in any other uncompressed syntax without loss.
_PLAIN = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian})
_PACKED = frozenset(
    {
        HTJ2KLossless,
        HTJ2KLosslessRPCL,
        JPEG2000Lossless,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        RLELossless,
    }
)
#: Offered besides the file's own syntax, the better one first.
_FALLBACKS = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

#: What nothing that is about it can be understood without ...
MEANT = "seg"
#: ... but for sentences; those are worth having, whatever else is missing.
TOLD = "sr-text"
#: Refused objects, beside the first, that are named in a sentence.
TOLD_AT_MOST = 5

# Otherwise a file that is sent would be decoded and encoded again on the way.
_config.STORE_SEND_CHUNKED_DATASET = True

_log = get_log("send")


def store(
    objects: Sequence[ResultObject],
    name: str,
    destination: DimseDestination,
    *,
    calling_ae: str,
    now: Callable[[], datetime],
    negotiated: Negotiated,
) -> Iterator[Receipt]:
    """Send each object by C-STORE; yield its receipt when the peer has answered for it.

    What the peer does not take goes as what `negotiated` names in its place. That is made while no
    peer waits for it, so it goes over an association of its own.

    Raises
    ------
    PeerUnreachable
        No connection, no answer in time, an abort, or a passing rejection.
    PeerBusy
        The peer is out of resources (A7xx, 0110, 0213); the rest is not tried.
    PeerRefused
        The peer will not have us, or at least one object; told after all others were sent.
    """
    if not objects:
        return
    with _associated(objects, name, destination, calling_ae) as link:
        failpoint("send.connected")
        replaced = negotiated(link.taken)
        if not replaced:
            yield from _all(objects, {}, link, name, now)
            return
    stand_ins = [one.thing for one in replaced.values() if one.thing is not None]
    rest = [thing for thing in objects if thing.sop_instance_uid not in replaced]
    with _associated([*stand_ins, *rest], name, destination, calling_ae) as link:
        yield from _all(objects, replaced, link, name, now)


def _all(
    objects: Sequence[ResultObject],
    replaced: Mapping[str, StandIn],
    link: _Link,
    name: str,
    now: Callable[[], datetime],
) -> Iterator[Receipt]:
    """Send each object, or what stands in for it."""
    kinds = {thing.sop_instance_uid: thing.kind for thing in objects}
    refused: dict[str, str] = {}  # SOP Instance UID -> why
    for thing in objects:
        uid = thing.sop_instance_uid
        if thing.kind != TOLD and any(kinds[other] == MEANT for other in thing.refers_to if other in refused):
            refused[uid] = f"{thing.kind} {uid} was not sent: it is about a segmentation that was refused."
            continue
        stand_in = replaced.get(uid, StandIn(thing=thing, sentence=""))
        sent = stand_in.thing
        if sent is None:
            refused[uid] = (
                f"{name} was not sent {thing.kind} {uid}: {stand_in.sentence} {remedy(thing, name)}"
            )
            continue
        try:
            status, told = link.store(sent)
        except PeerRefused as error:
            refused[uid] = str(error)
            continue
        failpoint("send.answered")
        _log.info("sent", destination=name, sop_instance_uid=sent.sop_instance_uid, status=f"{status:04X}")
        yield Receipt(
            sop_instance_uid=uid,
            destination=name,
            status=status,
            sentence=f"{stand_in.sentence} {told}".strip(),
            at=now(),
            sent_as="" if sent is thing else sent.sop_instance_uid,
        )
    if refused:
        first, *others = refused.values()
        more = f" And {len(others)} more: {' '.join(others[:TOLD_AT_MOST])}" if others else ""
        raise PeerRefused(first + more)


class _Link:
    """An established association, and what the peer agreed to take over it."""

    def __init__(
        self, association: Association, answered: list[int | None], name: str, timeout_s: float
    ) -> None:
        self._association = association
        self._answered = answered  # Message ID of every response so far, in their order
        self._numbers = count(1)
        self._name = name
        self._timeout_s = timeout_s
        self._accepted = {(cx.abstract_syntax, cx.transfer_syntax[0]) for cx in association.accepted_contexts}
        self.taken = taken_of(association)

    def store(self, thing: ResultObject) -> tuple[int, str]:
        """Send one object; return the status and what is to be known about it.

        Raises
        ------
        PeerUnreachable, PeerBusy, PeerRefused
            See `store` of this module.
        """
        what = self._encoded(thing)
        size_bytes = thing.path.stat().st_size
        limit_s = self._timeout_s + size_bytes / SLOWEST_BYTES_PER_S
        finish_within(self._association, limit_s, stall_s=self._timeout_s)
        self._association.dimse_timeout = limit_s
        number = next(self._numbers)
        try:
            answer = self._association.send_c_store(what, msg_id=number)
        except RuntimeError as error:  # the peer ended the association between two objects
            raise PeerUnreachable(f"{self._name} ended the association.") from error
        except (ValueError, AttributeError, OSError) as error:
            raise SendError(f"Object {thing.sop_instance_uid} cannot be put into a C-STORE.") from error
        if "Status" not in answer:
            raise PeerUnreachable(
                f"{self._name} did not answer for object {thing.sop_instance_uid} within {limit_s:.0f} s, "
                "or broke the association."
            )
        # The library takes any response for the one that it waits for.
        if self._answered[number - 1 : number] != [number]:
            self._association.abort()
            raise PeerUnreachable(f"{self._name} answered for another request than the one at hand.")
        return self._judged(thing, answer)

    def _judged(self, thing: ResultObject, answer: Dataset) -> tuple[int, str]:
        family = family_of(answer.Status)
        code = f"status {answer.Status:04X}"
        if family.verdict is Verdict.STORED:
            return answer.Status, f"{self._name}: {family.sentence} ({code})." if family.sentence else ""
        if family.verdict is Verdict.WARNED:
            return (
                answer.Status,
                f"{self._name} stored it, but {family.sentence} ({code}{_elements(answer)}).",
            )
        if family.verdict is Verdict.BUSY:
            raise PeerBusy(
                f"{self._name} did not store {thing.sop_instance_uid}: {family.sentence} ({code})."
            )
        raise PeerRefused(
            f"{self._name} refused {thing.kind} {thing.sop_instance_uid} for good: {family.sentence} "
            f"({code}{_elements(answer)})."
        )

    def _encoded(self, thing: ResultObject) -> Any:
        """Return the file itself, or its content where the peer takes it only in another syntax."""
        offered = _syntaxes_for(thing)
        taken = [syntax for syntax in offered if (thing.sop_class_uid, syntax) in self._accepted]
        if not taken:
            raise PeerRefused(
                f"{self._name} takes no {class_name(thing.sop_class_uid)} "
                f"(as {', '.join(UID(syntax).name for syntax in offered)}), so {thing.kind} "
                f"{thing.sop_instance_uid} was not sent. {remedy(thing, self._name)}"
            )
        if taken[0] == thing.transfer_syntax_uid:
            return thing.path
        dataset = dcmread(thing.path)
        if thing.transfer_syntax_uid in _PACKED and "PixelData" in dataset:
            dataset.decompress(generate_instance_uid=False)  # the same pixels: the same instance
        elif thing.transfer_syntax_uid in _PACKED:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return dataset


def _syntaxes_for(thing: ResultObject) -> tuple[str, ...]:
    own = thing.transfer_syntax_uid
    others = _FALLBACKS if own in _PLAIN | _PACKED else ()
    return tuple(dict.fromkeys((own, *others)))


def _contexts(objects: Sequence[ResultObject]) -> list[PresentationContext]:
    """Return one context per SOP Class and syntax, so that the answer says yes or no to each.

    With those of the objects go those of the other results that we could make: so a job that is yet
    to come is made as the peer takes it.
    """
    pairs = dict.fromkeys((thing.sop_class_uid, s) for thing in objects for s in _syntaxes_for(thing))
    asked = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    known = {sop_class for sop_class, _ in pairs}
    asked += [build_context(uid, list(_FALLBACKS)) for uid in RESULT_CLASSES if uid not in known]
    return asked[:MOST_CONTEXTS]


def _elements(answer: Dataset) -> str:
    """Return the Offending Elements (0000,0901) as numbers, which tell nothing of the patient."""
    found = answer.get("OffendingElement")
    tags = found if isinstance(found, list) else [] if found is None else [found]
    return "".join(f", element {tag}" for tag in list(tags)[:5])


@contextmanager
def _associated(
    objects: Sequence[ResultObject], name: str, destination: DimseDestination, calling_ae: str
) -> Iterator[_Link]:
    """Hold an association for as long as the block runs; release it, or abort it on an error."""
    ae = GuardedAE(ae_title=calling_ae)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = destination.timeout_s
    ae.network_timeout = None  # it counts only what is received, so it would cut a long object off
    answered: list[int | None] = []

    def note(event: Any) -> None:
        answered.append(getattr(event.message.command_set, "MessageIDBeingRespondedTo", None))

    place = f"{destination.ae_title} at {destination.host}:{destination.port}"
    try:
        association = ae.associate(
            destination.host,
            destination.port,
            contexts=_contexts(objects),
            ae_title=destination.ae_title,
            evt_handlers=[(evt.EVT_DIMSE_RECV, note)],
        )
    except OSError as error:  # the name cannot be resolved
        raise PeerUnreachable(f"{name} ({place}) cannot be reached: {error.strerror}.") from error
    if not association.is_established:
        raise _why_not(association, name, place)
    _log.info("connected", destination=name, objects=len(objects))
    try:
        size = association.acceptor.maximum_length
        if size and size < SMALLEST_PDU_BYTES:
            raise PeerRefused(f"{name} takes no PDU above {size} bytes; raise its maximum PDU length.")
        yield _Link(association, answered, name, destination.timeout_s)
        finish_within(association, destination.timeout_s, stall_s=destination.timeout_s)
        association.release()
    finally:
        if association.is_established:
            association.abort()


def _why_not(association: Association, name: str, place: str) -> SendError:
    answer = association.acceptor.primitive
    if answer is not None and association.is_rejected:
        said = rejection_of(answer.result or 0, answer.result_source or 0, answer.diagnostic or 0)
        sentence = f"{name} ({place}) rejected the association: {said.sentence}. {said.remedy}".strip()
        return PeerUnreachable(sentence) if said.passing else PeerRefused(sentence)
    if answer is not None and answer.result == 0 and answer.presentation_context_definition_results_list:
        return PeerRefused(
            f"{name} ({place}) takes none of the SOP Classes of these results; see which ones it stores."
        )
    return PeerUnreachable(f"{name} ({place}) cannot be reached, or did not answer as a DICOM service does.")
