"""Which Segmentations are made of the findings: kind by content and reader, split by overlap and size.

* Segments that have a voxel in common go into objects of their own, each in its own series. OHIF
  drops planes of segments that overlap within one object (cornerstone3D issue 2846), and shows
  only the newest instance of a series.
* A label map takes the place of the BINARY object where the profile says so.
* An object that would be larger than the operator allows is split by segments, which stay whole.
  A label map is as large with half of its segments, so "smaller" means BINARY there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.encode.material import Material, NotApplicable
from node.encode.planes import check_planes
from node.encode.seg.binary import FRAME_BYTES, binary_bytes, make_binary
from node.encode.seg.fractional import count_fractions, make_one_fractional, probability_maps
from node.encode.seg.grid import check_outlines, count_voxels, exclusive_groups
from node.encode.seg.image import Part
from node.encode.seg.labelmap import MOST_SEGMENTS, labelmap_bytes, make_labelmap
from pipelines.contract import Segment

MEGABYTE = 1e6


def make_segs(material: Material) -> Iterator[Dataset]:
    """Yield the Segmentations that together hold every segment once.

    Raises
    ------
    EncodeError
        The volume's planes do not lie where its affine says, or the outlines are not on its grid.
    NotApplicable
        All were made, but a segment alone is larger than wished.
    """
    check_planes(material.volume)
    check_outlines(material.findings, material.volume)
    slices, rows, columns = material.volume.image.array.shape
    voxels = count_voxels(material.findings, slices)
    number, large = 0, []
    for group in exclusive_groups(material.findings, voxels):
        whole = Part(number=number + 1, segments=group, voxels=_rows_of(voxels, group))
        if _as_labelmap(material, whole, rows * columns):
            number += 1
            large += _above(material, labelmap_bytes(whole, rows * columns), "A label map")
            yield make_labelmap(material, whole)
            continue
        for part in split(whole, rows * columns // 8 + FRAME_BYTES, _limit(material)):
            number += 1
            large += _above(material, binary_bytes(part, rows * columns), _named(part))
            yield make_binary(material, part)
    if large:
        raise NotApplicable(" ".join(large))


def make_fractional(material: Material) -> Iterator[Dataset]:
    """Yield the probabilities of all segments that have a map of them.

    Raises
    ------
    EncodeError
        A map is not what it says.
    NotApplicable
        No segment has such a map; or all were made, but one alone is larger than wished.
    """
    maps = probability_maps(material.findings, material.volume)
    if not maps:
        raise NotApplicable(
            "No map gives the probability of a segment, so there is no fractional segmentation"
        )
    segments = tuple(s for s in material.findings.segments if s.number in maps)
    voxels = np.stack([count_fractions(one) for one in maps.values()])
    _, rows, columns = material.volume.image.array.shape
    large = []
    whole = Part(number=1, segments=segments, voxels=voxels)
    for part in split(whole, rows * columns + FRAME_BYTES, _limit(material)):
        large += _above(material, len(part.frames) * (rows * columns + FRAME_BYTES), _named(part))
        yield make_one_fractional(material, part)
    if large:
        raise NotApplicable(" ".join(large))


def split(whole: Part, frame_bytes: int, limit: float) -> Iterator[Part]:
    """Yield parts of at most ``limit`` bytes, or of one segment, in the order of the segments.

    Parameters
    ----------
    frame_bytes
        What one frame takes, of which a segment has one on each slice where it has voxels.
    """
    sizes = (whole.voxels > 0).sum(axis=1) * frame_bytes
    number, begin, filled = whole.number, 0, 0
    for end, size in enumerate([*sizes.tolist(), None]):
        if end > begin and (size is None or filled + size > limit):
            yield Part(number=number, segments=whole.segments[begin:end], voxels=whole.voxels[begin:end])
            number, begin, filled = number + 1, end, 0
        filled += size or 0


def _as_labelmap(material: Material, part: Part, plane_pixels: int) -> bool:
    if material.profile.labelmap == "never" or len(part.segments) > MOST_SEGMENTS:
        return False
    size = labelmap_bytes(part, plane_pixels)
    return material.profile.labelmap == "always" or size < min(
        binary_bytes(part, plane_pixels), _limit(material)
    )


def _rows_of(voxels: NDArray[np.int64], segments: tuple[Segment, ...]) -> NDArray[np.int64]:
    chosen: NDArray[np.int64] = voxels[[segment.number - 1 for segment in segments]]
    return chosen


def _limit(material: Material) -> float:
    return material.job.presentation.max_object_mb * MEGABYTE


def _named(part: Part) -> str:
    return f"Segment {part.segments[0].number}"


def _above(material: Material, size: int, what: str) -> list[str]:
    """Return a sentence about an object that is larger than wished, or none."""
    limit = material.job.presentation.max_object_mb
    if size <= limit * MEGABYTE:
        return []
    return [f"{what} takes {size / MEGABYTE:.1f} MB in one object; max_object_mb is {limit:g}."]
