"""Overlays for readers that know no segmentation: what others read of them, and what they look like."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from pydicom.dataset import Dataset

from node.assemble.image import load_volume
from node.encode import encode
from node.encode.common import RESEARCH_NOTICE, save
from node.encode.lint import faults
from node.encode.lint.render import secondary_capture_faults
from node.encode.material import NotApplicable
from node.encode.render.frames import (
    BAND_PX,
    FRAMES_MAX,
    IMAGE_MAX_PX,
    PANEL_PX,
    band,
    chosen_slices,
    layout_of,
)
from node.encode.render.secondary_capture import MAPS_MAX, make_secondary_capture
from node.encode.render.source import read_source
from node.model import Outcome, ResultObject, Volume
from node.picture.cut import view
from node.picture.window import LUNG
from node.profile import Presentation, Profile
from pipelines.contract import Code, Detection, Evaluation, Findings, InputSpec, Map
from tests.encode.helpers import (
    ABNORMAL,
    LEFT_LUNG,
    NODULE,
    RIGHT_LUNG,
    a_card,
    a_job,
    enhanced_volume,
    findings_of,
    material_of,
    single_frame_volume,
)
from tests.encode.judges import dciodvfy_errors, needs, needs_dciodvfy
from tests.encode.rich import NO_UNITS, PROBABILITY, Rich, rich
from tests.paths import SHARED, needs_shared
from tests.phantoms import instances_of, make_affine

KIND = "secondary-capture"
SOME = (LEFT_LUNG, RIGHT_LUNG)


def made_of(volume: Volume, findings: Findings, folder: Path, **job: object) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    return encode(a_job(**job), findings, {"ct": volume}, folder, (Profile(also=("secondary-capture",)),))


def overlays(result: Outcome) -> list[ResultObject]:
    return [thing for thing in result.objects if thing.kind == KIND]


def pixels_of(thing: ResultObject) -> np.ndarray:
    """Return (frames, rows, columns, 3)."""
    array = pydicom.dcmread(thing.path).pixel_array
    return array if array.ndim == 4 else array[None]


def a_volume(folder: Path, count: int, side: int = 32) -> Volume:
    array = np.random.default_rng(5).integers(-900, 100, (count, side, side)).astype(np.int16)
    return single_frame_volume(folder, array, make_affine("axial"))


def a_point(index: int, number: int = 1) -> Detection:
    where = np.array([[float(index), 10.0, 12.0]])
    return Detection(number=number, label="Spot", category=ABNORMAL, kind=NODULE, shape="point", points=where)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rich, Outcome]:
    made = rich(tmp_path_factory.mktemp("source"))
    return made, made_of(made.volume, made.findings, tmp_path_factory.mktemp("results"))


@needs_dciodvfy
def test_the_validator_finds_no_error_in_any_overlay(case: tuple[Rich, Outcome]) -> None:
    made = overlays(case[1])
    assert len(made) == 2  # outlines and detections; the map that has no outline
    assert [dciodvfy_errors(thing.path) for thing in made] == [[], []]


@needs("dcm2pnm", "dcmtk")
def test_dcmtk_draws_the_same_frame(case: tuple[Rich, Outcome], tmp_path: Path) -> None:
    thing = overlays(case[1])[0]
    target = tmp_path / "frame.ppm"
    subprocess.run(["dcm2pnm", "+F", "6", str(thing.path), str(target)], check=True, capture_output=True)
    np.testing.assert_array_equal(np.asarray(Picture.open(target)), pixels_of(thing)[5])


def test_structures_have_their_colour_where_they_are_and_nowhere_else(case: tuple[Rich, Outcome]) -> None:
    """Frames are 8 times the source of 64 x 56 pixels of 0.8 x 0.7 mm: 392 x 512."""
    frames = pixels_of(overlays(case[1])[0]).astype(int)
    image = frames[:, :512, :392]
    # the edge of the left lung: rows 10..49, columns 5..23 of the source, slices 2..9
    assert (image[5, 10 * 8, 60:150] == LEFT_LUNG.colour_rgb).all()
    assert (image[5, 50 * 8 - 1, 60:150] == LEFT_LUNG.colour_rgb).all()
    assert (image[5, 100:300, 5 * 7] == LEFT_LUNG.colour_rgb).all()
    inside, outside = image[5, 120:300, 50:150], image[5, 60:380, 175:200]
    assert (inside[..., 2] > inside[..., 0]).mean() > 0.99  # tinted blue
    assert (np.ptp(outside, axis=-1) == 0).all()  # between the lungs all is grey
    for index in (0, 1, 10, 11):  # nothing lies on these slices; letters of direction are grey too
        assert (np.ptp(image[index], axis=-1) == 0).all()


def test_every_frame_carries_the_notice_and_the_algorithm(case: tuple[Rich, Outcome]) -> None:
    made, result = case
    material = material_of(made.volume, made.findings)
    for thing in overlays(result):
        frames = pixels_of(thing)
        wanted = np.asarray(band(material, frames.shape[2]))
        assert all(np.array_equal(frame[-BAND_PX:], wanted) for frame in frames)
    other = material_of(made.volume, made.findings, card=a_card(version="0.1.1"))
    assert not np.array_equal(np.asarray(band(other, 640)), np.asarray(band(material, 640)))


@pytest.mark.parametrize(
    ("orientation", "kind"),
    [
        ("axial", "single"),
        ("oblique", "single"),
        ("oblique", "reversed"),
        ("oblique", "enhanced"),
        ("sagittal", "single"),
        ("coronal", "enhanced"),
    ],
)
def test_frames_lie_where_their_source_lies(tmp_path: Path, orientation: str, kind: str) -> None:
    """A point of the picture is, by the frame's own geometry, where the source has it."""
    array = np.zeros((4, 40, 30), np.int16)
    affine = make_affine(orientation)
    (tmp_path / "in").mkdir()
    if kind == "enhanced":
        volume = enhanced_volume(tmp_path / "in" / "source.dcm", array, affine)
    else:
        volume = single_frame_volume(tmp_path / "in", array, affine, reverse=kind == "reversed")
    mask = np.zeros(array.shape, bool)
    mask[1, 5:9, 20:24] = True
    red = replace(LEFT_LUNG, colour_rgb=(255, 0, 0))
    (thing,) = overlays(made_of(volume, findings_of(volume, [mask], [red]), tmp_path / "out"))
    ds = pydicom.dcmread(thing.path)
    frames = pixels_of(thing)[:, :-BAND_PX, :-PANEL_PX].astype(int)
    frame, row, column = np.argwhere((frames[..., 0] - frames[..., 1]) > 60).mean(axis=0)
    shared = ds.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    place = ds.PerFrameFunctionalGroupsSequence[round(frame)].PlanePositionSequence[0]
    said = np.array(place.ImagePositionPatient, float)
    said = said + cosines[:3] * spacing[1] * column + cosines[3:] * spacing[0] * row
    meant = volume.image.affine[:3, :3] @ (1.0, 6.5, 21.5) + volume.image.affine[:3, 3]
    np.testing.assert_allclose(said, meant, atol=0.05)
    sources = [str(one.ReferencedSOPInstanceUID) for one in ds.SourceImageSequence]
    assert sources == [plane.sop_instance_uid for plane in volume.slices]


