"""What goes on by itself: plan, follow, compute, send, prove, age out, cancel.

Each loop surrounds one function of `node.flow` or its like; nothing is decided here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from node import flow
from node.errors import ConfigError, IllegalTransition, JournalUnavailable
from node.evidence import Bringing, asked, counter, nobody, settled
from node.flow import Node
from node.follow import follow
from node.job import Job, JobState
from node.journal import Journal
from node.log import describe, get_log
from node.peer.tls import expiring
from node.prove import prove
from node.pull import pulling

log = get_log("serve")

POLL_S = 0.1  #: a loop looks at the journal at most so often ...
IDLE_S = 0.5  #: ... and at least so often: time passes, and commands in other processes write to it too
SERIES_PAUSE_S = 30.0  #: how long a series that could not be planned is left alone
STRANDED_PAUSE_S = 1.0  #: how long until a job is given up again that the journal did not take back
AGE_OUT_EVERY_S = 3600.0
AGE_OUT_AT_ONCE = 5  #: series; senders wait while they go
CANCEL_EVERY_S = 1.0
FINISH_EVERY_S = 10.0
CERTIFICATES_EVERY_S = 86_400.0


def loops_of(node: Node, stop: threading.Event, bringing: Bringing = nobody) -> list[threading.Thread]:
    """Return one thread per thing that goes on by itself; ``bringing`` tells who still brings what."""
    under_way: set[int] = set()
    work = [("plan", _planner(node, bringing)), ("follow", _follower(node))]
    work += [(f"count-{name}", counter(node, name)) for name in asked(node.config)]
    work += list(pulling(node, stop.is_set))
    work += [("age-out", _every(AGE_OUT_EVERY_S, partial(age_out, node)))]
    work += [("certificates", _every(CERTIFICATES_EVERY_S, partial(warn_of_certificates, node)))]
    work += [("cancel", _every(CANCEL_EVERY_S, _canceller(node, under_way)))]
    work += [(f"compute-{slot}", _computer(node, under_way, stop)) for slot in range(node.engine.slots)]
    work += [("finish", _every(FINISH_EVERY_S, partial(finish, node)))]
    for name in (*node.config.destinations, None):
        work += [(f"send-{name}", _sender(node, name, stop))]
        work += [(f"prove-{name}", partial(prove, name, node, stop.is_set))]
    return [
        threading.Thread(target=_loop, args=(once, stop, node.journal), name=name, daemon=True)
        for name, once in work
    ]


def _planner(node: Node, bringing: Bringing) -> Callable[[], bool]:
    paused_until: dict[str, datetime] = {}

    def once() -> bool:
        now = node.clock()
        due = {uid: one for uid, one in settled(node, bringing).items() if paused_until.get(uid, now) <= now}
        for series_uid, settling in due.items():
            try:
                jobs = flow.plan(series_uid, node, settling)
            except Exception as error:  # noqa: BLE001  one series must not hold up the others
                paused_until[series_uid] = now + timedelta(seconds=SERIES_PAUSE_S)
                log.error("series_not_planned", series_uid=series_uid, error=describe(error))
                continue
            paused_until.pop(series_uid, None)
            log.info("series_planned", series_uid=series_uid, count=len(jobs), reason=settling.sentence)
        return bool(due)

    return once


def _follower(node: Node) -> Callable[[], bool]:
    paused_until: dict[int, datetime] = {}

    def once() -> bool:
        now, busy = node.clock(), False
        for job in node.journal.unfollowed():
            if paused_until.get(job.id, now) > now:
                continue
            busy = True
            try:
                made = follow(job, node)
            except Exception as error:  # noqa: BLE001  one job must not hold up the others
                paused_until[job.id] = now + timedelta(seconds=SERIES_PAUSE_S)
                log.error("results_not_followed", job=job.id, error=describe(error))
                continue
            paused_until.pop(job.id, None)
            if made:
                log.info("results_followed", job=job.id, count=len(made))
        return busy

    return once


def _computer(node: Node, under_way: set[int], stop: threading.Event) -> Callable[[], bool]:
    def once() -> bool:
        job = node.journal.claim(node.clock())
        if job is None:
            return False
        under_way.add(job.id)
        try:
            flow.compute(job, node, report=lambda _step, _fraction: None)
        except Exception as error:  # noqa: BLE001  what became of it could not be written down
            log.error("job_stranded", job=job.id, error=describe(error))
            _hand_back(job, error, node, stop)
        finally:
            under_way.discard(job.id)
        after = node.journal.job(job.id)
        log.info("job_moved", job=job.id, state=after.state, code=after.reason_code, reason=after.reason)
        return True

    return once


def _hand_back(job: Job, error: Exception, node: Node, stop: threading.Event) -> None:
    """Give up a job whose end the journal did not take, as soon as it does; else the next start will."""
    while not stop.wait(STRANDED_PAUSE_S):
        try:
            flow.give_up(job, error, node)
        except JournalUnavailable:
            continue
        except IllegalTransition:  # it was written down after all, or an operator was faster
            pass
        return


def _sender(node: Node, destination: str | None, stop: threading.Event) -> Callable[[], bool]:
    """Deliver to one destination; None looks after those the configuration no longer has.

    What stands behind a slow delivery may be withdrawn meanwhile: `flow.deliver` asks again.
    """

    def once() -> bool:
        mine = node.journal.due(node.clock(), destination, other_than=node.config.destinations)
        for owed in mine:
            if stop.is_set() or owed.destination in node.journal.paused():
                break
            flow.deliver(owed, node)
        return bool(mine)

    return once


def finish(node: Node) -> None:
    """Finish what should have been when its last object was taken: the journal was out of order then."""
    for job in node.journal.finish_all(node.clock()):
        log.info("job_moved", job=job.id, state=job.state, code=job.reason_code, reason=job.reason)


def age_out(node: Node) -> None:
    """Let go of what retention no longer keeps; nothing with open work goes."""
    read: set[str] = set()  # series that somebody downloads: they go another time
    while True:
        with node.store.gate.alone():  # what came again a moment ago has not expired any more
            expired = node.journal.expired(node.clock(), node.config.keep)
            some = [uid for uid in expired if uid not in read][:AGE_OUT_AT_ONCE]
            for series_uid in some:
                series = node.journal.series(series_uid)
                with node.store.leases.ending(series.study_uid if series else "") as is_free:
                    if not is_free:
                        read.add(series_uid)
                        continue
                    files = node.journal.forget(series_uid)
                    node.store.remove(set(files) - node.staging.remove(files))
                log.info("series_aged_out", series_uid=series_uid, count=len(files))
        if not some:
            return


def warn_of_certificates(node: Node) -> None:
    """Say in the log which certificates of [tls] have ended, or soon will."""
    try:
        complaint = expiring(node.config.tls, node.clock())
    except ConfigError as error:
        complaint = str(error)
    if complaint:
        log.warning("certificate_ends", reason=complaint)


def _canceller(node: Node, under_way: set[int]) -> Callable[[], None]:
    """End the worker of a job that an operator cancelled; another process told the journal."""

    def act() -> None:
        for job_id in under_way.copy():
            if node.journal.job(job_id).state is JobState.CANCELLED:
                node.engine.cancel(job_id)

    return act


def _every(seconds: float, act: Callable[[], None]) -> Callable[[], bool]:
    next_at = time.monotonic()

    def once() -> bool:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + seconds
            act()
        return False

    return once


def _loop(once: Callable[[], bool], stop: threading.Event, journal: Journal) -> None:
    """Call ``once`` until told to stop; it returns whether there was anything to do."""
    while not stop.is_set():
        busy, seen = False, journal.changes
        try:
            busy = once()
        except Exception as error:  # noqa: BLE001  a loop that dies would stop its step for everyone
            log.error("loop_error", name=threading.current_thread().name, error=describe(error))
            stop.wait(1.0)
        if not busy and not stop.wait(POLL_S):
            journal.wait_for_change(seen, IDLE_S)
