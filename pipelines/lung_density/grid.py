"""A chest on a coarse grid with known directions, and the way back to every voxel.

Anatomy (what is windpipe, which lung is which) is decided on blocks of voxels of about 2 mm, which
is fast and quiet; the surface is then decided voxel by voxel. Blocks lie on the source grid, so
nothing is interpolated and any orientation is treated alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.contract import Image

BLOCK_MM = 2.5  #: blocks are the largest ones not above this; thicker slices stay as they are


@dataclass(frozen=True, slots=True)
class Grid:
    """An image seen with fixed directions, in full and in blocks.

    All arrays here are ordered (feet to head, front to back, right to left), by the axis of the
    source grid that lies nearest to each; oblique stacks stay oblique.
    """

    full_hu: NDArray[np.float32]  #: a view of the image's own array
    hu: NDArray[np.float32]  #: mean of each block
    spacing_mm: tuple[float, float, float]  #: of the blocks
    affine: NDArray[np.float64]  #: (4, 4): block index -> LPS millimetres
    factors: tuple[int, int, int]  #: voxels per block along each axis
    order: tuple[int, int, int]  #: source axis of each axis here
    flips: tuple[bool, bool, bool]  #: whether the axis here runs against the source axis

    @property
    def block_ml(self) -> float:
        """Volume of one block in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def enlarge(self, plane: NDArray[Any], index: int) -> NDArray[Any]:
        """Return a plane of blocks, voxel by voxel: (rows, columns) of ``full_hu[index]``."""
        _, rows, columns = self.full_hu.shape
        return plane.repeat(self.factors[1], axis=0).repeat(self.factors[2], axis=1)[:rows, :columns]

    def to_source(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the shape of ``full_hu`` in the axis order of the source image."""
        turned = array[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]
        return np.ascontiguousarray(turned.transpose(np.argsort(self.order)))


def make_grid(image: Image) -> Grid:
    """Look at an image from feet to head, front to back, right to left, in blocks."""
    directions = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    order = _axes_nearest_to_zyx(directions)
    flips = tuple(bool(directions[world, axis] < 0) for world, axis in zip((2, 1, 0), order, strict=True))
    full = image.array.transpose(order)[
        tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    ]

    affine = np.eye(4)
    affine[:3, 3] = image.affine[:3, 3]
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        step = image.affine[:3, source]
        affine[:3, axis] = -step if flip else step
        affine[:3, 3] += step * (full.shape[axis] - 1) if flip else 0.0
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    factors = tuple(max(1, int(BLOCK_MM // s)) for s in spacing)
    affine[:3, 3] += affine[:3, :3] @ ((np.array(factors) - 1) / 2)
    affine[:3, :3] *= np.array(factors)
    return Grid(
        full_hu=full,
        hu=_block_means(full, factors),  # type: ignore[arg-type]
        spacing_mm=tuple(float(s * f) for s, f in zip(spacing, factors, strict=True)),  # type: ignore[arg-type]
        affine=affine,
        factors=factors,  # type: ignore[arg-type]
        order=order,
        flips=flips,  # type: ignore[arg-type]
    )


def _axes_nearest_to_zyx(directions: NDArray[np.float64]) -> tuple[int, int, int]:
    """Return which source axis runs nearest to z, to y and to x; each is used once."""
    closeness = np.abs(directions).copy()
    chosen = {}
    for _ in range(3):
        world, axis = np.unravel_index(int(closeness.argmax()), closeness.shape)
        chosen[int(world)] = int(axis)
        closeness[world, :] = closeness[:, axis] = -1.0
    return chosen[2], chosen[1], chosen[0]


def _block_means(full: NDArray[np.float32], factors: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return the mean of each block; blocks at the far edges may be smaller."""
    shape = tuple(-(-n // f) for n, f in zip(full.shape, factors, strict=True))
    means = np.empty(shape, dtype=np.float32)
    starts = [np.arange(0, n, f) for n, f in zip(full.shape, factors, strict=True)]
    counts = [np.diff(np.append(s, n)) for s, n in zip(starts, full.shape, strict=True)]
    for k, low in enumerate(starts[0]):
        slab = full[low : low + factors[0]].mean(axis=0, dtype=np.float32)
        sums = np.add.reduceat(np.add.reduceat(slab, starts[1], axis=0), starts[2], axis=1)
        means[k] = sums / (counts[1][:, None] * counts[2][None, :])
    return means