def test_an_overlay_refers_to_what_says_the_same_and_claims_no_patient_in_its_pixels(
    case: tuple[Rich, Outcome],
) -> None:
    _, result = case
    siblings = {t.sop_instance_uid for t in result.objects if t.kind in ("seg", "sr-measurements")}
    for thing in overlays(result):
        ds = pydicom.dcmread(thing.path)
        assert siblings == set(thing.refers_to)
        assert {str(one.ReferencedSOPInstanceUID) for one in ds.SourceInstanceSequence} == siblings
        assert (ds.BurnedInAnnotation, ds.Modality, ds.ConversionType) == ("NO", "OT", "WSD")
        assert (
            RESEARCH_NOTICE in ds.DerivationDescription and "all 12 source images" in ds.DerivationDescription
        )
        assert ds.LossyImageCompression == "00"
    (root,) = [t for t in result.objects if t.kind == "sr-text"]
    assert {t.sop_instance_uid for t in overlays(result)} <= set(root.refers_to)


def test_two_runs_give_the_same_bytes(case: tuple[Rich, Outcome], tmp_path: Path) -> None:
    made, result = case
    again = made_of(made.volume, made.findings, tmp_path / "again")
    assert [t.sha256 for t in overlays(again)] == [t.sha256 for t in overlays(result)]


