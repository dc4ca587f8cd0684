"""Every rule about Segmentations, seen to fail on one that was damaged on purpose; one case per encoding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from node.encode import encode
from node.encode.lint import faults
from node.profile import Profile
from pipelines.contract import Code, Map
from tests.encode.damage import Case, both, damaged, drop, in_first, in_frame, in_segment, in_shared, put
from tests.encode.helpers import (
    LEFT_LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    Damage,
    a_job,
    findings_of,
    single_frame_volume,
)
from tests.encode.test_seg_planes import US_CINE, planes_of, simulated
from tests.phantoms import make_affine

SHAPE = (8, 24, 20)
Rules = list[tuple[str, Damage, str]]


def a_case(folder: Path, profile: Profile, *, overlap: bool = False, cine: bool = False) -> Case:
    if cine:
        volume = planes_of(simulated(folder / "in", US_CINE, "US", frames=SHAPE[0]))
    else:
        array = np.random.default_rng(5).integers(-1000, 200, SHAPE).astype(np.int16)
        volume = single_frame_volume(folder / "in", array, make_affine("oblique"))
    shape = volume.image.array.shape
    left, right, nodule = (np.zeros(shape, bool) for _ in range(3))
    left[1:6, 4:20, 2:9] = True
    right[2:7, 4:20, 11:18] = True
    nodule[5, 15:18, 3:7] = True
    nodule &= overlap | ~left
    nodule[6, 21:23, 3:7] = True
    segments = [LEFT_LUNG, RIGHT_LUNG, NODULE_SEGMENT]
    findings = findings_of(volume, [left, right, nodule], segments, measurements=())
    chance = np.where(left, np.float32(0.75), np.float32(0))
    quantity, unit = Code("C0018", "99TEST", "Probability"), Code("1", "UCUM", "no units")
    maps = tuple(
        Map(label=f"Map {n}", quantity=quantity, unit=unit, array=array, segment=n)
        for n, array in ((1, chance), (2, chance * np.float32(0.5)))
    )
    findings = replace(findings, maps=maps, cautions=("Made for a test.",))
    (folder / "out").mkdir()
    result = encode(a_job(), findings, {"ct": volume}, folder / "out", [profile])
    return Case(volume, findings, result, profile)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    report = Profile(report="segment-only")
    choices = {
        "binary": (replace(report, also=("fractional",)), {}),
        "groups": (report, {"overlap": True}),
        "labelmap": (replace(report, labelmap="always"), {}),
        "cine": (Profile(report="text"), {"cine": True}),
    }
    return {
        name: a_case(tmp_path_factory.mktemp(name), profile, **options)
        for name, (profile, options) in choices.items()
    }


def test_undamaged_results_have_no_fault(cases: dict[str, Case]) -> None:
    for case in cases.values():
        assert case.judged(case.result.objects) == []
    kinds = {name: [thing.kind for thing in case.result.objects][:-1] for name, case in cases.items()}
    assert kinds == {
        "binary": ["seg", "fractional"],
        "groups": ["seg", "seg"],
        "labelmap": ["seg"],
        "cine": ["seg"],
    }


def other_frame_source(ds: Dataset) -> None:
    groups = ds.PerFrameFunctionalGroupsSequence
    groups[0].DerivationImageSequence = groups[1].DerivationImageSequence


def flip_a_pixel(ds: Dataset) -> None:
    ds.PixelData = bytes([ds.PixelData[0] ^ 1]) + ds.PixelData[1:]


def swap_segments(ds: Dataset) -> None:
    ds.SegmentSequence = list(reversed(ds.SegmentSequence))


def same_tracking(ds: Dataset) -> None:
    ds.SegmentSequence[1].TrackingUID = ds.SegmentSequence[0].TrackingUID


def swap_tracking(ds: Dataset) -> None:
    first, second = ds.SegmentSequence[:2]
    first.TrackingUID, second.TrackingUID = second.TrackingUID, first.TrackingUID


def other_side(ds: Dataset) -> None:
    kind = ds.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = "24028007"


def other_kind(ds: Dataset) -> None:
    ds.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"


def less_evidence(ds: Dataset) -> None:
    references = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence = references[:-1]


def one_frame_less(ds: Dataset) -> None:
    size = ds.Rows * ds.Columns * ds.BitsAllocated // 8
    ds.PixelData = ds.PixelData[: size * (ds.NumberOfFrames - 1)]
    ds.NumberOfFrames -= 1
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:-1]


def no_segment_index(ds: Dataset) -> None:
    ds.DimensionIndexSequence = ds.DimensionIndexSequence[1:]


def no_measures(ds: Dataset) -> None:
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


EVERY: Rules = [
    ("no series", drop("ReferencedSeriesSequence"), "viewers cannot open it"),
    (
        "series",
        in_first("ReferencedSeriesSequence", put("SeriesInstanceUID", "1.2.3")),
        "viewers cannot open",
    ),
    ("instances", less_evidence, "not those that were used"),
    ("frame of reference", put("FrameOfReferenceUID", "1.2.3"), "frame of reference"),
    ("spacing", in_shared("PixelMeasuresSequence", put("PixelSpacing", [1, 1])), "spacing"),
    ("no spacing", no_measures, "or absent although known"),
    (
        "orientation",
        in_shared("PlaneOrientationSequence", put("ImageOrientationPatient", [1, 0, 0, 0, 1, 0])),
        "the orientation is not",
    ),
    (
        "no orientation",
        in_first("SharedFunctionalGroupsSequence", drop("PlaneOrientationSequence")),
        "or absent although it has one",
    ),
    ("segments", swap_segments, "segments are not those"),
    ("label", in_segment(put("SegmentLabel", "")), "no label"),
    ("colour", in_segment(drop("RecommendedDisplayCIELabValue")), "no display colour"),
    ("algorithm", in_segment(put("SegmentAlgorithmName", "else")), "names another algorithm"),
    ("algorithm macro", in_segment(drop("SegmentationAlgorithmIdentificationSequence")), "another algorithm"),
    ("side", other_side, "another side"),
    ("kind", other_kind, "other codes"),
    ("tracking swapped", swap_tracking, "another side"),
    ("frames", put("NumberOfFrames", 3), "Number of Frames"),
    ("length", lambda ds: setattr(ds, "PixelData", ds.PixelData + b"\0\0"), "length"),
    ("short", lambda ds: setattr(ds, "PixelData", ds.PixelData[:-200]), "fewer pixels"),
    (
        "identification",
        in_first("PerFrameFunctionalGroupsSequence", drop("SegmentIdentificationSequence")),
        "does not name its segment",
    ),
    (
        "no source",
        in_first("PerFrameFunctionalGroupsSequence", drop("DerivationImageSequence")),
        "does not name its segment and source plane",
    ),
    (
        "unknown segment",
        in_frame("SegmentIdentificationSequence", put("ReferencedSegmentNumber", 9)),
        "not described",
    ),
    ("source", other_frame_source, "same segment on the same plane"),
    ("a frame less", one_frame_less, "not those where the findings have voxels"),
    (
        "position",
        in_frame("PlanePositionSequence", put("ImagePositionPatient", [0, 0, 0])),
        "do not lie where",
    ),
    (
        "no position",
        in_first("PerFrameFunctionalGroupsSequence", drop("PlanePositionSequence")),
        "do not lie where",
    ),
    ("dimension", in_frame("FrameContentSequence", put("DimensionIndexValues", [1, 99])), "Dimension Index"),
    ("dimensions", no_segment_index, "Dimension Index Sequence"),
]
BINARY: Rules = [
    *EVERY,
    ("class", put("Modality", "CT"), "class or modality"),
    ("encoding", put("SegmentationType", "FRACTIONAL"), "not BINARY"),
    ("rows", put("Rows", 23), "Rows and Columns"),
    ("no tracking", in_segment(drop("TrackingUID")), "no tracking identifier"),
    ("one tracking for two", same_tracking, "share one Tracking UID"),
    ("region", lambda ds: delattr(ds.SegmentSequence[2], "AnatomicRegionSequence"), "another region"),
    ("pixel", flip_a_pixel, "pixels of the findings"),
    ("overlap", put("SegmentsOverlap", "YES"), "Segments Overlap"),
    ("overlap unsaid", drop("SegmentsOverlap"), "Segments Overlap"),
]
FRACTIONAL: Rules = [
    *EVERY,
    ("class", put("Modality", "CT"), "class or modality"),
    ("encoding", both(put("SegmentationType", "LABELMAP"), put("BitsStored", 8)), "not FRACTIONAL"),
    ("depth", put("BitsStored", 7), "not FRACTIONAL with eight bits"),
    ("meaning", put("SegmentationFractionalType", "OCCUPANCY"), "not said to be probabilities"),
    ("maximum", put("MaximumFractionalValue", 100), "Maximum Fractional Value"),
    ("no tracking", in_segment(drop("TrackingUID")), "not those whose probability"),
    ("pixel", flip_a_pixel, "probabilities of the findings"),
]


@pytest.mark.parametrize(("damage", "sentence"), [r[1:] for r in BINARY], ids=[r[0] for r in BINARY])
def test_a_fault_of_a_binary_segmentation_is_found(
    cases: dict[str, Case], tmp_path: Path, damage: Damage, sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(cases["binary"], "seg", damage, tmp_path))


@pytest.mark.parametrize(("damage", "sentence"), [r[1:] for r in FRACTIONAL], ids=[r[0] for r in FRACTIONAL])
def test_a_fault_of_a_fractional_segmentation_is_found(
    cases: dict[str, Case], tmp_path: Path, damage: Damage, sentence: str
) -> None:
    if sentence == "segments are not those":
        sentence = "segments are not those whose probability"
    assert any(sentence in fault for fault in damaged(cases["binary"], "fractional", damage, tmp_path))


def native(ds: Dataset) -> None:
    """Undo the compression, so that pixels can be damaged."""
    pixels = ds.pixel_array
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    ds["PixelData"].is_undefined_length = False


def another_value(ds: Dataset) -> None:
    native(ds)
    ds.PixelData = bytes([9]) + ds.PixelData[1:]


def another_segment(ds: Dataset) -> None:
    native(ds)
    ds.PixelData = bytes([1]) + ds.PixelData[1:]


def of_one_segment(ds: Dataset) -> None:
    identified = Dataset()
    identified.ReferencedSegmentNumber = 1
    ds.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence = [identified]


def one_plane_less(ds: Dataset) -> None:
    native(ds)
    one_frame_less(ds)


LABELMAP: Rules = [
    ("class", put("Modality", "CT"), "not Label Map Segmentation"),
    ("depth", put("BitsStored", 7), "without 8 or 16 bits"),
    ("no background", lambda ds: ds.SegmentSequence.pop(-1), "background is not described"),
    (
        "background's kind",
        lambda ds: setattr(
            ds.SegmentSequence[-1].SegmentedPropertyTypeCodeSequence[0], "CodeValue", "39607008"
        ),
        "background is not described",
    ),
    ("padding", drop("PixelPaddingValue"), "Pixel Padding Value"),
    ("of one segment", of_one_segment, "said to be of one segment"),
    ("undescribed value", another_value, "the pixel value 9 is that of no described segment"),
    ("pixel", another_segment, "pixels of the findings"),
    ("a plane less", one_plane_less, "planes of the source, each once"),
    ("source", other_frame_source, "planes of the source, each once"),
    ("length", both(native, lambda ds: setattr(ds, "PixelData", ds.PixelData + b"\0\0")), "length"),
    ("dimension", in_frame("FrameContentSequence", put("DimensionIndexValues", [99])), "Dimension Index"),
    ("position", in_frame("PlanePositionSequence", put("ImagePositionPatient", [0, 0, 0])), "do not lie"),
    ("overlap", put("SegmentsOverlap", "YES"), "Segments Overlap"),
    ("no tracking", lambda ds: delattr(ds.SegmentSequence[1], "TrackingUID"), "no tracking identifier"),
]


@pytest.mark.parametrize(("damage", "sentence"), [r[1:] for r in LABELMAP], ids=[r[0] for r in LABELMAP])
def test_a_fault_of_a_label_map_is_found(
    cases: dict[str, Case], tmp_path: Path, damage: Damage, sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(cases["labelmap"], "seg", damage, tmp_path))


def a_position(ds: Dataset) -> None:
    place = Dataset()
    place.ImagePositionPatient = [0, 0, 0]
    ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence = [place]


def an_orientation(ds: Dataset) -> None:
    plane = Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = [plane]


CINE: Rules = [
    ("a position", a_position, "do not lie where"),
    ("an orientation", an_orientation, "an orientation is there although the source has none"),
    ("a frame of reference", put("FrameOfReferenceUID", "1.2.3"), "frame of reference"),
    (
        "the place in the stack",
        in_frame("FrameContentSequence", put("InStackPositionNumber", 8)),
        "Dimension",
    ),
    ("spacing", in_shared("PixelMeasuresSequence", put("PixelSpacing", [1, 1])), "the spacing is not"),
]


@pytest.mark.parametrize(("damage", "sentence"), [r[1:] for r in CINE], ids=[r[0] for r in CINE])
def test_a_fault_of_planes_without_a_place_is_found(
    cases: dict[str, Case], tmp_path: Path, damage: Damage, sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(cases["cine"], "seg", damage, tmp_path))


def test_a_group_of_segments_is_judged_by_those_that_it_holds(cases: dict[str, Case], tmp_path: Path) -> None:
    """The second object holds the third segment of the findings under the number 1."""
    case = cases["groups"]
    swapped = replace(case, result=replace(case.result, objects=tuple(reversed(case.result.objects[:2]))))
    found = damaged(swapped, "seg", flip_a_pixel, tmp_path)
    assert any("1 frames do not hold the pixels of the findings" in fault for fault in found)


def test_spacing_of_an_uncalibrated_image_is_found(cases: dict[str, Case]) -> None:
    case = cases["cine"]
    image = replace(case.volume.image, is_calibrated=False)
    material = case.material(case.findings, replace(case.volume, image=image))
    found = list(faults(case.result.objects[:1], material))
    assert any("Pixel Measures are there although nobody knows them" in fault for fault in found)
