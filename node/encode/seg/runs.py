"""RLE Lossless for label maps (PS3.5 Annex G).

Outlines are runs of one value, so a frame is written as runs alone, found for all of it at once;
a general encoder, which looks for literal stretches as well, takes far longer to say the same.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

LONGEST_RUN = 128


def run_length_encoded(plane: NDArray[np.unsignedinteger]) -> bytes:
    """Return one frame, (rows, columns) of 8 or 16 bit, as an RLE Lossless fragment.

    Each byte of the pixels is a segment of its own, the most significant first (G.2).
    """
    pixels = np.ascontiguousarray(plane.astype(plane.dtype.newbyteorder(">")))
    octets = pixels.view(np.uint8).reshape(*plane.shape, plane.itemsize)
    segments = [_runs(octets[..., significance]) for significance in range(plane.itemsize)]
    offsets = np.cumsum([64, *(len(segment) for segment in segments[:-1])])
    header = struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(segments)))
    return b"".join([header, *segments])


def _runs(octets: NDArray[np.uint8]) -> bytes:
    """Return (rows, columns) of bytes as runs that end with their row (G.3.1)."""
    flat = octets.ravel()
    begins = np.ones(flat.size, dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[:: octets.shape[1]] = True
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=flat.size)
    pieces = -(-lengths // LONGEST_RUN)
    lasts = np.cumsum(pieces) - 1
    runs = np.full(int(pieces.sum()), LONGEST_RUN)
    runs[lasts] = lengths - (pieces - 1) * LONGEST_RUN
    pairs = np.empty((len(runs), 2), dtype=np.uint8)
    pairs[:, 0] = np.where(runs == 1, 0, 257 - runs)  # 1 - n says: the next byte n times; 0: one literal
    pairs[:, 1] = np.repeat(flat[starts], pieces)
    return pairs.tobytes()
