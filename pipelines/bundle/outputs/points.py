"""Landmarks of a bundle become detections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.bundle.inputs import Part
from pipelines.bundle.outputs.boxes import detection
from pipelines.bundle.outputs.place import to_source_index
from pipelines.bundle.outputs.said import Said, array_of
from pipelines.bundle.run import Answer
from pipelines.bundle.terms import Terms
from pipelines.contract import Card


def read_points(answer: Answer, part: Part, card: Card, terms: Terms) -> Said:
    """Return a detection for each landmark that was found; not a number means it was not.

    With two coordinates for a part of several slices, the first axis of the answer is that of the
    slices, in the order of `pipelines.contract.Image.array`.

    Raises
    ------
    ValueError
        Another number of points, axes or slices than the card or the image has.
    """
    count = len(terms.finds)
    points = array_of(answer.pred).astype(np.float64)
    if points.ndim >= 2 and not terms.points_first:
        points = points.swapaxes(-1, -2)
    if points.ndim < 2 or points.shape[-2] != count or points.shape[-1] not in (2, 3):
        raise ValueError(
            f"the bundle gave points of shape {points.shape}; the card describes {count} points: the shape "
            f"ends with ({count}, 2 or 3), or with [bundle] points_first = false with (2 or 3, {count})"
        )
    axes = points.shape[-1]
    slices = len(part.image.array)
    per_slice = axes == 2 and len(part.grid.shape) > 2
    points = points.reshape(-1, count, axes)
    if len(points) != (slices if per_slice else 1):
        raise ValueError(
            f"the bundle gave points for {len(points)} images; there are {slices if per_slice else 1}"
        )
    found, missing, outside = [], [], 0
    last = np.array(part.image.array.shape) - 0.5
    for index, on_one in enumerate(points):
        places = _places(on_one, answer, part, terms, index if per_slice else None)
        for find, place in zip(terms.finds, places, strict=True):
            if not np.isfinite(place).all():
                missing.append(find.label)
            elif (place < -0.5).any() or (place > last).any():
                outside += 1
            else:
                found.append(detection(find, "point", place[np.newaxis], None))
    told = f"{outside} of the bundle's points lie outside of the image and are left out."
    return Said(detections=tuple(found), missing=tuple(missing), cautions=(told,) if outside else ())


def _places(
    points: NDArray[np.float64], answer: Answer, part: Part, terms: Terms, index: int | None
) -> NDArray[np.float64]:
    """Return points of one image as (slice, row, column) of the part."""
    if index is None:
        return to_source_index(points, terms.frame, answer.ready, part)
    deep = np.pad(points, ((0, 0), (0, 1)))  # the slice is known, whatever the frame says of it
    places = to_source_index(deep, terms.frame, answer.ready, part)
    places[:, 0] = index
    return places
