"""Start and stop everything: the data folder, the doors, the workers, and the loops between them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from node import __version__, flow
from node.accept import DimseDoor, FolderDoor, Store, StowDoor, check_inbox
from node.accept.dimse import Receive
from node.assign import parse_rules, under
from node.compute import Engine, LocalEngine, Staging, installed
from node.compute.sandbox.probe import probe, unconfined
from node.config import Config
from node.darkroom import DECODABLE, Darkroom
from node.errors import ConfigError
from node.flow import Node
from node.journal import Journal, lock_data
from node.log import get_log
from node.loops import POLL_S, loops_of
from node.peer.tls import server_context
from node.prove import hear
from node.show import Origin, Shown, WebDoor, make_app
from pipelines.contract import Card

log = get_log("serve")

FAREWELL_S = 1.0  #: after the drain, how long a loop may take to notice


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
    rules = under(parse_rules(config.rules, cards), config.accept.policies)
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
        if config.accept.sync == "file":
            journal.record_lazily()
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
    policies = {name: policy.rules for name, policy in node.config.accept.policies.items()}
    routing = node.config.rules, policies, sorted(card.digest for card in node.cards.values()), __version__
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
    with open_node(config) as node, _origin(node) as origin:
        receive = partial(flow.receive, node=node)
        door = _dimse_door(node, receive)
        folder = FolderDoor(config.accept, node.store, receive)
        web = _web_door(node, receive, origin)
        loops = loops_of(node, stop, door.bringing)
        ports = []
        try:
            if config.accept.dimse.enabled:
                ports.append(f"dimse={door.start()}")
            if config.show.enabled:
                ports.append(f"web={web.start()}")
            folder.start()
            for loop in loops:
                loop.start()
            announce(" ".join(["ready", *ports]))
            log.info("ready", version=__version__)
            stop.wait()
        finally:
            stop.set()
            node.journal.wake()
            _drain(door, web, folder, loops, node, hurry)
    log.info("stopped")
    return 0


def _dimse_door(node: Node, receive: Receive) -> DimseDoor:
    """Return the DIMSE door; it hears of storage commitment where a destination is asked for it."""
    config = node.config
    is_asked = any(config.proof(name) == "commitment" for name in config.destinations)
    return DimseDoor(
        config.accept,
        config.node.ae_title,
        node.store,
        receive,
        tls=config.tls,
        on_commitment=(lambda report, caller: hear(report, node, caller)) if is_asked else None,
    )


def _web_door(node: Node, receive: Receive, origin: Origin | None) -> WebDoor:
    """Return the HTTP door with all that it shows."""
    config = node.config
    shown = Shown(
        config=config,
        journal=node.journal,
        clock=node.clock,
        spare_bytes=node.store.spare_bytes,
        bring=StowDoor(config.accept, config.node.ae_title, node.store, receive),
        origin=origin,
    )
    tls = None if config.show.tls == "off" else server_context(config.tls, config.show.tls)
    return WebDoor(config.show, make_app(shown), tls)


@contextmanager
def _origin(node: Node) -> Iterator[Origin | None]:
    """Open what is shown: an index of headers, and workers that decode pixels; None where nobody can look."""
    config = node.config
    if not config.show.enabled:
        yield None
        return
    sources = node.store.instances, node.staging.results
    darkroom = Darkroom(config.node.data / "scratch" / "show", sources, config.compute.isolation)
    origin = Origin(node.journal, node.store.leases, darkroom.develop, DECODABLE)
    origin.start()
    try:
        yield origin
    finally:
        origin.stop()
        darkroom.close()


def _drain(
    door: DimseDoor,
    web: WebDoor,
    folder: FolderDoor,
    loops: list[threading.Thread],
    node: Node,
    hurry: threading.Event,
) -> None:
    """Give what is under way its time, then end the workers; the next start takes up their jobs."""
    log.info("draining")
    end = time.monotonic() + node.config.node.drain_s
    leaving = threading.Thread(target=web.drain, args=(node.config.node.drain_s, hurry))
    leaving.start()
    door.drain(node.config.node.drain_s, hurry)
    leaving.join()
    door.stop()
    web.stop()
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
