"""Studies with results of the node, and what is true of them without asking the node again."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from numpy.typing import NDArray

import simulate
from node.encode import encode
from node.encode.kinds import KINDS, NEXT_OF_KIND
from node.encode.sr.tree import walk
from node.model import ResultObject
from node.profile import Presentation, Profile
from pipelines.contract import Code, Detection, Evaluation, Findings, Map, Measurement
from tests.encode.helpers import (
    ABNORMAL,
    LEFT_LUNG,
    LUNG,
    NODULE,
    NODULE_SEGMENT,
    RIGHT,
    RIGHT_LUNG,
    a_job,
    enhanced_volume,
    findings_of,
    single_frame_volume,
)
from tests.encode.rich import LENGTH, MODERATE, NO_UNITS, SEVERITY
from tests.harness import RADNODE
from tests.phantoms import asymmetric_phantom, make_affine, to_world
from tests.viewer.page import Plane
from tests.viewer.reports import Finding, read_findings

SHAPE = (9, 48, 40)  # rows x columns is no multiple of 8 x 8 on purpose
MILLIMETRE = Code("mm", "UCUM", "mm")
#: Outlines a viewer cannot tell apart by colour alone are no test of its colours.
NODULE_IN_RED = replace(NODULE_SEGMENT, colour_rgb=(200, 60, 90))
#: Shape of a detection -> its points: (slice, row, column).
SHAPES: Mapping[str, list[list[int]]] = {
    "point": [[1, 8, 31]],
    "line": [[4, 6, 8], [4, 15, 30]],
    "box": [[5, 10, 24], [7, 20, 33]],
    "contour": [[6, 40, 6], [6, 40, 15], [6, 45, 15], [6, 43, 6]],
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study in an archive: images, and the results of one job."""

    name: str  #: of the artefacts
    study_uid: str
    images: tuple[Path, ...]
    results: Mapping[str, tuple[Path, ...]]  #: a key of `node.encode.kinds.KINDS` -> files
    #: segment -> plane of the source -> (rows, columns), bool; only planes with a voxel
    masks: Mapping[int, Mapping[Plane, NDArray[np.bool_]]]
    labels: Mapping[int, str]  #: segment -> what people call it
    colours: Mapping[int, tuple[int, int, int]]  #: segment -> recommended display RGB
    affines: Mapping[Plane, NDArray[np.float64]]  #: (4, 4): (0, row, column) -> LPS mm, of each plane
    planes: tuple[Plane, ...]  #: in the order of the slices
    detections: Mapping[str, Detection] = field(default_factory=dict)  #: label -> it
    objects: tuple[ResultObject, ...] = ()  #: as the encoder told of them, if it was asked here

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.images, *(file for files in self.results.values() for file in files))

    def only(self, kind: str) -> Path:
        """Return the one file of a kind."""
        (file,) = self.results[kind]
        return file

    def segments_of(self, seg: Path) -> dict[int, int]:
        """Return Segment Number in one of the Segmentations -> segment of the findings."""
        described = pydicom.dcmread(seg, stop_before_pixels=True).SegmentSequence
        by_label = {label: number for number, label in self.labels.items()}
        return {
            int(s.SegmentNumber): by_label[s.SegmentLabel]
            for s in described
            if s.SegmentLabel in by_label  # the background of a label map is none of ours
        }

    def fullest(self, segment: int) -> Plane:
        """Return the plane on which a segment has the most voxels."""
        return max(self.masks[segment], key=lambda plane: self.masks[segment][plane].sum())

    def world(self, plane: Plane, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return LPS mm (n, 3) of (row, column) indices (n, 2) on a plane of the source."""
        return to_world(self.affines[plane], np.insert(points.astype(float), 0, 0.0, axis=1))

    def findings(self) -> list[Finding]:
        """Return what the measurement report says, in its order."""
        return read_findings(self.only("sr-measurements"))

    def sentences(self) -> list[str]:
        """Return every TEXT of the text report."""
        report = pydicom.dcmread(self.only("sr-text"))
        return [str(c.TextValue) for c in walk(report) if c.get("ValueType") == "TEXT"]


def series_uid(file: Path) -> str:
    return str(pydicom.dcmread(file, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)


def phantom(
    folder: Path,
    name: str,
    *,
    multi_frame: bool = False,
    overlap: bool = False,
    pointing: Sequence[str] = (),
    maps: bool = False,
    profiles: Sequence[Profile] = (Profile(),),
    **grid,
) -> Study:
    """Encode the asymmetric phantom: its bright body, a box beside it and, if asked, one across both.

    Parameters
    ----------
    pointing
        Shapes of detections to add (see `SHAPES`), with their confidence; a line has a length.
    maps
        With a heat map and the probabilities of a segment.
    grid
        Of `make_affine`; the results are those of the encoder for hand-made findings.
    """
    affine = make_affine(**grid)
    made = asymmetric_phantom(SHAPE, affine)
    box, across = np.zeros((2, *SHAPE), bool)
    box[3:8, 30:36, 19:27] = True
    across[2:4, 13:34, 11:22] = True
    masks: list[NDArray[np.bool_]] = [made.mask, box, across][: 3 if overlap else 2]
    segments = (LEFT_LUNG, RIGHT_LUNG, NODULE_IN_RED)[: len(masks)]
    # A patient of its own: the viewer lists all studies of a patient.
    options = {"seed": f"viewer {name}", "order": "shuffled", "headers": {"PatientID": f"SIMULATED-{name}"}}
    if multi_frame:
        volume = enhanced_volume(folder / "ct.dcm", made.array_hu, affine, **options)
    else:
        volume = single_frame_volume(folder / "ct", made.array_hu, affine, **options)
    findings = findings_of(volume, masks, segments)
    if pointing:
        findings = _with_detections(findings, pointing)
    if maps:
        findings = replace(findings, maps=_maps(box))
    out = folder / "out"
    out.mkdir(parents=True)
    job = a_job(job_key=name.encode().hex())
    outcome = encode(job, findings, {"ct": volume}, out, profiles)
    results: dict[str, tuple[Path, ...]] = {}
    for thing in outcome.objects:
        results[thing.kind] = (*results.get(thing.kind, ()), thing.path)
    planes = tuple((s.sop_instance_uid, s.frame or 1) for s in volume.slices)
    affines = {}
    for index, plane in enumerate(planes):
        affines[plane] = volume.image.affine.copy()
        affines[plane][:3, 3] = to_world(volume.image.affine, (index, 0, 0))
    return Study(
        name=name,
        study_uid=volume.study_uid,
        images=tuple(dict.fromkeys(s.path for s in volume.slices)),
        results=results,
        masks={
            segment.number: {p: m for p, m in zip(planes, mask, strict=True) if m.any()}
            for segment, mask in zip(segments, masks, strict=True)
        },
        labels={segment.number: segment.label for segment in segments},
        colours={segment.number: segment.colour_rgb for segment in segments},
        affines=affines,
        planes=planes,
        detections={detection.label: detection for detection in findings.detections},
        objects=outcome.objects,
    )


def _with_detections(findings: Findings, shapes: Sequence[str]) -> Findings:
    """Add one detection of each shape, each somewhere else."""
    detections = tuple(
        Detection(
            number=number,
            label=f"Nodule {shape}",
            category=ABNORMAL,
            kind=NODULE,
            shape=shape,
            points=np.array(where, dtype=np.float64),
            confidence=0.5 + number / 10,
            laterality=RIGHT,
            anatomic_region=LUNG,
        )
        for number, (shape, where) in enumerate(((s, SHAPES[s]) for s in shapes), start=1)
    )
    lengths = [
        Measurement(name=LENGTH, value=18.25, unit=MILLIMETRE, detection=d.number)
        for d in detections
        if d.shape == "line"
    ]
    severity = Evaluation(name=SEVERITY, value=MODERATE, segment=2, probability=0.25)
    return replace(
        findings,
        detections=detections,
        measurements=(*findings.measurements, *lengths),
        evaluations=(severity,),
    )


def _maps(box: NDArray[np.bool_]) -> tuple[Map, ...]:
    heat = np.zeros(SHAPE, np.float32)
    heat[box] = np.linspace(0.05, 1.0, int(box.sum()), dtype=np.float32)
    probability = Code("C0018", "99TEST", "Probability")
    return (
        Map(label="Attention", quantity=probability, unit=NO_UNITS, array=heat),
        Map(label="Right lung", quantity=probability, unit=NO_UNITS, array=heat, segment=2),
    )


def chest(folder: Path) -> Study:
    """Run ``radnode analyze`` with lung-density over a simulated chest of 6 mm slices."""
    made = simulate.chest((50, 128, 128))
    images = simulate.write_ct_series(folder / "ct", made)
    out = folder / "out"
    command = [RADNODE, "analyze", folder / "ct", "--pipeline", "lung-density", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return read_study("chest", images, sorted(out.rglob("*.dcm")))


def read_study(name: str, images: Sequence[Path], results: Sequence[Path]) -> Study:
    """Return what is true of single-frame images and results as highdicom and pydicom read them."""
    by_offset = {kind.series_offset: key for key, kind in KINDS.items()}
    by_kind: dict[str, tuple[Path, ...]] = {}
    for file in results:
        number = int(pydicom.dcmread(file, specific_tags=["SeriesNumber"]).SeriesNumber)
        kind = by_offset[(number - Presentation().series_number) % NEXT_OF_KIND]
        by_kind[kind] = (*by_kind.get(kind, ()), file)
    headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in images]
    uids = [str(h.SOPInstanceUID) for h in headers]
    masks: dict[int, dict[Plane, NDArray[np.bool_]]] = {}
    labels: dict[int, str] = {}
    colours: dict[int, tuple[int, int, int]] = {}
    for file in by_kind["seg"]:
        seg = highdicom.seg.segread(file)
        voxels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
        for k, segment in enumerate(seg.SegmentSequence):
            number = len(labels) + 1
            lab = segment.RecommendedDisplayCIELabValue
            labels[number] = str(segment.SegmentLabel)
            colours[number] = tuple(highdicom.color.CIELabColor.from_dicom_value(lab).to_rgb())
            masks[number] = {
                (u, 1): voxels[i, ..., k] > 0 for i, u in enumerate(uids) if voxels[i, ..., k].any()
            }
    affines = {}
    for header in headers:
        x, y = np.reshape(np.array(header.ImageOrientationPatient, float), (2, 3))
        affine = np.eye(4)
        affine[:3, 1] = y * float(header.PixelSpacing[0])
        affine[:3, 2] = x * float(header.PixelSpacing[1])
        affine[:3, 3] = np.array(header.ImagePositionPatient, float)
        affines[str(header.SOPInstanceUID), 1] = affine
    return Study(
        name=name,
        study_uid=str(headers[0].StudyInstanceUID),
        images=tuple(images),
        results=by_kind,
        masks=masks,
        labels=labels,
        colours=colours,
        affines=affines,
        planes=tuple(affines),
    )
