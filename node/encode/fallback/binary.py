"""A label map as a BINARY Segmentation: the same voxels under the same segment numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from node.encode.identity import derived_uid
from node.encode.items import item
from node.encode.material import NotApplicable
from node.encode.seg.binary import pack_bits
from node.encode.seg.joined import encoded, set_frame_groups

#: What describes the values of a label map and has no meaning for single bits.
_OF_LABELS = (
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "PaletteColorLookupTableUID",
    "ICCProfile",
    "ColorSpace",
)
_CONTENT = int(Tag("FrameContentSequence"))
_SEGMENT = int(Tag("SegmentIdentificationSequence"))
_VALUES = Tag("DimensionIndexValues")
#: Above this a stand-in would cost the node more memory than it should take beside its work.
LARGEST_BYTES = 512 << 20


def to_binary(dataset: Dataset, target: str = SegmentationStorage) -> None:
    """Turn a Label Map Segmentation into a BINARY one (PS3.3 C.8.20.2.3), in place.

    The background is described no more; a segment without a voxel stays described.

    Raises
    ------
    NotApplicable
        Its segments are not numbered 1, 2, 3 ..., or there would be too many bytes.
    """
    labels = _labels(dataset)  # (frames, rows, columns), uint8 or uint16
    background = {0, int(dataset.get("PixelPaddingValue", 0))}
    segments = [s for s in dataset.SegmentSequence if int(s.SegmentNumber) not in background]
    numbers = [int(s.SegmentNumber) for s in segments]
    if numbers != list(range(1, len(numbers) + 1)) or not numbers:
        raise NotApplicable("Its segments are not numbered 1, 2, 3 ...")
    held = [set(np.flatnonzero(np.bincount(frame.ravel())).tolist()) for frame in labels]
    places = [(number, index) for number in numbers for index, values in enumerate(held) if number in values]
    empty = not places
    if empty:
        places = [(number, len(labels) // 2) for number in numbers]
    if len(places) * labels[0].size // 8 > LARGEST_BYTES:
        raise NotApplicable(f"As BINARY it would be larger than {LARGEST_BYTES >> 20} MB.")

    dataset.SOPClassUID = target
    dataset.SegmentationType = "BINARY"
    dataset.SegmentsOverlap = "NO"
    dataset.SegmentSequence = segments
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    for keyword in _OF_LABELS:
        if keyword in dataset:
            delattr(dataset, keyword)
    _index_segments(dataset, places)
    dataset.NumberOfFrames = len(places)
    dataset.add_new("PixelData", "OB", pack_bits(_planes(labels, places)))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _labels(dataset: Dataset) -> NDArray[np.uint16]:
    """Return the value of every pixel: (frames, rows, columns); a palette is not applied."""
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    array, _ = decoder.as_array(dataset, raw=True)
    labels: NDArray[np.uint16] = array.reshape(-1, int(dataset.Rows), int(dataset.Columns))
    return labels


def _planes(labels: NDArray[np.uint16], places: list[tuple[int, int]]) -> Iterator[NDArray[np.bool_]]:
    return (labels[index] == number for number, index in places)


def _index_segments(dataset: Dataset, places: list[tuple[int, int]]) -> None:
    """Index frames by segment first, then as the label map indexes them (PS3.3 C.7.6.17)."""
    before = list(dataset.get("DimensionIndexSequence") or ())
    organization = derived_uid("binary dimensions", str(dataset.SOPInstanceUID))
    first = item(
        DimensionOrganizationUID=organization,
        DimensionIndexPointer=0x0062000B,
        FunctionalGroupPointer=0x0062000A,
        DimensionDescriptionLabel="Referenced Segment Number",
    )
    for other in before:
        other.DimensionOrganizationUID = organization
    dataset.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
    dataset.DimensionIndexSequence = [first, *before]
    dataset.pop("DimensionOrganizationType", None)  # a volume no longer
    _index_frames(dataset, places)


def _index_frames(dataset: Dataset, places: list[tuple[int, int]]) -> None:
    """Add the functional groups of each frame: what one plane and one segment say is encoded once."""
    planes: dict[int, tuple[bytes, bytes, bytes]] = {}  # before, between and after what differs
    segments: dict[int, bytes] = {}
    per_frame = dataset.PerFrameFunctionalGroupsSequence
    bodies: list[bytes] = []
    for number, index in places:
        group = per_frame[index]
        if index not in planes:
            before, between = group[:_CONTENT], group[_CONTENT + 1 : _SEGMENT]
            planes[index] = encoded(before), encoded(between), encoded(group[_SEGMENT + 1 :])
        if number not in segments:
            identified = item(SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)])
            segments[number] = encoded(identified)
        content = Dataset()
        content.update({e.tag: e for e in group.FrameContentSequence[0] if e.tag != _VALUES})
        values = group.FrameContentSequence[0].DimensionIndexValues
        content.DimensionIndexValues = [number, *([values] if isinstance(values, int) else values)]
        first, middle, last = planes[index]
        told = encoded(item(FrameContentSequence=[content]))
        bodies.append(first + told + middle + segments[number] + last)
    set_frame_groups(dataset, bodies)
