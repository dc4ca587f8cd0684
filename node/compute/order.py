"""What a worker is told of a job: plain JSON across the process border, never an array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from node.compute.port import Task
from node.config import Config
from node.errors import PipelineFailed, PipelineMissing
from node.job import Job
from node.model import Instance, Predecessor
from node.profile import Presentation, Profile, profile_of_key
from pipelines.contract import Card, CardError, read_card


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A job as the worker sees it."""

    job_key: str  #: `JobSpec.key`; seeds the derived UIDs
    created_at: datetime  #: aware, UTC; the same at every try, so that the objects are too
    card: Card
    inputs: Mapping[str, tuple[Instance, ...]]  #: role -> instances
    folder: Path  #: where the objects and the manifest are to be written
    ae_title: str  #: of this node
    profiles: tuple[Profile, ...]  #: of the destinations, each once
    presentation: Presentation
    predecessors: tuple[Predecessor, ...]  #: reports that these results supersede

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


def task_of(
    job: Job,
    cards: Mapping[str, Card],
    inputs: Mapping[str, Sequence[Instance]],
    folder: Path,
    config: Config,
    profiles: Mapping[str, Profile],
    predecessors: Iterable[Predecessor] = (),
) -> Task:
    """Return the order for a job as an engine takes it; `order_of` reads it in the worker.

    Parameters
    ----------
    inputs
        Role -> instances.
    profiles
        Destination -> what it is given.
    predecessors
        Reports that the results will supersede.

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
    payload = {
        "job_key": job.spec.key,
        "created_at": job.created_at.isoformat(),
        "card": str(card.folder / "card.toml"),
        "digest": job.spec.pipeline_digest,
        "inputs": {role: [_plain(instance) for instance in chosen] for role, chosen in inputs.items()},
        "folder": str(folder),
        "ae_title": config.node.ae_title,
        "profiles": list(dict.fromkeys(profile.key for profile in profiles.values())),
        "presentation": asdict(config.results.presentation),
        "predecessors": [asdict(predecessor) for predecessor in predecessors],
    }
    return Task(key=card.name, job_id=job.id, payload=payload)


def order_of(payload: Mapping[str, Any]) -> Order:
    """Read an order in the worker.

    Raises
    ------
    PipelineFailed
        The pipeline's folder is unreadable, or no longer the one that was approved.
    """
    try:
        card = read_card(Path(payload["card"]))
    except CardError as error:
        raise PipelineFailed(str(error)) from error
    if card.digest != payload["digest"]:
        raise PipelineFailed(
            f"The files of pipeline {card.name} have changed since the node started; "
            "approve the new digest and restart."
        )
    return Order(
        job_key=payload["job_key"],
        created_at=datetime.fromisoformat(payload["created_at"]),
        card=card,
        inputs={role: tuple(map(_instance, chosen)) for role, chosen in payload["inputs"].items()},
        folder=Path(payload["folder"]),
        ae_title=payload["ae_title"],
        profiles=tuple(map(profile_of_key, payload["profiles"])),
        presentation=Presentation(**payload["presentation"]),
        predecessors=tuple(Predecessor(**entry) for entry in payload["predecessors"]),
    )


def _plain(instance: Instance) -> dict[str, Any]:
    content = asdict(instance)
    return {**content, "path": str(instance.path), "arrived_at": instance.arrived_at.isoformat()}


def _instance(content: Mapping[str, Any]) -> Instance:
    return Instance(
        **{
            **content,
            "path": Path(content["path"]),
            "arrived_at": datetime.fromisoformat(content["arrived_at"]),
        }
    )
