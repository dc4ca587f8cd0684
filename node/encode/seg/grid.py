"""Outlines as arrays: are they on the grid, where are they, do they overlap?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from node.errors import EncodeError
from node.model import Volume
from pipelines.contract import Findings

Frame = tuple[int, int]  #: (segment number, slice index of the volume)


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
