"""Segmentations of images without a place in the patient: radiographs, mammograms, ultrasound cines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from node.errors import EncodeError
from node.model import Slice, Volume
from node.profile import Profile
from pipelines.contract import Code, Image
from tests.encode.helpers import LEFT_LUNG, RIGHT_LUNG, findings_of, segs_of
from tests.encode.judges import dciodvfy_errors, needs_dciodvfy
from tests.paths import SHARED, needs_shared
from tests.phantoms import make_affine, write_ct_series

CR = "1.2.840.10008.5.1.4.1.1.1"
US_CINE = "1.2.840.10008.5.1.4.1.1.3.1"
DISPLAY = Code("1", "UCUM", "no units")
ROWS, COLUMNS = 27, 31


def planes_of(paths: Sequence[Path], *, calibrated: bool = True) -> Volume:
    """What a loader would make of images that stand for themselves."""
    slices, shape = [], (0, 0)
    for path in paths:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        shape = (int(ds.Rows), int(ds.Columns))
        count = int(ds.get("NumberOfFrames", 1) or 1)
        slices += [
            Slice(
                sop_class_uid=str(ds.SOPClassUID),
                sop_instance_uid=str(ds.SOPInstanceUID),
                frame=frame if "NumberOfFrames" in ds else None,
                path=path,
                position_mm=None,
            )
            for frame in range(1, count + 1)
        ]
    spacing = (1.0, 0.3, 0.2) if calibrated else (1.0, 1.0, 1.0)
    return Volume(
        image=Image(
            array=np.zeros((len(slices), *shape), np.float32),
            affine=np.diag([*spacing, 1.0]),
            unit=DISPLAY,
            modality=str(ds.Modality),
            is_spatial=False,
            is_calibrated=calibrated,
        ),
        slices=tuple(slices),
        series_uid=str(ds.SeriesInstanceUID),
        study_uid=str(ds.StudyInstanceUID),
        frame_of_reference_uid="",
    )


def simulated(folder: Path, sop_class: str, modality: str, *, images: int = 1, frames: int = 0) -> list[Path]:
    """Write images that say nothing about where they lie."""
    array = np.zeros((images, ROWS, COLUMNS), np.int16)

    def flatten(_: int, ds: Dataset) -> None:
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
        ds.Modality = modality
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
            delattr(ds, keyword)

    paths = write_ct_series(folder, array, make_affine())
    for number, path in enumerate(paths):
        ds = pydicom.dcmread(path)
        flatten(number, ds)
        if frames:
            ds.NumberOfFrames = frames
            ds.PixelData = np.zeros((frames, ROWS, COLUMNS), np.int16).tobytes()
        ds.save_as(path)
    return paths


def two_masks(volume: Volume) -> list[np.ndarray]:
    """Two areas that lie elsewhere on every plane, and are absent from the last of several."""
    left, right = (np.zeros(volume.image.array.shape, bool) for _ in range(2))
    for index in range(max(1, len(volume.slices) - 1)):
        left[index, 2 + index : 9 + index, 3:11] = True
        right[index, 12:20, 15 + index : 18 + index] = True
    return [left, right]


@needs_dciodvfy
@pytest.mark.parametrize("calibrated", [True, False])
def test_frames_of_a_cine_are_named_by_their_number_and_have_no_position(
    tmp_path: Path, calibrated: bool
) -> None:
    (path,) = simulated(tmp_path / "in", US_CINE, "US", frames=5)
    volume = planes_of([path], calibrated=calibrated)
    masks = two_masks(volume)
    (made,) = segs_of(volume, findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG]), tmp_path)
    assert dciodvfy_errors(made.path) == []
    ds = pydicom.dcmread(made.path)
    shared = ds.SharedFunctionalGroupsSequence[0]
    assert ("PixelMeasuresSequence" in shared) == calibrated
    assert "PlaneOrientationSequence" not in shared and "FrameOfReferenceUID" not in ds
    assert all("PlanePositionSequence" not in group for group in ds.PerFrameFunctionalGroupsSequence)
    for group, pixels in zip(ds.PerFrameFunctionalGroupsSequence, ds.pixel_array, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        frame = source.ReferencedFrameNumber
        np.testing.assert_array_equal(pixels.astype(bool), masks[number - 1][frame - 1])
    if calibrated:  # highdicom 0.28 reads no Pixel Measures without the thickness of a slice
        return
    read = hd.seg.segread(made.path).get_pixels_by_source_frame(
        volume.slices[0].sop_instance_uid,
        [1, 2, 3, 4, 5],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    for number, mask in enumerate(masks):
        np.testing.assert_array_equal(read[..., number].astype(bool), mask)


@needs_dciodvfy
def test_radiographs_of_one_series_are_named_by_their_instance(tmp_path: Path) -> None:
    paths = simulated(tmp_path / "in", CR, "CR", images=2)
    volume = planes_of(paths, calibrated=False)
    masks = two_masks(volume)
    masks[1][1, 3:6, 20:30] = True
    (made,) = segs_of(volume, findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG]), tmp_path)
    assert dciodvfy_errors(made.path) == []
    read = hd.seg.segread(made.path).get_pixels_by_source_instance(
        [s.sop_instance_uid for s in volume.slices],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    for number, mask in enumerate(masks):
        np.testing.assert_array_equal(read[..., number].astype(bool), mask)


def test_a_label_map_of_a_cine_holds_every_frame(tmp_path: Path) -> None:
    (path,) = simulated(tmp_path / "in", US_CINE, "US", frames=5)
    volume = planes_of([path], calibrated=False)
    masks = two_masks(volume)
    findings = findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG])
    (made,) = segs_of(volume, findings, tmp_path, profile=Profile(labelmap="always"))
    seg = hd.seg.segread(made.path)
    read = seg.get_pixels_by_source_frame(
        volume.slices[0].sop_instance_uid,
        [1, 2, 3, 4, 5],
        combine_segments=True,
        ignore_spatial_locations=True,
    )
    np.testing.assert_array_equal(read, findings.labelmap)


def test_a_volume_that_has_a_place_while_its_planes_have_none_is_refused(tmp_path: Path) -> None:
    volume = planes_of(simulated(tmp_path / "in", CR, "CR"))
    wrong = replace(volume, image=replace(volume.image, is_spatial=True))
    with pytest.raises(EncodeError, match="disagree about having a place"):
        segs_of(wrong, findings_of(wrong, two_masks(wrong), [LEFT_LUNG, RIGHT_LUNG]), tmp_path)


REAL = {
    "CR": "cxr/RG1_J2KI.dcm",
    "DX": "cxr/dx_image.dcm",
    "MG": "mammography",
    "US cine": "us_cine",
}


@needs_shared
@needs_dciodvfy
@pytest.mark.parametrize("where", REAL.values(), ids=REAL.keys())
def test_real_images_without_a_place_give_legal_objects(tmp_path: Path, where: str) -> None:
    found = [SHARED / where] if where.endswith(".dcm") else sorted((SHARED / where).rglob("*"))
    headers = [(p, pydicom.dcmread(p, stop_before_pixels=True)) for p in found if p.suffix == ".dcm"]
    path = max(headers, key=lambda p: int(p[1].get("NumberOfFrames", 1) or 1))[0]
    volume = planes_of([path])
    masks = two_masks(volume)
    (made,) = segs_of(volume, findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG]), tmp_path)
    assert dciodvfy_errors(made.path) == []
    ds = pydicom.dcmread(made.path)
    assert ds.NumberOfFrames == 2 * max(1, len(volume.slices) - 1)
    assert int(np.bitwise_count(np.frombuffer(ds.PixelData, np.uint8)).sum()) == int(np.sum(masks))
