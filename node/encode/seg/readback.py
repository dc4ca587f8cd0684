"""The Segmentation as a receiver sees it: read from disk, pixels unpacked.

The numbers in a report are taken from here, not from the pipeline's arrays, so that what a
report says of a segment is true of the segment that was sent (R-43).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

from node.encode.items import place_of, plane_places
from node.errors import EncodeError
from node.model import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameGroup:
    """What the functional groups of one frame say."""

    number: int | None  #: Referenced Segment Number; None for a frame of a label map
    index: int  #: slice of the volume that is its source
    dimensions: tuple[int, ...]  #: Dimension Index Values
    stack_position: int | None  #: In-Stack Position Number
    temporal_position: int | None  #: Temporal Position Index
    position_mm: tuple[float, ...] | None  #: Image Position (Patient)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSeg:
    """A Segmentation read back."""

    dataset: Dataset
    groups: tuple[FrameGroup, ...]  #: one per frame
    shape: tuple[int, int, int]  #: (slices, rows, columns) of the source volume
    #: BINARY: all bits in a row, packed, uint8. Else (frames, rows, columns), uint8 or uint16: a
    #: Segment Number, or a fraction of Maximum Fractional Value.
    pixels: NDArray[np.unsignedinteger]
    #: segment number -> {slice index of the volume: 0-based frame}
    frames: dict[int, dict[int, int]] = field(default_factory=dict)
    #: segment number -> {slice index: voxels set}, where there are any
    voxels: dict[int, dict[int, int]] = field(default_factory=dict)

    @property
    def encoding(self) -> str:
        """Segmentation Type: BINARY, LABELMAP or FRACTIONAL."""
        return str(self.dataset.SegmentationType)

    def plane(self, frame: int, number: int) -> NDArray[np.bool_]:
        """Return where a 0-based frame shows a segment: (rows, columns), bool."""
        if self.encoding == "LABELMAP":
            equal: NDArray[np.bool_] = self.pixels[frame] == number
            return equal
        if self.encoding == "FRACTIONAL":
            anything: NDArray[np.bool_] = self.pixels[frame] > 0
            return anything
        _, rows, columns = self.shape
        unpacked = np.unpackbits(self._bytes_of(frame), bitorder="little")
        first = frame * rows * columns % 8
        return unpacked[first : first + rows * columns].reshape(rows, columns).view(np.bool_)

    def count(self, frame: int) -> int:
        """Return how many pixels of a 0-based frame are not 0."""
        if self.encoding != "BINARY":
            return int(np.count_nonzero(self.pixels[frame]))
        if self.shape[1] * self.shape[2] % 8:  # its first and last bytes belong to neighbours as well
            return int(np.count_nonzero(self.plane(frame, 0)))
        return int(np.bitwise_count(self._bytes_of(frame)).sum())

    def _bytes_of(self, frame: int) -> NDArray[np.uint8]:
        size = self.shape[1] * self.shape[2]
        return self.pixels[frame * size // 8 : -(-(frame + 1) * size // 8)].view(np.uint8)


def read_seg(path: Path, volume: Volume) -> EncodedSeg:
    """Read a Segmentation back and find the slice of the source that each frame lies on.

    Raises
    ------
    EncodeError
        A frame does not say its segment, or its source is not a plane of the volume.
    """
    dataset = pydicom.dcmread(path)
    groups = _read_groups(dataset, volume)
    shape = (volume.image.array.shape[0], int(dataset.Rows), int(dataset.Columns))
    seg = EncodedSeg(
        dataset=dataset, groups=groups, shape=shape, pixels=_read_pixels(dataset, len(groups), shape)
    )
    for frame, group in enumerate(groups):
        if group.number is None:
            counted = np.bincount(seg.pixels[frame].ravel())
            counts = {int(n): int(counted[n]) for n in np.flatnonzero(counted) if n}
        else:
            counts = {group.number: seg.count(frame)}
        for number, count in counts.items():
            seg.frames.setdefault(number, {})[group.index] = frame
            if count:
                seg.voxels.setdefault(number, {})[group.index] = count
    return seg


def _read_pixels(dataset: Dataset, frames: int, shape: tuple[int, int, int]) -> NDArray[np.unsignedinteger]:
    bits = int(dataset.BitsAllocated)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        return pixel_array(dataset, raw=True).reshape(frames, *shape[1:])
    size = shape[1] * shape[2]
    needed = -(-frames * size * bits // 8)
    if len(dataset.PixelData) < needed:
        raise EncodeError("the segmentation holds fewer pixels than its frames need")
    data = np.frombuffer(dataset.PixelData, dtype="<u2" if bits == 16 else np.uint8)
    return data if bits == 1 else data[: frames * size].reshape(frames, *shape[1:])


def _read_groups(dataset: Dataset, volume: Volume) -> tuple[FrameGroup, ...]:
    """Read the functional groups; those that are the same for many frames, byte for byte, once."""
    places = plane_places(volume)
    each_has_one = dataset.SegmentationType != "LABELMAP"
    known: dict[tuple[str, bytes], Any] = {}

    def part(group: Dataset, keyword: str, read: Callable[[Dataset], Any]) -> Any:
        element = group.get_item(keyword)
        if element is None or not isinstance(element.value, bytes):  # absent, or decoded already
            return read(group)
        key = (keyword, element.value)
        if key not in known:
            known[key] = read(group)
        return known[key]

    groups = []
    for frame, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        try:
            number = part(group, "SegmentIdentificationSequence", _segment) if each_has_one else None
            index = part(group, "DerivationImageSequence", lambda g: _source(g, places))
        except (AttributeError, IndexError, KeyError) as error:
            raise EncodeError(
                f"frame {frame + 1} of the segmentation does not name its segment and source plane"
            ) from error
        content = group.FrameContentSequence[0]
        values = content.get("DimensionIndexValues")
        groups.append(
            FrameGroup(
                number=number,
                index=index,
                dimensions=tuple([values] if isinstance(values, int) else values or ()),
                stack_position=content.get("InStackPositionNumber"),
                temporal_position=content.get("TemporalPositionIndex"),
                position_mm=part(group, "PlanePositionSequence", _position),
            )
        )
    return tuple(groups)


def _segment(group: Dataset) -> int:
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _source(group: Dataset, places: Mapping[tuple[str, int | None], int]) -> int:
    return places[place_of(group.DerivationImageSequence[0].SourceImageSequence[0])]


def _position(group: Dataset) -> tuple[float, ...] | None:
    said = group.get("PlanePositionSequence")
    return tuple(float(v) for v in said[0].ImagePositionPatient) if said else None
