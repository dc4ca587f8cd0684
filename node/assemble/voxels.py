"""The frames of a grid become measured values, and the record of where each came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from node.assemble.facts import HOUNSFIELD
from node.assemble.frames import Frame
from node.assemble.order import Grid
from node.assemble.pixels import decode_frame, encoded_frames, read_frames
from node.assemble.reason import Reason, refused
from node.assemble.spread import spread
from node.assemble.syntaxes import SIDE_BY_SIDE
from node.model import Slice
from pipelines.contract import Code

#: What padding becomes: air in Hounsfield units, no signal elsewhere.
PADDING_HU: Final = -1024.0
#: No measured value may be larger than float32 can hold.
_LARGEST: Final = float(np.finfo(np.float32).max)


def decode(grid: Grid, unit: Code) -> NDArray[np.float32]:
    """Return the rescaled voxels: (slices, rows, columns), float32, in ``unit``."""
    format_ = grid.frames[0].pixels
    array = np.empty((len(grid.frames), format_.rows, format_.columns), dtype=np.float32)
    fill = PADDING_HU if unit == HOUNSFIELD else 0.0
    by_instance: dict[str, list[int]] = {}
    for place, frame in enumerate(grid.frames):
        by_instance.setdefault(frame.instance.sop_instance_uid, []).append(place)

    def encoded() -> Iterator[tuple[int, bytes]]:
        for places in by_instance.values():
            first = grid.frames[places[0]]
            place_of = {grid.frames[place].index: place for place in places}
            for index, data in encoded_frames(first.instance.path, first.pixels, place_of):
                yield place_of[index], data

    def measure(item: tuple[int, bytes]) -> None:
        place, data = item
        frame = grid.frames[place]
        _rescale(decode_frame(data, frame.pixels), frame, fill, array[place])

    spread(measure, encoded(), at_once=format_.transfer_syntax in SIDE_BY_SIDE)
    return array


def _rescale(stored: NDArray[Any], frame: Frame, fill: float, out: NDArray[np.float32]) -> None:
    """Write one (rows, columns) plane of measured values into ``out``."""
    slope = 1.0 if frame.slope is None else frame.slope
    intercept = 0.0 if frame.intercept is None else frame.intercept
    # Stored values are whole numbers, so that these two alone tell whether anything can overflow.
    if abs(slope) * 2.0**frame.pixels.bits_allocated + abs(intercept) > _LARGEST:
        raise refused(Reason.NOT_DECODABLE, "Rescaling gives values that are not finite numbers.")
    if slope == 1.0 and frame.pixels.bits_allocated <= 16:  # exact in float32, and the usual case
        np.add(stored, np.float32(intercept), out=out, casting="unsafe", dtype=np.float32)
    else:
        exact = np.multiply(stored, slope, dtype=np.float64)
        np.add(exact, intercept, out=out, casting="unsafe", dtype=np.float64)
    if frame.padding is not None:
        low, high = frame.padding
        out[(stored >= low) & (stored <= high)] = fill


def values_of(frame: Frame) -> NDArray[np.float32]:
    """Return one frame alone, rescaled."""
    out = np.empty((frame.pixels.rows, frame.pixels.columns), dtype=np.float32)
    for _, stored in read_frames(frame.instance.path, frame.pixels, [frame.index]):
        _rescale(stored, frame, 0.0, out)
    return out


def slice_of(frame: Frame) -> Slice:
    return Slice(
        sop_class_uid=frame.instance.sop_class_uid,
        sop_instance_uid=frame.instance.sop_instance_uid,
        frame=frame.number,
        path=frame.instance.path,
        position_mm=frame.at.position_mm,
    )
