"""What goes to a place in stead of what it does not take, written down before it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from node.errors import PeerBusy
from node.journal import Delivery, Journal
from node.model import ResultObject, StandIn


class Swap:
    """The memory of one delivery; `node.send` calls it for its destination, and for any alternate.

    Parameters
    ----------
    owed
        What is delivered.
    """

    def __init__(self, journal: Journal, clock: Callable[[], datetime], owed: Delivery) -> None:
        self._journal, self._clock, self._owed = journal, clock, owed
        self._went: dict[str, ResultObject] = {}  # result -> the stand-in that went in its place
        #: What may have arrived since this delivery began, as `Journal.put_off` wants it.
        self.begun: dict[str, dict[str, str]] = {}

    def __call__(
        self,
        place: str,
        lacking: Sequence[ResultObject],
        taken: Mapping[str, bool],
        hoped: Mapping[str, bool],
    ) -> Mapping[str, StandIn]:
        """Learn which SOP Classes a place takes; make what goes there in place of what it does not.

        What goes is written down (and in ``begun``) before it does: its answer may be lost.

        Raises
        ------
        IllegalTransition
            It was withdrawn or cancelled meanwhile: nothing may go.
        PeerBusy
            The place is an alternate, and paused.
        """
        self._journal.learn(place, taken, self._clock())
        if not lacking:
            return {}
        if place != self._owed.destination and place in self._journal.paused():
            raise PeerBusy(f"{place} is paused.")
        begun = self.begun.setdefault(place, {})  # it has said no to these, or was not sent them
        self._journal.disbelieve(
            self._owed, {place: {uid: begun.pop(uid) for uid in _uids(lacking) if uid in begun}}
        )
        known = {**hoped, **taken}
        went = {uid: thing for uid, thing in self._went.items() if uid not in _uids(lacking)}
        owed = replace(self._owed, objects=tuple(lacking), earlier={**self._owed.earlier, **went})
        made: Mapping[str, StandIn] = {}
        if not owed.fits(known):
            from node.encode.fallback import stand_ins  # the encoder is loaded when it is needed

            made = self._journal.keep_stand_ins(owed.job_id, stand_ins(owed.objects, owed.earlier, known))
        begun.update(self._journal.begin(owed, place, owed.going(known, made)))
        self._went |= {uid: one.thing for uid, one in made.items() if one.thing is not None}
        return made


def _uids(things: Sequence[ResultObject]) -> frozenset[str]:
    return frozenset(thing.sop_instance_uid for thing in things)
