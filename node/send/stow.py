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
    service = Service(name, destination, tls, now)
    trip = Trip(objects, name, now)
    taken: dict[str, bool] = {}  # SOP Class UID -> whether it was seen to be taken
    trip.replaced = negotiated(objects, taken)
    waiting = list(objects)
    while pack := _pack(waiting, trip, int(destination.max_request_mb * 1e6)):
        waiting = waiting[len(pack) :]
        sent = {
            one.sop_instance_uid: (thing, one) for thing in pack if (one := trip.going(thing)) is not None
        }
        again: list[ResultObject] = []
        later: dict[Verdict, str] = {}
        try:
            for uid, outcome in service.post([one for _, one in sent.values()]):
                thing, one = sent[uid]
                if outcome.is_stored:
                    taken[one.sop_class_uid] = True
                    yield trip.receipt(thing, outcome.reason, outcome.told)
                elif outcome.verdict is not Verdict.REFUSED:
                    later.setdefault(outcome.verdict, outcome.told)
                elif _is_about_class(one, outcome) and taken.get(one.sop_class_uid) is None:
                    again.append(thing)
                else:
                    trip.refuse(thing, outcome.told)
        except (PeerBusy, PeerRefused) as error:
            if Verdict.UNTOLD in later:  # and those may be there
                raise PeerUnreachable(f"{later[Verdict.UNTOLD]} {error}", again_s=error.again_s) from error
            raise
        finally:
            taken |= {trip.standing_for(thing).sop_class_uid: False for thing in again}
            if later or not waiting:
                negotiated((), taken)
        if Verdict.UNTOLD in later:
            raise PeerUnreachable(later[Verdict.UNTOLD])
        if later:
            raise PeerBusy(later[Verdict.BUSY])
        if again:
            waiting = [thing for thing in pack if thing in again] + waiting
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


def _is_about_class(thing: ResultObject, outcome: Outcome) -> bool:
    """Whether another class may be taken instead; who does not know label maps says so in many ways."""
    return outcome.reason in _NO_CLASS or thing.sop_class_uid == LABELMAP_CLASS
