"""What came of trying a pipeline on a simulated case, kept beside its folder.

The record is ``<folder>.trial.json`` and is of exactly the files that the folder held. It says that
they load and keep to their contract on this machine, how long that takes and how much memory; not that
what they find is right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Final, Literal

from node.compute.exchange import typed
from node.durable import write_whole

#: "refused": the pipeline loaded, and said why it is not made for what was simulated.
Verdict = Literal["passed", "refused", "failed"]
#: In a folder with this file every pipeline needs a record.
MARK: Final = ".tried"
LONGEST_RECORD: Final = 1 << 20  #: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of a trial."""

    verdict: Verdict
    sentence: str  #: why it was refused or failed; what was found
    digest: str  #: of the folder
    at: str  #: ISO 8601, UTC
    device: str
    seconds: Mapping[str, float] = field(default_factory=dict)  #: model: until it was ready; compute
    memory_gb: float = 0.0  #: the most that its process held, on processors
    needs: tuple[str, ...] = ()  #: packages that the bundle names and that are missing or older here
    found: tuple[str, ...] = ()  #: in words: segments with their volume, detections, answers
    made_with: Mapping[str, str] = field(default_factory=dict)  #: versions
    simulated: bool = True  #: the images were; nothing of it is about a patient

    @property
    def is_good(self) -> bool:
        """Whether the pipeline may be used: it answered, or refused as the contract allows."""
        return self.verdict != "failed"


def record_of(folder: Path) -> Path:
    """Return where the record of a pipeline's folder stands."""
    return folder.with_name(f"{folder.name}.trial.json")


def write_trial(trial: Trial, folder: Path) -> None:
    """Keep a trial beside the folder of its pipeline."""
    write_whole(record_of(folder), json.dumps(asdict(trial), indent=1))


def read_trial(folder: Path) -> Trial | None:
    """Return the last trial of a pipeline's folder; None where there is no record.

    Raises
    ------
    ValueError
        There is one that cannot be read.
    """
    path = record_of(folder)
    try:
        if path.stat().st_size > LONGEST_RECORD:
            raise ValueError(f"{path} is too long to be a record of a trial")
        content = json.loads(path.read_text(encoding="utf-8"))
        known = {one.name for one in fields(Trial)}
        trial = typed.record_of(Trial, {key: value for key, value in content.items() if key in known})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no record of a trial") from error
    return trial


def told_of_trial(folder: Path) -> str:
    """Return whether a pipeline was tried, in words."""
    try:
        trial = read_trial(folder)
    except ValueError as error:
        return str(error)
    if trial is None:
        return "never tried here; 'radnode pipelines add' does that"
    return f"tried on {trial.at[:10]}, {trial.verdict} on {trial.device}"


def complaint_of_trial(folder: Path, digest: str) -> str:
    """Return why a folder with a record may not be used: the trial was of other files, or failed.

    Where ``radnode pipelines add`` keeps pipelines, each needs a record. A folder elsewhere was put there
    by hand, and needs none: whoever approved its digest answers for it.
    """
    again = f"run 'radnode pipelines add {folder}' to try it again"
    try:
        trial = read_trial(folder)
    except ValueError as error:
        return f"{error}; {again}"
    if trial is None:
        return f"it was never tried; {again}" if (folder.parent / MARK).exists() else ""
    if trial.digest != digest:
        return f"its trial was of other files than {folder} holds now; {again}"
    return "" if trial.is_good else f"its trial failed ({trial.sentence}); {again}"
