"""Start and stop everything: doors, planner, worker slots, senders, retention.

Each loop surrounds one function of `node.flow`; nothing is decided here.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from node import __version__, flow
from node.accept import DimseDoor, FolderDoor, Request, Spool, Store, check_inbox
from node.accept.dimse import Receive
from node.assign import parse_rules
from node.compute import Engine, LocalEngine, Staging, installed
from node.compute.sandbox.probe import probe, unconfined
from node.config import Config
from node.errors import ConfigError, IllegalTransition, JournalUnavailable
from node.flow import Node
from node.follow import follow
from node.job import Job, JobState
from node.journal import Journal, lock_data
from node.log import describe, get_log
from node.model import Instance
from pipelines.contract import Card

log = get_log("serve")

POLL_S = 0.1  #: how often a loop looks at the journal when nobody woke it
SERIES_PAUSE_S = 30.0  #: how long a series that could not be planned is left alone
STRANDED_PAUSE_S = 1.0  #: how long until a job is given up again that the journal did not take back
AGE_OUT_EVERY_S = 3600.0
AGE_OUT_AT_ONCE = 5  #: series; senders wait while they go
FAREWELL_S = 1.0  #: after the drain, how long a loop may take to notice
CANCEL_EVERY_S = 1.0


def utc_now() -> datetime:
    """Return the time as the node keeps it."""
    return datetime.now(UTC)


@contextmanager
def open_node(config: Config, *, clock: Callable[[], datetime] = utc_now) -> Iterator[Node]:
    """Open the data folder, put right what the last run left, and start the worker slots.

    Raises
    ------
    ConfigError
        A rule, a pipeline or the data folder cannot be used, or another node has it, or pipelines from
        outside cannot be shut in.
    """
    cards = installed(config.pipelines)
    rules = parse_rules(config.rules, cards)
    data = config.node.data.resolve()
    if config.pipelines and (lack := unconfined(config.compute.isolation, config.pipelines, probe(data))):
        raise ConfigError(f"[pipelines] {lack}.")
    with lock_data(data):
        try:
            store, staging = Store(data, config.accept), Staging(data)
        except OSError as error:
            raise ConfigError(
                f"[node] data = {str(data)!r} cannot be used: {error.filename}: {error.strerror}. "
                "Name a folder that this user may write."
            ) from error
        journal = Journal.open(data)
        try:
            wanted, sources = [cards[rule.pipeline] for rule in rules], (store.instances, staging.results)
            with _engine(config, wanted, cards.values(), sources) as engine:
                node = Node(
                    config=config,
                    journal=journal,
                    store=store,
                    staging=staging,
                    engine=engine,
                    cards=cards,
                    rules=rules,
                    clock=clock,
                )
                _recover(node)
                yield node
        finally:
            journal.close()


@contextmanager
def _engine(
    config: Config, wanted: Iterable[Card], cards: Iterable[Card], sources: Sequence[Path]
) -> Iterator[Engine]:
    """Start the workers; they import ahead what the wanted pipelines need, if it is ours."""
    modules = dict.fromkeys(card.use.partition(":")[0] for card in wanted)
    engine = LocalEngine(
        config.compute,
        scratch=config.node.data / "scratch",
        preload={
            "host": ["node.flow", "node.encode", "node.picture"],
            "device": ["node.compute", *(module for module in modules if module.startswith("pipelines."))],
        },
        readable=[card.folder for card in cards],
        sources=sources,
    )
    try:
        yield engine
    finally:
        engine.close()


def _recover(node: Node) -> None:
    """Sweep what was never acknowledged or committed, and go on with what was."""
    for job in node.journal.recover(node.clock(), tries=node.config.compute.tries):
        log.info("job_requeued", job=job.id, state=job.state, reason="the node stopped while it computed")
    routing = node.config.rules, sorted(card.digest for card in node.cards.values()), __version__
    log.info("unrouted_reconsidered", count=node.journal.reconsider(repr(routing)))
    swept = node.store.sweep(node.journal.known_paths())
    node.staging.sweep(node.journal.result_paths())
    log.info("recovered", count=swept)


def serve(config: Config, announce: Callable[[str], None]) -> int:
    """Run the node until SIGTERM or SIGINT, then drain; a second one hurries.

    Parameters
    ----------
    announce
        Called once with the line ``ready ...`` when the doors are open.

    Raises
    ------
    ConfigError
        The node cannot run like this; then nothing was begun.
    """
    check_inbox(config)
    stop, hurry = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: hurry.set() if stop.is_set() else stop.set())
    with open_node(config) as node:
        receive = _receiver(node)
        door = DimseDoor(config.accept, config.node.ae_title, node.store, receive)
        folder = FolderDoor(config.accept, node.store, receive)
        loops = _loops(node, stop)
        ports = []
        try:
            if config.accept.dimse.enabled:
                ports.append(f"dimse={door.start()}")
            folder.start()
            for loop in loops:
                loop.start()
            announce(" ".join(["ready", *ports]))
            log.info("ready", version=__version__)
            stop.wait()
        finally:
            stop.set()
            _drain(door, folder, loops, node, hurry)
    log.info("stopped")
    return 0


def _drain(
    door: DimseDoor, folder: FolderDoor, loops: list[threading.Thread], node: Node, hurry: threading.Event
) -> None:
    """Give what is under way its time, then end the workers; the next start takes up their jobs."""
    log.info("draining")
    end = time.monotonic() + node.config.node.drain_s
    door.drain(node.config.node.drain_s, hurry)
    door.stop()
    folder.stop()
    while any(loop.is_alive() for loop in loops) and time.monotonic() < end and not hurry.is_set():
        time.sleep(POLL_S)
    node.engine.close()
    end = time.monotonic() + FAREWELL_S
    for loop in loops:
        if loop.is_alive():
            loop.join(max(0.0, end - time.monotonic()))
    if left := [loop.name for loop in loops if loop.is_alive()]:
        # What a peer has not answered for has no receipt, so the next start sends it again.
        log.warning("left_behind", names=left)


def _receiver(node: Node) -> Receive:
    """Return what doors call: `flow.receive`, never at the moment in which something ages out."""

    def receive(spool: Spool, request: Request) -> Instance:
        with node.store.gate.shared():
            return flow.receive(spool, request, node)

    return receive


def _loops(node: Node, stop: threading.Event) -> list[threading.Thread]:
    """Return one thread per thing that goes on by itself."""
    under_way: set[int] = set()
    work = [("plan", _planner(node)), ("follow", _follower(node))]
    work += [("age-out", _every(AGE_OUT_EVERY_S, partial(age_out, node)))]
    work += [("cancel", _every(CANCEL_EVERY_S, _canceller(node, under_way)))]
    work += [(f"compute-{slot}", _computer(node, under_way, stop)) for slot in range(node.engine.slots)]
    work += [(f"send-{name}", _sender(node, name, stop)) for name in (*node.config.destinations, None)]
    return [threading.Thread(target=_loop, args=(once, stop), name=name, daemon=True) for name, once in work]


def _planner(node: Node) -> Callable[[], bool]:
    paused_until: dict[str, datetime] = {}

    def once() -> bool:
        now = node.clock()
        due = [uid for uid in flow.settled(node) if paused_until.get(uid, now) <= now]
        for series_uid in due:
            try:
                jobs = flow.plan(series_uid, node)
            except Exception as error:  # noqa: BLE001  one series must not hold up the others
                paused_until[series_uid] = now + timedelta(seconds=SERIES_PAUSE_S)
                log.error("series_not_planned", series_uid=series_uid, error=describe(error))
                continue
            paused_until.pop(series_uid, None)
            log.info("series_planned", series_uid=series_uid, count=len(jobs))
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
            if stop.is_set():
                break
            flow.deliver(owed, node)
        return bool(mine)

    return once


def age_out(node: Node) -> None:
    """Let go of what retention no longer keeps; nothing with open work goes."""
    while True:
        with node.store.gate.alone():  # what came again a moment ago has not expired any more
            some = node.journal.expired(node.clock(), node.config.keep)[:AGE_OUT_AT_ONCE]
            for series_uid in some:
                files = node.journal.forget(series_uid)
                node.store.remove(set(files) - node.staging.remove(files))
                log.info("series_aged_out", series_uid=series_uid, count=len(files))
        if not some:
            return


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


def _loop(once: Callable[[], bool], stop: threading.Event) -> None:
    """Call ``once`` until told to stop; it returns whether there was anything to do."""
    while not stop.is_set():
        busy = False
        try:
            busy = once()
        except Exception as error:  # noqa: BLE001  a loop that dies would stop its step for everyone
            log.error("loop_error", name=threading.current_thread().name, error=describe(error))
            stop.wait(1.0)
        if not busy:
            stop.wait(POLL_S)
