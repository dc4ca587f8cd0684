"""Label Map Segmentations, judged by dcmqi, highdicom and pydicom.

Debian's dciodvfy (2022) does not know the class (Supplement 243), so no word of it is asked here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from node.encode import encode
from node.encode.seg.labelmap import bits_for
from node.errors import EncodeError
from node.model import Volume
from node.profile import LABELMAP_CLASS, Profile
from pipelines.contract import Findings, Segment
from tests.encode.helpers import (
    ANATOMY,
    LEFT_LUNG,
    LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    a_job,
    enhanced_volume,
    findings_of,
    segs_of,
    single_frame_volume,
)
from tests.encode.judges import dcmqi_decode
from tests.phantoms import make_affine, to_world

SHAPE = (9, 27, 31)
ALWAYS, SMALLER = Profile(labelmap="always"), Profile(labelmap="smaller")


def a_volume(folder: Path, shape: tuple[int, int, int] = SHAPE, *, enhanced: bool = False) -> Volume:
    affine = make_affine("oblique")
    array = np.zeros(shape, np.int16)
    if enhanced:
        return enhanced_volume(folder.with_suffix(".dcm"), array, affine)
    return single_frame_volume(folder, array, affine)


def three_masks(shape: tuple[int, int, int] = SHAPE) -> list[np.ndarray]:
    """Three areas without a voxel in common; the first and last slices are empty."""
    left, right, nodule = (np.zeros(shape, bool) for _ in range(3))
    left[1:7, 4:20, 2:9] = True
    right[2:8, 4:20, 11:18] = True
    nodule[3, 21:23, 3:7] = True
    return [left, right, nodule]


def places(mask: np.ndarray, affine: np.ndarray) -> set[tuple[float, ...]]:
    return {tuple(np.round(p, 2) + 0.0) for p in to_world(affine, np.argwhere(mask))}


SEGMENTS = [LEFT_LUNG, RIGHT_LUNG, NODULE_SEGMENT]


@pytest.mark.parametrize("enhanced", [False, True], ids=["single-frame", "multi-frame"])
def test_dcmqi_and_highdicom_find_every_voxel_of_a_label_map(tmp_path: Path, enhanced: bool) -> None:
    volume, masks = a_volume(tmp_path / "in", enhanced=enhanced), three_masks()
    findings = findings_of(volume, masks, SEGMENTS)
    (made,) = segs_of(volume, findings, tmp_path / "out", profile=ALWAYS)
    (decoded,) = dcmqi_decode(made.path, tmp_path / "dcmqi")
    seg = hd.seg.segread(made.path)
    options = {"ignore_spatial_locations": True, "combine_segments": True}
    uids = [s.sop_instance_uid for s in volume.slices]
    if enhanced:
        numbers = [s.frame for s in volume.slices]
        read = seg.get_pixels_by_source_frame(uids[0], numbers, **options)
    else:
        read = seg.get_pixels_by_source_instance(uids, **options)
    np.testing.assert_array_equal(read, findings.labelmap)
    for number, mask in enumerate(masks, start=1):
        assert places(decoded.labels == number, decoded.affine) == places(mask, volume.image.affine)


def test_a_label_map_describes_its_background_and_every_pixel_value(tmp_path: Path) -> None:
    volume = a_volume(tmp_path / "in")
    (made,) = segs_of(volume, findings_of(volume, three_masks(), SEGMENTS), tmp_path / "out", profile=ALWAYS)
    ds = pydicom.dcmread(made.path)
    assert made.sop_class_uid == ds.SOPClassUID == LABELMAP_CLASS
    assert (ds.SegmentationType, ds.SegmentsOverlap, ds.PixelPaddingValue) == ("LABELMAP", "NO", 0)
    assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit) == (8, 8, 7)
    background = ds.SegmentSequence[-1]
    assert background.SegmentNumber == 0 and "TrackingUID" not in background
    assert background.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Background"
    assert set(np.unique(ds.pixel_array)) == {s.SegmentNumber for s in ds.SegmentSequence}
    assert ds.NumberOfFrames == SHAPE[0]  # empty slices included
    assert not any("SegmentIdentificationSequence" in g for g in ds.PerFrameFunctionalGroupsSequence)


def test_a_label_map_is_run_length_encoded_only_where_that_is_smaller(tmp_path: Path) -> None:
    volume = a_volume(tmp_path / "in")
    plain = findings_of(volume, three_masks(), SEGMENTS)
    (made,) = segs_of(volume, plain, tmp_path / "plain", profile=ALWAYS)
    assert made.transfer_syntax_uid == RLELossless
    noise = np.random.default_rng(2).integers(0, 4, SHAPE).astype(np.uint8)
    noisy = replace(plain, labelmap=noise, measurements=())
    (made,) = segs_of(volume, noisy, tmp_path / "noisy", profile=ALWAYS)
    assert made.transfer_syntax_uid == ExplicitVRLittleEndian
    np.testing.assert_array_equal(pydicom.dcmread(made.path).pixel_array, noise)


def test_three_hundred_segments_take_sixteen_bits(tmp_path: Path) -> None:
    volume = a_volume(tmp_path / "in", (4, 30, 40))
    labels = np.zeros((4, 30, 40), np.uint16)
    labels[1:3].reshape(-1)[:1500] = np.repeat(np.arange(1, 301), 5)
    segments = tuple(
        Segment(number=n, label=f"Structure {n}", category=ANATOMY, kind=LUNG) for n in range(1, 301)
    )
    findings = Findings(labelmap=labels, segments=segments)
    (made,) = segs_of(volume, findings, tmp_path / "out", profile=ALWAYS)
    ds = pydicom.dcmread(made.path)
    assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit) == (16, 16, 15)
    np.testing.assert_array_equal(ds.pixel_array, labels)
    seg = hd.seg.segread(made.path)
    assert seg.segment_numbers == list(range(1, 301))
    (decoded,) = dcmqi_decode(made.path, tmp_path / "dcmqi")
    assert sorted(np.unique(decoded.labels)) == list(range(301))


@pytest.mark.parametrize(("segments", "bits"), [(1, 8), (255, 8), (256, 16), (65535, 16)])
def test_a_label_map_is_as_deep_as_its_numbers_need(segments: int, bits: int) -> None:
    assert bits_for(segments) == bits


def test_more_segments_than_sixteen_bits_number_are_refused() -> None:
    with pytest.raises(EncodeError, match="65535"):
        bits_for(65536)


def test_nothing_found_is_a_label_map_of_background(tmp_path: Path) -> None:
    volume = a_volume(tmp_path / "in")
    empty = findings_of(volume, [np.zeros(SHAPE, bool)] * 2, [LEFT_LUNG, RIGHT_LUNG])
    (made,) = segs_of(volume, empty, tmp_path / "out", profile=ALWAYS)
    seg = hd.seg.segread(made.path)
    assert seg.segment_numbers == [1, 2] and not seg.pixel_array.any()
    (decoded,) = dcmqi_decode(made.path, tmp_path / "dcmqi")
    assert not decoded.labels.any()


def test_segments_that_overlap_become_a_label_map_each_group(tmp_path: Path) -> None:
    volume, masks = a_volume(tmp_path / "in"), three_masks()
    masks[2] = np.zeros(SHAPE, bool)
    masks[2][3:5, 6:10, 3:7] = True  # within the left lung
    made = segs_of(volume, findings_of(volume, masks, SEGMENTS), tmp_path / "out", profile=ALWAYS)
    assert len({thing.series_uid for thing in made}) == len(made) == 2
    first, second = (pydicom.dcmread(thing.path) for thing in made)
    assert [s.SegmentLabel for s in first.SegmentSequence] == ["Left lung", "Right lung", "Background"]
    assert [s.SegmentLabel for s in second.SegmentSequence] == ["Nodule", "Background"]
    np.testing.assert_array_equal(second.pixel_array == 1, masks[2])


def test_a_label_map_takes_the_place_of_binary_only_where_it_is_smaller(tmp_path: Path) -> None:
    shape = (6, 64, 64)
    volume = a_volume(tmp_path / "in", shape)
    few = np.zeros(shape, np.uint8)
    few[2, 10:20, 10:20] = 1
    many = np.zeros(shape, np.uint8)
    for number in range(1, 21):
        many[:, 3 * number - 1 : 3 * number + 1, 5:50] = number
    for labels, kind in ((few, "BINARY"), (many, "LABELMAP")):
        segments = tuple(
            Segment(number=n, label=f"Structure {n}", category=ANATOMY, kind=LUNG)
            for n in range(1, int(labels.max()) + 1)
        )
        findings = Findings(labelmap=labels, segments=segments)
        (made,) = segs_of(volume, findings, tmp_path / kind, profile=SMALLER)
        assert pydicom.dcmread(made.path).SegmentationType == kind


def test_what_two_profiles_choose_alike_is_one_object_and_what_differs_has_other_uids(
    tmp_path: Path,
) -> None:
    """Small outlines are BINARY for the first two; the third insists on a label map."""
    volume = a_volume(tmp_path / "in")
    findings = findings_of(volume, three_masks()[2:], [LEFT_LUNG])
    profiles = [Profile(report="text", labelmap=choice) for choice in ("never", "smaller", "always")]
    (tmp_path / "out").mkdir()
    outcome = encode(a_job(), findings, {"ct": volume}, tmp_path / "out", profiles)
    segs = [thing for thing in outcome.objects if thing.kind == "seg"]
    assert [pydicom.dcmread(thing.path).SegmentationType for thing in segs] == ["BINARY", "LABELMAP"]
    never, smaller, always = (outcome.profiles[profile.key] for profile in profiles)
    assert never == smaller and not set(never) & set(always)
    uids = [thing.sop_instance_uid for thing in outcome.objects]
    assert len(set(uids)) == len(uids) and set(never) | set(always) == set(uids)


def test_the_same_findings_give_the_same_label_map(tmp_path: Path) -> None:
    volume = a_volume(tmp_path / "in")
    findings = findings_of(volume, three_masks(), SEGMENTS)
    first, again = (segs_of(volume, findings, tmp_path / name, profile=ALWAYS) for name in "ab")
    assert [thing.sha256 for thing in first] == [thing.sha256 for thing in again]
