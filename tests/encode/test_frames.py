"""The frames of an overlay as Pixel Data."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np

from node.encode.render.frames import stacked


def test_frames_are_stacked_without_holding_them_twice() -> None:
    def frames() -> Iterator[np.ndarray]:
        for number in range(24):
            yield np.full((400, 500, 3), number, np.uint8)

    tracemalloc.start()
    pixels = stacked(frames())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pixels == b"".join(frame.tobytes() for frame in frames())
    assert peak < 1.5 * len(pixels)
    assert bytes(stacked([np.ones((1, 1, 3), np.uint8)])) == b"\1\1\1\0"
