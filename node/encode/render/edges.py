"""Masks as polygons that run along pixel edges: exactly the pixels, whoever fills them again.

Coordinates are (column, row) in the convention of SCOORD and of presentation states (PS3.3 C.18.6.1.2,
C.10.5.1.2): (0, 0) is the top left corner of the first pixel, (0.5, 0.5) its centre. As filling
tests pixel centres and edges never meet one, no rasteriser can be in doubt; and the area inside is
the area of the pixels, which a contour through pixel centres would cut short.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Polygon = NDArray[np.float64]  #: (points, 2): (column, row), closed without repeating the first point
_RIGHT, _DOWN, _LEFT, _UP = range(4)  #: each turned to the right from the one before
_Corner = tuple[int, int, int]  #: row, column, direction in which a boundary leaves it


def loops(plane: NDArray[np.bool_]) -> list[Polygon]:
    """Return the boundaries of a mask: (rows, columns), bool.

    Only corners are points. Outer boundaries run clockwise on the screen, those of holes the other
    way (see `signed_area`). Pixels that touch at a corner alone have boundaries of their own.
    """
    box = ndimage.find_objects(plane.astype(np.uint8))
    if not box:
        return []
    rows, columns = box[0]
    runs = _runs(np.pad(plane[rows, columns], 1).astype(np.int8))
    found = []
    while runs:
        start = corner = next(iter(runs))
        points = []
        while corner in runs:
            points.append((corner[1], corner[0]))
            row, column = runs.pop(corner)
            # where two boundaries cross, the turn to the right stays with the pixel at hand
            turns = [(row, column, (corner[2] + quarter) % 4) for quarter in (1, 3)]
            corner = next(turn for turn in turns if turn in runs or turn == start)
        found.append(np.array(points, dtype=np.float64) + np.array([columns.start, rows.start]))
    return found


def signed_area(polygon: Polygon) -> float:
    """Return the area inside in pixels; negative for the boundary of a hole."""
    x, y = polygon[:, 0], polygon[:, 1]
    closing = x[-1] * y[0] - x[0] * y[-1]
    return float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]) + closing) / 2


def corners(labels: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return how many corners the boundaries of each component have, without tracing them: (components + 1,).

    Parameters
    ----------
    labels
        (rows, columns): 0 outside, else the number of the component, whose pixels touch along edges.
    """
    box = ndimage.find_objects((labels != 0).astype(np.uint8))
    framed = np.pad(labels[box[0]] if box else labels[:0, :0], 1)
    windows = (framed[:-1, :-1], framed[:-1, 1:], framed[1:, 1:], framed[1:, :-1])  # clockwise
    count = int(labels.max(initial=0)) + 1
    found = np.zeros(count, np.int64)
    for turn in range(4):
        here, one, across, other = (windows[(turn + step) % 4] for step in range(4))
        convex = (here > 0) & (one == 0) & (other == 0)
        concave = (here == 0) & (one > 0) & (across > 0) & (other > 0)
        found += np.bincount(here[convex], minlength=count)
        found += np.bincount(across[concave], minlength=count)
    return found


def polygons(plane: NDArray[np.bool_], points_max: int) -> Iterator[Polygon]:
    """Yield simple polygons that together cover a mask: (rows, columns), bool.

    One for each component; a hole is joined to the boundary around it by a channel of no width
    (the keyhole of PS3.3 C.8.8.6.3). One of too many points (at least 8)
    is cut in two along pixel edges.
    """
    labels, _ = ndimage.label(plane)  # components touch along edges
    boxes = ndimage.find_objects(labels)
    large = corners(labels) > points_max  # cut in two whatever their boundaries are, so not traced yet
    boundaries = loops(plane & ~large[labels])
    holed = set()
    for hole in (b for b in boundaries if signed_area(b) < 0):
        x, y = hole[np.lexsort((hole[:, 1], hole[:, 0]))[0]].astype(int)
        holed.add(int(labels[y, x - 1]))
    for outer in (b for b in boundaries if signed_area(b) > 0):
        x, y = outer[np.lexsort((outer[:, 0], outer[:, 1]))[0]].astype(int)
        number = int(labels[y, x])
        if number in holed:
            large[number] = True
        else:
            yield outer
    for number in np.flatnonzero(large).tolist():
        rows, columns = boxes[number - 1]
        part = labels[rows, columns] == number
        yield from _cut_to_size(part, points_max, np.array([columns.start, rows.start]))


