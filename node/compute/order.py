"""What workers are told of a job: plain JSON across the process border, never an array."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from node.compute.catalogue import OURS
from node.compute.confined import GIVEN, analyze
from node.compute.exchange import CASE, FINDINGS
from node.compute.exchange.typed import plain, record_of
from node.compute.port import Engine, Report, Task
from node.compute.stopwatch import Stopwatch
from node.config import ComputeTable, Config
from node.errors import PipelineMissing
from node.job import Job
from node.model import Instance, Made, Predecessor
from node.profile import Presentation, Profile
from pipelines.contract import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A job as our own workers see it; a pipeline's worker is told much less."""

    job_id: int
    job_key: str  #: `JobSpec.key`; seeds the derived UIDs
    created_at: datetime  #: aware, UTC; the same at every try, so that the objects are too
    card: Card
    inputs: Mapping[str, tuple[Instance, ...]]  #: role -> instances
    exchange: Path  #: what the workers hand each other: `node.compute.exchange`
    folder: Path  #: where the objects and the manifest go; to a worker, like `exchange`, in its own folder
    ae_title: str  #: of this node
    profiles: tuple[Profile, ...]  #: of the destinations, each once
    presentation: Presentation
    predecessors: tuple[Predecessor, ...]  #: reports that these results supersede
    #: Role -> what another pipeline made, where that is the input.
    results: Mapping[str, Made] = field(default_factory=dict)
    cautions: Mapping[str, str] = field(default_factory=dict)  #: role -> what results must say of its series

    @property
    def identity(self) -> dict[str, Any]:
        """What names the results: for whom, by what, and when (in the zone of this machine)."""
        return {
            "job_key": self.job_key,
            "card": self.card,
            "created_at": self.created_at.astimezone(),
            "ae_title": self.ae_title,
            "presentation": self.presentation,
            "predecessors": self.predecessors,
        }


def order_for(
    job: Job,
    cards: Mapping[str, Card],
    inputs: Mapping[str, Sequence[Instance]],
    folders: tuple[Path, Path],
    config: Config,
    profiles: Mapping[str, Profile],
    predecessors: Iterable[Predecessor] = (),
    results: Mapping[str, Made] = MappingProxyType({}),
) -> Order:
    """Return the order for a job.

    Parameters
    ----------
    inputs
        Role -> instances.
    folders
        For what workers hand each other, and for the results; both exist and are empty.
    profiles
        Destination -> what it is given.
    predecessors
        Reports that the results will supersede.
    results
        Role -> what another pipeline made.

    Raises
    ------
    PipelineMissing
        The pipeline is no longer installed, or in another version than when the job was made.
    """
    card = cards.get(job.spec.pipeline)
    if card is None or card.digest != job.spec.pipeline_digest:
        raise PipelineMissing(
            f"Pipeline {job.spec.pipeline} {job.spec.pipeline_version}, which the job was made for, is no "
            "longer installed; install it again and retry the job, or cancel it."
        )
    exchange, folder = folders
    return Order(
        job_id=job.id,
        job_key=job.spec.key,
        created_at=job.created_at,
        card=card,
        inputs={role: tuple(chosen) for role, chosen in inputs.items()},
        exchange=exchange,
        folder=folder,
        ae_title=config.node.ae_title,
        profiles=tuple(dict.fromkeys(profiles.values())),
        presentation=config.results.presentation,
        predecessors=tuple(predecessors),
        results=dict(results),
        cautions=_cautions(job),
    )


def _cautions(job: Job) -> dict[str, str]:
    """Return role -> what results must say of its series; what is lacking is said with the first."""
    said = {role: [entry.caution] * bool(entry.caution) for role, entry in job.spec.inputs.items()}
    if lack := job.spec.lack:
        roles = " and ".join(repr(role) for role in lack.roles)
        said[next(iter(said))].append(f"computed without input {roles}: {lack.sentence.removesuffix('.')}")
    return {role: "; ".join(sentences) for role, sentences in said.items() if sentences}


def do(
    steps: Sequence[Callable[..., Any]], order: Order, engine: Engine, config: ComputeTable, report: Report
) -> None:
    """Have an engine do the steps of an order, one after the other.

    Parameters
    ----------
    steps
        Functions of a worker. `analyze` runs on a device, and every other on the host: the first of them
        makes the folder ``order.exchange``, the others are given it and make ``order.folder``.
    config
        Its time limit is for all steps together; waiting for a worker does not count.

    Raises
    ------
    InputRefused, NodeError
        As the engine says; what is left to do is left.
    """
    watch = Stopwatch(report)
    for work in steps:
        watch.wait()
        if work is analyze:
            task = _for_device(work, order, watch, int(config.memory_gb * 1e9))
        else:
            task = _for_host(work, order, watch, is_first=work is steps[0])
        engine.run(task, timeout_s=config.timeout_s, on_progress=watch.begin)


def _for_host(work: Callable[..., Any], order: Order, watch: Stopwatch, *, is_first: bool) -> Task:
    """Return a step that runs code of ours: it knows the order, and writes into its own folder alone."""
    name = Path(order.exchange.name)
    seen = replace(order, exchange=name if is_first else GIVEN / name, folder=Path(order.folder.name))
    return Task(
        **_common(work, order, watch),
        place="host",
        payload={"order": plain(seen), "seconds": watch.seconds},
        gives=None if is_first else order.exchange,
        takes=order.exchange if is_first else order.folder,
    )


def _for_device(work: Callable[..., Any], order: Order, watch: Stopwatch, memory_bytes: int) -> Task:
    """Return the step that runs the pipeline.

    It hands the case over; who that is about, and where anything lies, its worker is never told.
    """
    card = order.card
    return Task(
        **_common(work, order, watch),
        place="device",
        payload={
            "card": str(card.folder / "card.toml"),
            "digest": card.digest,
            "memory_bytes": memory_bytes,
        },
        foreign=not card.folder.is_relative_to(OURS),
        gives=order.exchange / CASE,
        takes=order.exchange / FINDINGS,
    )


def _common(work: Callable[..., Any], order: Order, watch: Stopwatch) -> dict[str, Any]:
    return {
        "key": order.card.name,
        "job_id": order.job_id,
        "target": f"{work.__module__}:{work.__name__}",
        "rank": len(watch.seconds),  # what is begun is finished first
        "spent_s": watch.worked_s,
    }


def order_of(payload: Mapping[str, Any]) -> Order:
    """Read an order in one of our own workers."""
    return record_of(Order, payload["order"])
