"""``radnode analyze``: the main path with a folder at both ends, in one go."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from node import flow
from node.accept import Store, accept, find_files, spool_file
from node.compute import installed
from node.config import AcceptTable, Config, FolderDestination, RuleTable
from node.errors import AcceptError, ConfigError, ContentConflict
from node.flow import Node
from node.follow import follow_all
from node.job import Job, JobState
from node.model import Instance, Outcome, Series
from node.serve import open_node, utc_now

OUT = "out"  #: name of the folder destination

#: Called with the stage, how much of it is done (0 to 1), and what is under way.
Watcher = Callable[[str, float, str], None]


@dataclass(slots=True)
class Analysis:
    """What came of a folder."""

    skipped: list[tuple[Path, str]] = field(default_factory=list)  #: a file that was not taken, and why
    unrouted: list[tuple[str, str]] = field(default_factory=list)  #: series UID, why nothing wanted it
    jobs: list[tuple[Job, Outcome | None]] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether all routed work succeeded or was explicitly refused."""
        return all(job.state in (JobState.DONE, JobState.REFUSED) for job, _ in self.jobs)


def analyze(
    path: Path,
    out: Path,
    config: Config,
    pipeline: str | None,
    watch: Watcher,
    given: Mapping[str, Any] = MappingProxyType({}),
    inputs: Mapping[str, Path] = MappingProxyType({}),
) -> Analysis:
    """Run pipelines over a file or folder of DICOM and write the result objects to ``out``.

    All that is there is all that comes: a pipeline of several series that lacks one refuses at once.

    Parameters
    ----------
    config
        Its rules and pipelines are used; its doors, data folder and destinations are not. Without
        rules every pipeline sees each series of a modality that it takes.
    pipeline
        Run only this one, whatever the rules say.
    given
        What ``out`` is given: any of ``report``, ``segmentation``, ``coordinates`` and ``also`` of a
        destination.
    inputs
        Role -> file or folder of the only series that may have this role of the pipeline.

    Raises
    ------
    ConfigError
        The pipeline is unknown or has no such role, there is no DICOM at ``path``, no single series
        where a role is to be found, or ``out`` cannot be written.
    """
    files = list(dict.fromkeys(file for place in (path, *inputs.values()) for file in _files_at(place)))
    rules = _rules(config, pipeline, {role: _series_at(place) for role, place in inputs.items()})
    with (
        _folder(out),
        tempfile.TemporaryDirectory(prefix="radnode-") as scratch,
        open_node(_folder_to_folder(config, Path(scratch), out.resolve(), rules, given)) as node,
    ):
        result = Analysis()
        series_uids = _read(files, node, result, watch)
        if not series_uids:
            raise ConfigError(_nothing_read(path, result))
        jobs = []
        for series_uid in series_uids:
            made = flow.plan(series_uid, node)
            jobs += made
            if not made and (why := node.journal.routing(series_uid)):
                result.unrouted.append((series_uid, why))
        jobs = [job for job in jobs if node.journal.job(job.id).state is JobState.QUEUED]  # not superseded
        jobs += _run(len(jobs), node, watch)
        for job in jobs:
            result.jobs.append((node.journal.job(job.id), node.journal.outcome(job.id)))
            _keep_picture(job, node, out)
        return result


@contextmanager
def series_in(path: Path) -> Iterator[list[Series]]:
    """Open the series found in a file or folder; their instances lie in a scratch folder meanwhile.

    Raises
    ------
    ConfigError
        There is no DICOM at ``path``.
    """
    with tempfile.TemporaryDirectory(prefix="radnode-") as scratch:
        store = Store(Path(scratch), AcceptTable(reserve_gb=0.0))
        held: dict[str, dict[str, Instance]] = {}
        for file in _files_at(path):
            with suppress(AcceptError, OSError):
                instance = accept(*spool_file(file, store), store, now=utc_now())
                held.setdefault(instance.series_uid, {}).setdefault(instance.sop_instance_uid, instance)
        if not held:
            raise ConfigError(f"There is no DICOM that can be read at {path}.")
        yield [
            Series(
                uid=series_uid,
                study_uid=next(iter(instances.values())).study_uid,
                revision=1,
                instances=tuple(instances[uid] for uid in sorted(instances)),
            )
            for series_uid, instances in held.items()
        ]


