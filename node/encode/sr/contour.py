"""The outline of a mask on one slice, as a closed polyline that a viewer can draw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import find_contours

from node.encode.simplify import simplify

#: More points than this help no eye and slow viewers down.
POINTS_MAX = 500
#: OHIF takes a closed polyline of 4 or 5 points for its own rectangle tool and then shows its own
#: numbers instead of ours (viewers.md section 2), so a contour never has so few.
POINTS_MIN = 7
#: Distance in pixels that a point may be moved; the first that gives few enough points is taken.
_TOLERANCES = (0.1, 0.4, 0.8, 1.5, 2.5)
#: A ragged mask (low attenuation areas, vessels) is blurred (sigma in pixels, threshold) until it has
#: an outline that an eye can follow; the lower the threshold, the more of its bays are closed. If
#: it never has, its convex hull says where to look.
_SMOOTHINGS = ((0.0, 0.5), (1.0, 0.5), (3.0, 0.4), (6.0, 0.3), (12.0, 0.2))
_TRACED_MAX = 3000  #: points of a raw contour; more is ragged, and slow to simplify


def outline(plane: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the outer contour of the largest component of a mask.

    Parameters
    ----------
    plane
        (rows, columns), bool; at least one pixel set. Components touch along edges, not corners.

    Returns
    -------
    (points, 2) float64: (column, row) in the convention of SCOORD (PS3.3 C.18.6.1.2), where
    (0, 0) is the top left corner of the first pixel and (0.5, 0.5) its centre. The first point is
    repeated as the last, no two edges cross, and there are `POINTS_MIN` to `POINTS_MAX` points.
    A very ragged mask is smoothed first.

    Raises
    ------
    ValueError
        No pixel is set.
    """
    component, corner = _largest_component(plane)
    for sigma, threshold in _SMOOTHINGS:
        blurred = component
        if sigma:
            soft = ndimage.gaussian_filter(component.astype(np.float32), sigma, mode="constant")
            blurred = soft > threshold
        if not blurred.any():
            break
        smooth, moved = _largest_component(blurred)
        contour = _trace(smooth, 1)
        area = float(smooth.sum())
        if abs(polygon_area(contour) - area) > 0.05 * area:  # small: cut corners matter
            contour = _trace(smooth, 4)
        points = _simplified(contour) if len(contour) <= _TRACED_MAX else None
        if points is not None:
            return points + corner + moved
    hull = _trace(component, 1)
    hull = hull[ConvexHull(hull).vertices]
    return _enough(np.concatenate([hull, hull[:1]])) + corner


def closed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a polygon as a contour: first point repeated, `POINTS_MIN` to `POINTS_MAX` points.

    ``points`` is (points, 2) float64, at least 3, the first not repeated.
    """
    return _enough(thinned(np.concatenate([points, points[:1]])))


def thinned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return at most `POINTS_MAX` of many points, (points, 2 or 3), among them the ends and the outermost.

    Graphic Data is FL, whose length has 16 bits in Explicit VR: some thousand points fit.
    """
    if len(points) <= POINTS_MAX:
        return points
    outermost = np.concatenate([points.argmin(axis=0), points.argmax(axis=0)])
    even = np.linspace(0, len(points) - 1, POINTS_MAX - len(outermost)).astype(int)
    kept: NDArray[np.float64] = points[np.unique(np.concatenate([even, outermost]))]
    return kept


def unmistakable(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an open line that OHIF does not take for a rectangle of its own: not of 4 or 5 points."""
    return _enough(points) if len(points) in (4, 5) else points


def polygon_area(points: NDArray[np.float64]) -> float:
    """Return the area inside a closed polyline (points, 2), in squared units of the points."""
    x, y = points[:-1, 0], points[:-1, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def is_simple(points: NDArray[np.float64]) -> bool:
    """Return whether no two edges of a closed polyline cross: (points, 2), last equals first."""
    start, end = points[:-1], points[1:]
    count = len(start)
    # side[i, j]: on which side of edge i point j lies
    edge = end - start
    side = np.sign(
        edge[:, None, 0] * (points[None, :, 1] - start[:, None, 1])
        - edge[:, None, 1] * (points[None, :, 0] - start[:, None, 0])
    )
    apart = side[:, :-1] * side[:, 1:] < 0  # ends of edge j strictly on both sides of line i
    crossing = apart & apart.T
    neighbours = (np.arange(count)[:, None] - np.arange(count)) % count
    crossing[(neighbours <= 1) | (neighbours == count - 1)] = False
    return not bool(crossing.any())


def _largest_component(plane: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return the largest component, cropped and with holes filled, and its (column, row) corner."""
    labels, count = ndimage.label(plane)
    if not count:
        raise ValueError("there is nothing to outline")
    sizes = np.bincount(labels.ravel())
    number = int(np.argmax(sizes[1:])) + 1
    box = ndimage.find_objects(labels)[number - 1]
    component: NDArray[np.bool_] = ndimage.binary_fill_holes(labels[box] == number)
    return component, np.array([box[1].start, box[0].start], dtype=np.float64)


def _trace(component: NDArray[np.bool_], scale: int) -> NDArray[np.float64]:
    """Return the contour half-way between inner and outer pixel centres: (points, 2), (column, row).

    With ``scale`` 4 each pixel is traced as 4 x 4, so the contour runs closer to pixel edges.
    """
    fine = np.kron(component, np.ones((scale, scale), dtype=bool)) if scale > 1 else component
    padded = np.pad(fine, 1).astype(np.float64)
    traces = find_contours(padded, 0.5, fully_connected="low")  # type: ignore[no-untyped-call]
    # index i of the padded array is pixel i - 1, whose centre lies at i - 0.5
    closed = [(trace[:, ::-1] - 0.5) / scale for trace in traces]
    return max(closed, key=polygon_area)


def _simplified(contour: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the contour with few enough points and no crossing, or None if that cannot be had."""
    for tolerance in _TOLERANCES:
        points = simplify(contour, tolerance)
        if 4 <= len(points) <= POINTS_MAX and is_simple(points):
            return _enough(points)
    return None


def _enough(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Halve edges until there are `POINTS_MIN` points; the shape stays."""
    while len(points) < POINTS_MIN:
        middles = (points[:-1] + points[1:]) / 2
        together = np.empty((len(points) * 2 - 1, points.shape[1]))
        together[0::2], together[1::2] = points, middles
        points = together
    return points
