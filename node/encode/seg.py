"""Outlines as a DICOM Segmentation: BINARY, on the source's own grid (PS3.3 A.51, C.8.20).

Written with pydicom alone. highdicom's writer wants whole source data sets, which a volume made
of some frames of a multi-frame instance does not have, and puts the segment of a one-segment
object where older viewers and its own reader do not look (standards.md, findings 1 to 3). Here a
frame needs only its plane: position, instance and frame number, the same for all sources.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage
from skimage.color import rgb2lab

from node.encode.common import algorithm_identification, declare_schemes, new_result
from node.encode.header import Header
from node.encode.identity import EncodeJob, algorithm_of
from node.encode.items import coded, image_reference, instances_of, item, sop_references
from node.encode.repair import cut, decimal_string
from node.errors import EncodeError
from node.model import Slice, Volume, Volumes
from pipelines.contract import Code, Findings, Segment

SERIES_NUMBER = 9001
SOURCE_FOR_PROCESSING = Code("121322", "DCM", "Source image for image processing operation")
SEGMENTATION_DERIVATION = Code("113076", "DCM", "Segmentation")

Frame = tuple[int, int]  #: (segment number, slice index of the volume)


def make_seg(job: EncodeJob, header: Header, findings: Findings, volumes: Volumes, role: str) -> Dataset:
    """Return the Segmentation of all outlines.

    Frames run over segments, then slices, without those that are empty. When no segment has a
    voxel, one empty frame per segment on the middle slice keeps the object legal (Number of
    Frames is at least 1).

    Parameters
    ----------
    role
        Whose grid the outlines are on.

    Raises
    ------
    EncodeError
        The volume's planes do not lie where its affine says, or the outlines are not on its grid.
    """
    volume = volumes[role]
    check_planes(volume)
    check_outlines(findings, volume)
    slices, rows, columns = volume.image.array.shape
    frames = occupied_frames(findings, slices)
    empty = not frames
    if empty:
        frames = [(segment.number, slices // 2) for segment in findings.segments]
    dataset = new_result(
        job,
        header,
        role="seg",
        sop_class=SegmentationStorage,
        modality="SEG",
        series_number=SERIES_NUMBER,
        what="segmentation",
    )
    if header.body_part:
        dataset.BodyPartExamined = header.body_part
    if header.requests:
        dataset.RequestAttributesSequence = list(header.requests)
    if volume.frame_of_reference_uid:  # never invented
        dataset.FrameOfReferenceUID = volume.frame_of_reference_uid
        dataset.PositionReferenceIndicator = header.position_reference or None
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ContentLabel = "SEGMENTATION"
    dataset.ContentDescription = cut(job.card.title, 64) or None
    dataset.ContentCreatorName = None
    dataset.LossyImageCompression = "01" if header.lossy.ever else "00"
    if header.lossy.ratio:
        dataset.LossyImageCompressionRatio = header.lossy.ratio
    if header.lossy.method:
        dataset.LossyImageCompressionMethod = header.lossy.method
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    dataset.PixelRepresentation = 0
    dataset.SegmentationType = "BINARY"
    dataset.SegmentsOverlap = "YES" if overlap(findings) else "NO"
    dataset.SegmentSequence = [_segment(job, segment) for segment in findings.segments]
    declare_schemes(dataset, dataset.SegmentSequence, algorithm_of(job.card).maker, header)
    dataset.NumberOfFrames = len(frames)
    _references(dataset, volumes, role)
    _dimensions(dataset, job)
    dataset.SharedFunctionalGroupsSequence = [_shared(volume)]
    purpose, derivation = coded(SOURCE_FOR_PROCESSING), coded(SEGMENTATION_DERIVATION)
    dataset.PerFrameFunctionalGroupsSequence = [
        _per_frame(number, index, volume.slices[index], purpose, derivation) for number, index in frames
    ]
    planes = (np.zeros((rows, columns), bool) for _ in frames) if empty else _planes(findings, frames)
    dataset.add_new("PixelData", "OB", pack_bits(planes))
    return dataset


def check_planes(volume: Volume) -> None:
    """Refuse a volume whose planes cannot be referred to, or are not where its affine puts them.

    Volumes and measurements trust the affine, the object's frames the positions; a tenth of the
    slice distance apart they would tell different stories.
    """
    affine = volume.image.affine
    if len(volume.slices) != volume.image.array.shape[0]:
        raise EncodeError("the volume does not name one source plane per slice")
    if not all((volume.study_uid, volume.series_uid, *(plane.sop_instance_uid for plane in volume.slices))):
        raise EncodeError("the source lacks a Study, Series or SOP Instance UID, so nothing can refer to it")
    if len({(plane.sop_instance_uid, plane.frame) for plane in volume.slices}) != len(volume.slices):
        raise EncodeError("two slices of the volume come from the same source plane")
    said = np.array([plane.position_mm for plane in volume.slices], dtype=np.float64)
    index = np.arange(len(volume.slices), dtype=np.float64)
    meant = affine[:3, 3] + index[:, None] * affine[:3, 0]
    worst_mm = float(np.abs(said - meant).max())
    if not worst_mm <= 0.1 * volume.image.spacing_mm[0]:
        raise EncodeError(f"a source plane lies {worst_mm:.3f} mm from where the volume has it")


def check_outlines(findings: Findings, volume: Volume) -> None:
    """Refuse outlines that are not on the volume's grid, or that mark what no segment describes."""
    shape = volume.image.array.shape
    if [segment.number for segment in findings.segments] != list(range(1, len(findings.segments) + 1)):
        raise EncodeError("the segments are not numbered 1, 2, 3 ...")
    if findings.labelmap is not None and findings.masks is not None:
        raise EncodeError("the findings carry both a label map and masks")
    if findings.labelmap is not None and findings.labelmap.shape != shape:
        raise EncodeError(f"the label map has the shape {findings.labelmap.shape}, the image {shape}")
    if findings.masks is not None and findings.masks.shape != (len(findings.segments), *shape):
        raise EncodeError(f"the masks have the shape {findings.masks.shape}, the image {shape}")
    if findings.labelmap is not None and findings.labelmap.max(initial=0) > len(findings.segments):
        raise EncodeError("the label map holds a value that no segment describes")
    if findings.affine is not None and not np.allclose(findings.affine, volume.image.affine, atol=1e-3):
        raise EncodeError("the outlines are on another grid than the image")


