"""One set of findings of every sort, in the report of each profile, read by those the reports are for."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from node.encode import encode
from node.encode.items import code_of
from node.encode.sr.tree import children, name_of, walk
from node.errors import EncodeError
from node.model import Outcome, Predecessor
from node.profile import Coordinates, Profile, Report
from pipelines.contract import Code, Findings, Measurement
from pipelines.measure import measure_segment
from tests.encode.helpers import (
    a_card,
    a_job,
    single_frame_volume,
)
from tests.encode.judges import (
    dciodvfy_errors,
    dsrdump,
    needs_dciodvfy,
    needs_dsrdump,
    needs_pixelmed,
    pixelmed_errors,
    tid1500,
)
from tests.encode.rich import SHAPE, Rich, rich
from tests.phantoms import make_affine

KINDS: dict[Report, str] = {"viewer": "sr-measurements", "air": "sr-air", "segment-only": "sr-segments"}
CHOICES: list[tuple[Report, Coordinates]] = [
    ("viewer", "image"),
    ("air", "image"),
    ("air", "patient"),
    ("segment-only", "image"),
]
GROUP, TRACKING_UID = Code("125007", "DCM", ""), Code("112040", "DCM", "")
SCORE = Code("S1", "99TEST", "Score")
PERCENT = Code("%", "UCUM", "Percent")


@dataclass(frozen=True)
class Made:
    rich: Rich
    outcomes: dict[tuple[Report, Coordinates], Outcome]

    def report(self, report: Report, coordinates: Coordinates = "image") -> Path:
        objects = self.outcomes[report, coordinates].objects
        return next(o.path for o in objects if o.kind == KINDS[report])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("profiles")
    case = rich(folder / "in")
    lungs = case.findings.mask(1) | case.findings.mask(2)
    together = measure_segment(("volume",), lungs, case.volume.image, union=(1, 2))
    failed = Measurement(name=SCORE, value=math.nan, unit=PERCENT)
    measurements = (*case.findings.measurements, *together, failed)
    case = replace(case, findings=replace(case.findings, measurements=measurements))
    outcomes = {}
    for number, (report, coordinates) in enumerate(CHOICES):
        out = folder / str(number)
        out.mkdir()
        profile = Profile(report=report, coordinates=coordinates)
        outcomes[report, coordinates] = encode(a_job(), case.findings, {"ct": case.volume}, out, [profile])
    return Made(case, outcomes)


def groups_of(report: Dataset) -> list[Dataset]:
    return [c for c in walk(report) if c.get("ValueType") == "CONTAINER" and name_of(c)[:2] == GROUP[:2]]


def template(group: Dataset) -> str:
    return str(group.ContentTemplateSequence[0].TemplateIdentifier)


def numbers_of(tree: Dataset) -> Counter[tuple[str, float]]:
    return Counter(
        (name_of(c).value, float(c.MeasuredValueSequence[0].NumericValue))
        for group in groups_of(tree)
        for c in children(group, "NUM")
    )


@needs_dciodvfy
@needs_dsrdump
@pytest.mark.parametrize("choice", CHOICES)
def test_validators_have_nothing_to_say(made: Made, choice: tuple[Report, Coordinates]) -> None:
    for thing in made.outcomes[choice].objects:
        if thing.kind != "seg":
            assert dciodvfy_errors(thing.path) == [], thing.kind
            assert dsrdump(thing.path)[1] == [], thing.kind


@pytest.mark.parametrize(
    ("choice", "count"),
    [
        (("viewer", "image"), 2 * 3 + 4),
        (("air", "image"), 3 + 4 + 2),
        (("air", "patient"), 3 + 4 + 2),
        (("segment-only", "image"), 3 + 4 + 2),
    ],
)
def test_dcmqi_reads_every_group_and_every_number(
    made: Made, tmp_path: Path, choice: tuple[Report, Coordinates], count: int
) -> None:
    path = made.report(*choice)
    read = tid1500(path, tmp_path / "read.json")["Measurements"]
    assert len(read) == count == len(groups_of(pydicom.dcmread(path)))
    said = Counter(
        (item["quantity"]["CodeValue"], float(item["value"]))
        for group in read
        for item in group.get("measurementItems", ())
    )
    assert said == numbers_of(pydicom.dcmread(path))


@pytest.mark.parametrize("choice", CHOICES)
def test_highdicom_reads_every_group_and_every_number(made: Made, choice: tuple[Report, Coordinates]) -> None:
    content = hd.sr.srread(made.report(*choice)).content
    read = [
        *content.get_planar_roi_measurement_groups(),
        *content.get_volumetric_roi_measurement_groups(),
        *content.get_image_measurement_groups(),
    ]
    tree = pydicom.dcmread(made.report(*choice))
    assert Counter(str(g.tracking_uid) for g in read) == Counter(
        str(children(g, "UIDREF", TRACKING_UID)[0].UID) for g in groups_of(tree)
    )
    said = Counter((m.name.value, m.value) for g in read for m in g.get_measurements())
    assert said == numbers_of(tree)


def test_every_finite_measurement_of_the_findings_stands_in_the_findings_report(made: Made) -> None:
    told = numbers_of(pydicom.dcmread(made.report("air")))
    wanted = [m for m in made.rich.findings.measurements if math.isfinite(m.value)]
    for measurement in wanted:
        near = [v for (name, v) in told if name == measurement.name.value]
        assert any(v == pytest.approx(measurement.value, rel=1e-6) for v in near), measurement
    confidences = [m for m in told if m[0] == "111012"]
    assert sorted(v for _, v in confidences) == [60.0, 70.0, 80.0, 90.0]
    assert sum(told.values()) == len(wanted) + len(confidences)


def test_a_failed_measurement_is_an_answer_that_readers_can_bear(made: Made) -> None:
    """highdicom and OHIF fail on a NUM without a value, PixelMed calls it an error."""
    for choice, count in ((("air", "image"), 2), (("segment-only", "image"), 2), (("viewer", "image"), 1)):
        tree = pydicom.dcmread(made.report(*choice))
        assert all(c.MeasuredValueSequence for c in walk(tree) if c.get("ValueType") == "NUM")
        codes = [code_of(c.ConceptCodeSequence[0]).value for c in walk(tree) if c.get("ValueType") == "CODE"]
        assert codes.count("114006") == count


@needs_pixelmed
@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_pixelmed_finds_no_error_in_any_group(
    made: Made, tmp_path: Path, choice: tuple[Report, Coordinates]
) -> None:
    path = made.report(*choice)
    kinds = {
        (template(g), tuple(sorted({c.ValueType for c in g.ContentSequence}))): number
        for number, g in enumerate(groups_of(pydicom.dcmread(path)))
    }
    found = pixelmed_errors(path, tmp_path, kinds.values())
    assert found == {number: [] for number in kinds.values()}


@needs_pixelmed
@pytest.mark.slow
def test_pixelmed_sees_a_drawing_on_no_image_and_a_segment_of_no_series(made: Made, tmp_path: Path) -> None:
    tree = pydicom.dcmread(made.report("viewer"))
    planar, volumetric = groups_of(tree)[:2]
    (drawing,) = (c for c in planar.ContentSequence if c.ValueType == "SCOORD")
    del drawing.ContentSequence
    volumetric.ContentSequence = [c for c in volumetric.ContentSequence if c.ValueType != "UIDREF"]
    tree.save_as(tmp_path / "damaged.dcm")
    assert all(pixelmed_errors(tmp_path / "damaged.dcm", tmp_path, [0, 1]).values())


def test_in_a_report_for_viewers_each_finding_has_a_drawing_on_an_image(made: Made) -> None:
    tree = pydicom.dcmread(made.report("viewer"))
    drawn: Counter[str] = Counter()
    for group in groups_of(tree):
        uid = str(children(group, "UIDREF", TRACKING_UID)[0].UID)
        drawn[uid] += len(children(group, "SCOORD"))
    assert len(drawn) == 7 and set(drawn.values()) == {1}
    shapes = [
        (str(c.GraphicType), len(c.GraphicData) // 2) for c in walk(tree) if c.get("ValueType") == "SCOORD"
    ]
    assert shapes[4] == ("POLYLINE", 2)
    # OHIF makes a POINT its probe, 4 or 5 points its rectangle, and then shows numbers of its own
    assert all(shape == "POLYLINE" and count >= 7 for shape, count in (*shapes[:4], *shapes[5:]))


def test_detections_are_drawn_where_they_are_pixel_centres_half_a_pixel_in(made: Made) -> None:
    tree = pydicom.dcmread(made.report("viewer"))
    drawings = [c for c in walk(tree) if c.get("ValueType") == "SCOORD"][3:]
    volume = made.rich.volume
    for drawing, box in zip(
        drawings, ([40.0, 23.0, 41.0, 24.0], *[[36.5, 20.5, 43.5, 26.5]] * 3), strict=True
    ):
        points = np.array(drawing.GraphicData).reshape(-1, 2)
        assert [*points.min(axis=0), *points.max(axis=0)] == box
        source = drawing.ContentSequence[0].ReferencedSOPSequence[0]
        assert source.ReferencedSOPInstanceUID == volume.slices[5].sop_instance_uid


def test_a_box_of_several_slices_is_a_volume_for_machines(made: Made) -> None:
    for coordinates, kind in (("image", "SCOORD"), ("patient", "SCOORD3D")):
        tree = pydicom.dcmread(made.report("air", coordinates))  # type: ignore[arg-type]
        (group,) = [g for g in groups_of(tree) if template(g) == "1411" and children(g, kind)]
        assert len(children(group, kind)) == 3  # slices 4, 5 and 6


def test_places_in_the_patient_are_those_of_the_affine(made: Made) -> None:
    tree = pydicom.dcmread(made.report("air", "patient"))
    assert not [c for c in walk(tree) if c.get("ValueType") == "SCOORD"]
    places = [c for c in walk(tree) if c.get("ValueType") == "SCOORD3D"]
    volume = made.rich.volume
    affine = volume.image.affine
    by_shape = {d.shape: d.points for d in made.rich.findings.detections}
    for place, shape in ((places[0], "point"), (places[1], "line")):
        expected = by_shape[shape] @ affine[:3, :3].T + affine[:3, 3]
        assert np.allclose(np.array(place.GraphicData).reshape(-1, 3), expected, atol=1e-3)
    assert {str(p.ReferencedFrameOfReferenceUID) for p in places} == {volume.frame_of_reference_uid}
    on_image, in_patient = (
        pydicom.dcmread(made.report("air", c)).SOPInstanceUID for c in ("image", "patient")
    )
    assert on_image != in_patient


def test_a_report_for_slicer_holds_no_drawing_and_no_nameless_image(made: Made) -> None:
    tree = pydicom.dcmread(made.report("segment-only"))
    kinds = {c.get("ValueType") for c in walk(tree)}
    assert not kinds & {"SCOORD", "SCOORD3D"}
    assert all(c.get("ConceptNameCodeSequence") for c in walk(tree))  # OHIF stumbles over those
    assert {template(g) for g in groups_of(tree)} == {"1411", "1501"}
    assert name_of(tree).value == "126001"


def test_the_text_tells_every_detection_with_its_place_and_confidence(made: Made) -> None:
    text = next(o.path for o in made.outcomes["viewer", "image"].objects if o.kind == "sr-text")
    lines = [str(c.TextValue) for c in walk(pydicom.dcmread(text)) if c.get("ValueType") == "TEXT"]
    plane = made.rich.volume.slices[5]
    number = pydicom.dcmread(plane.path, stop_before_pixels=True).InstanceNumber
    assert (
        f"Nodule point: Nodule, Right Lung, on image {number}, row 24, column 41, confidence 60 %." in lines
    )
    assert any("Nodule box" in line and "(seen on 3 images)" in line for line in lines)
    assert "Nodule line: Length 8.5 mm" in lines
    assert "Nodule box: Length could not be measured" in lines
    assert "Nodule contour: Severity: Moderate" in lines


@pytest.mark.parametrize("report", ["viewer", "air", "segment-only", "text"])
def test_the_root_report_refers_in_its_tree_to_every_other_object(
    made: Made, tmp_path: Path, report: Report
) -> None:
    profile = Profile(report=report, also=("rtstruct", "key-objects", "presentation-state"))
    case = made.rich
    outcome = encode(a_job(), case.findings, {"ct": case.volume}, tmp_path, [profile])
    *others, root = outcome.objects
    tree = pydicom.dcmread(root.path)
    pointed = {
        str(r.ReferencedSOPInstanceUID): c.ValueType
        for c in walk(tree)
        for r in c.get("ReferencedSOPSequence") or ()
    }
    for other in others:
        assert pointed[other.sop_instance_uid] == ("IMAGE" if other.kind == "seg" else "COMPOSITE")
    assert set(root.refers_to) == {o.sop_instance_uid for o in others}
    assert dsrdump(root.path)[1] == []


def test_a_text_reader_sees_a_line_for_each_object_instead_of_an_unsupported_item(made: Made) -> None:
    """OHIF prints the direct children of containers alone, and "[IMAGE is not supported]" for an image."""
    outcome = made.outcomes["viewer", "image"]
    tree = pydicom.dcmread(outcome.objects[-1].path)
    boxes = [c for c in walk(tree) if c.get("ValueType") == "CONTAINER"]
    printed = [c for box in boxes for c in box.ContentSequence if c.ValueType != "CONTAINER"]
    assert {c.ValueType for c in printed} <= {"TEXT", "CODE", "UIDREF"}
    lines = [str(c.TextValue) for c in printed if name_of(c).value == "DERIVED-OBJECT"]
    assert lines[0] == "Segmentation, series 9001" and lines[-1] == "Measurements, series 9002"


def test_a_report_names_the_ones_it_supersedes_and_is_another_object_for_it(
    made: Made, tmp_path: Path
) -> None:
    sr_class = "1.2.840.10008.5.1.4.1.1.88.22"
    study = made.rich.volume.study_uid
    earlier = tuple(
        Predecessor(study_uid=study, series_uid=s, sop_class_uid=sr_class, sop_instance_uid=i)
        for s, i in (("1.2.3", "1.2.3.1"), ("1.2.4", "1.2.4.1"))
    )
    uids = []
    for number, predecessors in enumerate(((), earlier)):
        folder = tmp_path / str(number)
        folder.mkdir()
        job = a_job(predecessors=predecessors)
        outcome = encode(job, made.rich.findings, {"ct": made.rich.volume}, folder, [Profile()])
        uids.append([o.sop_instance_uid for o in outcome.objects])
    before, after = (dict(zip(outcome.objects, u, strict=True)) for u in uids)
    assert [a != b for a, b in zip(before.values(), after.values(), strict=True)][-2:] == [True, True]
    for thing in outcome.objects:
        if thing.kind != "seg":
            (item,) = pydicom.dcmread(thing.path).PredecessorDocumentsSequence
            assert item.StudyInstanceUID == study
            named = [
                str(r.ReferencedSOPInstanceUID)
                for s in item.ReferencedSeriesSequence
                for r in s.ReferencedSOPSequence
            ]
            assert named == ["1.2.3.1", "1.2.4.1"]
            assert dciodvfy_errors(thing.path) == []


def test_time_points_tell_the_inputs_of_two_studies_apart(made: Made, tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.int16)
    prior = single_frame_volume(tmp_path / "prior", array, make_affine(), seed="another study")
    assert prior.study_uid != made.rich.volume.study_uid
    card = a_card(inputs={"current": a_card().inputs["ct"], "prior": a_card().inputs["ct"]})
    volumes = {"current": made.rich.volume, "prior": prior}
    outcome = encode(a_job(card=card), made.rich.findings, volumes, tmp_path, [Profile(report="air")])
    tree = pydicom.dcmread(outcome.objects[-1].path)
    point = Code("C2348792", "UMLS", "")
    assert all([str(c.TextValue) for c in children(g, "TEXT", point)] == ["current"] for g in groups_of(tree))
    libraries = [c for c in walk(tree) if name_of(c).value == "126200"]
    assert [str(children(box, "TEXT", point)[0].TextValue) for box in libraries] == ["current", "prior"]
    assert [len(children(box, "IMAGE")) for box in libraries] == [SHAPE[0], SHAPE[0]]
    assert dciodvfy_errors(outcome.objects[-1].path) == []


def test_findings_on_the_images_of_another_study_are_refused(made: Made, tmp_path: Path) -> None:
    prior = single_frame_volume(
        tmp_path / "in", np.zeros(SHAPE, np.int16), make_affine(), seed="another study"
    )
    card = a_card(inputs={"current": a_card().inputs["ct"], "prior": a_card().inputs["ct"]})
    volumes = {"prior": prior, "current": made.rich.volume}
    with pytest.raises(EncodeError, match="'prior', which is of another study than 'current'"):
        encode(a_job(card=card), Findings(role="prior"), volumes, tmp_path, [Profile(report="air")])
    second = {**volumes, "prior": replace(prior, study_uid=made.rich.volume.study_uid)}
    assert encode(a_job(card=card), Findings(role="prior"), second, tmp_path, [Profile(report="air")]).objects


def test_the_image_library_tells_how_the_images_lie(made: Made) -> None:
    tree = pydicom.dcmread(made.report("air"))
    (box,) = [c for c in walk(tree) if name_of(c).value == "126200"]
    said = {name_of(c).value: float(c.MeasuredValueSequence[0].NumericValue) for c in children(box, "NUM")}
    slice_mm, row_mm, column_mm = made.rich.volume.image.spacing_mm
    assert (said["110910"], said["110911"]) == SHAPE[1:]
    assert (said["111026"], said["111066"]) == pytest.approx((column_mm, row_mm))
    assert said["112226"] == pytest.approx(slice_mm)
    plane = pydicom.dcmread(made.rich.volume.slices[0].path, stop_before_pixels=True)
    told = [said[str(110904 + i)] for i in range(6)]
    assert told == pytest.approx([float(v) for v in plane.ImageOrientationPatient], abs=1e-6)


def test_two_runs_give_the_same_bytes(made: Made, tmp_path: Path) -> None:
    for (report, coordinates), first in made.outcomes.items():
        folder = tmp_path / f"{report}-{coordinates}"
        folder.mkdir()
        profile = Profile(report=report, coordinates=coordinates)
        again = encode(a_job(), made.rich.findings, {"ct": made.rich.volume}, folder, [profile])
        assert [o.sha256 for o in again.objects] == [o.sha256 for o in first.objects]
