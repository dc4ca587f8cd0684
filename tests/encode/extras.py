"""Results with extras, their judges, and ways to damage them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from node.assemble.image import load_volume
from node.encode import encode
from node.encode.lint import JUDGES
from node.encode.material import Material
from node.model import Outcome, ResultObject, Volume
from node.profile import Extra, Profile
from pipelines.contract import Findings, InputSpec
from tests.encode.helpers import a_job, enhanced_volume, material_of, single_frame_volume
from tests.encode.rich import Rich, rich
from tests.phantoms import instances_of, make_affine

#: Ways a volume may be stored: orientation, kind of source.
SOURCES = [
    ("axial", "single"),
    ("oblique", "single"),
    ("oblique", "reversed"),
    ("coronal", "shuffled"),
    ("oblique", "enhanced"),
    ("sagittal", "enhanced reversed"),
]


def stored(folder: Path, array: np.ndarray, orientation: str, source: str, **options: Any) -> Volume:
    """Write a volume in one of the `SOURCES` ways."""
    affine = make_affine(orientation)
    if source == "reversed":
        return single_frame_volume(folder, array, affine, reverse=True, **options)
    if source.startswith("enhanced"):
        order = "reversed" if source.endswith("reversed") else "forward"
        folder.mkdir(parents=True, exist_ok=True)
        return enhanced_volume(folder / "source.dcm", array, affine, order=order, **options)
    order = "shuffled" if source == "shuffled" else "forward"
    return single_frame_volume(folder, array, affine, order=order, **options)


def real_volume(folder: Path, modality: str) -> Volume:
    """Return the volume of a folder with one real series."""
    spec = InputSpec(modality=(modality,), unit="[hnsf'U]" if modality == "CT" else "1")
    return load_volume(instances_of(sorted(folder.glob("*.dcm"))), spec)


def rich_case(folder: Path) -> Rich:
    """Return findings of every sort; numbers of detections are the business of the reports."""
    made = rich(folder)
    of_segments = tuple(m for m in made.findings.measurements if m.detection is None)
    return replace(made, findings=replace(made.findings, measurements=of_segments))


def result_of(volume: Volume, findings: Findings, folder: Path, *also: Extra, **job: Any) -> Outcome:
    """Encode findings with extras."""
    folder.mkdir(parents=True, exist_ok=True)
    return encode(a_job(**job), findings, {"ct": volume}, folder, (Profile(also=also),))


def of_kind(result: Outcome, kind: str) -> list[ResultObject]:
    return [thing for thing in result.objects if thing.kind == kind]


def only(result: Outcome, kind: str) -> Path:
    """Return the file of the one object of a kind."""
    (thing,) = of_kind(result, kind)
    return thing.path


@dataclass
class Judged:
    """A result of which one kind can be damaged and judged again."""

    volume: Volume
    findings: Findings
    result: Outcome

    @cached_property
    def material(self) -> Material:
        siblings = [o for o in self.result.objects if o.kind in ("seg", "sr-measurements")]
        return material_of(self.volume, self.findings, siblings)

    def faults(self, thing: ResultObject) -> list[str]:
        return list(JUDGES[thing.kind](pydicom.dcmread(thing.path), thing, self.material))

    def damaged(self, kind: str, damage: Callable[[Dataset], None], folder: Path) -> list[str]:
        """Damage the first object of a kind, describe it anew as a careless writer would; judge it."""
        made = of_kind(self.result, kind)[0]
        dataset = pydicom.dcmread(made.path)
        damage(dataset)
        path = folder / made.path.name
        dataset.save_as(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return self.faults(replace(made, path=path, sha256=digest))


def dcmdump(path: Path) -> str:
    """Return what DCMTK prints of a file; it must not complain."""
    run = subprocess.run(
        ["dcmdump", "+P", "0008,0016", str(path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0 and not run.stderr, run.stderr
    return run.stdout
