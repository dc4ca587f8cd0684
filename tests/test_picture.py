from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from node.picture import PLANE_HEIGHT_PX, WIDEST_PLANE_PX, Layer, draw
from pipelines.contract import Code

HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
GREY = Code("1", "UCUM", "no units")
SIZE = 32
TURNS = [
    (axes, signs) for axes in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)
]  # every way in which the axes of an array may run along those of a patient


def a_turned_affine(axes: tuple[int, ...], signs: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for array_axis, (patient_axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[patient_axis, array_axis] = sign
    return affine


@pytest.mark.parametrize(("axes", "signs"), TURNS)
def test_left_front_and_head_are_where_a_reader_expects_them_however_the_grid_runs(axes, signs):
    affine = a_turned_affine(axes, signs)
    world = np.einsum("ij,j...->i...", affine[:3, :3], np.indices((SIZE,) * 3))  # LPS, millimetres
    left, back, head = (w > (w.min() + w.max()) / 2 for w in world)
    mask = left & ~back & head
    array = np.full((SIZE,) * 3, -1500.0, np.float32)
    sheet = draw(array, affine, HU, [Layer("corner", (255, 0, 0), mask)], "SIMULATED")
    pixels = np.asarray(sheet)[:PLANE_HEIGHT_PX, :, 0].reshape(PLANE_HEIGHT_PX, 3, PLANE_HEIGHT_PX) > 60
    axial, coronal, sagittal = (np.argwhere(pixels[:, panel]).mean(axis=0) for panel in range(3))
    middle = PLANE_HEIGHT_PX / 2
    assert axial[0] < middle < axial[1]  # the front is up, the patient's left on the right
    assert coronal[0] < middle < coronal[1]  # the head is up, the patient's left on the right
    assert sagittal[0] < middle and sagittal[1] < middle  # the head is up, the front on the left


@pytest.mark.parametrize("unit", [HU, GREY])
def test_nothing_outlined_still_gives_a_picture(unit):
    sheet = draw(np.zeros((4, 8, 6), np.float32), np.diag([5.0, 1.0, 1.0, 1.0]), unit, [], "SIMULATED")
    assert sheet.height > PLANE_HEIGHT_PX


def test_a_thin_slab_gives_a_small_picture():
    slab = np.zeros((2, 256, 256), np.float32)
    affine = a_turned_affine((2, 1, 0), (1.0, 1.0, 1.0)) * [0.05, 2.0, 2.0, 1.0]  # slices along z
    sheet = draw(slab, affine, HU, [], "SIMULATED")
    assert sheet.width <= 3 * WIDEST_PLANE_PX
