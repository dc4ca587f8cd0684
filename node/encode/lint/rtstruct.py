"""What an RT Structure Set must be, beside what every object must be (`node.encode.lint`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from node.encode.items import code_of, instances_of, place_of, plane_places
from node.encode.material import Material
from node.encode.render.rtstruct import contour_points
from node.encode.tracking import tracking_id, tracking_uid
from node.model import ResultObject
from pipelines.contract import Detection, Segment, Shape

#: How far a coordinate may be from where it is meant, in pixels or slices: what rounding does to it.
_NEAR = 0.01
#: Shape of a detection -> Contour Geometric Types that show it (PS3.3 C.8.8.6.1).
_KINDS: Mapping[Shape, set[str]] = {
    "point": {"POINT"},
    "line": {"OPEN_PLANAR", "OPEN_NONPLANAR"},
    "box": {"CLOSED_PLANAR"},
    "contour": {"CLOSED_PLANAR"},
}


def rtstruct_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a structure set."""
    if dataset.SOPClassUID != RTStructureSetStorage or dataset.Modality != "RTSTRUCT":
        yield "the class or modality is not RT Structure Set"
    if dataset.get("ApprovalStatus") != "UNAPPROVED":
        yield "it is not marked as unapproved"
    if "esearch" not in str(dataset.get("StructureSetDescription")):
        yield "the description of the structure set does not say research"
    yield from _reference_faults(dataset, material)
    yield from _region_faults(dataset, material)


def _reference_faults(dataset: Dataset, material: Material) -> Iterator[str]:
    volume = material.volume
    frames = dataset.ReferencedFrameOfReferenceSequence
    regions = dataset.StructureSetROISequence
    said = {str(f.FrameOfReferenceUID) for f in frames} | {
        str(r.ReferencedFrameOfReferenceUID) for r in regions
    }
    if said != {volume.frame_of_reference_uid}:
        yield "the frame of reference is not that of the source"
    study = frames[0].RTReferencedStudySequence[0]
    series = study.RTReferencedSeriesSequence[0]
    if study.ReferencedSOPInstanceUID != volume.study_uid or series.SeriesInstanceUID != volume.series_uid:
        yield "the referenced study or series is not that of the source"
    if {str(i.ReferencedSOPInstanceUID) for i in series.ContourImageSequence} != {
        uid for _, uid in instances_of(volume)
    }:
        yield "the referenced images are not those of the source"


def _region_faults(dataset: Dataset, material: Material) -> Iterator[str]:
    numbers = [int(roi.ROINumber) for roi in dataset.StructureSetROISequence]
    drawn = [int(contours.ReferencedROINumber) for contours in dataset.ROIContourSequence]
    observed = [int(seen.ReferencedROINumber) for seen in dataset.RTROIObservationsSequence]
    if not numbers == drawn == observed or len(set(numbers)) != len(numbers):
        yield "the regions, their contours and their observations are not the same, each once"
        return
    outlines, findings = material.outlines, material.findings
    segments = [s for s in findings.segments if outlines is not None and outlines.voxels(s.number)]
    expected: list[Segment | Detection] = [*segments, *findings.detections]
    if len(numbers) != len(expected):
        yield "the regions are not the findings"
        return
    for finding, roi, contours, seen in zip(
        expected,
        dataset.StructureSetROISequence,
        dataset.ROIContourSequence,
        dataset.RTROIObservationsSequence,
        strict=True,
    ):
        name = f"region {roi.ROINumber}"
        if (
            str(roi.ROIName) != tracking_id(finding)
            or tracking_uid(material, finding) not in roi.ROIDescription
        ):
            yield f"{name} is not named as the finding is"
        if roi.ROIGenerationAlgorithm != "AUTOMATIC":
            yield f"{name} does not say that it was made automatically"
        if tuple(contours.ROIDisplayColor) != finding.colour_rgb:
            yield f"{name} has another colour than the finding"
        if code_of(seen.RTROIIdentificationCodeSequence[0])[:2] != finding.kind[:2]:
            yield f"{name} has another code than the finding"
        if isinstance(finding, Segment):
            yield from _segment_faults(name, finding, roi, contours.ContourSequence, material)
        else:
            yield from _detection_faults(name, finding, contours.ContourSequence, material)


