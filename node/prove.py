"""What a destination took is asked for, until it is known to be there: then DONE means that it has it.

`prove` is one step of a loop per destination; `hear` is called for each storage commitment report, over
whatever association it comes. All that either needs is in the journal, so the node may end in between.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from node.config import DimseDestination, StowDestination
from node.errors import ConfigError, JournalUnavailable, NodeError, PeerRefused, foreseen
from node.failpoint import failpoint
from node.flow import Node
from node.job import next_try
from node.journal import Unproved
from node.log import get_log
from node.peer.commitment import PROCESSING_FAILURE, SUCCESS, Report
from node.peer.query import Archive, archive_of
from node.send.commitment import MOST_ITEMS, failure_of, request_commitment
from node.send.read_back import look_again_at, present

log = get_log("prove")

#: Seconds; an archive that never reports is asked ever less often, but at least this often.
SELDOM_S = 21_600.0


def prove(name: str | None, node: Node, stopping: Callable[[], bool] = lambda: False) -> bool:
    """Ask one destination for what it took and is not known to have.

    Parameters
    ----------
    name
        None: those that the configuration no longer has; nobody can be asked.
    stopping
        Asked now and then, while an answer is awaited.

    Returns
    -------
    bool
        Whether there was anything to ask for.
    """
    now = node.clock()
    things = node.journal.unproved(name, now, most=MOST_ITEMS, other_than=node.config.destinations)
    if not things:
        return False
    destination = node.config.destinations.get(things[0].place)
    how = node.config.proof(things[0].place)
    try:
        if destination is None:
            _nobody_to_ask(things, node, now)
        elif isinstance(destination, DimseDestination) and how == "commitment":
            _ask_to_commit(things, destination, node, stopping)
        elif isinstance(destination, DimseDestination | StowDestination) and how == "query":
            _look(things, destination, node)
        else:
            node.journal.prove(things, "No proof is asked for any more.", now, seen=False)
    except Exception as error:  # noqa: BLE001  nothing may hold up the proofs behind it
        _put_off(things, foreseen(error), node)
    return True


def hear(report: Report, node: Node, caller: str = "") -> int:
    """Take note of what an archive says of a transaction; return the status for its N-EVENT-REPORT.

    Believed is only what was asked of this very archive and is still open; the rest is of no account,
    and is answered as if it were: or it would be told again and again.

    Parameters
    ----------
    caller
        AE title of who says so, over an association of its own; "": it was asked just now.
    """
    try:
        return _heard(report, node, caller)
    except JournalUnavailable as error:
        log.error("commitment_not_kept", error=str(error))
        return PROCESSING_FAILURE


def _heard(report: Report, node: Node, caller: str) -> int:
    place, things = node.journal.asked(report.transaction_uid)
    destination = node.config.destinations.get(place)
    if not isinstance(destination, DimseDestination) or caller not in ("", destination.ae_title):
        log.warning("commitment_ignored", ae_title=caller, count=len(report.committed) + len(report.failed))
        return SUCCESS
    failpoint("prove.answered")
    now, told = node.clock(), f"transaction {report.transaction_uid}"
    node.journal.answered(report.transaction_uid, now)
    committed = [thing for thing in things if report.committed.get(thing.sent_uid) == thing.sop_class_uid]
    node.journal.prove(committed, f"{place} committed itself to keep it ({told}).", now)
    failed: dict[str, dict[Unproved, str]] = {"ask": {}, "send": {}, "wait": {}}
    for thing in things:
        if thing.sent_uid in report.failed:
            reason = report.failed[thing.sent_uid]
            failure = failure_of(reason)
            took = f"{place} took {thing.sent_uid}, and"
            why = f"{took} {failure.sentence} (failure reason {reason:04X} in {told})."
            failed[failure.then][thing] = why
        elif thing not in committed:
            failed["ask"][thing] = (
                f"{place} answered without {thing.sent_uid}, or with another class ({told})."
            )
    if failed["ask"]:
        node.journal.ask_again(failed["ask"], _next(list(failed["ask"]), node, now))
    node.journal.lose(failed["send"], node.config.send, now)
    node.journal.lose(failed["wait"], node.config.send, now, for_good=True)
    counts = {key: len(those) for key, those in failed.items()}
    log.info("commitment_heard", destination=place, count=len(committed), notes=counts)
    return SUCCESS


def _ask_to_commit(
    things: Sequence[Unproved], destination: DimseDestination, node: Node, stopping: Callable[[], bool]
) -> None:
    """Ask for storage commitment, and listen for as long as the association may last."""
    place, now = things[0].place, node.clock()
    transaction_uid = f"2.25.{uuid.uuid4().int}"  # nobody can guess it (PS3.5 B.2)
    asks = min(thing.asks for thing in things)
    due_at = next_try(now, asks + 1, destination.proof_s, max(SELDOM_S, destination.proof_s))
    node.journal.ask(transaction_uid, place, things, now=now, due_at=due_at)
    log.info("commitment_asked", destination=place, count=len(things))
    request_commitment(
        place,
        destination,
        transaction_uid,
        {thing.sent_uid: thing.sop_class_uid for thing in things},
        node.config,
        hear=lambda report: hear(report, node),
        enough=lambda: (
            stopping() or place in node.journal.paused() or not node.journal.awaits(transaction_uid)
        ),
    )


def _look(things: Sequence[Unproved], destination: DimseDestination | StowDestination, node: Node) -> None:
    """Look whether a destination lists what it took.

    Some hide a rejection note together with what it rejects, as they may (IHE IOCM). One that lists
    neither by the end of the time has done what the note says.
    """
    place, archive = things[0].place, archive_of(destination, node.config)
    by = "C-FIND" if isinstance(destination, DimseDestination) else "QIDO-RS"
    failpoint("prove.asked")
    there = present(((one.study_uid, one.series_uid) for one in things), archive)
    failpoint("prove.answered")
    now = node.clock()
    found = [one for one in things if one.sent_uid in there]
    node.journal.prove(found, f"Seen at {place} by {by}.", now)
    absent: dict[Unproved, str] = {}
    for one in things:
        if one.sent_uid in there:
            continue
        looks, delivered_at = one.asks + 1, one.delivered_at
        again = look_again_at(looks, now, _next([one], node, now), delivered_at, destination.proof_s)
        if again is not None:
            node.journal.ask_again({one: f"{place} does not list it yet, asked by {by}."}, again)
        elif (rejected := node.journal.rejected_by(one)) and not _lists_any(rejected, one, archive):
            told = f"{place} lists nothing any more of what it takes back, nor the note, asked by {by}."
            node.journal.prove([one], told, now)
        else:
            absent[one] = f"{place} took {one.sent_uid}, and does not list it when asked by {by}."
    node.journal.lose(absent, node.config.send, now)
    log.info("looked_for", destination=place, count=len(found), limit=len(things), notes=len(absent))


def _lists_any(things: Mapping[str, frozenset[str]], note: Unproved, archive: Archive) -> bool:
    there = present(((note.study_uid, series_uid) for series_uid in things), archive)
    return any(there & uids for uids in things.values())


def _nobody_to_ask(things: Sequence[Unproved], node: Node, now: datetime) -> None:
    why = "The configuration no longer has a destination {!r}, so it cannot be asked whether it has {}."
    lost = {one: why.format(one.place, one.sent_uid) for one in things}
    node.journal.lose(lost, node.config.send, now, for_good=True)


def _put_off(things: Sequence[Unproved], error: NodeError, node: Node) -> None:
    """Ask later: the archive could not be asked, or would not have it."""
    place, now, why = things[0].place, node.clock(), str(error)
    if isinstance(error, PeerRefused | ConfigError):
        others = '"query" or "none"' if node.config.proof(place) == "commitment" else '"none"'
        why += f" Put that right, or set [destinations.{place}] proof = {others}."
    log.warning("not_proved", destination=place, code=error.code, reason=why)
    node.journal.not_asked(things, why, now=now, until=_next(things, node, now))


def _next(things: Sequence[Unproved], node: Node, now: datetime) -> datetime:
    settings = node.config.send
    asks = max(thing.asks for thing in things)
    return next_try(now, asks + 1, settings.first_retry_s, settings.longest_retry_s)
