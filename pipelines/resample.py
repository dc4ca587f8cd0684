"""Values of one grid at the places of another, by their affines; numpy and scipy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

#: A voxel reaches half its width beyond its centre; what lies on its very edge counts as inside.
_REACH = 0.5 + 1e-6


def resample(
    channels: NDArray[Any],
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    onto: NDArray[np.float64],
    *,
    linear: bool,
    outside: float,
) -> tuple[NDArray[np.float32], float]:
    """Return channels on another grid.

    Nothing is smoothed before: a coarser grid takes the values at its places.

    Parameters
    ----------
    channels
        (channels, i, j, k), any dtype.
    affine
        (4, 4): (i, j, k) index -> millimetres of whatever frame.
    shape, onto
        Of the new grid; ``onto`` (4, 4) leads into the same frame.
    linear
        Between the nearest eight voxels; else the value of the nearest one.
    outside
        What stands where there is no voxel.

    Returns
    -------
    NDArray
        (channels, *shape), float32.
    float
        The share of the new grid, 0..1, that lies inside of the old one.

    Raises
    ------
    ValueError
        An affine cannot be inverted.
    """
    try:
        back = np.linalg.solve(affine, onto)  # new index -> old index
    except np.linalg.LinAlgError as error:
        raise ValueError("an affine leads nowhere: its axes do not span the space") from error
    done = np.empty((len(channels), *shape), np.float32)
    highest = np.array(channels.shape[1:])[:, None, None] - 1
    rows, columns = np.arange(shape[1])[:, None], np.arange(shape[2])
    step, row, column, origin = (vector[:, None, None] for vector in back[:3].T)
    first = origin + row * rows + column * columns  # (3, rows, columns) in the old grid
    covered = 0
    for index in range(shape[0]):  # plane by plane: coordinates of a volume would not fit beside it
        places = first + step * index
        inside = ((places >= -_REACH) & (places <= highest + _REACH)).all(axis=0)
        covered += int(inside.sum())
        for channel, source in enumerate(channels):
            values = map_coordinates(source, places, np.float32, order=1 if linear else 0, mode="nearest")
            done[channel, index] = np.where(inside, values, np.float32(outside))
    return done, covered / max(1, int(np.prod(shape)))
