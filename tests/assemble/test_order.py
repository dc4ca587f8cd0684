from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from node.assemble.frames import Frame, Plane
from node.assemble.order import TOLERANCE_MM, arrange, coincident
from node.assemble.pixels import PixelFormat
from node.assemble.split import split
from node.header.read import PixelElement
from node.model import Instance
from pipelines.contract import InputRefused
from tests import phantoms

FORMAT = PixelFormat(
    transfer_syntax="1.2.840.10008.1.2.1",
    element=PixelElement(keyword="PixelData", vr="OW", offset=0, length=0, deflated_at=None),
    rows=64,
    columns=48,
    frames=1,
    multiframe=False,
    bits_allocated=16,
    bits_stored=16,
    signed=True,
)


def frame(position, *, affine=None, uid="1.2.3", **changes) -> Frame:
    affine = phantoms.make_affine() if affine is None else affine
    plane = Plane(
        frame_of_reference_uid="1.2.9",
        position_mm=tuple(float(v) for v in position),
        along_columns=tuple(phantoms.unit(affine[:3, 2])),
        along_rows=tuple(phantoms.unit(affine[:3, 1])),
        spacing_mm=(float(np.linalg.norm(affine[:3, 1])), float(np.linalg.norm(affine[:3, 2]))),
    )
    instance = Instance(
        sop_instance_uid=uid,
        sop_class_uid="1.2",
        series_uid="1.3",
        study_uid="1.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=Path("absent"),
        sha256="",
        size_bytes=0,
        arrived_at=datetime(2026, 1, 2, tzinfo=UTC),
        sender="test",
    )
    whole = {
        "instance": instance,
        "patient": ("A", ""),
        "index": 0,
        "pixels": FORMAT,
        "modality": "CT",
        "plane": plane,
        "slope": 1.0,
        "intercept": 0.0,
        "rescale_type": "HU",
        "padding": None,
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "instance_number": 1,
        "apart": {},
        "hints": {},
    }
    return Frame(**(whole | changes))


def stack(count=10, affine=None, **changes) -> list[Frame]:
    affine = phantoms.make_affine() if affine is None else affine
    return [
        frame(phantoms.to_world(affine, (i, 0, 0)), affine=affine, uid=str(i), **changes)
        for i in range(count)
    ]


def moved(frames, offsets_mm) -> list[Frame]:
    """Return frames displaced by one LPS vector each."""
    return [
        dataclasses.replace(
            f, plane=dataclasses.replace(f.at, position_mm=tuple(np.add(f.at.position_mm, o)))
        )
        for f, o in zip(frames, offsets_mm, strict=True)
    ]


def code_of(frames, **card) -> tuple[str, str]:
    with pytest.raises(InputRefused) as caught:
        arrange(frames, **card)
    assert "np." not in caught.value.sentence
    return caught.value.code, caught.value.sentence


@pytest.mark.parametrize("orientation", phantoms.ORIENTATIONS)
@pytest.mark.parametrize("reversed_slices", [False, True])
def test_the_affine_places_every_slice_where_its_header_says(orientation, reversed_slices):
    affine = phantoms.make_affine(orientation, reversed_slices=reversed_slices)
    frames = stack(affine=affine)
    shuffled = [frames[i] for i in np.random.default_rng(1).permutation(len(frames))]
    grid = arrange(shuffled)
    for index, one in enumerate(grid.frames):
        np.testing.assert_allclose(
            grid.affine[:3, :3] @ (index, 0, 0) + grid.affine[:3, 3], one.at.position_mm, atol=1e-9
        )
    np.testing.assert_allclose(grid.affine[:3, 1:3], affine[:3, 1:3], atol=1e-9)
    assert grid.affine[:3, 0] @ grid.frames[0].at.normal > 0
    assert grid.deviation_mm < 1e-9


def test_a_missing_slice_is_a_gap_with_its_place():
    frames = stack()
    del frames[4]
    code, sentence = code_of(frames)
    assert code == "slice-gap"
    assert "between z = 47.5 and z = 52.5 mm" in sentence and "1 slice is missing" in sentence


def test_several_missing_slices_are_counted():
    frames = stack(20)
    code, sentence = code_of([f for i, f in enumerate(frames) if i not in (5, 6, 12)])
    assert code == "slice-gap" and "3 slices are missing" in sentence


def test_a_gap_in_a_sagittal_series_is_told_along_x():
    frames = stack(affine=phantoms.make_affine("sagittal"))
    del frames[4]
    assert "between x = " in code_of(frames)[1]


def test_missing_end_slices_cannot_be_seen_by_geometry():
    assert len(arrange(stack()[2:]).frames) == 8


def test_growing_distances_are_variable_spacing():
    frames = stack()
    code, sentence = code_of(moved(frames, [(0, 0, 0.05 * i * i) for i in range(10)]))
    assert code == "variable-spacing" and "varies from 2.55 to 3.35 mm" in sentence


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even():
    affine = phantoms.make_affine("axial", (0.625, 0.7, 0.7), (0, 0, 0))
    frames = stack(40, affine)
    rounded = [(0, 0, round(f.at.position_mm[2], 1) - f.at.position_mm[2]) for f in frames]
    grid = arrange(moved(frames, rounded))
    assert 0 < grid.deviation_mm <= 0.0625


