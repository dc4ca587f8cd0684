"""What comes out of a network, as outlines: label values, exclusive channels, overlapping channels.

Strict on purpose: a fraction where a label should be, or a value without a meaning, is the trace of
a wrong transform, and must not become a contour that a person believes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def labelmap_of_labels(
    channels: NDArray[Any], values: Sequence[int], nothing: Sequence[int] = ()
) -> NDArray[np.unsignedinteger]:
    """Return the label map of one channel of label values.

    Parameters
    ----------
    channels
        (1, slices, rows, columns), whole numbers of any dtype.
    values
        The value that means segment 1, 2, 3 ...
    nothing
        Values besides 0 that mean no segment.

    Returns
    -------
    NDArray
        (slices, rows, columns), uint8 or uint16.

    Raises
    ------
    ValueError
        There are more channels, or a voxel is neither 0 nor one of ``values`` and ``nothing`` (a
        fraction is what interpolating between labels leaves).
    """
    if len(channels) != 1:
        raise ValueError(f"output = 'labels' means one channel; the bundle gave {len(channels)}")
    table = np.full(max((*values, *nothing)) + 1, -1, np.int32)
    table[[0, *nothing]] = 0
    table[list(values)] = range(1, len(values) + 1)
    labelmap = np.empty(channels.shape[1:], np.uint8 if len(values) < 256 else np.uint16)
    for index, plane in enumerate(channels[0]):  # plane by plane: no second volume in memory
        if not (np.isfinite(plane).all() and plane.min() >= 0 and plane.max() < len(table)):
            raise ValueError(f"the bundle gave values outside of 0 and {list(values)}")
        whole = plane.astype(np.intp)
        if not np.array_equal(whole, plane):
            raise ValueError("the bundle gave fractions for labels: it interpolates between label values")
        number = table[whole]
        if (number < 0).any():
            raise ValueError(f"the bundle gave {whole[number < 0][0]}, which the card gives no meaning")
        labelmap[index] = number
    return labelmap


def labelmap_of_one_hot(channels: NDArray[Any], count: int, background: bool) -> NDArray[np.unsignedinteger]:
    """Return the label map of exclusive 0/1 channels.

    Parameters
    ----------
    channels
        (``count``, or one more with background, slices, rows, columns), 0 or 1.

    Returns
    -------
    NDArray
        (slices, rows, columns), uint8 or uint16.

    Raises
    ------
    ValueError
        Another number of channels, other values, or a voxel with two classes.
    """
    masks = masks_of_channels(channels, count + background)
    masks = masks[1:] if background else masks
    if (masks.sum(axis=0, dtype=np.uint16) > 1).any():
        raise ValueError("output = 'one-hot', but the bundle's channels overlap; say 'channels'")
    labelmap = np.zeros(masks.shape[1:], np.uint8 if count < 256 else np.uint16)
    for number, mask in enumerate(masks, start=1):
        labelmap[mask] = number
    return labelmap


def masks_of_channels(channels: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Return 0/1 channels as masks: (count, slices, rows, columns), bool.

    Raises
    ------
    ValueError
        Another number of channels, or other values.
    """
    if len(channels) != count:
        raise ValueError(f"the bundle gave {len(channels)} channels; the card describes {count}")
    masks = np.ascontiguousarray(channels > 0.5)
    for mask, channel in zip(masks, channels, strict=True):
        if not np.array_equal(mask, channel):
            raise ValueError("the bundle gave channels that are not 0 or 1 everywhere; add AsDiscreted")
    return masks
