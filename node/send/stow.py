"""Objects go to an archive by STOW-RS (PS3.18 10.5): several in a request, each answered for.

Nobody says beforehand what he takes; that is learnt from the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from node.config import StowDestination, TlsTable
from node.errors import PeerBusy, PeerRefused, PeerUnreachable
from node.model import Receipt, ResultObject
from node.profile import LABELMAP_CLASS
from node.send.classes import RESULT_CLASSES, Negotiated
from node.send.multipart import FRAME_BYTES
from node.send.service import Outcome, Service
from node.send.status import Verdict
from node.send.trip import Trip

#: Failure Reasons that are about the SOP Class.
_NO_CLASS = frozenset({0x0118, 0x0122})
#: What a server is hoped to take that has not said otherwise; a label map is too new for that.
_HOPED = {uid: uid != LABELMAP_CLASS for uid in RESULT_CLASSES}


def store(
    objects: Sequence[ResultObject],
    name: str,
    destination: StowDestination,
    *,
    calling_ae: str,
    tls: TlsTable,
    now: Callable[[], datetime],
    negotiated: Negotiated,
) -> Iterator[Receipt]:
    """Send objects in as many requests as they need; yield a receipt for each that is told to be stored.

    An object of a class that is refused goes as what `negotiated` names in its place.

    Raises
    ------
    PeerUnreachable
        No connection, none that is trusted, no answer in time, or none that tells what was stored.
    PeerBusy
        Not now; ``again_s`` where it says when.
    PeerRefused
        It does not let us in, or at least one object will never be taken; told after all others were sent.
    """
    del calling_ae  # HTTP has no such thing
    if not objects:
        return
    taken: dict[str, bool] = {}  # SOP Class UID -> whether it was seen to be taken
    try:
        yield from _all(
            objects, Service(name, destination, tls, now), Trip(objects, name, now), taken, negotiated
        )
    finally:
        negotiated((), taken)


def _all(
    objects: Sequence[ResultObject],
    service: Service,
    trip: Trip,
    taken: dict[str, bool],
    negotiated: Negotiated,
) -> Iterator[Receipt]:
    """Send each object, or what stands in for it."""
    trip.replaced = negotiated(objects, taken)
    waiting = list(objects)
    while pack := _pack(waiting, trip, service.most_bytes):
        waiting = waiting[len(pack) :]
        going = [(one, thing) for thing in pack if (one := trip.going(thing)) is not None]
        sent = {one.sop_instance_uid: thing for one, thing in going}
        kinds = {one.sop_class_uid for one, _ in going if one.sop_class_uid not in taken}
        again: set[str] = set()
        later: dict[Verdict, str] = {}
        try:
            for one, outcome in service.post([one for one, _ in going]):
                thing, kind = sent[one.sop_instance_uid], one.sop_class_uid
                if outcome.is_stored:
                    taken[kind] = True
                    yield trip.receipt(thing, outcome.reason, outcome.told)
                elif outcome.verdict is not Verdict.REFUSED:
                    later.setdefault(outcome.verdict, outcome.told)
                elif _is_about_class(kind, outcome) and kind in kinds and taken.get(kind) is not True:
                    taken[kind] = False
                    again.add(thing.sop_instance_uid)
                else:
                    trip.refuse(thing, outcome.told)
        except (PeerBusy, PeerRefused) as error:
            if Verdict.UNTOLD in later:  # and those may be there
                raise PeerUnreachable(f"{later[Verdict.UNTOLD]} {error}", again_s=error.again_s) from error
            raise
        if Verdict.UNTOLD in later:
            raise PeerUnreachable(later[Verdict.UNTOLD])
        if later:
            raise PeerBusy(later[Verdict.BUSY])
        if again:
            waiting = [thing for thing in pack if thing.sop_instance_uid in again] + waiting
            trip.replaced = {**trip.replaced, **negotiated(waiting, taken, _HOPED)}
    trip.end()


def _pack(waiting: Sequence[ResultObject], trip: Trip, most_bytes: int) -> list[ResultObject]:
    """Return what goes in the next request: never two of which one refers to the other.

    What is refused is known then before anything goes that is about it.
    """
    pack: list[ResultObject] = []
    here: set[str] = set()
    size = 0
    for thing in waiting:
        size += trip.standing_for(thing).path.stat().st_size + FRAME_BYTES
        if pack and (size > most_bytes or not here.isdisjoint(thing.refers_to)):
            break
        pack.append(thing)
        here.add(thing.sop_instance_uid)
    return pack


def _is_about_class(sop_class_uid: str, outcome: Outcome) -> bool:
    """Whether another class may be taken instead; who does not know label maps says so in many ways."""
    return outcome.reason in _NO_CLASS or sop_class_uid == LABELMAP_CLASS
