"""The Segmentation as a receiver sees it: read from disk, pixels unpacked.

The numbers in a report are taken from here, not from the pipeline's arrays, so that what a
report says of a segment is true of the segment that was sent (R-43).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.errors import EncodeError
from node.model import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSeg:
    """A Segmentation read back."""

    dataset: Dataset
    #: segment number -> {slice index of the volume: 0-based frame}
    frames: dict[int, dict[int, int]]
    shape: tuple[int, int, int]  #: (slices, rows, columns) of the source volume
    bits: NDArray[np.uint8]  #: the packed pixels
    #: segment number -> {slice index: voxels set}, where there are any
    voxels: dict[int, dict[int, int]] = field(default_factory=dict)

    def plane(self, frame: int, number: int) -> NDArray[np.bool_]:
        """Return where a 0-based frame shows a segment: (rows, columns), bool."""
        _, rows, columns = self.shape
        first = frame * rows * columns
        last = first + rows * columns
        unpacked = np.unpackbits(self.bits[first // 8 : -(-last // 8)], bitorder="little")
        return unpacked[first % 8 : first % 8 + rows * columns].reshape(rows, columns).astype(bool)


def read_seg(path: Path, volume: Volume) -> EncodedSeg:
    """Read a Segmentation back and find the slice of the source that each frame lies on.

    Raises
    ------
    EncodeError
        A frame does not say its segment, or its source is not a plane of the volume.
    """
    dataset = pydicom.dcmread(path)
    places = {(s.sop_instance_uid, s.frame): i for i, s in enumerate(volume.slices)}
    frames: dict[int, dict[int, int]] = {}
    for frame, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        try:
            number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            index = places[str(source.ReferencedSOPInstanceUID), source.get("ReferencedFrameNumber")]
        except (AttributeError, IndexError, KeyError) as error:
            raise EncodeError(
                f"frame {frame + 1} of the segmentation does not name its segment and source plane"
            ) from error
        frames.setdefault(number, {})[index] = frame
    slices = volume.image.array.shape[0]
    shape = (slices, int(dataset.Rows), int(dataset.Columns))
    bits = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    if bits.size * 8 < len(dataset.PerFrameFunctionalGroupsSequence) * shape[1] * shape[2]:
        raise EncodeError("the segmentation holds fewer pixels than its frames need")
    seg = EncodedSeg(dataset=dataset, frames=frames, shape=shape, bits=bits)
    for number, planes in frames.items():
        counted = {index: int(np.count_nonzero(seg.plane(frame, number))) for index, frame in planes.items()}
        if any(counted.values()):
            seg.voxels[number] = {index: count for index, count in counted.items() if count}
    return seg
