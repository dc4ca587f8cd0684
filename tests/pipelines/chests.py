"""Simulated chests and pictures of them, shared by the tests of the lungs."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipelines.codes import HOUNSFIELD_UNIT
from pipelines.contract import Image
from simulate import Simulated, chest

SHAPE = (75, 128, 128)  # 4 mm slices, 3 mm pixels


@cache
def simulated(seed: int = 3, junction_mm: float = 3.0, noise_hu: float = 14.0) -> Simulated:
    """Return a small axial chest; made once per session and not to be written to."""
    return chest(SHAPE, seed=seed, junction_mm=junction_mm, noise_hu=noise_hu)


def image_of(array: NDArray, affine: NDArray[np.float64], **facts: float | str) -> Image:
    return Image(
        array=np.ascontiguousarray(array, dtype=np.float32),
        affine=affine,
        unit=HOUNSFIELD_UNIT,
        modality="CT",
        facts=facts,
    )


def turned(
    array: NDArray, affine: NDArray, order: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[NDArray, NDArray]:
    """Return the same body with other array axes: permuted, then flipped."""
    array, affine = array.transpose(order), affine[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    return array, affine


def cropped(array: NDArray, affine: NDArray, part: tuple[slice, ...]) -> Image:
    """Return a part of a chest where it lies."""
    start = [s.indices(n)[0] for s, n in zip(part, array.shape, strict=True)]
    moved = affine.copy()
    moved[:3, 3] = (affine @ np.array([*start, 1.0]))[:3]
    return image_of(array[part], moved)
