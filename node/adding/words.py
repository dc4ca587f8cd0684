"""A pipeline in words: what its folder holds, what its card says, how its trial went."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from node.compute.record import Trial
from node.notice import unsaid
from node.text import clean
from pipelines.contract import Card, Code, InputSpec, Segment
from pipelines.draft.said import one_line

_LONGEST: Final = 1 << 16  #: bytes of a licence that are looked at
#: Where bundles keep the terms of their code, and those of what their weights were trained on.
_CODE: Final = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
_WEIGHTS: Final = (
    "docs/license*",
    "docs/LICENSE*",
    "docs/data_license*",
    "models/LICENSE*",
    "models/license*",
)


def of_folder(folder: Path) -> Iterator[str]:
    """Say what a bundle holds, for who is to approve it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    programs = [path.relative_to(folder).as_posix() for path in files if path.suffix in (".py", ".so")]
    yield f"holds: {len(files)} files, {size_mb:.1f} MB"
    if programs:
        some = ", ".join(programs[:5]) + (" ..." if len(programs) > 5 else "")
        yield f"holds {len(programs)} Python files: this is a program ({some})"
    metadata = _metadata(folder)
    if version := one_line(metadata.get("version")):
        monai = one_line(metadata.get("monai_version")) or "of an unknown version"
        yield f"says of itself: version {version}, made with MONAI {monai}"
    yield f"licence of the code: {_first_line(folder, _CODE)}"
    yield f"licence of weights and data: {_first_line(folder, _WEIGHTS)}"


def _metadata(folder: Path) -> Mapping[str, Any]:
    try:
        said = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _first_line(folder: Path, patterns: tuple[str, ...]) -> str:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            with path.open("rb") as file:
                lines = file.read(_LONGEST).decode(errors="replace").splitlines()
            first = next((line.strip() for line in lines if line.strip()), "it is empty")
            return f"{clean(first, 100)} ({path.relative_to(folder).as_posix()})"
    return "none is there; ask its maker"


def of_card(card: Card) -> Iterator[str]:
    """Say what a card says."""
    yield f"{card.name} {card.version}: {card.title}"
    yield f"maker: {card.maker}"
    yield f"intended use: {card.intended_use}"
    if warning := unsaid(card.warning, card.intended_use):
        yield f"warning: {warning}"
    for role, spec in card.inputs.items():
        yield f"takes {role}: {_input(spec)}"
    if output := card.bundle.get("output"):
        yield f"gives: {output}"
    yield from (f"outlines {segment.number}: {_segment(segment)}" for segment in card.segments)
    yield from (f"points at: {_code(code)}" for code in card.detects)
    for answer in card.bundle.get("answers", ()):
        yield f"answers: {answer.get('label')}"
    if card.measure:
        yield f"measures: {', '.join(card.measure)}"
    if weights := card.bundle.get("weights"):
        yield f"weights: {weights}, SHA-256 {card.bundle.get('weights_sha256', 'not pinned')}"
    yield f"folder: {card.folder}"
    yield f"licence of the code: {_first_line(card.folder, _CODE)}"
    yield f"licence of weights and data: {_first_line(card.folder, _WEIGHTS)}"
    yield f"digest: {card.digest}"


def _input(spec: InputSpec) -> str:
    parts = [", ".join(spec.modality), spec.kind, f"values in {spec.unit}"]
    if spec.slices_min > 1:
        parts.append(f"{spec.slices_min} slices or more")
    parts += [f"{axis} spacing {low:g} to {high:g} mm" for axis, (low, high) in spec.spacing_mm.items()]
    parts += ["of an earlier study"] if spec.study == "prior" else []
    parts += [f"outlines of {spec.result}"] if spec.result else []
    parts += ["optional"] if spec.optional else []
    parts += [f"grid: {spec.grid}"] if spec.grid != "same" else []
    parts += [f"select {json.dumps(spec.select, ensure_ascii=False, default=str)}"] if spec.select else []
    return "; ".join(parts)


def _segment(segment: Segment) -> str:
    codes = [_code(segment.kind), *(_code(c) for c in (segment.laterality, segment.anatomic_region) if c)]
    return f"{segment.label} = {', '.join(codes)}"


def _code(code: Code) -> str:
    return f"{code.meaning} ({code.value}, {code.scheme})"


def of_trial(trial: Trial) -> Iterator[str]:
    """Say how a trial went."""
    took = ", ".join(f"{step} {taken:.1f} s" for step, taken in trial.seconds.items())
    where = f"on {trial.device}, {took}; at most {trial.memory_gb:g} GB of memory"
    made = ", ".join(f"{package} {version}" for package, version in trial.made_with.items())
    yield {
        "passed": f"trial on a simulated case: passed {where}",
        "refused": f"trial on a simulated case: it loads, and refuses what was simulated, as it may "
        f"({trial.sentence}) {where}",
        "failed": f"trial on a simulated case: failed: {trial.sentence}",
    }[trial.verdict]
    if trial.verdict == "passed":
        more = " ..." if len(trial.found) > 20 else ""
        yield f"found in it: {'; '.join(trial.found[:20]) or 'nothing'}{more}"
    yield f"with {made}, {trial.at[:16]}Z"
    yield from trial.needs
