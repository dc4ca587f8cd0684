"""What goes on by itself about archives: one loop each to fetch, to watch, and to look for priors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

from node.flow import Node
from node.pull.execute import fetch
from node.pull.priors import seek
from node.pull.watch import look

LOOK_EVERY_S = 0.5  #: for new requests, of people and of cases that lack a prior
PRIORS_EVERY_S = 2.0  #: how often cases that lack a prior are looked for
SILENT_PAUSE_S = 30.0  #: how long an archive that could not be asked is left alone

Once = Callable[[], bool]  #: does something, if there is something to do, and says whether there was


def pulling(node: Node, is_stopping: Callable[[], bool]) -> Iterator[tuple[str, Once]]:
    """Yield the loops, each with its name; and give up what comes from nowhere any more."""
    node.journal.disown_pulls(list(node.config.sources), node.clock())
    node.journal.refresh_priors(node.clock())
    for name, source in node.config.sources.items():
        yield f"pull-{name}", _now_and_then(LOOK_EVERY_S, partial(_fetch_next, name, node, is_stopping))
        if source.watch is not None:
            yield f"watch-{name}", _now_and_then(source.watch.every_s, partial(_look, name, node))
        if source.priors:
            yield f"priors-{name}", _seeker(name, node)


def _fetch_next(name: str, node: Node, is_stopping: Callable[[], bool]) -> bool:
    now: datetime = node.clock()
    pull = None if is_stopping() else node.journal.due_pull(name, now)
    if pull is not None:
        fetch(pull, node, is_stopping)
    return pull is not None


def _look(name: str, node: Node) -> bool:
    look(name, node)
    return False


def _seeker(name: str, node: Node) -> Once:
    """Return what looks for priors; an archive that cannot be asked is left alone for a while."""
    next_at = time.monotonic()

    def once() -> bool:
        nonlocal next_at
        if time.monotonic() >= next_at:
            could = seek(name, node)
            next_at = time.monotonic() + (PRIORS_EVERY_S if could else SILENT_PAUSE_S)
        return False

    return once


def _now_and_then(every_s: float, act: Once) -> Once:
    """Act at once, again as long as there is something to do, and then after a pause."""
    next_at = time.monotonic()

    def once() -> bool:
        nonlocal next_at
        if time.monotonic() < next_at:
            return False
        next_at = time.monotonic() + every_s
        busy = act()
        if busy:
            next_at = time.monotonic()
        return busy

    return once
