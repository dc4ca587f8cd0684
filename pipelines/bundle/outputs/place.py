"""Where a result lies: on the grid of its source, or explicitly taken there, or not used."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from pipelines.bundle.inputs import Part
from pipelines.bundle.outputs.said import refuse_several
from pipelines.bundle.run import Answer
from pipelines.bundle.terms import Frame
from pipelines.geometry import GeometryChanged, Grid, grid_of, is_same, shift_mm
from pipelines.resample import resample


def on_source(
    result: Any, answer: Answer, part: Part, *, linear: bool, outside: float = 0.0
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return a result in the node's order of axes and on the source grid.

    A bundle without Invertd leaves its result where the network saw the image. That grid is known,
    so the result can be taken back; it is told, since the author did not say so.

    Parameters
    ----------
    result
        Channel-first, on the grid of the part or of ``answer.ready``.
    linear
        Values may be interpolated; of labels the nearest one is taken.
    outside
        What stands where the network saw nothing.

    Returns
    -------
    NDArray
        (channels, slices, rows, columns).
    tuple
        Cautions.

    Raises
    ------
    GeometryChanged
        It lies on neither grid, or nobody knows where.
    ValueError
        There are several results.
    """
    refuse_several(result)
    given = grid_of(result)
    channels = result.as_tensor().detach().cpu().numpy()
    if is_same(given, part.grid):
        return in_order(channels), ()
    if answer.ready is None or not is_same(given, grid_of(answer.ready)):
        raise GeometryChanged(_where(given, part.grid))
    return resampled(channels, given, part.grid, linear=linear, outside=outside), (
        "The bundle leaves its result where the network saw the image; the node took it back to the grid "
        f"of the source ({'linear interpolation' if linear else 'nearest value'}).",
    )


def resampled(
    channels: NDArray[Any],
    given: Grid,
    onto: Grid,
    *,
    linear: bool,
    outside: float = 0.0,
) -> NDArray[np.float32]:
    """Return channels of one grid on another, in the node's order of axes.

    Raises
    ------
    GeometryChanged
        The grids have another number of axes, or more than three.
    """
    if len(given.shape) != len(onto.shape) or not 2 <= len(onto.shape) <= 3:
        raise GeometryChanged(_where(given, onto))
    flat = len(onto.shape) == 2
    columns, rows, slices = (*onto.shape, 1)[:3]
    deep = channels[..., np.newaxis] if flat else channels
    done, _ = resample(
        deep, given.affine, (columns, rows, slices), onto.affine, linear=linear, outside=outside
    )
    return in_order(done[..., 0] if flat else done)


def in_order(channels: NDArray[Any]) -> NDArray[Any]:
    """Return (channels, columns, rows[, slices[, phases]]) as (channels, slices, rows, columns), a view."""
    turned = channels.transpose(0, *range(channels.ndim - 1, 0, -1))
    return turned.reshape(len(turned), -1, *turned.shape[-2:])


def to_source_index(
    places: NDArray[np.float64], frame: Frame, ready: MetaTensor | None, part: Part
) -> NDArray[np.float64]:
    """Return places of a bundle as indices of the part.

    Parameters
    ----------
    places
        (places, 2 or 3), in the order of MONAI's axes: x, y, z or column, row, slice. Whole indices
        lie at voxel centres.
    ready
        What the network saw, for the frame "network".

    Returns
    -------
    NDArray
        (places, 3): (slice, row, column).

    Raises
    ------
    ValueError
        Places in a plane for a volume, or where the network saw the image is not known.
    """
    axes = len(part.grid.shape)
    if places.shape[1] != min(axes, 3):
        raise ValueError(
            f"the bundle gave places with {places.shape[1]} coordinates for an image of {axes} axes"
        )
    flat = np.pad(places, ((0, 0), (0, 3 - places.shape[1])))
    full = np.column_stack([flat, np.ones(len(flat))])  # (places, 4)
    if frame != "source":
        if frame == "network":
            if ready is None:
                raise ValueError("frame = 'network', but where the network saw the image is not known")
            full = full @ grid_of(ready).affine.T
        elif frame == "lps-mm":
            full = full * (-1.0, -1.0, 1.0, 1.0)
        full = full @ np.linalg.inv(part.grid.affine).T
    return full[:, 2::-1].copy()


def _where(given: Grid, expected: Grid) -> str:
    if given.shape != expected.shape:
        return (
            f"the result has shape {given.shape}, but {expected.shape} is that of the source (columns, rows, "
            "slices), and it is not what the network saw either; the pipeline must invert its resampling"
        )
    return (
        f"the result lies {shift_mm(given, expected):.3g} mm away from the source; the pipeline must invert "
        "its resampling, flips and crops"
    )
