"""Detections of every shape in reports: where they are drawn, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from node.encode import encode
from node.encode.items import code_of
from node.encode.sr.tree import children, name_of, walk
from node.errors import EncodeError
from node.model import Volume
from node.profile import Profile, Report
from pipelines.contract import Code, Detection, Findings, Measurement
from tests.encode.helpers import (
    ABNORMAL,
    LEFT_LUNG,
    LUNG,
    NODULE,
    a_job,
    enhanced_volume,
    single_frame_volume,
)
from tests.encode.rich import LENGTH, MILLIMETRE, Rich, rich
from tests.phantoms import make_affine

KINDS: dict[Report, str] = {"viewer": "sr-measurements", "air": "sr-air", "segment-only": "sr-segments"}
GROUP = Code("125007", "DCM", "")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Rich:
    return rich(tmp_path_factory.mktemp("detections"))


def groups_of(report: Dataset) -> list[Dataset]:
    return [c for c in walk(report) if c.get("ValueType") == "CONTAINER" and name_of(c)[:2] == GROUP[:2]]


def detection(shape: Any, points: np.ndarray, **changes: Any) -> Detection:
    values: dict[str, Any] = {
        "number": 1,
        "label": "Nodule",
        "category": ABNORMAL,
        "kind": NODULE,
        "shape": shape,
        "points": points,
    }
    return Detection(**{**values, **changes})


def test_a_line_of_four_points_is_no_rectangle(made: Rich, tmp_path: Path) -> None:
    zigzag = np.array([[5.0, 3, 4], [5.0, 8, 9], [5.0, 4, 14], [5.0, 9, 20]])
    findings = Findings(detections=(detection("line", zigzag),))
    outcome = encode(a_job(), findings, {"ct": made.volume}, tmp_path, [Profile()])
    (drawing,) = [c for c in walk(pydicom.dcmread(outcome.objects[0].path)) if "GraphicData" in c]
    points = np.array(drawing.GraphicData).reshape(-1, 2)
    assert len(points) == 7
    assert (points[::2] == zigzag[:, :0:-1] + 0.5).all()


def flat(volume: Volume) -> Volume:
    """A radiograph: it lies nowhere in the patient, and nobody knows how large its pixels are."""
    image = replace(
        volume.image,
        modality="DX",
        is_spatial=False,
        is_calibrated=False,
        affine=np.diag([1.0, 1.0, 1.0, 1.0]),
    )
    slices = tuple(replace(s, position_mm=None) for s in volume.slices)
    return replace(volume, image=image, slices=slices, frame_of_reference_uid="")


@pytest.mark.parametrize("report", ["viewer", "air", "segment-only"])
def test_images_without_a_place_in_the_patient_are_pointed_at_as_images(
    tmp_path: Path, report: Report
) -> None:
    array = np.zeros((1, 40, 36), np.int16)
    volume = flat(single_frame_volume(tmp_path / "in", array, make_affine()))
    box = np.array([[0.0, 3.0, 4.0], [0.0, 30.0, 50.0]])  # sticks out on the right
    found = detection("box", box)
    profile = Profile(report=report, coordinates="patient")
    outcome = encode(a_job(), Findings(detections=(found,)), {"ct": volume}, tmp_path, [profile])
    tree = pydicom.dcmread(next(o.path for o in outcome.objects if o.kind == KINDS[report]))
    assert not [c for c in walk(tree) if c.get("ValueType") == "SCOORD3D"]
    drawings = [c for c in walk(tree) if c.get("ValueType") == "SCOORD"]
    assert len(drawings) == (0 if report == "segment-only" else 1)
    for drawing in drawings:
        points = np.array(drawing.GraphicData).reshape(-1, 2)
        assert [*points.min(axis=0), *points.max(axis=0)] == [4.5, 3.5, 36.0, 30.5]
    assert not [c for c in walk(tree) if name_of(c).value in ("111026", "112226", "110904")]


def test_detections_in_a_multi_frame_image_name_their_frame(tmp_path: Path) -> None:
    volume = enhanced_volume(tmp_path / "in.dcm", np.zeros((6, 40, 36), np.int16), make_affine())
    found = detection("point", np.array([[3.0, 10.0, 12.0]]), confidence=0.25)
    findings = Findings(detections=(found,))
    outcome = encode(a_job(), findings, {"ct": volume}, tmp_path, [Profile(report="viewer")])
    measured, text = (pydicom.dcmread(o.path) for o in outcome.objects)
    (drawing,) = [c for c in walk(measured) if c.get("ValueType") == "SCOORD"]
    assert np.array(drawing.GraphicData).reshape(-1, 2).mean(axis=0) == pytest.approx([12.5, 10.5], abs=0.2)
    frame = volume.slices[3].frame
    assert drawing.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber == frame
    lines = [str(c.TextValue) for c in walk(text) if c.get("ValueType") == "TEXT"]
    assert f"Nodule: Nodule, on frame {frame}, row 11, column 13, confidence 25 %." in lines


@pytest.mark.parametrize(
    "points", [np.array([[40.0, 3.0, 4.0]]), np.array([[math.nan, 3.0, 4.0]]), np.zeros((0, 3))]
)
def test_a_detection_outside_the_image_is_refused(made: Rich, tmp_path: Path, points: np.ndarray) -> None:
    findings = Findings(detections=(detection("point", points),))
    with pytest.raises(EncodeError, match="detection 1"):
        encode(a_job(), findings, {"ct": made.volume}, tmp_path, [Profile()])


def test_a_side_without_a_site_is_said_of_the_finding(made: Rich, tmp_path: Path) -> None:
    found = detection("point", np.array([[3.0, 10.0, 12.0]]), laterality=LEFT_LUNG.laterality)
    findings = Findings(detections=(found,))
    outcome = encode(a_job(), findings, {"ct": made.volume}, tmp_path, [Profile(report="air")])
    (group,) = groups_of(pydicom.dcmread(outcome.objects[-1].path))
    (finding,) = children(group, "CODE", Code("121071", "DCM", ""))
    assert code_of(finding.ContentSequence[0].ConceptCodeSequence[0]).meaning == "Left"
    sited = replace(found, anatomic_region=LUNG)
    (tmp_path / "sited").mkdir()
    outcome = encode(
        a_job(),
        Findings(detections=(sited,)),
        {"ct": made.volume},
        tmp_path / "sited",
        [Profile(report="air")],
    )
    (group,) = groups_of(pydicom.dcmread(outcome.objects[-1].path))
    (site,) = children(group, "CODE", Code("363698007", "SCT", ""))
    assert code_of(site.ContentSequence[0].ConceptCodeSequence[0]).meaning == "Left"


def test_long_drawings_are_thinned_until_they_fit(made: Rich, tmp_path: Path) -> None:
    turn = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    circle = np.column_stack([np.full(len(turn), 5.0), 30 + 20 * np.sin(turn), 28 + 20 * np.cos(turn)])
    found = (detection("contour", circle), detection("line", circle, number=2))
    for report in ("viewer", "air"):
        folder = tmp_path / report
        folder.mkdir()
        profile = Profile(report=report, coordinates="patient")  # type: ignore[arg-type]
        outcome = encode(a_job(), Findings(detections=found), {"ct": made.volume}, folder, [profile])
        kind = KINDS[report]  # type: ignore[index]
        tree = pydicom.dcmread(next(o.path for o in outcome.objects if o.kind == kind))
        drawn = [len(c.GraphicData) for c in walk(tree) if "GraphicData" in c]
        assert len(drawn) == 2 and all(20 < count <= 1500 for count in drawn)


@pytest.mark.parametrize(
    "wrong",
    [
        Measurement(name=LENGTH, value=1.0, unit=MILLIMETRE, detection=9),
        Measurement(name=LENGTH, value=1.0, unit=MILLIMETRE, detection=1, segment=1),
    ],
)
def test_a_number_about_a_detection_that_is_not_there_is_refused(
    made: Rich, tmp_path: Path, wrong: Measurement
) -> None:
    findings = replace(made.findings, measurements=(wrong,))
    with pytest.raises(EncodeError, match="'Length' is about"):
        encode(a_job(), findings, {"ct": made.volume}, tmp_path, [Profile()])
