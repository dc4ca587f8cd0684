"""The Segmentation as a receiver sees it: read from disk, pixels unpacked.

The numbers in a report are taken from here, not from the pipeline's arrays, so that what a
report says of a segment is true of the segment that was sent (R-43).
"""

from __future__ import annotations

from dataclasses import dataclass
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

    def plane(self, frame: int) -> NDArray[np.bool_]:
        """Return the pixels of a 0-based frame: (rows, columns), bool."""
        _, rows, columns = self.shape
        first = frame * rows * columns
        last = first + rows * columns
        unpacked = np.unpackbits(self.bits[first // 8 : -(-last // 8)], bitorder="little")
        return unpacked[first % 8 : first % 8 + rows * columns].reshape(rows, columns).astype(bool)

    def mask(self, number: int) -> NDArray[np.bool_]:
        """Return one segment on the grid of the source: (slices, rows, columns), bool."""
        whole = np.zeros(self.shape, dtype=bool)
        for index, frame in self.frames.get(number, {}).items():
            whole[index] = self.plane(frame)
        return whole

    def areas(self, number: int) -> dict[int, int]:
        """Return slice index -> voxels of one segment, where there are any."""
        counted = {i: int(np.count_nonzero(self.plane(f))) for i, f in self.frames.get(number, {}).items()}
        return {index: count for index, count in counted.items() if count}


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
    return EncodedSeg(dataset=dataset, frames=frames, shape=shape, bits=bits)
