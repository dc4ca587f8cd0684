"""Outlines of masks with a known area."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.draw import polygon2mask

from node.encode.sr.contour import POINTS_MAX, POINTS_MIN, is_simple, outline, polygon_area


def disc(radius: float, size: int = 128) -> np.ndarray:
    rows, columns = np.ogrid[:size, :size]
    inside: np.ndarray = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 <= radius**2
    return inside


def filled_largest(mask: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    return np.asarray(ndimage.binary_fill_holes(labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1))


@pytest.mark.parametrize("radius", [3, 10, 30, 55])
def test_the_contour_of_a_disc_has_its_area(radius: float) -> None:
    mask = disc(radius)
    points = outline(mask)
    assert polygon_area(points) == pytest.approx(mask.sum(), rel=0.03)
    assert np.linalg.norm(points - 64.5, axis=1).max() < radius + 1


def test_one_pixel_is_outlined_within_its_own_square() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2, 5] = True
    points = outline(mask)
    assert points.min(axis=0).tolist() == [5.0, 2.0]  # (column, row): the pixel's top left corner
    assert points.max(axis=0).tolist() == [6.0, 3.0]
    assert polygon_area(points) == pytest.approx(1.0, abs=0.05)


def test_a_rectangle_has_more_points_than_a_viewers_rectangle_tool_takes() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    points = outline(mask)
    assert len(points) >= POINTS_MIN > 5
    assert polygon_area(points) == pytest.approx(600, rel=0.01)
    assert points.min(axis=0).tolist() == [20.0, 10.0]
    assert points.max(axis=0).tolist() == [50.0, 30.0]


def test_the_largest_piece_is_outlined_and_its_holes_are_ignored() -> None:
    mask = np.zeros((64, 64), bool)
    mask[2:6, 2:6] = True
    mask[20:50, 20:50] = True
    mask[30:35, 30:35] = False
    points = outline(mask)
    assert points.min() >= 20
    assert polygon_area(points) == pytest.approx(900, rel=0.01)


def test_a_mask_that_fills_the_image_is_outlined_along_its_border() -> None:
    points = outline(np.ones((16, 20), bool))
    assert points.min(axis=0).tolist() == [0.0, 0.0]
    assert points.max(axis=0).tolist() == [20.0, 16.0]


@pytest.mark.parametrize("grain", [0.6, 1, 3])
def test_a_ragged_mask_gets_an_outline_that_an_eye_can_follow(grain: float) -> None:
    rng = np.random.default_rng(3)
    noise = ndimage.gaussian_filter(rng.standard_normal((512, 512)), grain)
    mask = (noise > -0.3 * noise.std()) & disc(240, 512)
    points = outline(mask)
    assert len(points) <= POINTS_MAX and is_simple(points)
    drawn = polygon2mask(mask.shape, points[:, ::-1] - 0.5)
    truth = filled_largest(mask)
    assert (drawn & truth).sum() > 0.9 * truth.sum()


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))))
def test_any_mask_gives_a_closed_simple_contour_inside_its_box(mask: np.ndarray) -> None:
    if not mask.any():
        with pytest.raises(ValueError, match="nothing"):
            outline(mask)
        return
    points = outline(mask)
    assert POINTS_MIN <= len(points) <= POINTS_MAX
    assert (points[0] == points[-1]).all()
    assert is_simple(points)
    rows, columns = np.nonzero(filled_largest(mask))
    assert columns.min() <= points[:, 0].min() and points[:, 0].max() <= columns.max() + 1
    assert rows.min() <= points[:, 1].min() and points[:, 1].max() <= rows.max() + 1


def test_a_bow_tie_is_not_simple() -> None:
    assert not is_simple(np.array([[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]], float))
    assert is_simple(np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]], float))
