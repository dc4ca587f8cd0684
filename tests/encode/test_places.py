"""A slice has one name in every object, and it is the one that the reader's viewer shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from node.encode import encode
from node.encode.places import image_name, images_name
from node.encode.render import secondary_capture
from node.encode.render.figures import figures
from node.encode.render.results import place_of
from node.encode.sr.tree import walk
from node.model import Volume
from node.profile import Profile
from pipelines.contract import Findings
from tests.encode.helpers import a_job, enhanced_volume, material_of, single_frame_volume
from tests.encode.rich import Rich, rich
from tests.phantoms import make_affine


@pytest.fixture
def made(tmp_path: Path) -> Rich:
    """The first detection of a series whose numbers run against the slices, as from feet to head."""
    case = rich(tmp_path / "in")
    count = len(case.volume.slices)
    for index, plane in enumerate(case.volume.slices):
        ds = pydicom.dcmread(plane.path)
        ds.InstanceNumber = 100 + count - index
        ds.save_as(plane.path)
    return replace(case, findings=Findings(detections=case.findings.detections[:1]))


def without_numbers(volume: Volume) -> Volume:
    for plane in volume.slices:
        ds = pydicom.dcmread(plane.path)
        ds.InstanceNumber = None
        ds.save_as(plane.path)
    return volume


def test_text_selection_page_and_overlay_call_a_slice_the_same(
    made: Rich, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    whole = secondary_capture.compose

    def listening(view, layout, place, material):  # type: ignore[no-untyped-def]
        written.append(place)
        return whole(view, layout, place, material)

    monkeypatch.setattr(secondary_capture, "compose", listening)
    profile = Profile(report="text", also=("key-objects", "secondary-capture"))
    outcome = encode(a_job(), made.findings, {"ct": made.volume}, tmp_path, [profile])
    paths = {thing.kind: thing.path for thing in outcome.objects}
    for kind in ("sr-text", "key-objects"):
        lines = [str(c.TextValue) for c in walk(pydicom.dcmread(paths[kind])) if "TextValue" in c]
        assert any("image 107" in line for line in lines), kind
    (found,) = made.findings.detections
    assert place_of(found, made.volume) == "Right Lung, image 107"
    assert [figure.caption for figure in figures(material_of(made.volume, made.findings), None).details] == [
        "Image 107"
    ]
    assert written[: len(made.volume.slices)] == [f"Image {number}" for number in range(112, 100, -1)]


def test_a_range_is_told_from_the_lower_to_the_higher_number(made: Rich) -> None:
    assert images_name(made.volume, 4, 6) == "images 106 to 108"


def test_a_frame_is_called_by_its_number(tmp_path: Path) -> None:
    volume = enhanced_volume(tmp_path / "in.dcm", np.zeros((6, 20, 18), np.int16), make_affine())
    frames = [plane.frame for plane in volume.slices]
    assert [image_name(volume, index) for index in range(6)] == [f"frame {frame}" for frame in frames]
    assert images_name(volume, 2, 4) == f"frames {min(frames[2], frames[4])} to {max(frames[2], frames[4])}"


def test_a_place_in_the_series_is_not_taken_for_the_number_of_an_image(tmp_path: Path) -> None:
    volume = without_numbers(single_frame_volume(tmp_path, np.zeros((3, 8, 8), np.int16), make_affine()))
    assert image_name(volume, 1) == "place 2 of 3 in the series"
    assert images_name(volume, 0, 1) == "places 1 to 2 of 3 in the series"


def test_a_point_at_the_edge_of_the_volume_lies_on_its_last_image(made: Rich) -> None:
    (found,) = made.findings.detections
    edge = replace(found, points=np.array([[11.5, 10.0, 10.0]]))
    assert place_of(edge, made.volume) == "Right Lung, image 101"
