"""However a bundle writes a box, and in whichever frame, it lies in the patient where it lay."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.box_utils import convert_box_mode
from monai.transforms import Flip, Orientation, Spacing

from pipelines.bundle.inputs import Part
from pipelines.bundle.outputs.boxes import clip, corners, read_boxes
from pipelines.bundle.outputs.place import to_source_index
from pipelines.bundle.run import Answer
from pipelines.bundle.terms import BOX_MODES, Find, Terms
from pipelines.contract import Code
from pipelines.geometry import grid_of, to_metatensor
from tests.bundles import image_of
from tests.phantoms import make_affine, to_world

FIND = Find(label="Thing", code=Code("T", "99T", "Thing"), category=Code("C", "99T", "Category"))
ORIENTATIONS = ["axial", "sagittal", "coronal", "prone"]


def part_of(orientation="axial", shape=(10, 30, 20)):
    image = image_of(np.zeros(shape), make_affine(orientation))
    return Part(item={}, grid=grid_of(to_metatensor(image)), image=image, start=0)


def terms_of(**changes):
    return Terms(output="boxes", finds=(FIND,), **changes)


def answer_of(boxes, scores=None, labels=None, ready=None):
    boxes = torch.as_tensor(np.asarray(boxes, np.float64))
    scores = torch.ones(len(boxes)) if scores is None else torch.as_tensor(scores)
    labels = torch.zeros(len(boxes)).long() if labels is None else torch.as_tensor(labels)
    return Answer({"box": boxes, "label": labels, "label_scores": scores}, {}, ready)


@given(st.sampled_from(BOX_MODES), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_every_mode_is_read_as_monai_writes_it(mode, seed):
    rng = np.random.default_rng(seed)
    axes = len(mode) // 2
    low = rng.integers(-50, 50, (4, axes)).astype(np.float64)
    high = low + rng.integers(1, 40, (4, axes))
    standard = torch.as_tensor(np.hstack([low, high]))
    written = convert_box_mode(standard, src_mode="xyzxyz" if axes == 3 else "xyxy", dst_mode=mode).numpy()
    read_low, read_high = corners(written, mode)
    assert np.allclose(read_low, low)
    assert np.allclose(read_high, high)


@given(st.sampled_from(ORIENTATIONS), st.sampled_from(["ras-mm", "lps-mm", "source", "network"]), st.data())
@settings(max_examples=60, deadline=None)
def test_every_frame_leads_to_the_same_voxels_of_the_source(orientation, frame, data):
    part = part_of(orientation)
    low = np.array([data.draw(st.integers(0, n - 2)) for n in (10, 30, 20)], dtype=np.float64)
    high = np.array(
        [data.draw(st.integers(int(a) + 1, n - 1)) for a, n in zip(low, (10, 30, 20), strict=True)]
    )
    ends = np.stack([low, high])  # (slice, row, column)
    ready = Spacing(pixdim=(1.0, 2.0, 0.5))(Orientation(axcodes="LPI")(to_metatensor(part.image)))
    lps = to_world(part.image.affine, ends)
    ras = lps * [-1, -1, 1]
    seen = np.column_stack([ras, [1, 1]]) @ np.linalg.inv(ready.affine.numpy()).T
    said = {"ras-mm": ras, "lps-mm": lps, "source": ends[:, ::-1], "network": seen[:, :3]}[frame]
    box = np.concatenate([said.min(0), said.max(0)])[None]
    (one,) = read_boxes(answer_of(box, ready=ready), part, None, terms_of(frame=frame)).detections
    assert np.allclose(one.points, ends, atol=1e-6)


def test_a_box_turned_against_the_slices_becomes_the_smallest_along_them_that_holds_it():
    part = part_of("oblique", (40, 60, 60))
    middle = to_world(part.image.affine, [20, 30, 30])
    box = np.concatenate([middle - 6, middle + 6])[None]
    (one,) = read_boxes(answer_of(box), part, None, terms_of(frame="lps-mm")).detections
    inverse = np.linalg.inv(part.image.affine)
    eight = [
        (inverse @ [*(middle + np.array([x, y, z])), 1])[:3]
        for x in (-6, 6)
        for y in (-6, 6)
        for z in (-6, 6)
    ]
    assert np.allclose(one.points, [np.min(eight, axis=0), np.max(eight, axis=0)])


def test_a_box_is_cut_at_the_image_and_one_outside_is_told():
    part = part_of()
    said = read_boxes(answer_of([[-5, 2, 3, 4, 50, 6], [100, 0, 0, 110, 5, 5]]), part, None, terms_of())
    (one,) = said.detections
    assert one.points.tolist() == [[3, 2, -0.5], [6, 29.5, 4]]
    assert said.cautions == ("1 of the bundle's boxes lie outside of the image and are left out.",)
    assert clip(np.array([[0.0, 0, 0], [1, 1, 1]]), (1, 1, 1)).tolist() == [[0, 0, 0], [0.5, 0.5, 0.5]]


def test_a_box_on_a_picture_has_no_depth():
    part = part_of()
    flat = replace(part, grid=grid_of(to_metatensor(part.image)[..., 0]))
    (one,) = read_boxes(answer_of([[2, 3, 9, 12]]), flat, None, terms_of(box_mode="xyxy")).detections
    assert one.points.tolist() == [[0, 3, 2], [0, 12, 9]]
    thick = replace(flat, grid=replace(flat.grid, affine=flat.grid.affine + 1e-9))  # nor by rounding
    seen = to_metatensor(part.image)[..., 0]
    said = read_boxes(
        answer_of([[2, 3, 9, 12]], ready=seen), thick, None, terms_of(box_mode="xyxy", frame="network")
    )
    assert np.array_equal(said.detections[0].points[:, 0], [0.0, 0.0])


def test_scores_below_the_threshold_are_left_out():
    boxes = [[1, 1, 1, 2, 2, 2]] * 3
    said = read_boxes(answer_of(boxes, [0.3, 0.7, 0.5]), part_of(), None, terms_of(threshold=0.5))
    assert [one.confidence for one in said.detections] == [pytest.approx(0.7), 0.5]


@pytest.mark.parametrize(
    ("answer", "mode", "complaint"),
    [
        (answer_of([[1, 1, 1, 0, 2, 2]]), "xyzxyz", "a box that is none"),
        (answer_of([[1, 1, 1, float("nan"), 2, 2]]), "xyzxyz", "a box that is none"),
        (answer_of([[1, 1, 2, 2]]), "xyzxyz", "boxes of 4 values; 'xyzxyz' has 6"),
        (answer_of([[1, 1, 2, 2]]), "xyxy", "2 coordinates for an image of 3 axes"),
        (answer_of([[1, 1, 1, 2, 2, 2]], labels=[4]), "xyzxyz", "the label 4"),
        (answer_of([[1, 1, 1, 2, 2, 2]], scores=[3.0]), "xyzxyz", "not from 0 to 1"),
        (answer_of([[1, 1, 1, 2, 2, 2]], scores=[0.5, 0.6]), "xyzxyz", "each box has one of both"),
        (Answer({"box": torch.zeros(1, 6)}, {}), "xyzxyz", "no 'label'"),
    ],
)
def test_what_is_no_box_is_told(answer, mode, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_boxes(answer, part_of(), None, terms_of(box_mode=mode))


def test_where_the_network_saw_the_image_must_be_known_for_its_frame():
    with pytest.raises(ValueError, match="not known"):
        to_source_index(np.zeros((1, 3)), "network", None, part_of())
    flipped = Flip(spatial_axis=0)(to_metatensor(part_of().image))
    place = to_source_index(np.array([[0.0, 0, 0]]), "network", flipped, part_of())
    assert np.allclose(place, [[0, 0, 19]])


def test_phases_at_once_have_no_boxes():
    four = replace(part_of(), grid=SimpleNamespace(shape=(20, 30, 10, 2), affine=np.eye(4)))
    with pytest.raises(ValueError, match="each = 'phase'"):
        read_boxes(answer_of([[1, 1, 1, 2, 2, 2]]), four, None, terms_of())
