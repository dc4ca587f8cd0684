"""Where a finding lies, as SR says it: on an image (SCOORD) or in the patient (SCOORD3D)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.encode.items import image_reference
from node.encode.material import Material
from node.encode.seg.outlines import Outlines
from node.encode.sr import tree
from node.encode.sr.contour import closed, outline, thinned, unmistakable
from node.encode.sr.tree import CONTAINS, SELECTED_FROM
from node.errors import EncodeError
from node.model import Volume
from node.slices import middle, reached
from pipelines.contract import Code, Detection

IMAGE_REGION = Code("111030", "DCM", "Image Region")
VOLUME_SURFACE = Code("121231", "DCM", "Volume Surface")
#: Stone shows a region only if its image bears this name.
ORIGINAL_SOURCE = Code("111040", "DCM", "Original Source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A drawing on one slice of a volume."""

    index: int  #: of the slice
    shape: str  #: Graphic Type: POINT or POLYLINE
    #: (points, 2) float64, (column, row) as in SCOORD (PS3.3 C.18.6.1.2): (0, 0) is the top left
    #: corner of the first pixel, (0.5, 0.5) its centre; a closed line repeats its first point.
    points: NDArray[np.float64]
    #: (points, 3) float64, (slice, row, column) index; whole numbers lie at voxel centres.
    indices: NDArray[np.float64]


def segment_region(outlines: Outlines, number: int) -> Region | None:
    """Return the contour of a segment on the slice where it is largest; None for an empty one."""
    index = outlines.key_slice(number)
    if index is None:
        return None
    points = outline(outlines.plane(number, index))
    return Region(index=index, shape="POLYLINE", points=points, indices=_indices(points, index))


def detection_regions(detection: Detection, volume: Volume) -> list[Region]:
    """Return a detection on every slice that it is drawn on: one, but for a box of several slices.

    What sticks out of the image is cut off at its border.

    Raises
    ------
    EncodeError
        The detection does not touch the volume, or is no such shape.
    """
    slices, rows, columns = volume.image.array.shape
    points = np.asarray(detection.points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise EncodeError(f"detection {detection.number} has no points (slice, row, column)")
    low, high = points.min(axis=0), points.max(axis=0)
    edge = np.array([slices, rows, columns]) - 0.5
    if (high < -0.5).any() or (low > edge).any():
        raise EncodeError(f"detection {detection.number} does not lie on the image")
    points = np.clip(points, -0.5, edge)
    if detection.shape == "box":
        (top, left), (bottom, right) = points[:, 1:].min(axis=0), points[:, 1:].max(axis=0)
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) + 0.5
        drawn = closed(corners)
        return [
            Region(index=i, shape="POLYLINE", points=drawn, indices=_indices(drawn, i))
            for i in reached(detection, slices)
        ]
    index = middle(detection, slices)
    if detection.shape == "point":
        return [Region(index=index, shape="POINT", points=points[:1, :0:-1] + 0.5, indices=points[:1])]
    if detection.shape == "contour":
        drawn = closed(points[:, :0:-1] + 0.5)
        place = float(points[0, 0])
        return [Region(index=index, shape="POLYLINE", points=drawn, indices=_indices(drawn, place))]
    line = unmistakable(thinned(points))
    return [Region(index=index, shape="POLYLINE", points=line[:, :0:-1] + 0.5, indices=line)]


def key_region(regions: list[Region]) -> Region:
    """Return the one in the middle: where to look."""
    return regions[(len(regions) - 1) // 2]


def displayed(region: Region, volume: Volume) -> Region:
    """Return a region as viewers draw it with our numbers; a point becomes the outline of its pixel.

    OHIF makes a POINT its own probe, and a line of 4 or 5 points its own rectangle (viewers.md
    section 2); its numbers would then stand in the place of ours.
    """
    if region.shape != "POINT":
        return region
    _, rows, columns = volume.image.array.shape
    corners = region.points[0] + np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    drawn = closed(np.clip(corners, 0, (columns, rows)))
    place = float(region.indices[0, 0])
    return Region(index=region.index, shape="POLYLINE", points=drawn, indices=_indices(drawn, place))


def in_patient(material: Material) -> bool:
    """Return whether places are asked for, and known, in the patient.

    On a cine they are on its images, because coordinates in the patient say no moment.
    """
    volume = material.volume
    spatial = volume.image.is_spatial and bool(volume.frame_of_reference_uid) and volume.image.phases == 1
    return material.profile.coordinates == "patient" and spatial


def image_item(region: Region, volume: Volume, how: str = CONTAINS) -> Dataset:
    """Return a region on its image."""
    source = tree.image(SELECTED_FROM, ORIGINAL_SOURCE, image_reference(volume.slices[region.index]))
    return tree.scoord(how, IMAGE_REGION, region.shape, region.points, [source])


def patient_item(region: Region, volume: Volume) -> Dataset:
    """Return a region in the patient."""
    return tree.scoord3d(
        CONTAINS, IMAGE_REGION, region.shape, position_mm(region, volume), volume.frame_of_reference_uid
    )


def surface_items(regions: list[Region], volume: Volume) -> list[Dataset]:
    """Return the surface of a body in the patient, a closed polygon for each of two or more slices."""
    frame = volume.frame_of_reference_uid
    return [
        tree.scoord3d(CONTAINS, VOLUME_SURFACE, "POLYGON", position_mm(region, volume), frame)
        for region in regions
    ]


def position_mm(region: Region, volume: Volume) -> NDArray[np.float64]:
    """Return where the points of a region lie: (points, 3), LPS millimetres."""
    affine, slices = volume.image.affine, volume.image.slices
    phase = np.array([region.index // slices * slices, 0, 0])  # the affine is that of one phase
    placed: NDArray[np.float64] = (region.indices - phase) @ affine[:3, :3].T + affine[:3, 3]
    return placed


def _indices(points: NDArray[np.float64], place: float) -> NDArray[np.float64]:
    """Return (points, 3) (slice, row, column) of (points, 2) SCOORD (column, row)."""
    return np.column_stack([np.full(len(points), place), points[:, ::-1] - 0.5])
