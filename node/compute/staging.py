"""Where workers leave what they hand each other, and results, and how these become ours.

The workers of a job hand each other files in ``scratch/job-<job>-<fence>/``. The last of them writes
into ``staging/<job>-<fence>/``, and at the end a manifest with the hash of every file. `adopt` checks
it and moves the folder to ``results/``; only then may the journal commit. A folder without a manifest,
or of an older fence, never becomes a result. A pipeline may have filled what is removed here, so that is
done as for the home of a worker: however deep it is nested.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from node.compute.exchange.outlines import OUTLINES
from node.compute.sandbox import remove
from node.durable import sync_folder, write_whole
from node.errors import WorkerLost
from node.job import Job
from node.model import Outcome, ResultObject

MANIFEST = "manifest.json"


def write_manifest(folder: Path, outcome: Outcome) -> None:
    """Declare the work in ``folder`` complete: the last thing a worker does."""
    content = asdict(outcome)
    for entry in content["objects"]:
        entry["path"] = Path(entry["path"]).name
    write_whole(folder / MANIFEST, json.dumps(content))


class Staging:
    """The folders ``staging/``, ``results/`` and ``scratch/job-*`` below the data folder.

    Attributes
    ----------
    results
        The folder of all results that were adopted, one folder each.
    """

    def __init__(self, data: Path) -> None:
        self._staging = data / "staging"
        self.results = data / "results"
        self._scratch = data / "scratch"
        for folder in (self._staging, self.results, self._scratch):
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)

    def folders(self, job: Job) -> tuple[Path, Path]:
        """Return two empty folders for this claim of the job: for its workers, and for its results."""
        self.discard(job)
        folders = self._exchange(job), self._staging / _name(job)
        for folder in folders:
            folder.mkdir(mode=0o750)
        return folders

    def adopt(self, folder: Path) -> Outcome:
        """Check a finished folder against its manifest and move it to the results.

        Raises
        ------
        WorkerLost
            The manifest is missing or a file differs from it: the work is to be done again.
        """
        try:
            content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            outcome = _outcome(content, folder)
            found = [hashlib.sha256(made.path.read_bytes()).hexdigest() for made in outcome.objects]
            kept = _digest(folder / OUTLINES) if outcome.outlines else ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WorkerLost("The worker left no usable manifest of its results.") from error
        if found != [made.sha256 for made in outcome.objects] or kept != outcome.outlines:
            raise WorkerLost("A result differs from the worker's manifest.")
        final = self.results / folder.name
        remove(final)  # left by a crash between this move and the commit
        folder.rename(final)
        sync_folder(self.results)
        return replace(
            outcome, objects=tuple(replace(made, path=final / made.path.name) for made in outcome.objects)
        )

    def discard(self, job: Job) -> None:
        """Remove what a claim left that is no result."""
        for folder in (self._exchange(job), self._staging / _name(job)):
            remove(folder)

    def take_back(self, job: Job) -> None:
        """Remove the adopted results of a claim that the journal will not have."""
        remove(self.results / _name(job))

    def remove(self, files: Iterable[Path]) -> set[Path]:
        """Remove the result folders that hold any of these files; return those files."""
        mine = {file for file in files if file.parent.parent == self.results}
        for folder in {file.parent for file in mine}:
            remove(folder)
        return mine

    def sweep(self, committed: Iterable[Path]) -> None:
        """Remove, at start, everything that no journal row speaks of."""
        known = {path.parent for path in committed}
        for folder in (*self._staging.iterdir(), *self.results.iterdir(), *self._scratch.glob("job-*")):
            if folder not in known:
                remove(folder)
                continue
            for part in folder.glob(".*.part"):  # a stand-in or a note that was not finished
                part.unlink(missing_ok=True)

    def _exchange(self, job: Job) -> Path:
        return self._scratch / f"job-{_name(job)}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(job: Job) -> str:
    return f"{job.id}-{job.fence}"


def _outcome(content: dict[str, Any], folder: Path) -> Outcome:
    objects = []
    for entry in content["objects"]:
        name = Path(entry["path"]).name
        objects.append(
            ResultObject(**{**entry, "path": folder / name, "refers_to": tuple(entry["refers_to"])})
        )
    return Outcome(
        objects=tuple(objects),
        profiles={key: tuple(uids) for key, uids in content["profiles"].items()},
        summary=tuple(content["summary"]),
        notes=tuple(content["notes"]),
        outlines=content["outlines"],
        **{name: tuple(content[name]) for name in ("evaluations", "detections", "segments")},
        seconds=content["seconds"],
    )
