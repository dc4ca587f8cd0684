"""Hold what a pipeline points at, detections and maps, against the contract and its card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from node.compute.complaint import (
    MOST_ENTRIES,
    of_array,
    of_code,
    of_colour,
    of_label,
    of_numbers,
    of_share,
    of_unit,
)
from node.slices import nearest
from pipelines.contract import Card, Detection, Findings, Image, Map

#: Each is as large as the image.
MOST_MAPS: Final = 64
#: Points of all detections together.
MOST_POINTS: Final = 1_000_000
#: How far an index may be from a whole number that it should be.
WHOLE: Final = 1e-6

#: Shape -> fewest and most points.
_POINTS: Final[dict[str, tuple[int, int]]] = {
    "point": (1, 1),
    "line": (2, MOST_POINTS),
    "box": (2, 2),
    "contour": (3, MOST_POINTS),
}
_SAID: Final = {
    "point": "1 point",
    "line": "2 points or more",
    "box": "2 points",
    "contour": "3 points or more",
}


def of_detections(findings: Findings, card: Card, image: Image) -> Iterator[str]:
    """Complain of detections that are not what, or where, they may be."""
    detections = findings.detections
    if len(detections) > MOST_ENTRIES:
        yield f"it gives {len(detections)} detections"
        return
    if sum(len(one.points) for one in detections) > MOST_POINTS:
        yield f"its detections have more than {MOST_POINTS} points"
        return
    yield from of_numbers([one.number for one in detections], "detections")
    declared = {kind[:2] for kind in card.detects}
    for one in detections:
        what = f"detection {one.number}"
        yield from of_label(one.label, what)
        for code in (one.category, one.kind, one.laterality, one.anatomic_region):
            yield from of_code(code, what)
        if one.kind[:2] not in declared:
            yield f"{what} ({one.kind.meaning}) is not declared by its card"
        yield from of_share(one.confidence, what, "confidence")
        yield from of_colour(one.colour_rgb, what)
        yield from _of_points(one, image, what)


def _of_points(one: Detection, image: Image, what: str) -> Iterator[str]:
    if one.shape not in _POINTS:
        yield f"{what} is a {one.shape!r}, not one of {', '.join(_POINTS)}"
        return
    points: Any = one.points
    if not isinstance(points, np.ndarray) or points.dtype.kind != "f" or points.shape[1:] != (3,):
        yield f"the points of {what} are not a (points, 3) array of floating point numbers"
        return
    fewest, most = _POINTS[one.shape]
    if not fewest <= len(points) <= most:
        yield f"{what} is a {one.shape} of {len(points)} points; it has {_SAID[one.shape]}"
        return
    # A pixel reaches half its width beyond its centre, and so does the image.
    inside = (points >= -0.5) & (points <= np.array(image.array.shape) - 0.5)
    if not inside.all():  # nor is what is not a number
        yield f"{what} has a point outside the image"
        return
    # Between two images that stand for themselves there is nothing to point at.
    is_flat = one.shape == "contour" or not image.is_spatial
    slices = np.rint(points[:, 0])
    if is_flat and (np.abs(points[:, 0] - slices).max() > WHOLE or np.ptp(slices) > 0):
        yield f"{what} is a {one.shape} that is not on one slice"
    moments = {nearest(float(place), image.array.shape[0]) // image.slices for place in points[:, 0]}
    if image.phases > 1 and len(moments) > 1:
        yield f"{what} is on several phases at once; each has detections of its own"
    if one.shape == "contour" and np.array_equal(points[0], points[-1]):
        yield f"{what} repeats its first point at its end"


def of_maps(findings: Findings, image: Image) -> Iterator[str]:
    """Complain of maps that are not on the grid, or of what their numbers mean."""
    if len(findings.maps) > MOST_MAPS:
        yield f"it gives {len(findings.maps)} maps"
        return
    numbers = {segment.number for segment in findings.segments}
    for index, one in enumerate(findings.maps, start=1):
        what = f"map {index}"
        yield from of_label(one.label, what)
        yield from of_code(one.quantity, what)
        yield from of_unit(one.unit, what)
        yield from _of_values(one, image, what)
        if one.segment is not None and one.segment not in numbers:
            yield f"{what} is about segment {one.segment}, which is not there"


def _of_values(one: Map, image: Image, what: str) -> Iterator[str]:
    wrong = list(of_array(one.array, image.array.shape, "f", what, "float32"))
    if not wrong and one.array.dtype != np.float32:
        wrong = [f"its {what} is of type {one.array.dtype}, not float32"]
    yield from wrong
    if wrong or not one.array.size:
        return
    low, high = float(one.array.min()), float(one.array.max())  # not a number and infinity show here
    if not np.isfinite((low, high)).all():
        yield f"its {what} has values that are not finite numbers"
    elif one.segment is not None and not 0.0 <= low <= high <= 1.0:
        yield f"its {what} is a probability from {low:g} to {high:g}, not from 0 to 1"
