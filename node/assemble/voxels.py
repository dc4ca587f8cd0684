"""The frames of a grid become measured values, and the record of where each came from."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from node.assemble.facts import HOUNSFIELD
from node.assemble.frames import Frame
from node.assemble.order import Grid
from node.assemble.pixels import read_frames
from node.assemble.reason import Reason, refused
from node.model import Slice
from pipelines.contract import Code

#: What padding becomes: air in Hounsfield units, no signal elsewhere.
PADDING_HU: Final = -1024.0


def decode(grid: Grid, unit: Code) -> NDArray[np.float32]:
    """Return the rescaled voxels: (slices, rows, columns), float32, in ``unit``."""
    format_ = grid.frames[0].pixels
    array = np.empty((len(grid.frames), format_.rows, format_.columns), dtype=np.float32)
    fill = PADDING_HU if unit == HOUNSFIELD else 0.0
    by_instance: dict[str, list[int]] = {}
    for place, frame in enumerate(grid.frames):
        by_instance.setdefault(frame.instance.sop_instance_uid, []).append(place)
    for places in by_instance.values():
        first = grid.frames[places[0]]
        place_of = {grid.frames[place].index: place for place in places}
        for index, stored in read_frames(first.instance.path, first.pixels, list(place_of)):
            place = place_of[index]
            _rescale(stored, grid.frames[place], fill, array[place])
    return array


def _rescale(stored: NDArray[Any], frame: Frame, fill: float, out: NDArray[np.float32]) -> None:
    """Write one (rows, columns) plane of measured values into ``out``."""
    slope = 1.0 if frame.slope is None else frame.slope
    intercept = 0.0 if frame.intercept is None else frame.intercept
    if slope == 1.0 and frame.pixels.bits_allocated <= 16:  # exact in float32, and the usual case
        np.add(stored, np.float32(intercept), out=out, casting="unsafe", dtype=np.float32)
    else:
        out[...] = stored * np.float64(slope) + intercept
    if frame.padding is not None:
        low, high = frame.padding
        out[(stored >= low) & (stored <= high)] = fill
    if not np.isfinite(out).all():
        raise refused(Reason.NOT_DECODABLE, "Rescaling gives values that are not finite numbers.")


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
