"""Lines with fewer points: Douglas and Peucker's way (Cartographica 10 (1973) 112-122).

Written here because scikit-image's costs each worker 0.6 s and 50 MB at its start (it pulls in
scipy.signal), and its angles may round differently from one processor to another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def simplify(line: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Return those points of a line that suffice for all others to lie close to it.

    Parameters
    ----------
    line
        (points, 2), two or more; of a closed line the last repeats the first.
    tolerance
        How far a point that is left out may lie from the new line, in the unit of ``line``.
    """
    kept = np.zeros(len(line), dtype=bool)
    kept[[0, -1]] = True
    pieces = [(0, len(line) - 1)]
    while pieces:
        first, last = pieces.pop()
        if last - first < 2:
            continue
        chord, away = line[last] - line[first], line[first + 1 : last] - line[first]
        if (square := chord[0] * chord[0] + chord[1] * chord[1]) > 0:
            # to the nearest point of the chord, which may be one of its ends
            along = np.clip((away[:, 0] * chord[0] + away[:, 1] * chord[1]) / square, 0.0, 1.0)
            away = away - along[:, np.newaxis] * chord
        distances = np.hypot(away[:, 0], away[:, 1])
        farthest = int(distances.argmax())
        if distances[farthest] > tolerance:
            middle = first + 1 + farthest
            kept[middle] = True
            pieces += [(first, middle), (middle, last)]
    return line[kept]
