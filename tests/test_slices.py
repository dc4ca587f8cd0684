"""Objects and pictures agree on the slices of a detection, also where it ends between two of them."""

from __future__ import annotations

import numpy as np
import pytest

from node.encode.sr.regions import detection_regions, key_region
from node.model import Volume
from node.picture.cut import marks_at
from node.picture.preview import detection_slices, found_at
from node.slices import middle, nearest, reached
from pipelines.contract import Detection, Findings, Shape
from tests.encode.helpers import ABNORMAL, NODULE, single_frame_volume
from tests.phantoms import make_affine

COUNT = 12


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    folder = tmp_path_factory.mktemp("slices")
    return single_frame_volume(folder, np.zeros((COUNT, 32, 32), np.int16), make_affine())


def detection(shape: Shape, *depths: float) -> Detection:
    points = np.array([[depth, 5.0 + 5 * n, 6.0 + 5 * n] for n, depth in enumerate(depths)])
    return Detection(
        number=1, label="Nodule", category=ABNORMAL, kind=NODULE, shape=shape, points=points, confidence=None
    )


@pytest.mark.parametrize(
    ("place", "index"),
    [(-0.5, 0), (0.49, 0), (0.5, 1), (2.5, 3), (3.5, 4), (11.49, 11), (11.5, 11), (40, 11)],
)
def test_half_way_between_two_slices_is_the_later_one(place: float, index: int) -> None:
    assert nearest(place, COUNT) == index


@pytest.mark.parametrize(
    ("depths", "slices", "key"),
    [
        ((3.5, 6.5), [4, 5, 6, 7], 5),
        ((2.5, 2.5), [3], 3),
        ((6.0, 4.0), [4, 5, 6], 5),
        ((10.5, 11.5), [11], 11),
        ((-0.5, 0.5), [0, 1], 0),
    ],
)
def test_a_box_covers_the_same_slices_in_reports_and_in_pictures(
    volume: Volume, depths: tuple[float, float], slices: list[int], key: int
) -> None:
    found = detection("box", *depths)
    findings, shape = Findings(detections=(found,)), volume.image.array.shape
    drawn = detection_regions(found, volume)
    assert [region.index for region in drawn] == slices == list(reached(found, COUNT))
    assert found_at(findings, COUNT) == slices
    assert [index for index in range(COUNT) if marks_at(findings, index, shape)] == slices
    assert key_region(drawn).index == key == middle(found, COUNT)
    assert detection_slices(findings, COUNT) == [key]


@pytest.mark.parametrize("depth", [0.5, 1.5, 2.5, 7.2, 11.5, -0.5])
def test_a_point_lies_on_one_slice_for_all(volume: Volume, depth: float) -> None:
    found = detection("point", depth)
    findings = Findings(detections=(found,))
    (region,) = detection_regions(found, volume)
    assert found_at(findings, COUNT) == detection_slices(findings, COUNT) == [region.index]
