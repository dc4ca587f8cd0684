"""Boxes of a detector become detections."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.bundle.inputs import Part
from pipelines.bundle.outputs.place import to_source_index
from pipelines.bundle.outputs.said import Said, array_of
from pipelines.bundle.run import Answer
from pipelines.bundle.terms import Find, Terms
from pipelines.contract import Card, Detection, Shape


def read_boxes(answer: Answer, part: Part, card: Card, terms: Terms) -> Said:
    """Return a detection for each box whose score is ``threshold`` or more.

    A box that is turned against the slices becomes the smallest one along them that holds it.

    Raises
    ------
    ValueError
        Boxes, labels and scores do not belong together, or a box is none.
    """
    if len(part.grid.shape) > 3:
        raise ValueError("boxes cannot be told of all phases at once; set [bundle] each = 'phase'")
    said = answer.pred if isinstance(answer.pred, Mapping) else answer.item
    if missing := [key for key in terms.box_keys if key not in said]:
        raise ValueError(
            f"the bundle gave no {missing[0]!r}; [bundle] box_keys names boxes, labels and scores"
        )
    boxes, labels, scores = (array_of(said[key]) for key in terms.box_keys)
    labels, scores = labels.reshape(-1), scores.astype(np.float64).reshape(-1)
    if not boxes.size and not scores.size:
        return Said()
    if boxes.ndim != 2 or not len(boxes) == len(labels) == len(scores):
        raise ValueError(
            f"the bundle gave boxes of shape {boxes.shape}, {len(labels)} labels and {len(scores)} scores; "
            "each box has one of both"
        )
    boxes = boxes.astype(np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"the bundle gave scores from {scores.min():g} to {scores.max():g}, not from 0 to 1")
    wanted = scores >= terms.threshold
    lows, highs = corners(boxes[wanted], terms.box_mode)
    found, outside = [], 0
    for low, high, label, score in zip(lows, highs, labels[wanted], scores[wanted], strict=True):
        if not 0 <= label < len(terms.finds) or label != int(label):
            raise ValueError(
                f"the bundle gave the label {label}; [[bundle.finds]] means 0 to {len(terms.finds) - 1}"
            )
        all_corners = np.array(list(product(*zip(low, high, strict=True))))
        places = to_source_index(all_corners, terms.frame, answer.ready, part)
        clipped = clip(places, part.image.array.shape)
        if clipped is None:
            outside += 1
            continue
        if len(low) == 2:
            clipped[:, 0] = 0.0  # on its picture, which has no depth
        found.append(detection(terms.finds[int(label)], "box", clipped, float(score)))
    told = f"{outside} of the bundle's boxes lie outside of the image and are left out."
    return Said(detections=tuple(found), cautions=(told,) if outside else ())


def corners(boxes: NDArray[np.float64], mode: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and the highest corners, (boxes, axes) each, of boxes written as ``mode`` says.

    Parameters
    ----------
    boxes
        (boxes, 4 or 6).
    mode
        One of `pipelines.bundle.terms.BOX_MODES`.

    Raises
    ------
    ValueError
        Another number of values than the mode has, a value that is not a number, or a corner before
        its opposite.
    """
    axes = len(mode) // 2
    if boxes.shape[1:] != (len(mode),):
        raise ValueError(f"the bundle gave boxes of {boxes.shape[1]} values; {mode!r} has {len(mode)}")
    if mode in ("xxyyzz", "xxyy"):
        low, high = boxes[:, 0::2], boxes[:, 1::2]
    elif mode == "xyxyzz":
        low, high = boxes[:, [0, 1, 4]], boxes[:, [2, 3, 5]]
    else:
        low, high = boxes[:, :axes], boxes[:, axes:]
    if mode.startswith("cc"):
        low, high = low - high / 2, low + high / 2
    elif mode.endswith(("whd", "wh")):
        high = low + high
    if not (np.isfinite(boxes).all() and (high >= low).all()):
        raise ValueError(f"the bundle gave a box that is none when read as {mode!r}")
    return low, high


def clip(places: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Return two opposite corners, (2, 3), around places and within an image; None if it is outside."""
    low, high = places.min(axis=0), places.max(axis=0)
    last = np.array(shape) - 0.5
    if (high < -0.5).any() or (low > last).any():
        return None
    opposite: NDArray[np.float64] = np.clip(np.stack([low, high]), -0.5, last)
    return opposite


def detection(find: Find, shape: Shape, points: NDArray[Any], confidence: float | None) -> Detection:
    """Return a detection that has no number yet."""
    assert find.category is not None  # noqa: S101  # `read_terms` asks for it
    return Detection(
        number=0,
        label=find.label,
        category=find.category,
        kind=find.code,
        shape=shape,
        points=np.ascontiguousarray(points, dtype=np.float64),
        confidence=confidence,
        anatomic_region=find.anatomic_region,
    )
