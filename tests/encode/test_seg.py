"""Segmentations, judged by dcmqi, dicom3tools and highdicom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from node.encode.seg.binary import pack_bits
from node.errors import EncodeError
from node.model import Outcome, Volume
from tests.encode.helpers import (
    LEFT_LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    encoded,
    enhanced_volume,
    findings_of,
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
def test_overlapping_segments_keep_every_voxel_and_say_that_they_overlap(tmp_path: Path) -> None:
    affine = make_affine("oblique")
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    lung = np.zeros(SHAPE, bool)
    lung[2:9, 5:20, 5:20] = True
    nodule = np.zeros(SHAPE, bool)
    nodule[4:6, 8:12, 8:12] = True
    masks = [lung, ~lung & (volume.image.array > -500), nodule]
    result = encoded(
        volume, findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG, NODULE_SEGMENT]), tmp_path / "o"
    )
    assert pydicom.dcmread(seg_of(result)).SegmentsOverlap == "YES"
    assert dciodvfy_errors(seg_of(result)) == []
    seg = hd.seg.segread(seg_of(result))
    read = seg.get_pixels_by_source_instance(
        [s.sop_instance_uid for s in volume.slices],
        combine_segments=False,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    for number, mask in enumerate(masks):
        np.testing.assert_array_equal(read[..., number].astype(bool), mask)
    files = dcmqi_decode(seg_of(result), tmp_path / "dcmqi")
    assert sum(int((f.labels > 0).sum()) for f in files) == sum(int(m.sum()) for m in masks)


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
