"""The main path. Read this file first.

accept -> assemble -> assign -> compute -> encode -> send -> show

Two moments are durable: an instance is on disk and in the journal before its sender hears Success
(`receive`), and results are, before any is sent (`compute`). Whatever lies between may be repeated.

Doors call `receive`, a clock `plan`, threads that wait for work `compute`, one per destination
`deliver`. `load`, `analyze` and `encode` run in workers that may crash, and hand each other files:
`load` and `encode` may read all that the node holds of patients, and run no foreign code; `analyze` runs
the pipeline and sees one case without a name. None of them sees the network or the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from node.accept import Request, Spool, Store, accept
from node.around import Around
from node.assemble import load_volumes
from node.assign import Rule, assign_all, places, why_not
from node.compute import Engine, Report, Staging, Stopwatch, analyze, do, order_for, order_of, write_manifest
from node.compute.exchange import keep, read_findings, read_volumes, with_results, write_case
from node.config import Config, profiles_of
from node.errors import ContentConflict, EncodeError, IllegalTransition, foreseen
from node.failpoint import failpoint
from node.job import Job, after_error, specs_of
from node.journal import Delivery, Journal, Recorded
from node.model import Instance, Settling, images_of
from node.send import send
from node.swap import Swap
from pipelines.contract import Card


@dataclass(frozen=True, kw_only=True)
class Node:
    """Everything the main path needs; made by `node.serve.open_node`."""

    config: Config
    journal: Journal
    store: Store
    staging: Staging
    engine: Engine
    cards: Mapping[str, Card]
    rules: tuple[Rule, ...]
    clock: Callable[[], datetime]  #: aware, UTC


def receive(spool: Spool, request: Request, node: Node) -> Instance:
    """Take custody of one instance: on disk, in the journal; only then may Success be said."""
    with node.store.gate.shared():  # never at the moment in which something ages out
        instance = node.journal.as_asked(accept(spool, request, node.store, now=node.clock()))
        if node.journal.record(instance) is Recorded.CONFLICT:
            node.store.quarantine(instance)
            raise ContentConflict
        failpoint("accept.recorded")
        return instance


def plan(series_uid: str, node: Node, settling: Settling | None = None) -> list[Job]:
    """Turn a series that settled (`node.evidence`) into a new revision, and into its jobs."""
    series = node.journal.series(series_uid)
    if series is None or (settling and settling.held != len(series.instances)):
        return []  # aged out meanwhile; or one more has come, so that it is decided anew
    around = Around(replace(series, settling=settling), node.journal, node.rules)
    routes = assign_all(around.held, node.rules, around)
    failpoint("assign.planned")
    jobs = node.journal.plan(
        series.uid,
        expected_count=len(series.instances),  # one more has come: nothing happens, it settles anew
        specs=specs_of(routes, around.series, node.cards),
        reason="" if routes else why_not(series, around.headers, node.rules, node.cards, around.answer),
        now=node.clock(),
        settling=settling,
        **around.known,
    )
    failpoint("assign.enqueued")
    return jobs


def compute(job: Job, node: Node, report: Report) -> None:
    """Have a worker do a claimed job, then commit its results or say what became of it."""
    try:
        failpoint("compute.claimed")
        folders, config, inputs = node.staging.folders(job), node.config, node.journal.instances_of(job)
        profiles = profiles_of(places(node.rules, job.spec), config.destinations, node.journal.takes)
        earlier, made = node.journal.predecessors(job), node.journal.made_for(job)
        order = order_for(job, node.cards, inputs, folders, config, profiles, earlier, made)
        do((load, analyze, encode), order, node.engine, config.compute, report)
        node.journal.save_results(job, node.staging.adopt(order.folder), node.clock(), profiles)
        failpoint("compute.committed")
    except Exception as error:  # noqa: BLE001  whatever it was, the job must not wait for ever
        if isinstance(error, IllegalTransition | EncodeError):  # certainly not committed
            node.staging.take_back(job)
        give_up(job, error, node)
    finally:
        node.staging.discard(job)


def give_up(job: Job, error: Exception, node: Node) -> None:
    """Write down what becomes of a claimed job that gave no results: refused, tried again or failed."""
    if end := after_error(job, error, now := node.clock(), node.config.compute.tries):
        node.journal.move(job, **asdict(end), now=now)


def load(payload: dict[str, Any], _device: str, report: Report) -> None:
    """In a worker of ours: series in, a case out, which holds nothing that tells who it is."""
    report("load", 0.0)
    order = order_of(payload)
    volumes = load_volumes(order.inputs, order.card, order.cautions)
    failpoint("compute.loaded")
    write_case(with_results(volumes, order.card, order.results), order.exchange)


def encode(payload: dict[str, Any], _device: str, report: Report) -> None:
    """In a worker of ours: findings in, which are judged first, staged objects and a manifest out."""
    from node.encode import EncodeJob, encode
    from node.picture import draw_findings

    order, watch = order_of(payload), Stopwatch(report, payload["seconds"])
    watch.begin("encode", 0.8)
    case = images_of(volumes := read_volumes(order.exchange))
    findings = read_findings(order.exchange, order.card, case)
    order.folder.mkdir()
    made = encode(EncodeJob(**order.identity), findings, volumes, order.folder, order.profiles)
    draw_findings(findings, case, order.card).save(order.folder / "preview.png")
    failpoint("encode.written")
    write_manifest(order.folder, replace(made, **keep(findings, volumes, order.folder), seconds=watch.end()))
    failpoint("compute.staged")


def deliver(owed: Delivery, node: Node) -> None:
    """Send what one destination still lacks of one job; receipts are kept one by one."""
    swap = Swap(node.journal, node.clock, owed)
    try:
        for one in send(owed.objects, owed.destination, node.config, node.clock, swap):
            proof = node.config.proof(one.via or one.destination)
            node.journal.keep(owed.job_id, one, prove=proof != "none")
            failpoint("send.receipted")
            if owed.destination in node.journal.paused():
                break
    except Exception as error:  # noqa: BLE001  nothing may hold up the deliveries behind it
        node.journal.put_off(owed, foreseen(error), node.config.send, node.clock(), swap.begun)
    node.journal.finish(owed.job_id, node.clock())
    failpoint("send.finished")