def _files_at(path: Path) -> list[Path]:
    if not os.path.lexists(path):
        raise ConfigError(f"There is no file or folder {path}.")
    files = list(find_files(path))
    if not files:
        raise ConfigError(f"There is no DICOM at {path}: it holds no file that can be read.")
    return files


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make the folder of the results, and take it away again when nothing comes of the work."""
    try:
        new = [folder for folder in (out, *out.parents) if not folder.exists()]
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{out} is a file; name a folder for the results (--out).") from error
    except OSError as error:
        raise ConfigError(
            f"The folder {out} cannot be made ({error.strerror}); name another for the results (--out)."
        ) from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise ConfigError(f"Nothing can be written into {out}; name another folder for the results (--out).")
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it is no longer empty
            for folder in new:
                folder.rmdir()
        raise


def _series_at(path: Path) -> str:
    """Return the UID of the only series in a file or folder."""
    with series_in(path) as found:
        if len(found) > 1:
            raise ConfigError(f"{path} holds {len(found)} series; name a file or folder that holds just one.")
        return found[0].uid


def _rules(config: Config, pipeline: str | None, bound: Mapping[str, str]) -> tuple[RuleTable, ...]:
    """Return the rules of the configuration, or those that give a pipeline whatever it may take.

    Parameters
    ----------
    bound
        Role -> Series Instance UID.
    """
    cards = installed(config.pipelines)
    if pipeline is None and bound:
        raise ConfigError("An input has a role of one pipeline; name that too (--pipeline).")
    if pipeline is None and config.rules:
        return config.rules
    if pipeline is not None and pipeline not in cards:
        raise ConfigError(f"There is no pipeline {pipeline!r}; installed are: {', '.join(sorted(cards))}.")
    chosen = [card for card in cards.values() if pipeline in (None, card.name)]
    for role in bound.keys() - chosen[0].series_inputs.keys():
        roles = ", ".join(chosen[0].series_inputs)
        raise ConfigError(f"Pipeline {pipeline!r} has no input {role!r}; it has: {roles}.")
    return tuple(
        RuleTable(
            name=f"every series that {card.name} may take",
            pipeline=card.name,
            match={}
            if len(card.series_inputs) > 1
            else {"Modality": [m for s in card.series_inputs.values() for m in s.modality]},
            inputs={role: {"SeriesInstanceUID": uid} for role, uid in bound.items()},
        )
        for card in chosen
        if pipeline or len(card.series_inputs) == 1 or all(s.select for s in card.series_inputs.values())
    )


def _folder_to_folder(
    config: Config, data: Path, out: Path, rules: tuple[RuleTable, ...], given: Mapping[str, Any]
) -> Config:
    """Return the configuration of a node between two folders."""
    rules = tuple(rule.model_copy(update={"send_to": (OUT,), "wait_s": 0.0}) for rule in rules)
    return config.model_copy(
        update={
            "node": config.node.model_copy(update={"data": data}),
            "accept": config.accept.model_copy(update={"reserve_gb": 0.0}),
            "compute": config.compute.model_copy(update={"tries": 1}),  # the person who waits may repeat
            "send": config.send.model_copy(update={"tries": 1}),
            "destinations": {OUT: FolderDestination(transport="folder", path=out, **given)},
            "rules": rules,
        }
    )


def _read(files: list[Path], node: Node, result: Analysis, watch: Watcher) -> list[str]:
    """Take every file into custody; return the series UIDs in the order in which they appeared."""
    series_uids: dict[str, None] = {}
    for index, file in enumerate(files):
        watch("Reading files", index / len(files), file.name)
        try:
            instance = flow.receive(*spool_file(file, node.store), node)
            series_uids[instance.series_uid] = None
        except ContentConflict:
            why = "An earlier file has this SOP Instance UID with other content; that one is used."
            result.skipped.append((file, why))
        except AcceptError as error:
            result.skipped.append((file, str(error)))
        except OSError as error:  # no permission, a failing disk: one file must not cost the others
            result.skipped.append((file, f"The file cannot be read ({error.strerror})."))
    watch("Reading files", 1.0, "")
    return list(series_uids)


def _nothing_read(path: Path, result: Analysis) -> str:
    told = "\n".join(f"  {file}: {why}" for file, why in result.skipped[:10])
    return f"There is no DICOM that can be read at {path}.\n{told}"


def _run(total: int, node: Node, watch: Watcher) -> list[Job]:
    """Compute and deliver until nothing is due any more; return what rules on results asked for."""
    finished, more = 0, list[Job]()
    while job := node.journal.claim(node.clock()):
        flow.compute(job, node, partial(_told, watch, finished, total + len(more), job.spec.pipeline))
        more += follow_all(node)
        for owed in node.journal.due(node.clock()):
            flow.deliver(owed, node)
        finished += 1
    watch("Running pipelines", 1.0, "")
    return more


def _told(watch: Watcher, finished: int, total: int, name: str, step: str, done: float) -> None:
    watch("Running pipelines", (finished + done) / total, f"{name}: {step}")


def _keep_picture(job: Job, node: Node, out: Path) -> None:
    """Copy the picture that lies beside the results of a job, if these went there."""
    for made in node.journal.results(job.id)[:1] if job.spec.send_to else ():
        picture = made.path.with_name("preview.png")
        if picture.exists():
            shutil.copy(picture, out / f"{job.spec.pipeline}-{job.id}.png")
