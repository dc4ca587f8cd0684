"""What is known of whether a series is whole: gathered here, decided in `node.assemble.settle`.

The door knows who still brings what, archives know how many there are. Each archive is asked by a thread
of its own, so that one which hangs stops nobody, and what it said last is in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from node.assemble import Decision, Evidence, decide, to_ask
from node.config import Config
from node.errors import NodeError
from node.flow import Node
from node.journal import Arriving, Journal
from node.log import get_log
from node.model import Settling
from node.peer.query import Archive, archive_of

log = get_log("assemble")

#: Series Instance UID -> open associations that brought an instance of it.
Bringing = Callable[[], Mapping[str, int]]
_NEVER = datetime.min.replace(tzinfo=UTC)
SILENT_PAUSE_S = 30.0  #: an archive that gave no answer is left alone for so long


def nobody() -> Mapping[str, int]:
    """Return that no association is open, as far as anybody knows."""
    return {}


def asked(config: Config) -> tuple[str, ...]:
    """Return the names of the sources that are asked how many instances a series has."""
    return tuple(name for name, source in config.sources.items() if source.counts)


def settled(node: Node, bringing: Bringing = nobody) -> dict[str, Settling]:
    """Return Series Instance UID -> why, of the series that may be worked on."""
    found = decisions(node.journal, node.config, node.clock(), bringing())
    return {uid: one.settling for uid, (_, one) in found.items() if one.settling is not None}


def decisions(
    journal: Journal, config: Config, now: datetime, open_associations: Mapping[str, int]
) -> dict[str, tuple[Arriving, Decision]]:
    """Decide about each series that arrives."""
    asks = asked(config)
    return {
        one.series_uid: (
            one,
            decide(
                Evidence(
                    last_arrival_at=one.last_arrival_at,
                    held=one.count,
                    counts=tuple(count for count in one.counts if count.source in asks),
                    asks=asks,
                    open_associations=open_associations.get(one.series_uid, 0),
                    is_ordered=one.is_ordered,
                ),
                now,
                config.assemble.quiet_s,
                config.assemble.incomplete,
            ),
        )
        for one in journal.arriving()
    }


def status(journal: Journal, config: Config, now: datetime) -> dict[str, Any]:
    """Return what `Journal.status` tells, and in addition what each series in ``arriving`` ``waits`` for.

    Another process than the node does not know which associations are open, and says so nowhere.
    """
    report = journal.status()
    found = decisions(journal, config, now, {})
    for one in report["arriving"]:
        decided = found.get(one["series_uid"])
        one["waits"] = decided[1].sentence if decided else ""
    return report


def counter(node: Node, name: str) -> Callable[[], bool]:
    """Return what asks one archive how many instances the series have that arrive.

    Each in its turn: one about which it would not answer comes after the others the next time.
    """
    quiet_s = node.config.assemble.quiet_s
    asked_at: dict[str, datetime] = {}  # Series Instance UID -> the last time, answered or not
    archive: Archive | None = None
    paused_until: datetime | None = None
    is_silent = False

    def once() -> bool:
        nonlocal archive, paused_until, is_silent
        now = node.clock()
        if paused_until is not None and now < paused_until <= now + timedelta(seconds=SILENT_PAUSE_S):
            return False
        arriving = node.journal.arriving()
        for gone in asked_at.keys() - {one.series_uid for one in arriving}:
            del asked_at[gone]
        due = [one for one in arriving if _is_due(one, name, now, quiet_s)]
        due.sort(key=lambda one: asked_at.get(one.series_uid, _NEVER))
        try:
            for one in due[:1]:  # between two questions the node may be told to stop
                archive = archive or archive_of(node.config.sources[name], node.config)
                asked_at[one.series_uid] = node.clock()
                said = archive.count(one.study_uid, one.series_uid)
                node.journal.counted(one.series_uid, name, said, asked_at[one.series_uid])
                if is_silent:
                    log.info("counts_again", name=name)
                is_silent = False
        except NodeError as error:
            if not is_silent:
                log.warning("no_counts", name=name, code=error.code, reason=str(error))
            is_silent, paused_until = True, node.clock() + timedelta(seconds=SILENT_PAUSE_S)
            return False
        return bool(due)

    return once


def _is_due(one: Arriving, name: str, now: datetime, quiet_s: float) -> bool:
    last = next((count for count in one.counts if count.source == name), None)
    return to_ask(last, one.last_arrival_at, now, quiet_s)
