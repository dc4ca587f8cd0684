"""Studies that appear in an archive: those that are new there, or have grown, are fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from node.config import Watch
from node.errors import NodeError
from node.flow import Node
from node.log import get_log
from node.peer.query import Found, archive_of

log = get_log("pull")

MOST_STUDIES = 2_000  #: that are looked at; more match only where ``match`` says too little
#: What was seen so long before the first day that is asked for is forgotten.
FORGET_DAYS = 30


def look(name: str, node: Node) -> int:
    """Ask an archive what it has, and have fetched what is new; return how many studies that is.

    What cannot be asked is told in the status, and asked again the next time.
    """
    source = node.config.sources[name]
    if source.watch is None:
        return 0
    now = node.clock()
    try:
        question = asked(source.watch, now.astimezone().date())
        found = archive_of(source, node.config).studies(question, most=MOST_STUDIES)
    except NodeError as error:
        log.warning("watch_failed", name=name, reason=str(error))
        node.journal.complain(name, str(error))
        return 0
    full = f"[sources.{name}.watch] finds more than {MOST_STUDIES} studies; say more in match."
    node.journal.complain(name, full if len(found) >= MOST_STUDIES else "")
    fresh = news(found, node.journal.watched(name))
    count = node.journal.see(name, fresh, now, forgotten=_forgotten(source.watch, now))
    if count:
        log.info("studies_appeared", name=name, count=count)
    return count


def asked(watch: Watch, today: date) -> Mapping[str, str]:
    """Return what studies must match: what the configuration says, of the last days unless it says when.

    The range is open at its end: the clock of the archive may be ahead of ours.
    """
    days = {"StudyDate": f"{today - timedelta(days=watch.days):%Y%m%d}-"}
    return days | watch.match


def news(found: Sequence[Found], seen: Mapping[str, int | None]) -> dict[str, int | None]:
    """Return the studies that are new, or have grown -> how many instances they have now."""
    fresh = {}
    for one in found:
        before = seen.get(one.uid)
        grown = one.instances is not None and (before is None or one.instances > before)
        if one.uid not in seen or grown:
            fresh[one.uid] = one.instances
    return fresh


def _forgotten(watch: Watch, now: datetime) -> datetime:
    if "StudyDate" in watch.match:
        return datetime.min.replace(tzinfo=now.tzinfo)
    return now - timedelta(days=watch.days + FORGET_DAYS)