def _cut_to_size(part: NDArray[np.bool_], points_max: int, corner: NDArray[np.int64]) -> Iterator[Polygon]:
    if corners(part.astype(np.int8)).sum() <= points_max:
        boundaries = loops(part)
        holes = len(boundaries) - 1
        if sum(map(len, boundaries)) + 3 * holes <= points_max:
            yield _keyholed(part, boundaries) + corner
            return
    axis = int(part.shape[1] > part.shape[0])
    middle = part.shape[axis] // 2
    for first, half in zip((0, middle), np.split(part, [middle], axis=axis), strict=True):
        shift = np.array([first, 0] if axis else [0, first])
        for polygon in polygons(half, points_max):
            yield polygon + corner + shift


def _keyholed(part: NDArray[np.bool_], boundaries: list[Polygon]) -> Polygon:
    """Return one polygon for one component: its outer boundary, with every hole joined to it.

    From the upper end of the leftmost edge of a hole the channel runs to the left until it meets a
    boundary. That is the outer one, or that of a hole which lies further left and has been joined
    already: all become one.
    """
    outer = next(b for b in boundaries if signed_area(b) > 0)
    holes = [b for b in boundaries if signed_area(b) < 0]
    if not holes:
        return outer
    holes = [np.roll(h, -int(np.lexsort((h[:, 1], h[:, 0]))[0]), axis=0) for h in holes]
    holes.sort(key=lambda hole: (hole[0, 0], hole[0, 1]))
    doors = [_door(part, int(hole[0, 0]), int(hole[0, 1])) for hole in holes]
    by_column: dict[float, list[float]] = {}
    for column, row in sorted(doors):
        by_column.setdefault(column, []).append(row)
    points: list[tuple[float, float]] = []
    following: list[int] = []  #: of each point, the index of the next one
    firsts = []
    for boundary in (outer, *holes):
        firsts.append(len(points))
        points += _with_doors(boundary, by_column)
        following += [*range(firsts[-1] + 1, len(points)), firsts[-1]]
    wanted = set(doors)
    where = {point: index for index, point in enumerate(points) if point in wanted}
    lasts = [*(first - 1 for first in firsts[1:]), len(points) - 1]
    for first, last, door in zip(firsts[1:], lasts[1:], doors, strict=True):
        here = where[door]
        points += [points[first], door]  # the channel is walked twice, in and out
        following += [len(points) - 1, following[here]]
        following[last], following[here] = len(points) - 2, first
    walked, index = [points[0]], following[0]
    while index:
        walked.append(points[index])
        index = following[index]
    return np.array(walked, dtype=np.float64)


def _door(part: NDArray[np.bool_], column: int, row: int) -> tuple[float, float]:
    """Return where a channel that starts at this corner and runs to the left meets a boundary."""
    closed = np.flatnonzero(~(part[row, :column] & part[row - 1, :column]))
    return float(closed[-1] + 1) if closed.size else 0.0, float(row)


def _with_doors(boundary: Polygon, by_column: dict[float, list[float]]) -> list[tuple[float, float]]:
    """Return the points of a boundary and, on its vertical edges, the doors: column -> rows, rising."""
    points: list[tuple[float, float]] = []
    for (x, y), (x_next, y_next) in zip(boundary.tolist(), np.roll(boundary, -1, 0).tolist(), strict=True):
        points.append((x, y))
        if x == x_next:
            between = [(x, r) for r in by_column.get(x, ()) if min(y, y_next) < r < max(y, y_next)]
            points += between if y < y_next else reversed(between)
    return points


def _runs(padded: NDArray[np.int8]) -> dict[_Corner, tuple[int, int]]:
    """Return the straight pieces of all boundaries: corner -> (row, column) where the piece ends.

    The mask, framed by one pixel of background, lies to the right of each piece.
    """
    runs: dict[_Corner, tuple[int, int]] = {}
    for line, first, last, rising in _pieces(np.diff(padded, axis=0)):
        if rising:  # pixels below
            runs[line, first, _RIGHT] = (line, last)
        else:
            runs[line, last, _LEFT] = (line, first)
    for line, first, last, rising in _pieces(np.diff(padded, axis=1).T):
        if rising:  # pixels to the right
            runs[last, line, _UP] = (first, line)
        else:
            runs[first, line, _DOWN] = (last, line)
    return runs


def _pieces(steps: NDArray[np.int8]) -> Iterator[tuple[int, int, int, bool]]:
    """Yield (line, first, last, rising) of each run of equal steps that are not 0 along axis 1."""
    begins = (steps[:, 1:] != steps[:, :-1]) & (steps[:, 1:] != 0)
    ends = (steps[:, 1:] != steps[:, :-1]) & (steps[:, :-1] != 0)
    lines, firsts = np.nonzero(begins)
    lasts = np.nonzero(ends)[1]
    rising = steps[lines, firsts + 1] > 0
    yield from zip(lines.tolist(), firsts.tolist(), lasts.tolist(), rising.tolist(), strict=True)
