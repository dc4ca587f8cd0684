"""Lines lose the points that nobody would miss."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from skimage.measure import approximate_polygon

from node.encode.simplify import simplify


def test_a_straight_line_needs_its_ends_alone():
    line = np.linspace((0.0, 0.0), (30.0, 10.0), 50)
    assert simplify(line, 1e-6).tolist() == [[0.0, 0.0], [30.0, 10.0]]


def test_a_square_keeps_its_corners():
    corners = np.array([[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]], float)
    line = np.concatenate([np.linspace(a, b, 9, endpoint=False) for a, b in pairwise(corners)])
    line = np.concatenate([line, line[:1]])
    assert simplify(line, 0.1).tolist() == corners.tolist()


def test_two_points_and_one_place_stay_as_they_are():
    for line in (np.zeros((2, 2)), np.array([[1.0, 2.0], [3.0, 4.0]])):
        assert simplify(line, 5.0).tolist() == line.tolist()


def test_a_spike_beyond_the_end_of_a_chord_is_seen():
    line = np.array([[0.0, 0.0], [20.0, 0.0], [10.0, 0.0]])
    assert simplify(line, 5.0).tolist() == line.tolist()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.4, 1.5]))
def test_it_agrees_with_scikit_image_and_stays_within_the_tolerance(seed, tolerance):
    line = np.random.default_rng(seed).normal(size=(80, 2)).cumsum(axis=0)
    line[-1] = line[0]
    made = simplify(line, tolerance)
    assert np.array_equal(made, approximate_polygon(line, tolerance))
    dense = np.concatenate([np.linspace(a, b, 400) for a, b in pairwise(made)])
    assert cdist(line, dense).min(axis=1).max() <= tolerance + 0.05


@pytest.mark.parametrize("heavy", ["scipy.signal", "scipy.stats", "torch", "monai"])
def test_what_a_worker_of_the_host_imports_is_light(heavy):
    code = f"import sys, node.flow, node.encode, node.picture; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
