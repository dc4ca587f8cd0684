"""What Segmentations of every kind share: header, segments, and one functional group per frame.

Written with pydicom alone. highdicom's writer wants whole source data sets, which a volume made
of some frames of a multi-frame instance does not have, and puts the segment of a one-segment
object where older viewers and its own reader do not look (standards.md, findings 1 to 3). Here a
frame needs only its plane: position, instance and frame number, the same for all sources.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from node.encode.common import declare_schemes, new_result
from node.encode.items import coded, item
from node.encode.material import Material
from node.encode.planes import (
    SEGMENTATION,
    SOURCE_FOR_PROCESSING,
    add_dimensions,
    add_frame_of_reference,
    add_lossy,
    add_references,
    plane_content,
    plane_dimensions,
    plane_groups,
    plane_index,
    shared_groups,
)
from node.encode.repair import cut
from node.encode.seg.joined import encoded, set_frame_groups
from node.encode.seg.segments import background_item, segment_item
from node.profile import LABELMAP_CLASS
from pipelines.contract import Segment

Frame = tuple[int, int]  #: (Segment Number within the object, 0 for all of them; slice index)
Encoding = Literal["BINARY", "LABELMAP", "FRACTIONAL"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The segments that one object holds; the first has Segment Number 1 in it, the second 2 ..."""

    number: int  #: counts the objects of this kind from 1
    segments: tuple[Segment, ...]
    voxels: NDArray[np.int64]  #: (segments of this part, slices): how many each has on each

    @property
    def frames(self) -> list[Frame]:
        """One per segment and slice that has a voxel, segment by segment.

        A part without any voxel has one empty frame per segment on the middle slice, since Number
        of Frames is at least 1.
        """
        found = [(int(k) + 1, int(i)) for k, i in np.argwhere(self.voxels > 0)]
        return found or [(k + 1, self.voxels.shape[1] // 2) for k in range(len(self.segments))]


def new_segmentation(
    material: Material, kind: str, part: Part, frames: Sequence[Frame], *, encoding: Encoding, bits: int
) -> Dataset:
    """Return a Segmentation that lacks nothing but what its encoding adds, and its pixels.

    Its UIDs depend on which segments it holds and how.
    """
    header, volume = material.header, material.volume
    exclusive = encoding == "LABELMAP"
    held = ",".join(str(segment.number) for segment in part.segments)
    dataset = new_result(
        material,
        kind,
        sop_class=LABELMAP_CLASS if exclusive else SegmentationStorage,
        modality="SEG",
        number=part.number,
        variant=f"{encoding.lower()} {held}",
    )
    if header.body_part:
        dataset.BodyPartExamined = header.body_part
    if header.requests:
        dataset.RequestAttributesSequence = list(header.requests)
    add_frame_of_reference(dataset, volume, header)
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ContentLabel = "SEGMENTATION"
    dataset.ContentDescription = cut(material.job.card.title, 64) or None
    dataset.ContentCreatorName = None
    add_lossy(dataset, header)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = volume.image.array.shape[1:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.SegmentationType = encoding
    described = [segment_item(material, s, number) for number, s in enumerate(part.segments, start=1)]
    dataset.SegmentSequence = [*described, background_item(material)] if exclusive else described
    declare_schemes(dataset, dataset.SegmentSequence, material.algorithm.maker, header)
    dataset.NumberOfFrames = len(frames)
    add_references(dataset, material.volumes, material.role)
    _add_dimensions(dataset, material, by_segment=not exclusive)
    dataset.SharedFunctionalGroupsSequence = [shared_groups(volume)]
    _add_frames(dataset, material, frames, by_segment=not exclusive)
    return dataset


def _add_dimensions(dataset: Dataset, material: Material, *, by_segment: bool) -> None:
    """Frames are indexed by segment, if they are of one each, then by plane (PS3.3 C.7.6.17)."""
    organization = material.job.uid("seg dimensions" if by_segment else "seg labelmap dimensions")
    keywords = [("ReferencedSegmentNumber", "SegmentIdentificationSequence")] if by_segment else []
    keywords += plane_dimensions(material.volume)
    add_dimensions(dataset, organization, keywords)


def _add_frames(dataset: Dataset, material: Material, frames: Sequence[Frame], *, by_segment: bool) -> None:
    """Add the functional groups of each frame: what one plane and one segment say is encoded once."""
    volume = material.volume
    purpose, derivation = coded(SOURCE_FOR_PROCESSING), coded(SEGMENTATION)
    dimensions = len(plane_dimensions(volume))
    planes: dict[int, tuple[bytes, bytes, bytes]] = {}
    segments: dict[int, bytes] = {}
    bodies: list[bytes] = []
    for number, index in frames:
        if index not in planes:
            group = plane_groups(volume.slices[index], derivation, purpose)
            position = group.get("PlanePositionSequence")
            values = [*([number] if by_segment else []), *plane_index(volume, index)]
            frame_content = item(DimensionIndexValues=values, **plane_content(volume, index))
            planes[index] = (
                encoded(item(DerivationImageSequence=group.DerivationImageSequence)),
                encoded(item(FrameContentSequence=[frame_content])),
                encoded(item(PlanePositionSequence=position)),
            )
        source, content, position = planes[index]
        segment = b""
        if by_segment:
            # Dimension Index Values come last in Frame Content: 32-bit numbers, the segment the first
            first = len(content) - 4 * (1 + dimensions)
            content = content[:first] + struct.pack("<L", number) + content[first + 4 :]
            if number not in segments:
                identified = [item(ReferencedSegmentNumber=number)]
                segments[number] = encoded(item(SegmentIdentificationSequence=identified))
            segment = segments[number]
        bodies.append(source + content + position + segment)
    set_frame_groups(dataset, bodies)
