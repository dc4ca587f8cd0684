"""What goes to a destination in place of what it does not take, written down before it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from node.journal import Delivery, Journal
from node.model import StandIn


def swap(
    journal: Journal,
    clock: Callable[[], datetime],
    owed: Delivery,
    begun: dict[str, str],
    taken: Mapping[str, bool],
) -> Mapping[str, StandIn]:
    """Learn which SOP Classes a destination takes; make what goes there in place of what it does not.

    What goes is written down (and in ``begun``) before it does: its answer may be lost.

    Raises
    ------
    IllegalTransition
        It was withdrawn or cancelled meanwhile: nothing may go.
    """
    journal.learn(owed.destination, taken, clock())
    made: Mapping[str, StandIn] = {}
    if not owed.fits(taken):
        from node.encode.fallback import stand_ins  # the encoder is loaded when it is needed

        made = journal.keep_stand_ins(owed.job_id, stand_ins(owed.objects, owed.earlier, taken))
    begun.update(journal.begin(owed, owed.going(taken, made)))
    return made