def test_a_map_is_shown_hot_where_it_is_high(case: tuple[Rich, Outcome]) -> None:
    frames = pixels_of(overlays(case[1])[1]).astype(int)
    area = frames[:, :512, :392]
    coloured = (np.ptp(area, axis=-1) > 40).any(axis=(1, 2))
    assert coloured[4:7].all()
    assert "Map 'Attention'" in pydicom.dcmread(overlays(case[1])[1].path).DerivationDescription
    hot = np.argwhere((area[6, ..., 0] - area[6, ..., 2] > 90) & (area[6, ..., 0] > 150))
    row, column = np.median(hot, axis=0)
    assert 20 * 8 <= row <= 27 * 8 and 36 * 7 <= column <= 44 * 7
    scale = frames[0, :120, 392:-4]  # the bar of colours is on frames without heat too
    assert (np.ptp(scale, axis=-1) > 60).sum() > 1000


def test_maps_of_outlined_structures_are_not_drawn_twice_and_others_are_bounded(tmp_path: Path) -> None:
    volume = a_volume(tmp_path, 3)
    heat = np.linspace(0, 1, volume.image.array.size, dtype=np.float32).reshape(volume.image.array.shape)
    one = Map(label="Heat", quantity=PROBABILITY, unit=NO_UNITS, array=heat)
    only_maps = Findings(affine=volume.image.affine, maps=(one,) * (MAPS_MAX + 3))
    drawn = []
    with pytest.raises(NotApplicable, match=rf"show {MAPS_MAX} maps\. 3 more maps are not drawn\."):
        for ds in make_secondary_capture(material_of(volume, only_maps)):
            drawn.append(ds.SeriesDescription.removeprefix("lung-density 0.1.0 "))
    assert drawn == ["overlay, research only"] + [
        f"overlay {number}, research only" for number in range(2, MAPS_MAX + 2)
    ]
    single = Findings(affine=volume.image.affine, maps=(one,))
    (ds,) = make_secondary_capture(material_of(volume, single))
    assert "Map 'Heat'" in ds.DerivationDescription
    assert (ds.SeriesNumber, ds.SeriesDescription.split(", ")[0]) == (9010, "lung-density 0.1.0 overlay")
    mask = np.zeros(volume.image.array.shape, bool)
    mask[1, 4:9, 4:9] = True
    outlined = findings_of(volume, [mask], [LEFT_LUNG], maps=(replace(one, segment=1),))
    (ds,) = make_secondary_capture(material_of(volume, outlined))
    assert "Outlines" in ds.DerivationDescription


def test_finding_nothing_is_shown_as_such(tmp_path: Path) -> None:
    volume = a_volume(tmp_path / "in", 3)
    empty = [np.zeros(volume.image.array.shape, bool)] * 2
    (nothing,) = overlays(made_of(volume, findings_of(volume, empty, SOME), tmp_path / "a"))
    severe = Evaluation(name=PROBABILITY, value=Code("A", "99TEST", "Present"), probability=0.5)
    told = findings_of(volume, empty, SOME, evaluations=(severe,))
    words = [pixels_of(t)[:, :-BAND_PX, -PANEL_PX:].astype(int).sum() for t in (nothing,)]
    assert words[0] > 100_000  # a sentence in the panel
    material = material_of(volume, told)
    (ds,) = make_secondary_capture(material)
    assert ds.NumberOfFrames == 3


def test_a_long_volume_is_shown_where_something_was_found(tmp_path: Path) -> None:
    volume = a_volume(tmp_path, 20, 16)
    material = material_of(volume, Findings(affine=volume.image.affine, detections=(a_point(7),)))
    assert chosen_slices(material, 20)[0] == list(range(20))
    shown, told = chosen_slices(material, 12)
    assert shown == [5, 6, 7, 8, 9] and "5 of 20" in told
    labelmap = np.zeros(volume.image.array.shape, np.uint8)
    labelmap[2:19, 3:9, 3:9] = 1
    lung = Findings(
        labelmap=labelmap,
        affine=volume.image.affine,
        segments=(LEFT_LUNG,),
        detections=(a_point(7), a_point(13, 2)),
    )
    shown, told = chosen_slices(material_of(volume, lung), 6)
    assert len(shown) <= 6 and {7, 13} <= set(shown) and "evenly spread" in told


