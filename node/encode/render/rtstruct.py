"""Outlines and detections as an RT Structure Set, for planning systems and many viewers (PS3.3 A.19).

Contours run along pixel edges, so that filling them gives the segmentation again, voxel by voxel
(R-36); a hole is joined to its surroundings by a keyhole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import RTStructureSetStorage
from scipy import ndimage

from node.encode.common import RESEARCH_NOTICE, algorithm_identification, declare_schemes, new_result
from node.encode.items import coded, image_reference, item
from node.encode.material import Material, NotApplicable
from node.encode.numbers import grouped
from node.encode.planes import add_frame_of_reference, check_planes
from node.encode.render.edges import corners, polygons
from node.encode.render.references import plane_references
from node.encode.repair import cut, decimal_string
from node.encode.sr.regions import detection_regions, position_mm
from node.encode.tracking import ANATOMICAL_CATEGORIES, tracking_id, tracking_uid
from pipelines.contract import Detection, Segment

#: What stands for a study in a structure set (PS3.3 C.8.8.5); retired, yet the only one ever used.
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
#: Contour Data of more points would not fit the 64 KiB of its VR in Explicit VR (PS3.5 7.1.2).
POINTS_MAX = 1500
#: Noise has more contours, or more corners, than anything an organ or a lesion was seen to have. To
#: trace them would take the job minutes, and whoever opens them as well.
CONTOURS_MAX = 20_000
CORNERS_MAX = 2_000_000
#: Digits after the point of a coordinate in mm; a tenth of a micrometre.
DECIMALS = 4
CONTOUR_DATA = Tag(0x30060050)
_CONTOUR_BYTES = 200  #: of an item beside its Contour Data


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contour:
    index: int  #: slice whose image it is referred to
    kind: str  #: Contour Geometric Type
    points_mm: NDArray[np.float64]  #: (points, 3) LPS


Finding = Segment | Detection
_Region = tuple[Finding, list[Dataset]]  #: a finding and its Contour Sequence items


def make_rtstruct(material: Material) -> Iterator[Dataset]:
    """Yield the structure set: one region for each segment with voxels and for each detection.

    Raises
    ------
    NotApplicable
        There is no frame of reference, nothing to draw, or too much; or contours of several moments
        would lie on each other, which a structure set cannot tell apart.
    """
    if not (material.volume.frame_of_reference_uid and material.volume.image.is_spatial):
        raise NotApplicable("No RT Structure Set was made: the images have no frame of reference.")
    if material.volume.image.phases > 1:
        raise NotApplicable(
            "No RT Structure Set was made: contours of all phases of a cine would lie on each other."
        )
    check_planes(material.volume)
    _check_amount(material)
    regions: list[_Region] = []
    room = material.job.presentation.max_object_mb * 1e6
    findings: list[Finding] = [*material.findings.segments, *material.findings.detections]
    for finding in findings:
        contours = [_contour_item(contour, material) for contour in _contours(finding, material)]
        if contours:
            regions.append((finding, contours))
        room -= sum(len(contour.get_item(CONTOUR_DATA).value) + _CONTOUR_BYTES for contour in contours)
        if room < 0:
            raise NotApplicable("No RT Structure Set was made: the contours need more than max_object_mb.")
    if not regions:
        raise NotApplicable("No RT Structure Set was made: nothing was outlined.")
    yield _structure_set(material, regions)


def _check_amount(material: Material) -> None:
    """Count what there is to trace, which costs next to nothing, before tracing it."""
    outlines, parts, turns = material.outlines, 0, 0
    if outlines is None:
        return
    for segment in material.findings.segments:
        for index in outlines.voxels(segment.number):
            labels, count = ndimage.label(outlines.plane(segment.number, index))
            parts, turns = parts + count, turns + int(corners(labels).sum())
            if parts > CONTOURS_MAX or turns > CORNERS_MAX:
                raise NotApplicable(
                    "No RT Structure Set was made: the outlines are too ragged, with more than "
                    f"{CONTOURS_MAX} contours or {CORNERS_MAX} corners. Use the Segmentation, "
                    "which holds every voxel."
                )


def contour_points(contour: Dataset) -> NDArray[np.float64]:
    """Return Contour Data: (points, 3) LPS mm."""
    value = contour.get_item(CONTOUR_DATA).value
    numbers = value.split(b"\\") if isinstance(value, bytes) else value
    return np.array(numbers, dtype=np.float64).reshape(-1, 3)


def _contours(finding: Finding, material: Material) -> Iterator[_Contour]:
    affine = material.volume.image.affine
    if isinstance(finding, Detection):
        for region in detection_regions(finding, material.volume):
            points = position_mm(region, material.volume)
            if region.shape == "POINT":
                kind = "POINT"
            elif finding.shape == "line":
                kind = "OPEN_NONPLANAR" if np.ptp(region.indices[:, 0]) > 0 else "OPEN_PLANAR"
            else:
                kind, points = "CLOSED_PLANAR", points[:-1]  # the first point is not repeated
            yield _Contour(index=region.index, kind=kind, points_mm=points)
    elif material.outlines is not None:
        for index in sorted(material.outlines.voxels(finding.number)):
            for polygon in polygons(material.outlines.plane(finding.number, index), POINTS_MAX):
                points = _on_slice(polygon, index, affine)
                yield _Contour(index=index, kind="CLOSED_PLANAR", points_mm=points)


def _on_slice(points: NDArray[np.float64], index: int, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (column, row) from the corner of the first pixel as LPS mm: (points, 3)."""
    columns, rows = points[:, 0, None] - 0.5, points[:, 1, None] - 0.5
    where: NDArray[np.float64] = affine[:3, 3] + index * affine[:3, 0]
    return where + rows * affine[:3, 1] + columns * affine[:3, 2]


