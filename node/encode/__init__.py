"""Step 5: findings become DICOM objects.

    header     the source's header, repaired          attributes.py repair.py
    identity   who made it, derived UIDs              common.py items.py kinds.py tracking.py
    material   all that an object is made from        planes.py numbers.py
    seg/       outlines as Segmentations, and how they are read again
    sr/        measurements for viewers, text for people
    render/    the same for readers that know neither
    lint/      the last word before anything is sent

Every object is judged as it lies on disk, not as it was meant.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from node.durable import sync_folder
from node.encode.common import save
from node.encode.header import UNREADABLE, read_header
from node.encode.identity import EncodeJob
from node.encode.kinds import KINDS
from node.encode.lint import faults_of, lint
from node.encode.material import Material, NotApplicable
from node.encode.numbers import reported
from node.encode.render.key_objects import make_key_objects
from node.encode.render.parametric_map import make_parametric_maps
from node.encode.render.pdf import make_pdf
from node.encode.render.presentation_state import make_presentation_state
from node.encode.render.rtstruct import make_rtstruct
from node.encode.render.secondary_capture import make_secondary_capture
from node.encode.seg.make import make_fractional, make_segs
from node.encode.seg.outlines import read_outlines
from node.encode.sr.air import make_air
from node.encode.sr.measurements import make_measurements
from node.encode.sr.segments import make_segments
from node.encode.sr.text import image_notes, make_text
from node.encode.tracking import tracking_uid
from node.errors import EncodeError
from node.model import Outcome, ResultObject, Volumes
from node.profile import Extra, Profile, Report
from pipelines.contract import Findings

__all__ = ["EncodeJob", "encode", "lint"]

Maker = Callable[[Material], Iterator[Dataset]]

#: What each extra of a profile is made by; they may refer to segmentations and measurements.
EXTRA_MAKERS: Mapping[Extra, Maker] = {
    "fractional": make_fractional,
    "parametric-map": make_parametric_maps,
    "rtstruct": make_rtstruct,
    "presentation-state": make_presentation_state,
    "secondary-capture": make_secondary_capture,
    "pdf": make_pdf,
    "key-objects": make_key_objects,
}
#: Extras that have nothing to do with reports, so that profiles with different reports share them.
ON_OUTLINES = frozenset({"fractional", "parametric-map", "rtstruct", "presentation-state"})
#: The reports of each profile; the last is the root, which refers to all objects of the job.
REPORT_MAKERS: Mapping[Report, tuple[tuple[str, Maker], ...]] = {
    "viewer": (("sr-measurements", make_measurements), ("sr-text", make_text)),
    "air": (("sr-air", make_air),),
    "segment-only": (("sr-segments", make_segments),),
    "text": (("sr-text", make_text),),
}


def encode(
    job: EncodeJob,
    findings: Findings,
    volumes: Volumes,
    folder: Path,
    profiles: Sequence[Profile] = (Profile(),),
) -> Outcome:
    """Write the findings of one job as DICOM objects: synced files in ``folder``, which exists.

    What profiles have in common is made once. There is always a report: finding nothing is a result.
    An extra that cannot be made, or that its judge refuses, is left out with a note.

    Raises
    ------
    EncodeError
        The segmentations or a report would be wrong; every fault is listed. Whatever lies in the
        folder is not to be sent.
    """
    role = findings.role or next(iter(job.card.inputs), next(iter(volumes)))
    if role not in volumes:
        raise EncodeError(f"the findings are on the grid of '{role}', which is no input of this job")
    volume = volumes[role]
    paths = [plane.path for v in volumes.values() for plane in v.slices]
    header = read_header(volume.slices[0].path, volume.study_uid, paths)
    shelf = _Shelf(folder)
    chosen: dict[str, tuple[str, ...]] = {}
    with warnings.catch_warnings():  # pydicom quotes values in its warnings
        warnings.simplefilter("ignore")
        for profile in dict.fromkeys(profiles):
            material = Material(
                job=job, header=header, findings=findings, volumes=volumes, role=role, profile=profile
            )
            things, material = _encode_one(material, shelf)
            chosen[profile.key] = tuple(thing.sop_instance_uid for thing in things)
            lint(things, material, judged=shelf.judged)
    sync_folder(folder)
    return Outcome(
        objects=tuple(shelf.known.values()),
        profiles=chosen,
        summary=tuple(number.summary() for number in material.numbers),
        notes=(*header.notes, *image_notes(volumes), *shelf.notes, *findings.cautions),
    )


def _encode_one(material: Material, shelf: _Shelf) -> tuple[list[ResultObject], Material]:
    """Make the objects of one profile; return them in order, and the material that has grown."""
    things: list[ResultObject] = []
    findings, profile = material.findings, material.profile
    if findings.segments:
        things += shelf.make("seg", make_segs, material, variant=profile.labelmap)
        uids = {tracking_uid(material, segment): segment.number for segment in findings.segments}
        material = replace(material, outlines=read_outlines(things, material.volume, uids))
    material = replace(material, numbers=reported(findings, material.outlines, material.volume))
    *reports, root = REPORT_MAKERS[profile.report]
    for kind, maker in reports:
        things += shelf.make(kind, maker, replace(material, siblings=tuple(things)))
    before = tuple(things)  # an extra stands beside the others, not on them
    segs = tuple(thing for thing in before if thing.kind == "seg")
    for extra in profile.also:
        basis = replace(material, siblings=segs if extra in ON_OUTLINES else before)
        things += shelf.make_extra(extra, EXTRA_MAKERS[extra], basis)
    material = replace(material, siblings=tuple(things))
    kind, maker = root
    return [*things, *shelf.make(kind, maker, material)], material


@dataclass(slots=True)
class _Shelf:
    """The objects of a job that lie on disk, each made once."""

    folder: Path
    made: dict[tuple[Any, ...], list[ResultObject]] = field(default_factory=dict)
    known: dict[str, ResultObject] = field(default_factory=dict)  #: by SOP Instance UID, each once
    notes: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)  #: kinds of all files written, kept or not
    judged: set[str] = field(default_factory=set)  #: SOP Instance UIDs of what was found in order

    def make(self, kind: str, maker: Maker, material: Material, variant: str = "") -> list[ResultObject]:
        """Return the objects of a kind, made now if they have not been made from the same before."""
        siblings, key = material.siblings, self._key(kind, material, variant)
        if key not in self.made:
            self.made[key] = []
            try:
                for dataset in maker(material):
                    thing = self.known.get(str(dataset.SOPInstanceUID))  # another profile's choice too
                    if thing is None:
                        path = self.folder / self._name(kind)
                        thing = self._save(dataset, path, kind, siblings)
                        self.known[thing.sop_instance_uid] = thing
                    self.made[key].append(thing)
            except NotApplicable as error:
                self._note(str(error))
        return self.made[key]

    def _key(self, kind: str, material: Material, variant: str) -> tuple[Any, ...]:
        coordinates = material.profile.coordinates if kind.startswith("sr-") else ""
        return (kind, variant, coordinates, *(s.sop_instance_uid for s in material.siblings))

    def make_extra(self, kind: Extra, maker: Maker, material: Material) -> list[ResultObject]:
        """Return the objects of an extra that are fit to be sent; the others are gone, with a note.

        They are judged before the root report is made, which would refer to them.
        """
        try:
            made = self.make(kind, maker, material)
        except (EncodeError, MemoryError, *UNREADABLE) as error:
            told = str(error) if isinstance(error, EncodeError) else type(error).__name__  # may quote values
            made = self.made[self._key(kind, material, "")]
            which = "Not every" if made else "No"
            self._note(f"{which} {KINDS[kind].what} ({kind}) was made: {told}.")
        for thing in [thing for thing in made if thing.sop_instance_uid not in self.judged]:
            if found := list(faults_of(thing, material)):
                self._note(f"The {KINDS[kind].what} ({kind}) was left out: {'; '.join(found)}.")
                made.remove(thing)
                del self.known[thing.sop_instance_uid]
                thing.path.unlink()
            else:
                self.judged.add(thing.sop_instance_uid)
        return made

    def _save(
        self, dataset: Dataset, path: Path, kind: str, siblings: Sequence[ResultObject]
    ) -> ResultObject:
        try:
            return save(dataset, path, kind=kind, siblings=siblings)
        except BaseException:
            path.unlink(missing_ok=True)  # a part of an object is none
            raise

    def _note(self, sentence: str) -> None:
        self.notes += [sentence] * (sentence not in self.notes)

    def _name(self, kind: str) -> str:
        self.named.append(kind)
        number = self.named.count(kind)
        return f"{kind}.dcm" if number == 1 else f"{kind}-{number}.dcm"
