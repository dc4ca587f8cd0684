"""Probabilities as a FRACTIONAL Segmentation, beside the outlines (PS3.3 C.8.20.2.3).

It says how sure the model was of each voxel of a segment; the outline itself is the BINARY (or
label map) object, which viewers can show. Segments of both carry the same Tracking UIDs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.encode.material import Material
from node.encode.seg.image import Part, new_segmentation
from node.errors import EncodeError
from node.model import Volume
from pipelines.contract import Findings, Map

#: What stands for a probability of 1 (Maximum Fractional Value).
CERTAIN = 255


def make_one_fractional(material: Material, part: Part) -> Dataset:
    """Return the probabilities of the segments of a part, eight bits per pixel, without empty frames."""
    frames = part.frames
    dataset = new_segmentation(material, "fractional", part, frames, encoding="FRACTIONAL", bits=8)
    maps = probability_maps(material.findings, material.volume)
    dataset.SegmentationFractionalType = "PROBABILITY"
    dataset.MaximumFractionalValue = CERTAIN
    dataset.SegmentsOverlap = "YES" if _overlap(part, maps) else "NO"
    planes = (fraction_at(maps[part.segments[k - 1].number], i).tobytes() for k, i in frames)
    data = b"".join(planes)
    dataset.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
    return dataset


def probability_maps(findings: Findings, volume: Volume) -> Mapping[int, Map]:
    """Return `Segment.number` -> the map of its probability.

    Raises
    ------
    EncodeError
        A map is not on the grid, is of an unknown segment or one that has a map, or holds what is
        no probability.
    """
    found: dict[int, Map] = {}
    known = {segment.number for segment in findings.segments}
    for one in findings.maps:
        if one.segment is None:
            continue
        if one.segment not in known or one.segment in found:
            raise EncodeError(
                f"the map '{one.label}' is of segment {one.segment}, which is not there or has one already"
            )
        if one.array.shape != volume.image.array.shape:
            raise EncodeError(
                f"the map '{one.label}' has the shape {one.array.shape}, the image {volume.image.array.shape}"
            )
        if one.array.size and not (float(one.array.min()) >= 0 and float(one.array.max()) <= 1):
            raise EncodeError(f"the map '{one.label}' holds values that are no probability, 0..1")
        found[one.segment] = one
    return dict(sorted(found.items()))


def fraction_at(one: Map, index: int) -> NDArray[np.uint8]:
    """Return one slice of a map of probabilities: (rows, columns), uint8, 0..255."""
    scaled: NDArray[np.uint8] = np.rint(one.array[index] * np.float32(CERTAIN)).astype(np.uint8)
    return scaled


def count_fractions(one: Map) -> NDArray[np.int64]:
    """Return how many voxels of each slice are not 0 once they are encoded: (slices,), int64."""
    return np.array([int(np.count_nonzero(fraction_at(one, i))) for i in range(len(one.array))], np.int64)


def _overlap(part: Part, maps: Mapping[int, Map]) -> bool:
    """Return whether some voxel may belong to two segments."""
    for index in np.flatnonzero((part.voxels > 0).sum(axis=0) > 1):
        present = [s for s, counts in zip(part.segments, part.voxels, strict=True) if counts[index]]
        here = [fraction_at(maps[segment.number], int(index)) > 0 for segment in present]
        if bool((np.sum(here, axis=0) > 1).any()):
            return True
    return False
