"""Segmentations, judged by dcmqi, dicom3tools and highdicom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from node.encode.seg.binary import FRAME_BYTES, pack_bits
from node.encode.seg.grid import count_voxels, exclusive_groups
from node.errors import EncodeError
from node.model import Outcome, Volume
from node.profile import Presentation
from pipelines.contract import Findings, Segment
from tests.encode.helpers import (
    ANATOMY,
    LEFT_LUNG,
    LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    encoded,
    enhanced_volume,
    findings_of,
    segs_of,
    single_frame_volume,
)
from tests.encode.judges import dciodvfy_errors, dcmqi_decode, needs_dciodvfy
from tests.phantoms import asymmetric_phantom, make_affine, to_world

SHAPE = (12, 30, 26)


def seg_of(result: Outcome) -> Path:
    return next(o.path for o in result.objects if o.kind == "seg")


def world_centroid(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return to_world(affine, np.argwhere(mask).mean(axis=0))


def world_voxels(mask: np.ndarray, affine: np.ndarray) -> set[tuple[float, ...]]:
    """The LPS positions of all voxels of a mask, so that decoders may order slices as they like."""
    return {tuple(np.round(p, 2) + 0.0) for p in to_world(affine, np.argwhere(mask))}


@pytest.mark.parametrize(
    ("orientation", "source"),
    [
        *((orientation, "single") for orientation in ("axial", "sagittal", "coronal", "oblique", "prone")),
        *((orientation, "reversed") for orientation in ("axial", "oblique")),
        *((orientation, "enhanced") for orientation in ("axial", "sagittal", "oblique")),
        ("oblique", "shuffled"),
        ("coronal", "enhanced reversed"),
    ],
)
def test_dcmqi_finds_every_voxel_where_it_is_in_the_patient(
    tmp_path: Path, orientation: str, source: str
) -> None:
    affine = make_affine(orientation)
    phantom = asymmetric_phantom(SHAPE, affine)
    volume: Volume
    if source == "single":
        volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    elif source == "reversed":
        volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine, reverse=True)
    elif source == "shuffled":
        volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine, order="shuffled")
    else:
        order = "reversed" if source.endswith("reversed") else "forward"
        volume = enhanced_volume(tmp_path / "in.dcm", phantom.array_hu, affine, order=order)
    mask = volume.image.array > 200
    path = seg_of(encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out"))

    (decoded,) = dcmqi_decode(path, tmp_path / "dcmqi")
    found = world_centroid(decoded.labels > 0, decoded.affine)
    assert np.linalg.norm(found - phantom.centroid_mm) < 0.1
    assert world_voxels(decoded.labels > 0, decoded.affine) == world_voxels(phantom.mask, affine)


@needs_dciodvfy
@pytest.mark.parametrize("shape", [(6, 31, 27), (5, 16, 16), (4, 7, 5)])
def test_frames_that_do_not_end_on_a_byte_are_read_back_by_others(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    affine = make_affine("axial")
    rng = np.random.default_rng(1)
    volume = single_frame_volume(tmp_path / "in", rng.integers(-1000, 0, shape).astype(np.int16), affine)
    label = rng.integers(0, 3, shape)
    masks = [label == 1, label == 2]
    result = encoded(volume, findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG]), tmp_path / "out")
    assert dciodvfy_errors(seg_of(result)) == []
    (decoded,) = dcmqi_decode(seg_of(result), tmp_path / "dcmqi")
    for number, mask in enumerate(masks, start=1):
        assert world_voxels(decoded.labels == number, decoded.affine) == world_voxels(mask, affine)


@needs_dciodvfy
def test_segments_that_overlap_go_into_objects_of_their_own_in_series_of_their_own(tmp_path: Path) -> None:
    """OHIF drops planes of overlapping segments, and shows only the newest instance of a series."""
    affine = make_affine("oblique")
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    lung = np.zeros(SHAPE, bool)
    lung[2:9, 5:20, 5:20] = True
    nodule = np.zeros(SHAPE, bool)
    nodule[4:6, 8:12, 8:12] = True
    masks = [lung, ~lung & (volume.image.array > -500), nodule]
    findings = findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG, NODULE_SEGMENT])
    outcome = encoded(volume, findings, tmp_path / "out")
    made = [thing for thing in outcome.objects if thing.kind == "seg"]
    assert len({thing.series_uid for thing in made}) == len(made) == 2
    read = [pydicom.dcmread(thing.path) for thing in made]
    assert [[s.SegmentLabel for s in ds.SegmentSequence] for ds in read] == [
        ["Left lung", "Right lung"],
        ["Nodule"],
    ]
    assert [[s.SegmentNumber for s in ds.SegmentSequence] for ds in read] == [[1, 2], [1]]
    assert [ds.SegmentsOverlap for ds in read] == ["NO", "NO"]
    assert len({ds.SeriesNumber for ds in read}) == 2
    assert [ds.SeriesDescription for ds in read] == [
        f"lung-density 0.1.0 {what}, research only" for what in ("segmentation", "segmentation 2")
    ]
    assert [dciodvfy_errors(thing.path) for thing in made] == [[], []]
    found = []
    for thing in made:
        seg = hd.seg.segread(thing.path)
        pixels = seg.get_pixels_by_source_instance(
            [s.sop_instance_uid for s in volume.slices],
            combine_segments=False,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
        found += [pixels[..., number].astype(bool) for number in range(seg.number_of_segments)]
        files = dcmqi_decode(thing.path, tmp_path / thing.path.stem)
        assert len(files) == 1
        assert int((files[0].labels > 0).sum()) == int(pixels.sum())
    for mask, pixels in zip(masks, found, strict=True):
        np.testing.assert_array_equal(pixels, mask)


@pytest.mark.parametrize(
    ("overlaps", "groups"),
    [
        ([], [(1, 2, 3, 4)]),
        ([(1, 2)], [(1, 3, 4), (2,)]),
        ([(1, 2), (3, 4)], [(1, 3), (2, 4)]),
        ([(1, 2), (2, 3)], [(1, 3, 4), (2,)]),
        ([(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)], [(1,), (2,), (3,), (4,)]),
    ],
)
def test_each_segment_joins_the_first_group_that_has_room(
    overlaps: list[tuple[int, int]], groups: list[tuple[int, ...]]
) -> None:
    masks = np.zeros((4, 3, 8, 8), bool)
    for number in range(4):
        masks[number, 0, 0, number] = True
    for column, pair in enumerate(overlaps):
        for number in pair:
            masks[number - 1, 2, 5, column] = True
    segments = tuple(replace(LEFT_LUNG, number=number) for number in range(1, 5))
    findings = Findings(masks=masks, segments=segments)
    made = exclusive_groups(findings, count_voxels(findings, 3))
    assert [tuple(segment.number for segment in group) for group in made] == groups


def many_segments(count: int) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """A label map of segments of five voxels each, on two of four slices."""
    labels = np.zeros((4, 30, 60), np.uint16)
    labels[1:3].reshape(-1)[: 5 * count] = np.repeat(np.arange(1, count + 1), 5)
    segments = tuple(
        Segment(number=n, label=f"Structure {n}", category=ANATOMY, kind=LUNG) for n in range(1, count + 1)
    )
    return labels, segments


@needs_dciodvfy
def test_three_hundred_segments_are_one_object(tmp_path: Path) -> None:
    labels, segments = many_segments(300)
    affine = make_affine()
    volume = single_frame_volume(tmp_path / "in", np.zeros(labels.shape, np.int16), affine)
    (made,) = segs_of(volume, Findings(labelmap=labels, segments=segments), tmp_path / "out")
    assert dciodvfy_errors(made.path) == []
    read = hd.seg.segread(made.path).get_pixels_by_source_instance(
        [s.sop_instance_uid for s in volume.slices],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(read, labels)


@needs_dciodvfy
def test_an_object_above_the_limit_is_split_by_segments_that_stay_whole(tmp_path: Path) -> None:
    labels, segments = many_segments(12)
    volume = single_frame_volume(tmp_path / "in", np.zeros(labels.shape, np.int16), make_affine())
    findings = Findings(labelmap=labels, segments=segments)
    frame_bytes = labels[0].size // 8 + FRAME_BYTES
    limit = Presentation(max_object_mb=5 * frame_bytes / 1e6)
    made = segs_of(volume, findings, tmp_path / "out", presentation=limit)
    read = [pydicom.dcmread(thing.path) for thing in made]
    assert [[s.SegmentLabel.split()[-1] for s in ds.SegmentSequence] for ds in read] == [
        [str(n) for n in range(first, last + 1)] for first, last in ((1, 5), (6, 10), (11, 12))
    ]
    assert len({ds.SeriesInstanceUID for ds in read}) == len({ds.SeriesNumber for ds in read}) == 3
    assert all(dciodvfy_errors(thing.path) == [] for thing in made)
    assert sum(int(ds.NumberOfFrames) for ds in read) == 12


def test_a_segment_that_is_larger_than_the_limit_alone_is_one_object_and_a_note(tmp_path: Path) -> None:
    affine = make_affine()
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    findings = findings_of(volume, [phantom.mask, ~phantom.mask], [LEFT_LUNG, RIGHT_LUNG])
    outcome = encoded(volume, findings, tmp_path / "out", presentation=Presentation(max_object_mb=0.005))
    made = [thing for thing in outcome.objects if thing.kind == "seg"]
    assert [pydicom.dcmread(thing.path).SegmentSequence[0].SegmentLabel for thing in made] == [
        "Left lung",
        "Right lung",
    ]
    assert [note for note in outcome.notes if "max_object_mb is 0.005" in note]


def test_frames_that_were_joined_by_hand_read_like_any_others(tmp_path: Path) -> None:
    """The functional groups are joined from encoded pieces; pydicom must write them the same again."""
    affine = make_affine("oblique")
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    findings = findings_of(volume, [phantom.mask, ~phantom.mask], [LEFT_LUNG, RIGHT_LUNG])
    (made,) = segs_of(volume, findings, tmp_path / "out")
    ds = pydicom.dcmread(made.path)
    last = ds.PerFrameFunctionalGroupsSequence[-1]
    assert list(last.FrameContentSequence[0].DimensionIndexValues) == [2, SHAPE[0]]
    for element in ds.iterall():  # decode everything, so that nothing is copied as it was
        assert element.value is not None or element.VM == 0
    ds.save_as(tmp_path / "again.dcm")
    assert (tmp_path / "again.dcm").read_bytes() == made.path.read_bytes()


def test_highdicom_reads_codes_sides_tracking_and_geometry(tmp_path: Path) -> None:
    affine = make_affine("sagittal")
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    findings = findings_of(volume, [phantom.mask, ~phantom.mask], [LEFT_LUNG, RIGHT_LUNG])
    seg = hd.seg.segread(seg_of(encoded(volume, findings, tmp_path / "out")))
    assert seg.number_of_segments == 2
    first = seg.get_segment_description(1)
    assert first.segment_label == "Left lung"
    assert first.segmented_property_type.value == "39607008"
    (side,) = first.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert side.CodeMeaning == "Left"
    assert first.algorithm_identification.name == "lung-density"
    assert first.algorithm_identification.source == "radnode project"
    assert first.tracking_uid != seg.get_segment_description(2).tracking_uid
    np.testing.assert_allclose(seg.get_volume().affine[:3, :3] @ [0, 0, 1], affine[:3, 2], atol=1e-4)


@needs_dciodvfy
def test_one_segment_is_named_in_every_frame_not_in_the_shared_groups(tmp_path: Path) -> None:
    affine = make_affine()
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    path = seg_of(encoded(volume, findings_of(volume, [phantom.mask], [LEFT_LUNG]), tmp_path / "out"))
    ds = pydicom.dcmread(path)
    occupied = int(phantom.mask.any(axis=(1, 2)).sum())
    assert len(ds.PerFrameFunctionalGroupsSequence) == ds.NumberOfFrames == occupied < SHAPE[0]
    for group in ds.PerFrameFunctionalGroupsSequence:
        assert group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1
    assert "SegmentIdentificationSequence" not in ds.SharedFunctionalGroupsSequence[0]
    assert dciodvfy_errors(path) == []


@needs_dciodvfy
def test_nothing_found_still_is_a_legal_object_without_a_voxel(tmp_path: Path) -> None:
    affine = make_affine()
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    none = np.zeros(SHAPE, bool)
    result = encoded(volume, findings_of(volume, [none, none], [LEFT_LUNG, RIGHT_LUNG]), tmp_path / "out")
    assert dciodvfy_errors(seg_of(result)) == []
    files = dcmqi_decode(seg_of(result), tmp_path / "dcmqi")
    assert not any((f.labels > 0).any() for f in files)
    assert pydicom.dcmread(seg_of(result)).NumberOfFrames == 2


def test_one_empty_segment_beside_a_full_one_has_no_frames(tmp_path: Path) -> None:
    affine = make_affine()
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    masks = [np.zeros(SHAPE, bool), phantom.mask]
    path = seg_of(encoded(volume, findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG]), tmp_path / "out"))
    (decoded,) = dcmqi_decode(path, tmp_path / "dcmqi")
    assert set(np.unique(decoded.labels)) == {0, 2}
    assert int((decoded.labels == 2).sum()) == int(phantom.mask.sum())


def test_some_frames_of_a_multi_frame_source_are_enough(tmp_path: Path) -> None:
    affine = make_affine("coronal")
    phantom = asymmetric_phantom(SHAPE, affine)
    whole = enhanced_volume(tmp_path / "in.dcm", phantom.array_hu, affine)
    part = replace(whole, image=replace(whole.image, array=whole.image.array[:6]), slices=whole.slices[:6])
    mask = phantom.mask[:6]
    path = seg_of(encoded(part, findings_of(part, [mask], [LEFT_LUNG]), tmp_path / "out"))
    (decoded,) = dcmqi_decode(path, tmp_path / "dcmqi")
    assert world_voxels(decoded.labels > 0, decoded.affine) == world_voxels(mask, affine)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labelmap": np.zeros((3, 3, 3), np.uint8)}, "shape"),
        ({"labelmap": np.full(SHAPE, 7, np.uint8)}, "no segment describes"),
        ({"affine": np.eye(4)}, "another grid"),
        ({"masks": np.zeros((1, *SHAPE), bool)}, "both"),
        ({"segments": (RIGHT_LUNG,)}, "numbered"),
        ({"labelmap": None}, "carry no outlines"),
        ({"labelmap": np.full(SHAPE, -1, np.int8)}, "no segment describes"),
        ({"labelmap": np.zeros(SHAPE, np.float32)}, "whole numbers"),
        ({"labelmap": None, "masks": np.zeros((1, 2, 2, 2), bool)}, "shape"),
        ({"labelmap": None, "masks": np.zeros((1, *SHAPE), np.uint8)}, "not of bool"),
    ],
)
def test_outlines_that_break_the_contract_are_refused(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    affine = make_affine()
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    findings = replace(findings_of(volume, [phantom.mask], [LEFT_LUNG]), **change)
    with pytest.raises(EncodeError, match=sentence):
        encoded(volume, findings, tmp_path / "out")


def test_a_volume_whose_affine_contradicts_its_planes_is_refused(tmp_path: Path) -> None:
    affine = make_affine()
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    moved = affine.copy()
    moved[2, 3] += 1.0
    wrong = replace(volume, image=replace(volume.image, affine=moved))
    with pytest.raises(EncodeError, match=r"1\.000 mm"):
        encoded(wrong, findings_of(wrong, [phantom.mask], [LEFT_LUNG]), tmp_path / "out")


def test_bits_are_packed_across_frames_without_gaps() -> None:
    planes = [np.array([[1, 0, 1]], bool), np.array([[1, 1, 1]], bool), np.array([[0, 0, 1]], bool)]
    # pixels 1 0 1 1 1 1 0 0 | 1, least significant bit first, padded to two bytes
    assert pack_bits(iter(planes)) == bytes([0b00111101, 0b00000001])
