"""A pipeline is tried once on a simulated case, as a node would run it, before it may be used."""

from __future__ import annotations

import resource
import sys
import tempfile
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from node import __version__
from node.compute.confined import analyze
from node.compute.exchange import read_findings, write_case
from node.compute.local import LocalEngine, resolve_devices
from node.compute.order import Order, do
from node.compute.port import Report, Task
from node.compute.record import Trial, Verdict
from node.compute.stopwatch import Stopwatch
from node.config import ComputeTable
from node.errors import NodeError, PipelineFailed
from node.model import Volume
from node.profile import Presentation
from node.text import clean
from pipelines.contract import Card, Case, Findings, Image, InputRefused


def try_out(card: Card, case: Case, config: ComputeTable, now: datetime, report: Report) -> Trial:
    """Run a pipeline once as the node would: confined, and with the limits of [compute].

    Parameters
    ----------
    case
        Simulated; an image for each role of the card.

    Raises
    ------
    ConfigError
        [compute] devices names what this machine does not have.
    """
    device = resolve_devices(config.devices)[0]
    compute = config.model_copy(update={"devices": (device,)})
    watch, found = Stopwatch(report), None
    needs: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(prefix="radnode-") as scratch:
        folder = Path(scratch, "exchange")
        folder.mkdir()
        write_case({role: _volume(image) for role, image in case.items()}, folder)
        engine = LocalEngine(
            compute, scratch=Path(scratch), preload={"device": ["node.compute"]}, readable=[card.folder]
        )
        verdict: Verdict
        try:
            needs = _look(card, engine, compute, watch.begin)
            do((analyze,), _order(card, folder, now), engine, compute, watch.begin)
            found = read_findings(folder, card, case)
            verdict, sentence = "passed", ""
        except InputRefused as error:
            verdict, sentence = "refused", error.sentence
        except NodeError as error:
            verdict, sentence = "failed", str(error)
        finally:
            engine.close()
    return Trial(
        verdict=verdict,
        sentence=sentence,
        digest=card.digest,
        at=now.isoformat(timespec="seconds"),
        device=device,
        seconds={step: taken for step, taken in watch.end().items() if step in ("model", "compute")},
        memory_gb=_memory_gb(),
        needs=needs,
        found=_told(found, case, card) if found else (),
        made_with=_versions(),
    )


def _look(card: Card, engine: LocalEngine, config: ComputeTable, report: Report) -> tuple[str, ...]:
    """Hold a bundle against its card, and return what packages it lacks.

    Raises
    ------
    PipelineFailed
        They do not agree.
    """
    if not card.use.startswith("pipelines.bundle:"):
        return ()
    task = Task(
        key=card.name,
        job_id=0,
        target="pipelines.bundle.look:look",
        payload={"card": str(card.folder / "card.toml")},
        foreign=True,
    )
    seen = engine.run(task, timeout_s=config.timeout_s, on_progress=report)
    if reasons := [clean(str(reason), 1000) for reason in list(seen.get("reasons", ()))[:20]]:
        raise PipelineFailed(" ".join(reasons))
    return tuple(clean(str(one), 200) for one in list(seen.get("needs", ()))[:50])


def _volume(image: Image) -> Volume:
    """Return an image that comes from no DICOM."""
    return Volume(image=image, slices=(), series_uid="", study_uid="", frame_of_reference_uid="")


def _order(card: Card, folder: Path, now: datetime) -> Order:
    """Return an order for nobody: only the step that runs the pipeline is done."""
    return Order(
        job_id=0,
        job_key="trial",
        created_at=now,
        card=card,
        inputs={},
        exchange=folder,
        folder=folder,
        ae_title="TRIAL",
        profiles=(),
        presentation=Presentation(),
        predecessors=(),
    )


def _memory_gb() -> float:
    """Return the largest resident size of any process that this one has started and seen end."""
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9, 2)


def _versions() -> dict[str, str]:
    found = {"radnode": __version__, "python": sys.version.split()[0]}
    for package in ("torch", "monai", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _told(findings: Findings, case: Case, card: Card) -> tuple[str, ...]:
    """Say in words what was found, for a person who wants to see that it is not nonsense."""
    image = case[findings.role or next(iter(card.inputs))]
    lines = []
    for segment in findings.segments:
        voxels = int(findings.mask(segment.number).sum())
        size = f"{voxels * image.voxel_ml:.1f} mL" if image.is_spatial else f"{voxels} pixels"
        lines.append(f"{segment.label}: {size}" if voxels else f"{segment.label}: nothing")
    lines += [
        f"{one.label}: {one.confidence:.0%}" if one.confidence else one.label for one in findings.detections
    ]
    for answer in findings.evaluations:
        sure = "" if answer.probability is None else f" ({answer.probability:.0%})"
        lines.append(f"{answer.name.meaning}: {answer.value.meaning}{sure}")
    lines += [f"{one.label}: a map" for one in findings.maps]
    return tuple(lines)