def _contour_item(contour: _Contour, material: Material) -> Dataset:
    found = item(
        ContourImageSequence=[image_reference(material.volume.slices[contour.index])],
        ContourGeometricType=contour.kind,
        NumberOfContourPoints=len(contour.points_mm),
    )
    text = "\\".join(f"{value:.{DECIMALS}f}" for value in contour.points_mm.ravel().tolist()).encode()
    text += b" " * (len(text) % 2)
    # as bytes: pydicom makes an object of each number otherwise, minutes for a whole body
    found[CONTOUR_DATA] = RawDataElement(CONTOUR_DATA, "DS", len(text), text, 0, False, True)
    return found


def _structure_set(material: Material, regions: list[_Region]) -> Dataset:
    volume, header = material.volume, material.header
    dataset = new_result(material, "rtstruct", sop_class=RTStructureSetStorage, modality="RTSTRUCT")
    dataset.OperatorsName = None
    if header.requests:
        dataset.RequestAttributesSequence = list(header.requests)
    add_frame_of_reference(dataset, volume, header)
    dataset.StructureSetLabel = "RESEARCH ONLY"
    dataset.StructureSetName = cut(material.job.card.title, 64)
    dataset.StructureSetDescription = cut(f"Automatic contours. {RESEARCH_NOTICE}", 1024)
    dataset.StructureSetDate, dataset.StructureSetTime = dataset.ContentDate, dataset.ContentTime
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(material)]
    numbered = list(enumerate(regions, start=1))
    dataset.StructureSetROISequence = [_roi(n, finding, material) for n, (finding, _) in numbered]
    dataset.ROIContourSequence = [
        item(ReferencedROINumber=n, ROIDisplayColor=list(finding.colour_rgb), ContourSequence=contours)
        for n, (finding, contours) in numbered
    ]
    dataset.RTROIObservationsSequence = [
        _observation(n, finding, len(contours)) for n, (finding, contours) in numbered
    ]
    dataset.ApprovalStatus = "UNAPPROVED"
    coded_parts = [*dataset.StructureSetROISequence, *dataset.RTROIObservationsSequence]
    declare_schemes(dataset, coded_parts, material.algorithm.maker, header)
    return dataset


def _frame_of_reference(material: Material) -> Dataset:
    """Return the images by frame of reference, study and series (PS3.3 C.8.8.5)."""
    volume = material.volume
    images = plane_references(volume, range(len(volume.slices)))
    series = item(SeriesInstanceUID=volume.series_uid, ContourImageSequence=images)
    study = item(
        ReferencedSOPClassUID=STUDY_CLASS,
        ReferencedSOPInstanceUID=volume.study_uid,
        RTReferencedSeriesSequence=[series],
    )
    return item(FrameOfReferenceUID=volume.frame_of_reference_uid, RTReferencedStudySequence=[study])


def _roi(number: int, finding: Finding, material: Material) -> Dataset:
    volume, outlines = material.volume, material.outlines
    roi = item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=volume.frame_of_reference_uid,
        ROIName=tracking_id(finding),
        ROIDescription=cut(f"{RESEARCH_NOTICE} Tracking UID {tracking_uid(material, finding)}", 1024),
        ROIGenerationAlgorithm="AUTOMATIC",
        ROIGenerationDescription=cut(f"{material.algorithm.name} {material.algorithm.version}", 64),
        ROIDerivationAlgorithmIdentificationSequence=[algorithm_identification(material.algorithm)],
    )
    if isinstance(finding, Segment) and outlines is not None:
        voxels = sum(outlines.voxels(finding.number).values())
        roi.ROIVolume = decimal_string(round(voxels * volume.image.voxel_ml, 6))
        roi.DefinitionSourceSequence = [outlines.reference(finding.number)]
    return roi


def _observation(number: int, finding: Finding, contours: int) -> Dataset:
    """Return what a region is. Only an organ has an interpreted type: none fits a finding."""
    kind = coded(finding.kind)
    if finding.laterality:
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(finding.laterality)]
    region = coded(finding.anatomic_region) if finding.anatomic_region else None
    if region is not None and finding.laterality:
        region.AnatomicRegionModifierSequence = [coded(finding.laterality)]
    said = f"{finding.label}: {contours} contours."
    if isinstance(finding, Detection) and finding.confidence is not None:
        said = f"{finding.label}: confidence {grouped(finding.confidence)}."
    return item(
        ObservationNumber=number,
        ReferencedROINumber=number,
        ROIObservationLabel=cut(finding.label, 16),
        ROIObservationDescription=cut(f"{said} {RESEARCH_NOTICE}", 1024),
        SegmentedPropertyCategoryCodeSequence=[coded(finding.category)],
        RTROIIdentificationCodeSequence=[kind],
        AnatomicRegionSequence=[region] if region is not None else None,
        RTROIInterpretedType="ORGAN" if finding.category.value in ANATOMICAL_CATEGORIES else "",
        ROIInterpreter="",
    )