def _segment_faults(
    name: str, segment: Segment, roi: Dataset, contours: Sequence[Dataset], material: Material
) -> Iterator[str]:
    """The contours, filled again, must be the encoded segment."""
    outlines = material.outlines
    if outlines is None:
        return
    if list(roi.get("DefinitionSourceSequence") or ()) != [outlines.reference(segment.number)]:
        yield f"{name} does not refer to the segment that it was made from"
    voxels = sum(outlines.voxels(segment.number).values())
    if not np.isclose(float(roi.ROIVolume), voxels * material.volume.image.voxel_ml, rtol=1e-4, atol=1e-6):
        yield f"{name} has another volume than its segment"
    filled: dict[int, NDArray[np.int32]] = {}
    slices = plane_places(material.volume)
    for contour in contours:
        points = contour_points(contour)
        if contour.ContourGeometricType != "CLOSED_PLANAR" or len(points) != contour.NumberOfContourPoints:
            yield f"{name} has a contour that is not closed, or miscounts its points"
            return
        index = _index(points, material)
        edges = np.rint(index + 0.5).astype(int)
        plane = slices.get(place_of(contour.ContourImageSequence[0]))
        if (
            plane is None
            or np.abs(index[:, 0] - plane).max() > _NEAR
            or np.abs(edges - 0.5 - index)[:, 1:].max() > _NEAR
        ):
            yield f"{name} has a contour that does not lie on pixel edges of its image"
            return
        if plane not in filled:
            filled[plane] = np.zeros([n + 1 for n in outlines.shape[1:]], np.int32)
        _add_edges(filled[plane], edges[:, 1], edges[:, 2])
    if set(filled) != set(outlines.voxels(segment.number)):
        yield f"{name} is not on the slices where its segment has voxels"
        return
    for plane, steps in filled.items():
        inside = steps.cumsum(axis=0).cumsum(axis=1)[:-1, :-1]
        if not np.array_equal(inside, outlines.plane(segment.number, plane)):
            yield f"{name} does not enclose the voxels of its segment"
            return


def _add_edges(steps: NDArray[np.int32], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
    """Note where the inside of a clockwise polygon along pixel edges begins and ends.

    Summed along both axes, ``steps`` (rows + 1, columns + 1) says how often each pixel is enclosed.
    """
    below = np.roll(rows, -1)
    upright = columns == np.roll(columns, -1)
    np.add.at(steps, (below[upright], columns[upright]), 1)
    np.add.at(steps, (rows[upright], columns[upright]), -1)


def _detection_faults(
    name: str, detection: Detection, contours: Sequence[Dataset], material: Material
) -> Iterator[str]:
    kinds = {str(contour.ContourGeometricType) for contour in contours}
    if not kinds <= _KINDS[detection.shape] or len(kinds) != 1:
        yield f"{name} is drawn as another shape than was detected"
    if detection.shape != "box" and len(contours) != 1:
        yield f"{name} has more than one contour"
    places = plane_places(material.volume)
    if not {place_of(contour.ContourImageSequence[0]) for contour in contours} <= places.keys():
        yield f"{name} refers to an image that is not of the source"
    said = np.concatenate([_index(contour_points(contour), material) for contour in contours])
    limits = np.array(material.volume.image.array.shape) - 0.5
    meant = np.clip(detection.points, -0.5, limits)  # what sticks out of the image is cut off
    if detection.shape == "box":
        meant[:, 0] = np.clip(np.floor(meant[:, 0] + 0.5), 0, limits[0] - 0.5)
    apart = [said.min(axis=0) - meant.min(axis=0), said.max(axis=0) - meant.max(axis=0)]
    if np.abs(apart).max() > _NEAR:
        yield f"{name} does not lie where it was detected"


def _index(points_mm: NDArray[np.float64], material: Material) -> NDArray[np.float64]:
    """Return LPS mm as (slice, row, column) indices."""
    affine = material.volume.image.affine
    steps = np.linalg.solve(affine[:3, :3], (points_mm - affine[:3, 3]).T)
    return np.asarray(steps.T, dtype=np.float64)
