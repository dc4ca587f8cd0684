"""Masks as polygons along pixel edges, filled again by scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label
from skimage.draw import polygon2mask

from node.encode.render.edges import corners, loops, polygons, signed_area

masks = arrays(bool, st.tuples(st.integers(1, 11), st.integers(1, 11)))


def filled(plane: np.ndarray, points_max: int) -> np.ndarray:
    """How often each pixel lies in a polygon."""
    times = np.zeros(plane.shape, int)
    for polygon in polygons(plane, points_max):
        times += polygon2mask(plane.shape, polygon[:, ::-1] - 0.5)
    return times


@settings(max_examples=150, deadline=None)
@given(masks, st.sampled_from([8, 12, 1000]))
def test_polygons_of_any_mask_hold_each_of_its_pixels_once_and_no_other(
    plane: np.ndarray, points_max: int
) -> None:
    np.testing.assert_array_equal(filled(plane, points_max), plane)


@settings(max_examples=100, deadline=None)
@given(masks, st.sampled_from([8, 1000]))
def test_polygons_have_the_area_of_the_pixels_and_no_more_points_than_allowed(
    plane: np.ndarray, points_max: int
) -> None:
    found = list(polygons(plane, points_max))
    assert sum(signed_area(polygon) for polygon in found) == pytest.approx(plane.sum())
    assert all(len(polygon) <= points_max for polygon in found)
    assert all((polygon == np.rint(polygon)).all() for polygon in found)


def test_a_ring_is_one_polygon_whose_channel_is_walked_in_and_out() -> None:
    plane = np.ones((5, 6), bool)
    plane[2, 2:4] = False
    (ring,) = polygons(plane, 1000)
    # four corners outside, four of the hole, and both ends of the channel a second time
    assert len(ring) == 11
    edges = {
        tuple(map(tuple, edge)) for edge in zip(ring.tolist(), np.roll(ring, -1, 0).tolist(), strict=True)
    }
    assert ((0.0, 2.0), (2.0, 2.0)) in edges
    assert ((2.0, 2.0), (0.0, 2.0)) in edges


def test_pixels_that_touch_at_a_corner_have_a_boundary_each_and_holes_that_do_share_one() -> None:
    assert len(loops(np.eye(3, dtype=bool))) == 3
    assert sorted(map(signed_area, loops(~np.pad(np.eye(2, dtype=bool), 2)))) == [-2, 36]


def test_a_mask_without_pixels_has_no_boundary() -> None:
    assert loops(np.zeros((4, 4), bool)) == []
    assert list(polygons(np.zeros((4, 4), bool), 100)) == []


def test_only_corners_are_points() -> None:
    plane = np.zeros((400, 400), bool)
    plane[10:390, 5:300] = True
    (boundary,) = loops(plane)
    assert sorted(map(tuple, boundary.tolist())) == [(5, 10), (5, 390), (300, 10), (300, 390)]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.72])
def test_corners_are_counted_as_they_are_traced(share: float) -> None:
    plane = np.random.default_rng(6).random((40, 31)) < share
    labels, _ = label(plane)
    counted = corners(labels)
    assert counted[0] == 0
    for number in range(1, len(counted)):
        assert counted[number] == sum(map(len, loops(labels == number)))
    assert counted.sum() == sum(map(len, loops(plane))) == corners(plane.astype(np.int8)).sum()
