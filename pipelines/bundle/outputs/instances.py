"""A map of instances becomes detections: contours on pictures, boxes in volumes.

Not segments: there may be thousands of cells in one picture, and a segment each would make an object
that no viewer opens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label
from skimage.measure import find_contours

from pipelines.bundle.inputs import Part
from pipelines.bundle.outputs.boxes import detection
from pipelines.bundle.outputs.place import on_source
from pipelines.bundle.outputs.said import Said
from pipelines.bundle.run import Answer
from pipelines.bundle.terms import Terms
from pipelines.contract import Card, Detection


def read_instances(answer: Answer, part: Part, card: Card, terms: Terms) -> Said:
    """Return a detection for each instance; its kind is the most frequent one of its voxels.

    Of an instance in several pieces, whose numbers the bundle may have used twice, a contour can
    outline but one: the largest. How many there are is told.

    Raises
    ------
    ValueError
        The maps are no whole numbers, or a type has no meaning.
    """
    instances, cautions = _labels(answer.item.get(terms.instance_key, answer.pred), answer, part)
    instances = _counted(instances)
    types = None
    if terms.type_key:
        if terms.type_key not in answer.item:
            raise ValueError(
                f"the bundle gave no {terms.type_key!r}; [bundle] type_key names the map of types"
            )
        types, _ = _labels(answer.item[terms.type_key], answer, part)
    found, voxels, split = [], [], 0
    for number, box in enumerate(find_objects(instances), start=1):
        if box is None:
            continue
        inside = instances[box] == number
        kind = 1 if types is None else int(np.bincount(types[box][inside]).argmax())
        if kind > len(terms.finds):
            raise ValueError(
                f"the bundle gave the type {kind}; [[bundle.finds]] means 1 to {len(terms.finds)}"
            )
        if kind == 0:
            continue  # background
        voxels.append(int(inside.sum()))
        if len(inside) == 1:
            inside, pieces = _largest_piece(inside)
            split += pieces > 1
        found.append(_outline(inside, box, kind, terms))
    return Said(detections=tuple(found), voxels=tuple(voxels), split=split, cautions=cautions)


def _outline(inside: NDArray[np.bool_], box: tuple[slice, ...], kind: int, terms: Terms) -> Detection:
    """Return one instance; ``inside`` is its mask within ``box``."""
    low = np.array([side.start for side in box], dtype=np.float64)
    if len(inside) > 1:
        high = np.array([side.stop for side in box], dtype=np.float64)
        return detection(terms.finds[kind - 1], "box", np.stack([low - 0.5, high - 0.5]), None)
    outlines = find_contours(np.pad(inside[0], 1).astype(np.float32), 0.5)  # type: ignore[no-untyped-call]
    outer = max(outlines, key=lambda outline: np.ptp(outline, axis=0).prod())  # the others are of holes
    outer = outer[:-1] - 1  # closed without repeating the first
    points = np.column_stack([np.zeros(len(outer)), outer]) + low
    return detection(terms.finds[kind - 1], "contour", points, None)


def _largest_piece(inside: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """Return the largest of the pieces, which touch each other at corners at most, and their number."""
    pieces, count = label(inside)
    return (pieces == np.bincount(pieces.ravel())[1:].argmax() + 1, count) if count > 1 else (inside, count)


def _counted(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return instances numbered without gaps, where their numbers are beyond the count of their voxels.

    Room is made for each number up to the highest: one voxel must not ask for gigabytes.
    """
    at = numbers > 0
    if numbers.max(initial=0) > np.count_nonzero(at):
        numbers[at] = np.unique(numbers[at], return_inverse=True)[1].reshape(-1) + 1
    return numbers


def _labels(result: object, answer: Answer, part: Part) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    channels, cautions = on_source(result, answer, part, linear=False)
    if (
        len(channels) != 1
        or not np.isfinite(channels).all()
        or not 0 <= channels.min() <= channels.max() < 2**31
    ):
        raise ValueError("a map of instances or types is one channel of whole numbers from 0 on")
    whole = channels[0].astype(np.int64)
    if not np.array_equal(whole, channels[0]):
        raise ValueError("the bundle gave fractions for instances or types: it interpolates between them")
    return whole, cautions
