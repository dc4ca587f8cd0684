"""Objects go to an archive by C-STORE (PS3.4 Annex B), all over one association.

Bytes are sent as they are on disk. Only to a peer that does not take their transfer syntax
they go in another one, and only where that loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from node.config import DimseDestination, TlsTable
from node.errors import PeerBusy, PeerRefused, PeerUnreachable, SendError
from node.failpoint import failpoint
from node.log import get_log
from node.model import Receipt, ResultObject
from node.peer.association import associated, finish_within
from node.peer.echo import taken_of
from node.peer.tls import client_context
from node.send.classes import RESULT_CLASSES, Negotiated, class_name, remedy
from node.send.status import Verdict, family_of
from node.send.syntax import FALLBACKS, syntaxes_for, unpacked
from node.send.trip import Trip

#: A peer that takes less than this is as good as gone; sets the time limit of a large object.
SLOWEST_BYTES_PER_S = 50_000
#: Smaller PDUs than this would cost more memory than the object itself.
SMALLEST_PDU_BYTES = 1024
#: Their numbers are the odd ones of a byte (PS3.8 9.3.2.2).
MOST_CONTEXTS = 128

# Otherwise a file that is sent would be decoded and encoded again on the way.
_config.STORE_SEND_CHUNKED_DATASET = True

_log = get_log("send")


def store(
    objects: Sequence[ResultObject],
    name: str,
    destination: DimseDestination,
    *,
    calling_ae: str,
    tls: TlsTable,
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
    trip = Trip(objects, name, now)
    with _linked(objects, name, destination, calling_ae, tls) as link:
        failpoint("send.connected")
        trip.replaced = negotiated(objects, link.taken)
        if not trip.replaced:
            yield from _all(objects, trip, link)
            return
    stand_ins = [one.thing for one in trip.replaced.values() if one.thing is not None]
    rest = [thing for thing in objects if thing.sop_instance_uid not in trip.replaced]
    with _linked([*stand_ins, *rest], name, destination, calling_ae, tls) as link:
        yield from _all(objects, trip, link)


def _all(objects: Sequence[ResultObject], trip: Trip, link: _Link) -> Iterator[Receipt]:
    """Send each object, or what stands in for it."""
    for thing in objects:
        sent = trip.going(thing)
        if sent is None:
            continue
        try:
            status, told = link.store(sent)
        except PeerRefused as error:
            trip.refuse(thing, str(error))
            continue
        yield trip.receipt(thing, status, told)
    trip.end()


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
        told = f"status {answer.Status:04X}{_elements(answer)}"
        if family.verdict in (Verdict.STORED, Verdict.WARNED):
            return answer.Status, family.stored(self._name, told)
        sentence = family.unstored(self._name, f"{thing.kind} {thing.sop_instance_uid}", told)
        raise PeerBusy(sentence) if family.verdict is Verdict.BUSY else PeerRefused(sentence)

    def _encoded(self, thing: ResultObject) -> Any:
        """Return the file itself, or its content where the peer takes it only in another syntax."""
        offered = syntaxes_for(thing)
        taken = [syntax for syntax in offered if (thing.sop_class_uid, syntax) in self._accepted]
        if not taken:
            raise PeerRefused(
                f"{self._name} takes no {class_name(thing.sop_class_uid)} "
                f"(as {', '.join(UID(syntax).name for syntax in offered)}), so {thing.kind} "
                f"{thing.sop_instance_uid} was not sent. {remedy(thing, self._name)}"
            )
        return thing.path if taken[0] == thing.transfer_syntax_uid else unpacked(thing)


def _contexts(objects: Sequence[ResultObject]) -> list[PresentationContext]:
    """Return one context per SOP Class and syntax, so that the answer says yes or no to each.

    With those of the objects go those of the other results that we could make: so a job that is yet
    to come is made as the peer takes it.
    """
    pairs = dict.fromkeys((thing.sop_class_uid, s) for thing in objects for s in syntaxes_for(thing))
    asked = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    known = {sop_class for sop_class, _ in pairs}
    asked += [build_context(uid, list(FALLBACKS)) for uid in RESULT_CLASSES if uid not in known]
    return asked[:MOST_CONTEXTS]


def _elements(answer: Dataset) -> str:
    """Return the Offending Elements (0000,0901) as numbers, which tell nothing of the patient."""
    found = answer.get("OffendingElement")
    tags = found if isinstance(found, list) else [] if found is None else [found]
    return "".join(f", element {tag}" for tag in list(tags)[:5])


@contextmanager
def _linked(
    objects: Sequence[ResultObject], name: str, destination: DimseDestination, calling_ae: str, tls: TlsTable
) -> Iterator[_Link]:
    """Hold an association for as long as the block runs; see `node.peer.association.associated`."""
    answered: list[int | None] = []

    def note(event: Any) -> None:
        answered.append(getattr(event.message.command_set, "MessageIDBeingRespondedTo", None))

    with associated(
        destination.host,
        destination.port,
        destination.ae_title,
        calling_ae,
        _contexts(objects),
        timeout_s=destination.timeout_s,
        tls=client_context(tls) if destination.tls else None,
        handlers=[(evt.EVT_DIMSE_RECV, note)],
        name=name,
    ) as association:
        _log.info("connected", destination=name, objects=len(objects))
        size = association.acceptor.maximum_length
        if size and size < SMALLEST_PDU_BYTES:
            raise PeerRefused(f"{name} takes no PDU above {size} bytes; raise its maximum PDU length.")
        yield _Link(association, answered, name, destination.timeout_s)
