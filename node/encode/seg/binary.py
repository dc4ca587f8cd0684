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
from node.encode.identity import EncodeJob
from node.encode.items import coded, item
from node.encode.material import Material
from node.encode.planes import (
    SOURCE_FOR_PROCESSING,
    add_frame_of_reference,
    add_lossy,
    add_references,
    plane_groups,
    shared_groups,
)
from node.encode.repair import cut
from node.encode.seg.grid import Frame, occupied_frames, overlap, plane_at
from node.encode.tracking import tracking_id, tracking_uid
from pipelines.contract import Code, Findings, Segment

SEGMENTATION_DERIVATION = Code("113076", "DCM", "Segmentation")


def make_binary(material: Material) -> Dataset:
    """Return the Segmentation of all outlines, one bit per pixel.

    Frames run over segments, then slices, without those that are empty. When no segment has a
    voxel, one empty frame per segment on the middle slice keeps the object legal (Number of
    Frames is at least 1).
    """
    job, header, findings, volume = material.job, material.header, material.findings, material.volume
    slices, rows, columns = volume.image.array.shape
    frames = occupied_frames(findings, slices)
    empty = not frames
    if empty:
        frames = [(segment.number, slices // 2) for segment in findings.segments]
    dataset = new_result(material, "seg", sop_class=SegmentationStorage, modality="SEG")
    if header.body_part:
        dataset.BodyPartExamined = header.body_part
    if header.requests:
        dataset.RequestAttributesSequence = list(header.requests)
    add_frame_of_reference(dataset, volume, header)
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ContentLabel = "SEGMENTATION"
    dataset.ContentDescription = cut(job.card.title, 64) or None
    dataset.ContentCreatorName = None
    add_lossy(dataset, header)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    dataset.PixelRepresentation = 0
    dataset.SegmentationType = "BINARY"
    dataset.SegmentsOverlap = "YES" if overlap(findings) else "NO"
    dataset.SegmentSequence = [_segment(material, segment) for segment in findings.segments]
    declare_schemes(dataset, dataset.SegmentSequence, material.algorithm.maker, header)
    dataset.NumberOfFrames = len(frames)
    add_references(dataset, material.volumes, material.role)
    _dimensions(dataset, job)
    dataset.SharedFunctionalGroupsSequence = [shared_groups(volume)]
    purpose, derivation = coded(SOURCE_FOR_PROCESSING), coded(SEGMENTATION_DERIVATION)
    groups = []
    for number, index in frames:
        group = plane_groups(volume.slices[index], derivation, purpose)
        group.FrameContentSequence = [item(DimensionIndexValues=[number, index + 1])]
        group.SegmentIdentificationSequence = [item(ReferencedSegmentNumber=number)]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    planes = (np.zeros((rows, columns), bool) for _ in frames) if empty else _planes(findings, frames)
    dataset.add_new("PixelData", "OB", pack_bits(planes))
    return dataset


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


def _segment(material: Material, segment: Segment) -> Dataset:
    kind = coded(segment.kind)
    side = [coded(segment.laterality)] if segment.laterality else None
    if side:
        kind.SegmentedPropertyTypeModifierCodeSequence = side
    region = coded(segment.anatomic_region) if segment.anatomic_region else None
    if region is not None and side:
        region.AnatomicRegionModifierSequence = [coded(segment.laterality)] if segment.laterality else None
    lab = rgb2lab(np.array(segment.colour_rgb, dtype=np.float64).reshape(1, 1, 3) / 255)[0, 0]
    scaled = (lab + np.array([0, 128, 128])) * 65535 / np.array([100, 255, 255])  # PS3.3 C.10.7.1.1
    algorithm = material.algorithm
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
        TrackingUID=tracking_uid(material, segment),
        RecommendedDisplayCIELabValue=[int(v) for v in np.clip(np.rint(scaled), 0, 65535)],
    )


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