@pytest.mark.parametrize(("jitter_mm", "accepted"), [(0.004, True), (0.02, True), (0.04, True), (0.2, False)])
def test_jitter_in_the_plane_is_accepted_within_the_tolerance(jitter_mm, accepted):
    frames = moved(stack(), [((-1) ** i * jitter_mm, 0, 0) for i in range(10)])
    if accepted:
        assert arrange(frames).deviation_mm <= TOLERANCE_MM
    else:
        assert code_of(frames)[0] == "shifted-slices"


@pytest.mark.parametrize("degrees", [-22.0, 1.0, 14.0])
def test_a_tilted_gantry_is_refused_with_its_angle(degrees):
    shear = np.tan(np.deg2rad(degrees))
    code, sentence = code_of(moved(stack(), [(0, shear * 2.5 * i, 0) for i in range(10)]))
    assert code == "gantry-tilt" and f"{abs(degrees):g} degrees" in sentence


@pytest.mark.parametrize("count", [1, 4])
def test_too_few_slices_are_refused(count):
    assert code_of(stack(count), slices_min=5)[0] == "too-few-slices"


def test_one_slice_is_never_a_volume():
    assert code_of(stack(1), slices_min=1)[0] == "too-few-slices"


def test_a_spacing_that_the_card_excludes_is_refused():
    code, sentence = code_of(stack(), spacing_mm={"slice": (0.5, 1.5)})
    assert code == "spacing-outside-card" and "2.5 mm" in sentence
    arrange(stack(), spacing_mm={"slice": (0.5, 2.5), "row": (0.8, 0.8)})


def test_coincident_frames_are_found_in_any_order():
    frames = stack(6)
    groups = coincident([frames[3], *frames, frames[1], frames[3]])
    assert sorted(len(group) for group in groups) == [2, 3]
    assert coincident(frames) == []


def test_a_clean_series_is_one_stack():
    parts = split(stack())
    assert [len(s.frames) for s in parts.stacks] == [10] and parts.left_out == ()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "localizer"),
        ({"image_type": ("DERIVED", "PRIMARY", "MIP")}, "projection"),
        ({"plane": "Pixel Spacing"}, "images without Pixel Spacing"),
    ],
)
def test_what_cannot_be_of_a_volume_is_left_out_and_told(changes, word):
    parts = split(stack() + [dataclasses.replace(f, **changes) for f in stack(2)])
    assert [len(s.frames) for s in parts.stacks] == [10]
    assert len(parts.left_out) == 1 and parts.left_out[0].startswith("2 ") and word in parts.left_out[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"apart": {"echo time": 4.9}},
        {"apart": {"b-value": 1000.0}},
        {"apart": {"temporal position": 2.0}},
        {"image_type": ("ORIGINAL", "PRIMARY", "P")},
        {"pixels": dataclasses.replace(FORMAT, rows=128)},
        {"modality": "MR"},
    ],
)
def test_frames_that_differ_in_kind_are_separate_stacks(changes):
    parts = split(stack() + [dataclasses.replace(f, **changes) for f in stack()])
    assert [len(s.frames) for s in parts.stacks] == [10, 10]
    assert parts.stacks[0].label != parts.stacks[1].label


def test_orientations_spacings_and_frames_of_reference_are_separated():
    coronal = stack(4, phantoms.make_affine("coronal"))
    fine = stack(5, phantoms.make_affine("axial", (2.5, 0.4, 0.4)))
    elsewhere = [
        dataclasses.replace(f, plane=dataclasses.replace(f.at, frame_of_reference_uid="1.2.8"))
        for f in stack(3)
    ]
    parts = split(stack() + coronal + fine + elsewhere)
    assert [len(s.frames) for s in parts.stacks] == [10, 5, 4, 3]


def test_an_orientation_off_by_rounding_is_the_same():
    frames = stack()
    off = dataclasses.replace(
        frames[3], plane=dataclasses.replace(frames[3].at, along_columns=(1.0, 1e-5, 0.0))
    )
    assert len(split([*frames[:3], off, *frames[4:]]).stacks) == 1


def test_one_acquisition_number_per_rotation_does_not_split_a_volume():
    frames = [dataclasses.replace(f, hints={"acquisition": float(i // 2)}) for i, f in enumerate(stack())]
    assert len(split(frames).stacks) == 1


def test_trigger_times_explain_repeated_positions():
    frames = [
        dataclasses.replace(f, hints={"acquisition": 1.0, "trigger time": 40.0 * t})
        for t in range(3)
        for f in stack(5)
    ]
    parts = split(frames)
    assert [len(s.frames) for s in parts.stacks] == [5, 5, 5]
    assert "trigger time 40" in parts.stacks[1].label


def test_a_second_scan_of_some_slices_is_not_taken_for_a_volume():
    frames = [dataclasses.replace(f, hints={"acquisition": 1.0}) for f in stack(10)]
    again = [dataclasses.replace(f, hints={"acquisition": 2.0}) for f in stack(3)]
    assert len(split(frames + again).stacks) == 1
