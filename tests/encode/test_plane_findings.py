"""Boxes on frames of an ultrasound cine and a map over a mammogram: real images, every object in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from node.assemble.image import load_volumes
from node.encode import encode
from node.encode.sr.tree import walk
from node.model import Outcome, Volume
from node.profile import Profile
from pipelines.contract import Code, Detection, Evaluation, Findings, InputSpec, Map
from tests.encode.helpers import a_card, a_job
from tests.encode.judges import dciodvfy_errors, needs_dciodvfy
from tests.paths import SHARED, needs_shared
from tests.phantoms import instances_of

pytestmark = [
    needs_shared,
    needs_dciodvfy,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

VALVE = Code("17401000", "SCT", "Cardiac valve")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
NO_UNITS = Code("1", "UCUM", "no units")
OVERLAYS = Profile(also=("parametric-map", "presentation-state", "secondary-capture", "key-objects"))
CARD = a_card(inputs={"x": InputSpec(modality=("US", "MG"), unit="1", kind="planes", slices_min=1)})
PATIENT = Profile(report="air", coordinates="patient")


def loaded(file: str) -> Volume:
    return load_volumes({"x": instances_of([SHARED / file])}, CARD)["x"]


def made(volume: Volume, findings: Findings, folder: Path, *profiles: Profile) -> Outcome:
    outcome = encode(a_job(card=CARD), findings, {"x": volume}, folder, profiles)
    for thing in outcome.objects:
        assert dciodvfy_errors(thing.path) == [], thing.kind
    return outcome


def only(outcome: Outcome, kind: str) -> pydicom.Dataset:
    return pydicom.dcmread(next(thing.path for thing in outcome.objects if thing.kind == kind))


@pytest.fixture(scope="module")
def ultrasound(tmp_path_factory):
    volume = loaded("us_cine/examples_ybr_color.dcm")
    boxes = [(3, 60, 80), (14, 70, 90), (29, 80, 100)]  # slice, row, column of the upper left corner
    findings = Findings(
        detections=tuple(
            Detection(
                number=number,
                label=f"Valve {number}",
                category=ABNORMAL,
                kind=VALVE,
                shape="box",
                points=np.array([[index, row, column], [index, row + 40.0, column + 60.0]]),
                confidence=0.9,
            )
            for number, (index, row, column) in enumerate(boxes, start=1)
        )
    )
    return volume, boxes, made(volume, findings, tmp_path_factory.mktemp("us"), OVERLAYS, PATIENT)


@pytest.mark.parametrize("kind", ["sr-measurements", "sr-air"])
def test_each_box_is_on_the_frame_where_it_was_found(ultrasound, kind):
    volume, boxes, outcome = ultrasound
    drawn = [content for content in walk(only(outcome, kind)) if content.get("ValueType") == "SCOORD"]
    places = []
    for content in drawn:
        points = np.array(content.GraphicData).reshape(-1, 2)
        source = content.ContentSequence[0].ReferencedSOPSequence[0]
        assert source.ReferencedSOPInstanceUID == volume.slices[0].sop_instance_uid
        left, top = points.min(axis=0) - 0.5
        assert np.allclose(np.ptp(points, axis=0), (60, 40))
        places.append((source.ReferencedFrameNumber - 1, top, left))
    assert places == boxes


def test_the_overlay_of_a_cine_in_colour_marks_those_frames_alone(ultrasound):
    volume, boxes, outcome = ultrasound
    overlay = only(outcome, "secondary-capture")
    frames = pydicom.pixels.pixel_array(overlay).astype(int)
    assert len(frames) == len(volume.slices) == 30
    yellow = (frames[..., 0] > 230) & (np.abs(frames[..., 1] - 200) < 12) & (frames[..., 2] < 40)
    image_width = frames.shape[2] - 240  # the legend beside it
    marked = np.flatnonzero(yellow[:, :-62, :image_width].sum(axis=(1, 2)) > 50)
    assert marked.tolist() == [index for index, *_ in boxes]


def test_a_map_over_a_mammogram_is_drawn_and_why_it_is_no_parametric_map_is_told(tmp_path):
    volume = loaded("mammography/OutOfBoundsOverlay.dcm")
    _, rows, columns = volume.image.array.shape
    row, column = np.mgrid[:rows, :columns]
    centre = (0.4 * rows, 0.6 * columns)
    heat = np.exp(-((row - centre[0]) ** 2 + (column - centre[1]) ** 2) / (2 * 80.0**2))
    density = Evaluation(
        name=Code("DENSITY", "99RADNODE", "Breast density"),
        value=Code("B", "99RADNODE", "Scattered"),
        probability=0.6,
    )
    saliency = Map(
        label="Saliency",
        quantity=Code("SALIENCY", "99RADNODE", "Saliency"),
        unit=NO_UNITS,
        array=heat[None].astype(np.float32),
    )
    outcome = made(volume, Findings(maps=(saliency,), evaluations=(density,)), tmp_path, OVERLAYS)
    assert any("No Parametric Map" in n and "frame of reference" in n for n in outcome.notes)
    frame = pydicom.pixels.pixel_array(only(outcome, "secondary-capture")).astype(int)
    colour = frame.max(axis=-1) - frame.min(axis=-1)  # grey is 0
    height, width = frame.shape[0] - 62, frame.shape[1] - 240
    strongest = np.argwhere(colour[:height, :width] > 0.9 * colour[:height, :width].max()).mean(axis=0)
    scale = max(height, width) / max(rows, columns)
    assert np.allclose(strongest, np.array(centre) * scale, atol=12)
