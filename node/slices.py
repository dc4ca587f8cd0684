"""Which slices of a volume a detection lies on: decided here, once, for objects and pictures."""

from __future__ import annotations

import math

import numpy as np

from pipelines.contract import Detection


def nearest(place: float, count: int) -> int:
    """Return the index of the slice, of so many, that a (fractional) index lies on.

    Half-way between two it is the later one; what sticks out belongs to the last.
    """
    return min(max(math.floor(place + 0.5), 0), count - 1)


def reached(detection: Detection, count: int, axis: int = 0) -> range:
    """Return the planes across an axis, of so many, from the first to the last that a detection touches."""
    places = detection.points[:, axis]
    return range(nearest(float(places.min()), count), nearest(float(places.max()), count) + 1)


def middle(detection: Detection, count: int, axis: int = 0) -> int:
    """Return the plane across an axis, of so many, on which to look at a detection."""
    if detection.shape == "box":
        covered = reached(detection, count, axis)
        return covered[(len(covered) - 1) // 2]
    return nearest(float(np.clip(detection.points[:, axis], -0.5, count - 0.5).mean()), count)
