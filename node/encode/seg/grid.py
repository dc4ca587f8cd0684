"""Outlines as arrays: are they on the grid, where are they, which exclude each other?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from node.errors import EncodeError
from node.model import Volume
from pipelines.contract import Findings, Segment


def check_outlines(findings: Findings, volume: Volume) -> None:
    """Refuse outlines that are not on the volume's grid, or that mark what no segment describes."""
    shape = volume.image.array.shape
    labels = findings.labelmap
    if [segment.number for segment in findings.segments] != list(range(1, len(findings.segments) + 1)):
        raise EncodeError("the segments are not numbered 1, 2, 3 ...")
    if labels is None and findings.masks is None:
        raise EncodeError("the findings name segments but carry no outlines")
    if labels is not None and findings.masks is not None:
        raise EncodeError("the findings carry both a label map and masks")
    if labels is not None and labels.shape != shape:
        raise EncodeError(f"the label map has the shape {labels.shape}, the image {shape}")
    if findings.masks is not None and findings.masks.shape != (len(findings.segments), *shape):
        raise EncodeError(f"the masks have the shape {findings.masks.shape}, the image {shape}")
    if findings.masks is not None and findings.masks.dtype != np.bool_:
        raise EncodeError(f"the masks are of {findings.masks.dtype}, not of bool")
    if labels is not None and labels.dtype.kind not in "ui":
        raise EncodeError(f"the label map is of {labels.dtype}, not of whole numbers")
    if labels is not None and (labels.max(initial=0) > len(findings.segments) or labels.min(initial=0) < 0):
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


def labels_at(findings: Findings, segments: Sequence[Segment], index: int) -> NDArray[np.uint16]:
    """Return one slice of segments that exclude each other: (rows, columns), uint16.

    The first of ``segments`` is 1, the second 2, and so on; whatever belongs to none of them is 0.
    """
    if findings.labelmap is not None and len(segments) == len(findings.segments):
        same: NDArray[np.uint16] = findings.labelmap[index].astype(np.uint16)
        return same
    if findings.labelmap is not None:
        numbers = np.zeros(len(findings.segments) + 1, dtype=np.uint16)
        numbers[[segment.number for segment in segments]] = np.arange(1, len(segments) + 1)
        chosen: NDArray[np.uint16] = numbers[findings.labelmap[index]]
        return chosen
    labels = None
    for number, segment in enumerate(segments, start=1):
        plane = plane_at(findings, segment.number, index)
        labels = np.zeros(plane.shape, np.uint16) if labels is None else labels
        labels[plane] = number
    if labels is None:
        raise EncodeError("a label map of no segment was asked for")
    return labels


def count_voxels(findings: Findings, slices: int) -> NDArray[np.int64]:
    """Return how many voxels each segment has on each slice: (segments, slices), int64.

    A label map is looked at once, however many segments it has.
    """
    counts = np.zeros((len(findings.segments), slices), dtype=np.int64)
    if findings.labelmap is not None:
        for index in range(slices):
            found = np.bincount(findings.labelmap[index].ravel(), minlength=len(findings.segments) + 1)
            counts[:, index] = found[1:]
    elif findings.masks is not None:
        for number, mask in enumerate(findings.masks):
            counts[number] = [int(np.count_nonzero(plane)) for plane in mask]
    return counts


def exclusive_groups(findings: Findings, voxels: NDArray[np.int64]) -> list[tuple[Segment, ...]]:
    """Return the segments in groups without a voxel in common, each in the first that has room.

    Parameters
    ----------
    voxels
        From `count_voxels`.
    """
    if findings.masks is None:
        return [findings.segments] if findings.segments else []
    groups: list[list[Segment]] = []
    taken: list[NDArray[np.bool_]] = []  # of each group: (slices, rows, columns), bool
    for segment, mask in zip(findings.segments, findings.masks, strict=True):
        planes = np.flatnonzero(voxels[segment.number - 1])
        room = (
            place
            for place, union in enumerate(taken)
            if not any(bool((union[i] & mask[i]).any()) for i in planes)
        )
        place = next(room, len(groups))
        if place == len(groups):
            groups.append([])
            taken.append(np.zeros(mask.shape, dtype=bool))
        groups[place].append(segment)
        for i in planes:
            taken[place][i] |= mask[i]
    return [tuple(group) for group in groups]