def plane_at(findings: Findings, number: int, index: int) -> NDArray[np.bool_]:
    """Return one slice of one segment: (rows, columns), bool."""
    if findings.masks is not None:
        plane: NDArray[np.bool_] = findings.masks[number - 1, index]
        return plane
    if findings.labelmap is None:
        raise EncodeError("the findings name segments but carry no outlines")
    equal: NDArray[np.bool_] = findings.labelmap[index] == number
    return equal


def occupied_frames(findings: Findings, slices: int) -> list[Frame]:
    """Return which slices of which segments hold a voxel, segment by segment."""
    return [
        (segment.number, index)
        for segment in findings.segments
        for index in range(slices)
        if plane_at(findings, segment.number, index).any()
    ]


def overlap(findings: Findings) -> bool:
    """Return whether some voxel belongs to two segments."""
    if findings.masks is None:
        return False
    slices = findings.masks.shape[1]
    return any(bool((findings.masks[:, i].sum(axis=0, dtype=np.uint16) > 1).any()) for i in range(slices))


def pack_bits(planes: Iterator[NDArray[np.bool_]]) -> bytes:
    """Return frames as one bit per pixel, least significant first, frames without gaps (PS3.5 8.1.1)."""
    packed: list[bytes] = []
    carried = np.zeros(0, dtype=bool)  # fewer than 8 pixels that await the next frame
    for plane in planes:
        pixels = np.concatenate([carried, plane.ravel()]) if carried.size else plane.ravel()
        whole = pixels.size // 8 * 8
        packed.append(np.packbits(pixels[:whole], bitorder="little").tobytes())
        carried = pixels[whole:].copy()
    packed.append(np.packbits(carried, bitorder="little").tobytes())
    data = b"".join(packed)
    return data + b"\0" if len(data) % 2 else data


def _planes(findings: Findings, frames: list[Frame]) -> Iterator[NDArray[np.bool_]]:
    return (plane_at(findings, number, index) for number, index in frames)


