"""Studies with results of the node, and what is true of them without asking the node again."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

import simulate
from node.encode.sr.tree import walk
from node.model import Volume
from pipelines.contract import Segment
from tests.encode.helpers import (
    LEFT_LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    encoded,
    enhanced_volume,
    findings_of,
    single_frame_volume,
)
from tests.harness import RADNODE
from tests.phantoms import asymmetric_phantom, make_affine, to_world
from tests.viewer.page import Plane

SHAPE = (9, 48, 40)  # rows x columns is no multiple of 8 x 8 on purpose


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study in an archive: images, and the results of one job."""

    name: str  #: of the artefacts
    study_uid: str
    images: tuple[Path, ...]
    results: Mapping[str, Path]  #: "seg", "sr-measurements", "sr-text" -> file
    #: segment number -> plane of the source -> (rows, columns), bool; only planes with a voxel
    masks: Mapping[int, Mapping[Plane, NDArray[np.bool_]]]
    colours: Mapping[int, tuple[int, int, int]]  #: segment number -> recommended display RGB
    affines: Mapping[Plane, NDArray[np.float64]]  #: (4, 4): (0, row, column) -> LPS mm, of each plane

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.images, *self.results.values())

    def series_uid(self, kind: str) -> str:
        return str(pydicom.dcmread(self.results[kind], specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)

    def fullest(self, segment: int) -> Plane:
        """Return the plane on which a segment has the most voxels."""
        return max(self.masks[segment], key=lambda plane: self.masks[segment][plane].sum())

    def world(self, plane: Plane, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return LPS mm (n, 3) of (row, column) indices (n, 2) on a plane of the source."""
        return to_world(self.affines[plane], np.insert(points.astype(float), 0, 0.0, axis=1))

    def numbers(self, segment: int) -> list[tuple[str, float, str]]:
        """Return name, value and UCUM unit of what the measurement report says of a segment."""
        _, group = self._groups(segment)
        return [
            (
                c.ConceptNameCodeSequence[0].CodeMeaning,
                float(c.MeasuredValueSequence[0].NumericValue),
                c.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
            )
            for c in walk(group)
            if c.get("ValueType") == "NUM"
        ]

    def contour(self, segment: int) -> tuple[Plane, NDArray[np.float64]]:
        """Return the plane and the points (n, 2), (column, row) of DICOM, of a segment's contour."""
        group, _ = self._groups(segment)
        (region,) = (c for c in walk(group) if c.get("ValueType") == "SCOORD")
        source = region.ContentSequence[0].ReferencedSOPSequence[0]
        plane = str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber", 1))
        return plane, np.array(region.GraphicData, dtype=np.float64).reshape(-1, 2)

    def sentences(self) -> list[str]:
        """Return every TEXT of the text report."""
        report = pydicom.dcmread(self.results["sr-text"])
        return [str(c.TextValue) for c in walk(report) if c.get("ValueType") == "TEXT"]

    def _groups(self, segment: int) -> tuple[Dataset, Dataset]:
        """Return the contour group and the segment group of a structure."""
        report = pydicom.dcmread(self.results["sr-measurements"])
        (box,) = (c for c in report.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == "126010")
        groups = list(box.ContentSequence)
        for contour, measured in zip(groups[0::2], groups[1::2], strict=True):
            images = [c.ReferencedSOPSequence[0] for c in walk(measured) if c.get("ValueType") == "IMAGE"]
            if segment in [r.get("ReferencedSegmentNumber") for r in images]:
                return contour, measured
        raise AssertionError(f"the report has no group of segment {segment}")


def phantom(folder: Path, name: str, *, multi_frame: bool = False, overlap: bool = False, **grid) -> Study:
    """Encode the asymmetric phantom: its bright body, a box beside it and, if asked, one across both.

    ``grid`` is of `make_affine`; the results are those of the encoder for hand-made findings.
    """
    affine = make_affine(**grid)
    made = asymmetric_phantom(SHAPE, affine)
    box, across = np.zeros((2, *SHAPE), bool)
    box[3:8, 30:36, 19:27] = True
    across[2:4, 13:34, 11:22] = True
    masks: list[NDArray[np.bool_]] = [made.mask, box, across][: 3 if overlap else 2]
    segments = (LEFT_LUNG, RIGHT_LUNG, NODULE_SEGMENT)[: len(masks)]
    # A patient of its own: the viewer lists all studies of a patient.
    options = {"seed": f"viewer {name}", "order": "shuffled", "headers": {"PatientID": f"SIMULATED-{name}"}}
    if multi_frame:
        volume = enhanced_volume(folder / "ct.dcm", made.array_hu, affine, **options)
    else:
        volume = single_frame_volume(folder / "ct", made.array_hu, affine, **options)
    results = encoded(
        volume, findings_of(volume, masks, segments), folder / "out", job_key=name.encode().hex()
    )
    return _study(name, volume, {o.kind: o.path for o in results.objects}, masks, segments)


def _study(
    name: str,
    volume: Volume,
    results: Mapping[str, Path],
    masks: Sequence[NDArray[np.bool_]],
    segments: Sequence[Segment],
) -> Study:
    planes = [(s.sop_instance_uid, s.frame or 1) for s in volume.slices]
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
        colours={segment.number: segment.colour_rgb for segment in segments},
        affines=affines,
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
    kinds = {SegmentationStorage: "seg", ComprehensiveSRStorage: "sr-measurements"}
    by_kind = {kinds.get(pydicom.dcmread(f).SOPClassUID, "sr-text"): f for f in results}
    assert len(by_kind) == len(results) == 3, results
    seg = highdicom.seg.segread(by_kind["seg"])
    headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in images]
    uids = [str(h.SOPInstanceUID) for h in headers]
    voxels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    affines = {}
    for header in headers:
        x, y = np.reshape(np.array(header.ImageOrientationPatient, float), (2, 3))
        affine = np.eye(4)
        affine[:3, 1] = y * float(header.PixelSpacing[0])
        affine[:3, 2] = x * float(header.PixelSpacing[1])
        affine[:3, 3] = np.array(header.ImagePositionPatient, float)
        affines[str(header.SOPInstanceUID), 1] = affine
    numbers = [int(s.SegmentNumber) for s in seg.SegmentSequence]
    colours = {
        int(s.SegmentNumber): tuple(
            highdicom.color.CIELabColor.from_dicom_value(s.RecommendedDisplayCIELabValue).to_rgb()
        )
        for s in seg.SegmentSequence
    }
    return Study(
        name=name,
        study_uid=str(headers[0].StudyInstanceUID),
        images=tuple(images),
        results=by_kind,
        masks={
            n: {(u, 1): voxels[i, ..., k] > 0 for i, u in enumerate(uids) if voxels[i, ..., k].any()}
            for k, n in enumerate(numbers)
        },
        colours=colours,
        affines=affines,
    )
