"""Findings on a cine: every object says of which phase and slice it speaks, and others read it so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import highdicom
import numpy as np
import pydicom
import pytest

from node.assemble.image import load_volumes
from node.encode import encode
from node.encode.places import image_name
from node.encode.sr.regions import detection_regions, position_mm
from node.encode.sr.tree import walk
from node.model import Outcome, Volume
from node.picture import draw_findings
from node.profile import EXTRAS, Profile
from pipelines.contract import Code, Detection, Findings, InputSpec, Map, Measurement, Segment
from pipelines.measure import measure_segment
from tests.encode.helpers import a_card, a_job
from tests.encode.judges import dciodvfy_errors, dcmqi_decode, needs_dciodvfy, tid1500
from tests.phantom_cine import BLOOD, Heart, beating_ball, write_cine, write_enhanced_cine
from tests.phantoms import instances_of, to_world

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

CINE = InputSpec(modality=("MR",), unit="1", kind="cine", slices_min=1)
VENTRICLE = Segment(
    number=1,
    label="Left ventricle",
    category=Code("91723000", "SCT", "Anatomical Structure"),
    kind=Code("87878005", "SCT", "Left ventricle of heart"),
    colour_rgb=(230, 80, 80),
)
APEX = Detection(
    number=1,
    label="Apex",
    category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
    kind=Code("27925004", "SCT", "Nodule"),
    shape="point",
    points=np.zeros((1, 3)),
    confidence=0.75,
)
CARD = a_card(inputs={"cine": CINE}, segments=(VENTRICLE,))
RATIO = Code("1", "UCUM", "no units")


class Case(NamedTuple):
    heart: Heart
    volume: Volume
    findings: Findings
    outcome: Outcome
    folder: Path

    def objects(self, kind: str) -> list[pydicom.Dataset]:
        return [pydicom.dcmread(thing.path) for thing in self.outcome.objects if thing.kind == kind]


def case_of(folder: Path, kind: str, profile: Profile) -> Case:
    heart = beating_ball(4, (6, 30, 28), (9.0, 2.0, 1.8))
    if kind == "classic":
        paths = write_cine(folder / "source", heart.array, heart.affine)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [write_enhanced_cine(folder / "source.dcm", heart.array, heart.affine)]
    volume = load_volumes({"cine": instances_of(paths)}, CARD)["cine"]
    image = volume.image
    mask = image.array == BLOOD
    heat = np.where(mask, 0.5, 0.0).astype(np.float32)
    slices = image.slices
    findings = Findings(
        labelmap=mask.astype(np.uint8),
        affine=image.affine,
        segments=(VENTRICLE,),
        detections=(
            replace(APEX, points=np.array([[2.0 * slices + 4, 12.0, 10.0]])),
            replace(
                APEX,
                number=2,
                label="Box",
                shape="box",
                points=np.array([[3.0 * slices + 2, 5.0, 6.0], [3.0 * slices + 4, 15.0, 16.0]]),
            ),
        ),
        maps=(
            Map(label="Wall", quantity=Code("HEAT", "99RADNODE", "Heat"), unit=RATIO, array=heat),
            Map(
                label="Chance",
                quantity=Code("CHANCE", "99RADNODE", "Chance"),
                unit=RATIO,
                array=heat,
                segment=1,
            ),
        ),
        measurements=(
            *measure_segment(("volume", "mean"), mask, image, segment=1),
            Measurement(
                name=Code("8811-2", "LN", "Left ventricular ejection fraction by MR"),
                value=70.4,
                unit=Code("%", "UCUM", "Percent"),
                segment=1,
            ),
        ),
    )
    out = folder / "out"
    out.mkdir()
    outcome = encode(a_job(card=CARD), findings, {"cine": volume}, out, (profile,))
    return Case(heart, volume, findings, outcome, out)


@pytest.fixture(scope="module", params=["classic", "enhanced"])
def case(request, tmp_path_factory) -> Case:
    return case_of(tmp_path_factory.mktemp(request.param), request.param, Profile(also=EXTRAS))


@needs_dciodvfy
def test_a_validator_finds_no_error_in_any_object(case):
    assert {thing.kind for thing in case.outcome.objects} == {
        "seg", "sr-measurements", "sr-text", *EXTRAS
    } - {"rtstruct"}  # fmt: skip
    for thing in case.outcome.objects:
        assert dciodvfy_errors(thing.path) == [], thing.kind


def test_each_frame_of_the_segmentation_names_its_phase_its_place_and_its_source(case):
    (seg,) = case.objects("seg")
    slices = case.volume.image.slices
    pointers = [str(d.DimensionDescriptionLabel) for d in seg.DimensionIndexSequence]
    assert pointers[1:] == ["Temporal Position Index", "Image Position (Patient)"]
    planes = {(s.sop_instance_uid, s.frame): i for i, s in enumerate(case.volume.slices)}
    for group in seg.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        index = planes[source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber")]
        phase, place = divmod(index, slices)
        content = group.FrameContentSequence[0]
        assert content.TemporalPositionIndex == phase + 1
        assert list(content.DimensionIndexValues) == [1, phase + 1, place + 1]
        position = group.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(position, to_world(case.heart.affine, (place, 0, 0)), atol=1e-3)


def test_highdicom_reads_every_phase_back_by_its_source(case):
    (thing,) = (t for t in case.outcome.objects if t.kind == "seg")
    seg = highdicom.seg.segread(thing.path)
    planes = case.volume.slices
    if planes[0].frame is None:
        pixels = seg.get_pixels_by_source_instance(
            [p.sop_instance_uid for p in planes],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    else:
        pixels = seg.get_pixels_by_source_frame(
            planes[0].sop_instance_uid,
            [p.frame for p in planes],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    found = pixels[..., 0].reshape(case.heart.masks.shape) > 0
    assert np.array_equal(found, case.heart.masks)
    volumes_ml = found.sum(axis=(1, 2, 3)) * case.volume.image.voxel_ml
    assert volumes_ml == pytest.approx(case.heart.volumes_ml, rel=0.08)


def test_dcmqi_reads_a_segmentation_of_one_phase(tmp_path):
    """It knows no time: of one phase alone it makes the volume that was meant."""
    made = case_of(tmp_path, "classic", Profile())
    slices = made.volume.image.slices
    labels = made.findings.labelmap.copy()
    labels[slices:] = 0
    findings = replace(made.findings, labelmap=labels, maps=(), measurements=())
    out = tmp_path / "one"
    out.mkdir()
    outcome = encode(a_job(card=CARD), findings, {"cine": made.volume}, out)
    (thing,) = (t for t in outcome.objects if t.kind == "seg")
    (decoded,) = dcmqi_decode(thing.path, tmp_path / "nrrd")
    mask = decoded.labels > 0
    centre_mm = to_world(decoded.affine, np.argwhere(mask).mean(axis=0))
    assert np.allclose(centre_mm, made.heart.centre_mm, atol=0.1)
    assert mask.sum() == made.heart.masks[0].sum()


def test_a_parametric_map_holds_every_phase(case):
    one = case.objects("parametric-map")[0]
    slices = case.volume.image.slices
    frames = np.frombuffer(one.FloatPixelData, "<f4").reshape(one.NumberOfFrames, one.Rows, one.Columns)
    assert one.NumberOfFrames % case.volume.image.phases == 0
    planes = {(s.sop_instance_uid, s.frame): i for i, s in enumerate(case.volume.slices)}
    seen = set()
    for frame, group in zip(frames, one.PerFrameFunctionalGroupsSequence, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        index = planes[source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber")]
        assert np.array_equal(frame, case.findings.maps[0].array[index])
        assert group.FrameContentSequence[0].TemporalPositionIndex == index // slices + 1
        seen.add(tuple(group.FrameContentSequence[0].DimensionIndexValues))
    assert len(seen) == len(frames)


def test_a_structure_set_is_not_made_and_the_reason_is_told(case):
    assert not case.objects("rtstruct")
    assert any("phases of a cine" in note for note in case.outcome.notes)


def test_places_in_the_patient_are_those_of_one_phase(case):
    point, box = (detection_regions(d, case.volume) for d in case.findings.detections)
    assert np.allclose(position_mm(point[0], case.volume), to_world(case.heart.affine, (4, 12, 10)))
    assert [region.index % case.volume.image.slices for region in box] == [2, 3, 4]


def test_a_reader_hears_the_phase_of_an_image(case):
    slices = case.volume.image.slices
    assert image_name(case.volume, 2 * slices + 4).endswith("(phase 3)")
    (report,) = case.objects("sr-text")
    told = " ".join(str(content.get("TextValue")) for content in walk(report))
    assert "(phase 3)" in told and "(phase 4)" in told


def test_detections_are_on_the_image_of_their_phase_even_for_those_who_want_the_patient(tmp_path):
    made = case_of(tmp_path, "classic", Profile(report="air", coordinates="patient"))
    (report,) = made.objects("sr-air")
    assert "SCOORD3D" not in str(report)
    plane = made.volume.slices[2 * made.volume.image.slices + 4]
    assert plane.sop_instance_uid in str(report)


def test_the_measurements_are_read_by_dcmqi(case, tmp_path):
    (thing,) = (t for t in case.outcome.objects if t.kind == "sr-measurements")
    assert tid1500(thing.path, tmp_path / "out.json")["Measurements"]


def test_the_preview_shows_one_slice_at_several_phases(case):
    picture = draw_findings(case.findings, {"cine": case.volume.image}, CARD)
    tinted = np.asarray(picture).astype(int)
    red = (tinted[..., 0] - tinted[..., 1] > 60) & (tinted[..., 2] < 130)
    assert red.sum() > 500