def test_an_overlay_stays_below_the_size_that_is_allowed(tmp_path: Path) -> None:
    volume = a_volume(tmp_path / "in", 12)
    findings = Findings(affine=volume.image.affine, detections=(a_point(7),))
    small = Presentation(max_object_mb=3.0)
    (thing,) = overlays(made_of(volume, findings, tmp_path / "out", presentation=small))
    ds = pydicom.dcmread(thing.path)
    assert len(ds.PixelData) <= 3_000_000 and "of 12 source images" in ds.DerivationDescription
    assert volume.slices[7].sop_instance_uid in [
        str(one.ReferencedSOPInstanceUID) for one in ds.SourceImageSequence
    ]
    large = view(replace(volume.image, array=np.zeros((1, 3000, 2000), np.float32)), Findings(), LUNG, 0)
    assert max(layout_of(large, 1, 1e9).image_px) == IMAGE_MAX_PX
    assert layout_of(large, FRAMES_MAX, 1e8).frame_bytes * FRAMES_MAX < 3e8


def test_a_source_that_may_name_the_patient_is_told(tmp_path: Path) -> None:
    volume = a_volume(tmp_path, 2)
    path = volume.slices[1].path
    ds = pydicom.dcmread(path)
    assert not read_source(volume, "CHEST").burned_in
    assert read_source(volume, "HEAD").recognizable is True
    assert read_source(volume, "CHEST").recognizable is False
    assert read_source(volume, "").recognizable is None
    assert read_source(replace(volume, image=replace(volume.image, modality="US")), "").burned_in
    ds.BurnedInAnnotation = "YES"
    ds.WindowCenter, ds.WindowWidth = [50, -600], [350, 1500]
    ds.save_as(path)
    assert read_source(volume, "CHEST").burned_in
    assert read_source(volume, "CHEST").window == (-125, 225)
    findings = Findings(affine=volume.image.affine, detections=(a_point(0),))
    (made,) = make_secondary_capture(material_of(volume, findings))
    assert made.BurnedInAnnotation == "YES"


REAL = {
    "CR": ("cxr/RG1_J2KI.dcm", "CR"),
    "DX": ("cxr/dx_image.dcm", "DX"),
    "MG": ("mammography/GH133.dcm", "MG"),
    "US": ("us_cine/examples_rgb_color.dcm", "US"),
    "US cine": ("us_cine/examples_ybr_color.dcm", "US"),
}


