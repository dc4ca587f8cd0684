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
PRIORS_PAUSE_S = 5.0  #: between two looks for priors

Once = Callable[[], bool]  #: does something, if there is something to do, and says whether there was


def pulling(node: Node, is_stopping: Callable[[], bool]) -> Iterator[tuple[str, Once]]:
    """Yield the loops, each with its name; and give up what comes from nowhere any more."""
    node.journal.disown_pulls(list(node.config.sources), node.clock())
    node.journal.refresh_priors(node.clock())
    for name, source in node.config.sources.items():
        yield f"pull-{name}", _now_and_then(LOOK_EVERY_S, partial(_fetch_next, name, node, is_stopping))
        if source.watch is not None:
            yield f"watch-{name}", _now_and_then(source.watch.every_s, partial(_no_more, look, name, node))
        if source.priors:
            yield f"priors-{name}", _now_and_then(PRIORS_PAUSE_S, partial(_no_more, seek, name, node))


def _fetch_next(name: str, node: Node, is_stopping: Callable[[], bool]) -> bool:
    now: datetime = node.clock()
    pull = None if is_stopping() else node.journal.due_pull(name, now)
    if pull is not None:
        fetch(pull, node, is_stopping)
    return pull is not None


def _no_more(act: Callable[[str, Node], int], name: str, node: Node) -> bool:
    """Do something whose end is the end for now."""
    act(name, node)
    return False


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
