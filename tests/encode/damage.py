"""Results that are damaged on purpose, to see the lint find it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from node.encode.lint import faults
from node.encode.material import Material
from node.model import Outcome, ResultObject, Volume
from node.profile import Profile
from pipelines.contract import Findings
from tests.encode.helpers import VIEWER, Damage, material_of


@dataclass
class Case:
    """A result, and what it was made of."""

    volume: Volume
    findings: Findings
    result: Outcome
    profile: Profile = VIEWER

    def material(self, findings: Findings, volume: Volume | None = None) -> Material:
        """Return what the result might have been made of."""
        return material_of(volume or self.volume, findings, self.result.objects, profile=self.profile)

    def judged(self, objects: tuple[ResultObject, ...]) -> list[str]:
        """Return the faults of these objects."""
        return list(faults(objects, self.material(self.findings)))


def damaged(case: Case, kind: str, damage: Damage, folder: Path) -> list[str]:
    """Damage the first object of a kind, describe it anew as a careless writer would, and judge the set."""
    objects = list(case.result.objects)
    place = next(i for i, thing in enumerate(objects) if thing.kind == kind)
    ds = pydicom.dcmread(objects[place].path)
    damage(ds)
    path = folder / objects[place].path.name
    ds.save_as(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    objects[place] = replace(objects[place], path=path, sha256=digest)
    return case.judged(tuple(objects))


def put(keyword: str, value: object) -> Damage:
    return lambda ds: setattr(ds, keyword, value)


def drop(keyword: str) -> Damage:
    return lambda ds: delattr(ds, keyword)


def in_first(sequence: str, damage: Damage) -> Damage:
    return lambda ds: damage(ds[sequence].value[0])


def in_segment(damage: Damage) -> Damage:
    return in_first("SegmentSequence", damage)


def in_frame(sequence: str, damage: Damage) -> Damage:
    return in_first("PerFrameFunctionalGroupsSequence", in_first(sequence, damage))


def in_shared(sequence: str, damage: Damage) -> Damage:
    return in_first("SharedFunctionalGroupsSequence", in_first(sequence, damage))


def both(*damages: Damage) -> Damage:
    def damage(ds: Dataset) -> None:
        for one in damages:
            one(ds)

    return damage