@needs_shared
@needs_dciodvfy
@pytest.mark.parametrize(("where", "modality"), REAL.values(), ids=REAL.keys())
def test_real_images_without_a_place_are_shown_at_square_pixels(
    tmp_path: Path, where: str, modality: str
) -> None:
    spec = InputSpec(modality=(modality,), unit="1", kind="planes", slices_min=1)
    volume = load_volume(instances_of([SHARED / where]), spec)
    count, rows, columns = volume.image.array.shape
    labelmap = np.zeros((count, rows, columns), np.uint8)
    labelmap[0, rows // 4 : rows // 2, columns // 4 : columns // 2] = 1
    findings = Findings(labelmap=labelmap, affine=volume.image.affine, segments=(LEFT_LUNG,))
    (thing,) = overlays(made_of(volume, findings, tmp_path))
    assert dciodvfy_errors(thing.path) == []
    ds = pydicom.dcmread(thing.path)
    assert ds.NumberOfFrames == count and "FrameOfReferenceUID" not in ds
    frames = pixels_of(thing).astype(int)
    blue = np.argwhere((frames[0, :-BAND_PX, :-PANEL_PX] == LEFT_LUNG.colour_rgb).all(axis=-1))
    height, width = np.ptp(blue, axis=0) + 1
    _, row_mm, column_mm = volume.image.spacing_mm
    drawn = (rows // 2 - rows // 4) * row_mm / ((columns // 2 - columns // 4) * column_mm)
    assert height / width == pytest.approx(drawn, rel=0.03)


@pytest.fixture
def judged(case: tuple[Rich, Outcome], tmp_path: Path) -> Callable[[Callable[[Dataset], None]], list[str]]:
    """Return a function that damages the first overlay and says what the linter finds."""
    made, result = case
    thing = overlays(result)[0]
    siblings = [t for t in result.objects if t.kind in ("seg", "sr-measurements")]
    material = material_of(made.volume, made.findings, siblings)

    def judge(damage: Callable[[Dataset], None]) -> list[str]:
        ds = pydicom.dcmread(thing.path)
        damage(ds)
        written = save(ds, tmp_path / "damaged.dcm", kind=KIND, siblings=siblings)
        return [f for f in faults([*siblings, written], material) if f.startswith(KIND)]

    assert judge(lambda ds: None) == []
    return judge


def _move(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]


def _turn(ds: Dataset) -> None:
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def _paint(ds: Dataset, rows: slice, colour: int) -> None:
    frames = ds.pixel_array.copy()
    frames[5, rows] = colour
    ds.PixelData = frames.tobytes()


def _drop(ds: Dataset, keyword: str) -> None:
    delattr(ds, keyword)


DAMAGES: dict[str, tuple[Callable[[Dataset], None], str]] = {
    "modality": (lambda ds: setattr(ds, "Modality", "CT"), "class or modality"),
    "colours": (lambda ds: setattr(ds, "PhotometricInterpretation", "YBR_FULL"), "not RGB"),
    "words": (lambda ds: setattr(ds, "DerivationDescription", "Nice picture"), "does not say"),
    "burned in": (lambda ds: setattr(ds, "BurnedInAnnotation", "YES"), "Burned In Annotation"),
    "conversion": (lambda ds: _drop(ds, "ConversionType"), "Conversion Type"),
    "siblings": (lambda ds: _drop(ds, "SourceInstanceSequence"), "does not refer"),
    "a frame too many": (lambda ds: ds.SourceImageSequence.pop(), "one plane of the volume per frame"),
    "a foreign image": (
        lambda ds: setattr(ds.SourceImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3"),
        "one plane of the volume per frame",
    ),
    "frame of reference": (lambda ds: setattr(ds, "FrameOfReferenceUID", "1.2.3"), "frame of reference"),
    "place": (_move, "1 frames do not lie"),
    "direction": (_turn, "orientation"),
    "no places": (lambda ds: ds.PerFrameFunctionalGroupsSequence.pop(), "not every frame has a place"),
    "notice": (lambda ds: _paint(ds, slice(-BAND_PX, None), 0), "1 frames do not show the notice"),
    "outlines": (lambda ds: _paint(ds, slice(0, -BAND_PX), 90), "1 frames do not show what was outlined"),
    "pixels": (lambda ds: setattr(ds, "PixelData", ds.PixelData[:-1000]), "has not the length"),
}


@pytest.mark.parametrize(("damage", "fault"), DAMAGES.values(), ids=DAMAGES.keys())
def test_the_linter_sees_what_is_wrong(
    judged: Callable[[Callable[[Dataset], None]], list[str]], damage: Callable[[Dataset], None], fault: str
) -> None:
    found = judged(damage)
    assert any(fault in one for one in found), found


def test_the_linter_knows_the_limit_and_a_source_without_a_place(case: tuple[Rich, Outcome]) -> None:
    made, result = case
    thing, siblings = overlays(result)[0], [t for t in result.objects if t.kind == "seg"]
    ds = pydicom.dcmread(thing.path)
    material = material_of(made.volume, made.findings, siblings)
    small = replace(material, job=replace(material.job, presentation=Presentation(max_object_mb=1)))
    assert list(secondary_capture_faults(ds, thing, small)) == ["it is larger than objects may be"]
    placeless = replace(made.volume, frame_of_reference_uid="")
    found = list(secondary_capture_faults(ds, thing, replace(material, volumes={"ct": placeless})))
    assert found == ["frames have a place in the patient that the source does not have"]
