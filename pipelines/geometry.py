"""The only place where the patient frame of DICOM and that of MONAI meet.

DICOM says LPS (x to the Left, y to Posterior, z to the head; PS3.3 C.7.6.2.1.1) and the node
holds arrays as (slices, rows, columns). MONAI's readers give RAS affines and arrays whose first
axis is x, which for a DICOM image is (columns, rows, slices). Both describe the same voxels: here
axes are renamed and two signs change, and nothing is ever interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from pipelines.contract import Image

#: What ``filename_or_obj`` says, since there is no file: transforms and logs may ask for it.
PLACEHOLDER = "image"
#: Two grids are one when no corner moves by more than this part of the smallest voxel edge.
TOLERANCE = 0.01

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # its own inverse


class GeometryChanged(ValueError):
    """The result does not lie on the grid of the image it was made from."""


def ras_affine(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return MONAI's affine for a contract affine.

    Parameters
    ----------
    affine
        (4, 4): (slice, row, column) index -> LPS millimetres.

    Returns
    -------
    NDArray
        (4, 4): (column, row, slice) index -> RAS millimetres.
    """
    turned: NDArray[np.float64] = _LPS_RAS @ np.asarray(affine, dtype=np.float64)[:, [2, 1, 0, 3]]
    return turned


def to_metatensor(image: Image, *, copy: bool = False) -> MetaTensor:
    """Return the image as MONAI's own readers would have loaded it, channel first.

    Parameters
    ----------
    image
        (slices, rows, columns), LPS.
    copy
        Give the tensor its own memory. Without it the tensor shares the image's memory, which is
        only right for code that never writes in place.

    Returns
    -------
    MetaTensor
        (1, columns, rows, slices), float32, RAS affine in millimetres, metadata filled.
    """
    array = image.array.transpose(2, 1, 0)[np.newaxis]  # (1, columns, rows, slices), a view
    if copy or not array.flags.writeable or min(array.strides) < 0:
        array = array.copy(order="K")  # torch has neither negative strides nor read-only memory
    tensor = _tensor(array, ras_affine(image.affine))
    tensor.meta[MetaKeys.SPACE] = SpaceKeys.RAS
    return tensor


def picture_metatensor(array: NDArray[np.float32], image: Image) -> MetaTensor:
    """Return pictures as MONAI's own readers of picture files would have loaded them, channel first.

    A picture has no place in the patient: its affine holds the distances of pixels, and both axes
    run as they are stored.

    Parameters
    ----------
    array
        (channels, rows, columns) for one picture, (channels, slices, rows, columns) for several;
        float32, in memory of its own.
    image
        What the pictures are of; only its ``spacing_mm`` is used.

    Returns
    -------
    MetaTensor
        (channels, columns, rows) or (channels, columns, rows, slices).
    """
    slice_mm, row_mm, column_mm = image.spacing_mm
    flipped = array.transpose(0, *range(array.ndim - 1, 0, -1))
    return _tensor(flipped, np.diag((column_mm, row_mm, slice_mm if array.ndim > 3 else 1.0, 1.0)))


def phases_metatensor(image: Image) -> MetaTensor:
    """Return slices over several phases as one tensor (1, columns, rows, slices, phases), a copy."""
    slices, rows, columns = image.array.shape[0] // image.phases, *image.array.shape[1:]
    array = image.array.reshape(image.phases, slices, rows, columns).transpose(3, 2, 1, 0)[np.newaxis]
    tensor = _tensor(array.copy(order="K"), ras_affine(image.affine))
    tensor.meta[MetaKeys.SPACE] = SpaceKeys.RAS
    return tensor


def waveform_metatensor(image: Image) -> MetaTensor:
    """Return a waveform, whose ``array`` is (channels, 1, samples), as (channels, samples), a copy."""
    return _tensor(image.array[:, 0, :].copy(), np.eye(4))


def _tensor(array: NDArray[np.float32], affine: NDArray[np.float64]) -> MetaTensor:
    where = torch.from_numpy(affine)
    meta: dict[str, Any] = {
        MetaKeys.ORIGINAL_AFFINE: where.clone(),
        MetaKeys.SPATIAL_SHAPE: np.array(array.shape[1:]),
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        "filename_or_obj": PLACEHOLDER,
    }
    return MetaTensor(torch.from_numpy(array), affine=where, meta=meta)


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a tensor lie, in MONAI's order of axes."""

    shape: tuple[int, ...]  #: (columns, rows), (columns, rows, slices), (columns, rows, slices, phases)
    affine: NDArray[np.float64]  #: (4, 4): index of the first three axes -> MONAI's millimetres, RAS


