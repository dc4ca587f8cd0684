"""One delivery to one place: what goes, in which order, and what was refused on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from node.errors import PeerRefused
from node.failpoint import failpoint
from node.log import get_log
from node.model import Receipt, ResultObject, StandIn
from node.send.classes import remedy

#: What nothing that is about it can be understood without ...
MEANT = "seg"
#: ... but for sentences; those are worth having, whatever else is missing.
TOLD = "sr-text"
#: Refused objects, beside the first, that are named in a sentence.
TOLD_AT_MOST = 5

_log = get_log("send")


class Trip:
    """What a transport keeps in mind while it sends objects in their order.

    Parameters
    ----------
    name
        Of the place.
    """

    def __init__(self, objects: Sequence[ResultObject], name: str, now: Callable[[], datetime]) -> None:
        self._name, self._now = name, now
        self._kinds = {thing.sop_instance_uid: thing.kind for thing in objects}
        self._refused: dict[str, str] = {}  # SOP Instance UID -> why
        #: SOP Instance UID -> what goes in place of that object.
        self.replaced: Mapping[str, StandIn] = {}

    def going(self, thing: ResultObject) -> ResultObject | None:
        """Return what goes there for an object; None: nothing does, which `end` will tell."""
        uid = thing.sop_instance_uid
        missing = (other for other in thing.refers_to if other in self._refused)
        if thing.kind != TOLD and any(self._kinds[other] == MEANT for other in missing):
            self.refuse(
                thing, f"{thing.kind} {uid} was not sent: it is about a segmentation that was refused."
            )
            return None
        stand_in = self._stand_in(thing)
        if stand_in.thing is None:
            told = f"{self._name} was not sent {thing.kind} {uid}: {stand_in.sentence}"
            self.refuse(thing, f"{told} {remedy(thing, self._name)}")
        return stand_in.thing

    def standing_for(self, thing: ResultObject) -> ResultObject:
        """Return what an object goes as; where nothing can stand in for it, the object."""
        return self._stand_in(thing).thing or thing

    def refuse(self, thing: ResultObject, sentence: str) -> None:
        """Remember that an object will never be taken, and why."""
        self._refused[thing.sop_instance_uid] = sentence

    def receipt(self, thing: ResultObject, status: int, told: str) -> Receipt:
        """Return the receipt for an object that was taken, as itself or as its stand-in."""
        failpoint("send.answered")
        stand_in = self._stand_in(thing)
        sent = self.standing_for(thing)
        _log.info(
            "sent", destination=self._name, sop_instance_uid=sent.sop_instance_uid, status=f"{status:04X}"
        )
        return Receipt(
            sop_instance_uid=thing.sop_instance_uid,
            destination=self._name,
            status=status,
            sentence=f"{stand_in.sentence} {told}".strip(),
            at=self._now(),
            sent_as="" if sent is thing else sent.sop_instance_uid,
        )

    def end(self) -> None:
        """Raise `PeerRefused` if anything was refused."""
        if self._refused:
            first, *others = self._refused.values()
            more = f" And {len(others)} more: {' '.join(others[:TOLD_AT_MOST])}" if others else ""
            raise PeerRefused(first + more)

    def _stand_in(self, thing: ResultObject) -> StandIn:
        return self.replaced.get(thing.sop_instance_uid, StandIn(thing=thing, sentence=""))
