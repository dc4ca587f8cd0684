"""Colours become RGB of 8 bits, and grey. Plain arithmetic in blocks of rows, so that memory is bounded.

The conversion is the one of PS3.3 C.7.6.3.1.2 (full range, ITU-R BT.601 weights).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Rows that are converted at once; a float copy of a whole frame would cost 24 times its bytes.
_ROWS: Final = 256
#: Weights of red, green and blue in the luminance: the Y of YBR_FULL.
_LUMINANCE: Final = np.array((0.2990, 0.5870, 0.1140), dtype=np.float32)


def from_422(pairs: NDArray[Any]) -> NDArray[Any]:
    """Return YBR of every pixel, (rows, columns, 3), of native YBR_FULL_422.

    Parameters
    ----------
    pairs
        (rows, columns / 2, 4): Y of two neighbours, then the Cb and Cr that both share.
    """
    rows, half, _ = pairs.shape
    full = np.empty((rows, half * 2, 3), dtype=pairs.dtype)
    full[:, 0::2, 0], full[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    for column in (0, 1):
        full[:, column::2, 1], full[:, column::2, 2] = pairs[..., 2], pairs[..., 3]
    return full


def rgb_of_ybr(ybr: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return RGB, (rows, columns, 3) of the same type, of YBR_FULL with this many bits stored."""
    rgb = np.empty(ybr.shape, dtype=ybr.dtype.newbyteorder("="))
    highest, middle = float((1 << bits) - 1), float(1 << (bits - 1))
    for start in range(0, ybr.shape[0], _ROWS):
        block = ybr[start : start + _ROWS].astype(np.float32)
        y, cb, cr = block[..., 0], block[..., 1] - middle, block[..., 2] - middle
        converted = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
        for channel, values in enumerate(converted):
            rgb[start : start + _ROWS, :, channel] = np.clip(np.rint(values), 0.0, highest)
    return rgb


def eight_bits(rgb: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return colours of this many bits as (rows, columns, 3) uint8, full scale to full scale."""
    if bits == 8:
        return rgb.astype(np.uint8)
    highest = (1 << bits) - 1
    clipped = np.minimum(rgb, highest).astype(np.uint32)
    scaled: NDArray[np.uint8] = ((clipped * 255 + highest // 2) // highest).astype(np.uint8)
    return scaled


def grey_of(rgb: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Write the luminance, 0..1, of (rows, columns, 3) uint8 into (rows, columns) float32."""
    for start in range(0, rgb.shape[0], _ROWS):
        np.matmul(rgb[start : start + _ROWS].astype(np.float32), _LUMINANCE, out=out[start : start + _ROWS])
    out /= np.float32(255.0)
    np.clip(out, 0.0, 1.0, out=out)