def grid_of(tensor: MetaTensor) -> Grid:
    """Return where a channel-first tensor lies.

    Raises
    ------
    GeometryChanged
        It has no geometry.
    """
    if not isinstance(tensor, MetaTensor):
        raise GeometryChanged("the result has lost its geometry: it is a plain tensor, not a MetaTensor")
    affine = np.eye(4)
    given = np.asarray(tensor.affine.cpu(), dtype=np.float64)
    axes = min(len(given) - 1, 3)
    affine[:axes, :axes], affine[:axes, 3] = given[:axes, :axes], given[:axes, -1]
    return Grid(tuple(tensor.shape[1:]), affine)


def shift_mm(one: Grid, other: Grid) -> float:
    """Return how far the corners of two grids of one shape lie apart; infinity for other shapes."""
    if one.shape != other.shape:
        return float("inf")
    shape = (*one.shape[:3], 1, 1)[:3]
    return _corner_shift_mm(one.affine, other.affine, shape)


def smallest_mm(grid: Grid) -> float:
    """Return the smallest distance of neighbours in a grid."""
    return float(np.linalg.norm(grid.affine[:3, : min(len(grid.shape), 3)], axis=0).min())


def is_same(one: Grid, other: Grid) -> bool:
    """Say whether two grids are one, but for rounding."""
    return shift_mm(one, other) <= TOLERANCE * smallest_mm(other)


def share_a_grid(one: Image, other: Image) -> bool:
    """Say whether two images have one shape and, but for rounding, one place."""
    shape = (other.slices, *other.array.shape[1:])
    return (
        one.array.shape == other.array.shape
        and one.phases == other.phases
        and one.is_spatial == other.is_spatial
        and _corner_shift_mm(one.affine, other.affine, shape) <= TOLERANCE * min(other.spacing_mm)
    )


def from_metatensor(tensor: MetaTensor, image: Image) -> NDArray[Any]:
    """Return a one-channel result in the node's axis order.

    Parameters
    ----------
    tensor
        (1, columns, rows, slices), any dtype, on the grid of ``image``.
    image
        What the result was made from.

    Returns
    -------
    NDArray
        (slices, rows, columns), dtype of the tensor.

    Raises
    ------
    GeometryChanged
        There is more than one channel, or the grid is not that of ``image``. Nothing is resampled.
    """
    channels = channels_from_metatensor(tensor, image)
    if len(channels) != 1:
        raise GeometryChanged(f"one channel is needed, but the result has {len(channels)}")
    single: NDArray[Any] = channels[0]
    return single


def channels_from_metatensor(tensor: MetaTensor, image: Image) -> NDArray[Any]:
    """Return a result of any number of channels in the node's axis order.

    Parameters
    ----------
    tensor
        (channels, columns, rows, slices), any dtype, on the grid of ``image``.
    image
        What the result was made from.

    Returns
    -------
    NDArray
        (channels, slices, rows, columns), dtype of the tensor.

    Raises
    ------
    GeometryChanged
        The tensor has no geometry, or another shape or affine than ``image``.
    """
    if not isinstance(tensor, MetaTensor):
        raise GeometryChanged("the result has lost its geometry: it is a plain tensor, not a MetaTensor")
    expected = image.array.shape[::-1]  # (columns, rows, slices)
    if tensor.ndim != 4 or tuple(tensor.shape[1:]) != expected:
        raise GeometryChanged(
            f"the result has shape {tuple(tensor.shape)}, but (channels, columns, rows, slices) of the"
            f" source is (*, {', '.join(map(str, expected))}); the pipeline must invert its resampling"
        )
    moved_mm = _corner_shift_mm(
        np.asarray(tensor.affine, dtype=np.float64), ras_affine(image.affine), expected
    )
    if not moved_mm <= TOLERANCE * min(image.spacing_mm):
        raise GeometryChanged(
            f"the result lies {moved_mm:.3g} mm away from the source; the pipeline must invert its"
            " resampling, flips and crops"
        )
    array: NDArray[Any] = tensor.as_tensor().detach().cpu().numpy()
    return array.transpose(0, 3, 2, 1)


def _corner_shift_mm(one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Return how far the corners of a grid lie apart under two affines."""
    corners = np.array([(x, y, z, 1) for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])])
    return float(np.linalg.norm((one - other) @ corners.T, axis=0).max())
