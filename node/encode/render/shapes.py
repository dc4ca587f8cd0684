"""What detections look like on the slices of a volume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.contract import Detection


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What one slice shows of a detection."""

    index: int  #: of the slice
    #: (points, 2) float64: (column, row) as in `node.encode.render.edges`, within the image; a
    #: closed one does not repeat its first point.
    points: NDArray[np.float64]
    kind: Literal["point", "open", "closed"]


def drawn(detection: Detection, shape: tuple[int, int, int]) -> Iterator[Drawn]:
    """Yield a detection slice by slice; ``shape`` is (slices, rows, columns).

    A box shows on every slice between its corners, a line across slices as its points.
    """
    slices, rows, columns = shape
    points = np.clip(detection.points[:, :0:-1] + 0.5, 0, (columns, rows))
    where = np.clip(np.rint(detection.points[:, 0]), 0, slices - 1).astype(int)
    match detection.shape:
        case "box":
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
            for index in range(where.min(), where.max() + 1):
                yield Drawn(index=index, points=corners, kind="closed")
        case "contour":
            yield Drawn(index=int(where[0]), points=points, kind="closed")
        case "line" if len(set(where.tolist())) == 1:
            yield Drawn(index=int(where[0]), points=points, kind="open")
        case _:
            for index, point in zip(where.tolist(), points, strict=True):
                yield Drawn(index=index, points=point[None], kind="point")


def middle_slice(detection: Detection, slices: int) -> int:
    """Return the slice through the middle of a detection."""
    ends = detection.points[:, 0].min(), detection.points[:, 0].max()
    return int(np.clip(np.rint(np.mean(ends)), 0, slices - 1))