def _segment(job: EncodeJob, segment: Segment) -> Dataset:
    kind = coded(segment.kind)
    side = [coded(segment.laterality)] if segment.laterality else None
    if side:
        kind.SegmentedPropertyTypeModifierCodeSequence = side
    region = coded(segment.anatomic_region) if segment.anatomic_region else None
    if region is not None and side:
        region.AnatomicRegionModifierSequence = [coded(segment.laterality)] if segment.laterality else None
    lab = rgb2lab(np.array(segment.colour_rgb, dtype=np.float64).reshape(1, 1, 3) / 255)[0, 0]
    scaled = (lab + np.array([0, 128, 128])) * 65535 / np.array([100, 255, 255])  # PS3.3 C.10.7.1.1
    algorithm = algorithm_of(job.card)
    return item(
        SegmentNumber=segment.number,
        SegmentLabel=cut(segment.label, 64),
        SegmentAlgorithmType="AUTOMATIC",
        SegmentAlgorithmName=algorithm.name,
        SegmentationAlgorithmIdentificationSequence=[algorithm_identification(algorithm)],
        SegmentedPropertyCategoryCodeSequence=[coded(segment.category)],
        SegmentedPropertyTypeCodeSequence=[kind],
        AnatomicRegionSequence=[region] if region is not None else None,
        TrackingID=tracking_id(segment),
        TrackingUID=tracking_uid(job, segment),
        RecommendedDisplayCIELabValue=[int(v) for v in np.clip(np.rint(scaled), 0, 65535)],
    )


def tracking_id(segment: Segment) -> str:
    """Return what people call this structure; the SR groups carry the same."""
    return cut(segment.label, 64)


def tracking_uid(job: EncodeJob, segment: Segment) -> str:
    """Return the UID that ties segment, contour and measurements together."""
    return job.uid(f"tracking {segment.number}")


def _references(dataset: Dataset, volumes: Volumes, role: str) -> None:
    """Name every instance used: the series of the grid first, other studies apart (PS3.3 C.12.2)."""
    here = volumes[role]
    series: dict[tuple[str, str], list[tuple[str, str]]] = {
        (here.study_uid, here.series_uid): instances_of(here)
    }
    for other in volumes.values():
        known = series.setdefault((other.study_uid, other.series_uid), [])
        known += [i for i in instances_of(other) if i not in known]
    by_study: dict[str, list[Dataset]] = {}
    for (study, uid), instances in series.items():
        reference = item(SeriesInstanceUID=uid, ReferencedInstanceSequence=sop_references(instances))
        by_study.setdefault(study, []).append(reference)
    dataset.ReferencedSeriesSequence = by_study.pop(here.study_uid)
    if by_study:
        dataset.StudiesContainingOtherReferencedInstancesSequence = [
            item(StudyInstanceUID=study, ReferencedSeriesSequence=items) for study, items in by_study.items()
        ]


def _dimensions(dataset: Dataset, job: EncodeJob) -> None:
    """Frames are indexed by segment, then by position along the normal (PS3.3 C.7.6.17)."""
    organization = job.uid("seg dimensions")
    dataset.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
    dataset.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=group,
            DimensionDescriptionLabel=label,
        )
        for pointer, group, label in (
            (0x0062000B, 0x0062000A, "Referenced Segment Number"),
            (0x00200032, 0x00209113, "Image Position (Patient)"),
        )
    ]


def _shared(volume: Volume) -> Dataset:
    slice_mm, row_mm, column_mm = volume.image.spacing_mm
    columns, rows = (volume.image.affine[:3, axis] for axis in (2, 1))
    thickness = volume.image.facts.get("SliceThickness")
    thick_mm = float(thickness) if isinstance(thickness, int | float) and thickness > 0 else slice_mm
    cosines = (*(columns / np.linalg.norm(columns)), *(rows / np.linalg.norm(rows)))
    return item(
        PixelMeasuresSequence=[
            item(
                PixelSpacing=[decimal_string(row_mm), decimal_string(column_mm)],
                SliceThickness=decimal_string(thick_mm),
                SpacingBetweenSlices=decimal_string(slice_mm),
            )
        ],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[decimal_string(float(c)) for c in cosines])],
    )


def _per_frame(number: int, index: int, plane: Slice, purpose: Dataset, derivation: Dataset) -> Dataset:
    """The two codes are the same for all of a thousand frames, so they are made once."""
    source = image_reference(
        plane,
        PurposeOfReferenceCodeSequence=[purpose],
        SpatialLocationsPreserved="YES",
    )
    return item(
        FrameContentSequence=[item(DimensionIndexValues=[number, index + 1])],
        PlanePositionSequence=[
            item(ImagePositionPatient=[decimal_string(float(v)) for v in plane.position_mm])
        ],
        DerivationImageSequence=[item(DerivationCodeSequence=[derivation], SourceImageSequence=[source])],
        SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
    )
