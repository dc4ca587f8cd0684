"""Results on real images, judged by others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from node.model import Slice, Volume
from pipelines.contract import Image
from tests.encode.helpers import (
    HU,
    LEFT_LUNG,
    RIGHT_LUNG,
    encoded,
    findings_of,
)
from tests.encode.judges import dciodvfy_errors, dcmqi_decode, needs_dciodvfy, tid1500
from tests.paths import SHARED, needs_shared
from tests.phantoms import to_world


def real_volume(folder: Path) -> Volume:
    """What a loader would make of a folder that holds one regular series, or one multi-frame file."""
    headers = [(p, pydicom.dcmread(p, force=True)) for p in sorted(folder.rglob("*")) if p.suffix == ".dcm"]
    images = [(p, ds) for p, ds in headers if "PixelData" in ds]
    first = images[0][1]
    planes: list[tuple[Slice, np.ndarray]] = []
    for path, ds in images:
        frames = ds.get("PerFrameFunctionalGroupsSequence")
        if frames:
            shared = ds.SharedFunctionalGroupsSequence[0]
            group = shared if "PlaneOrientationSequence" in shared else frames[0]
            orientation = group.PlaneOrientationSequence[0].ImageOrientationPatient
            measures = (shared if "PixelMeasuresSequence" in shared else frames[0]).PixelMeasuresSequence[0]
            spacing = measures.PixelSpacing
        else:
            orientation, spacing = ds.ImageOrientationPatient, ds.PixelSpacing
        positions = (
            [f.PlanePositionSequence[0].ImagePositionPatient for f in frames]
            if frames
            else [ds.ImagePositionPatient]
        )
        pixels = ds.pixel_array.reshape(len(positions), ds.Rows, ds.Columns)
        for number, position in enumerate(positions, start=1):
            plane = Slice(
                sop_class_uid=str(ds.SOPClassUID),
                sop_instance_uid=str(ds.SOPInstanceUID),
                frame=number if frames else None,
                path=path,
                position_mm=tuple(float(v) for v in position),
            )
            planes.append((plane, pixels[number - 1]))
    columns, rows = (np.array(orientation[i : i + 3], float) for i in (0, 3))
    normal = np.cross(columns, rows)
    planes.sort(key=lambda p: float(np.dot(p[0].position_mm, normal)))
    start, end = (np.array(planes[i][0].position_mm) for i in (0, -1))
    affine = np.eye(4)
    affine[:3, 0] = (end - start) / (len(planes) - 1)
    affine[:3, 1] = rows * float(spacing[0])
    affine[:3, 2] = columns * float(spacing[1])
    affine[:3, 3] = start
    return Volume(
        image=Image(
            array=np.stack([p for _, p in planes]).astype(np.float32),
            affine=affine,
            unit=HU,
            modality=str(first.Modality),
        ),
        slices=tuple(plane for plane, _ in planes),
        series_uid=str(first.SeriesInstanceUID),
        study_uid=str(first.StudyInstanceUID),
        frame_of_reference_uid=str(first.FrameOfReferenceUID),
    )


REAL = {
    "chest CT": "ct_chest_philips_5mm",
    "oblique head MR": "mr_head_t1_siemens_3d",
    "enhanced MR": "mr_head_enhanced_xa30_study",
}


@needs_shared
@needs_dciodvfy
@pytest.mark.parametrize("folder", REAL.values(), ids=REAL.keys())
def test_real_sources_give_objects_that_judges_accept_and_place_rightly(tmp_path: Path, folder: str) -> None:
    root = SHARED / folder
    if "enhanced" in folder:
        (root,) = [p.parent for p in sorted(root.rglob("*.dcm")) if multi_frame_t1(p)][:1]
    volume = real_volume(select(root, tmp_path / "in"))
    high = float(np.percentile(volume.image.array[:: max(1, volume.image.array.shape[0] // 8)], 90))
    bright = volume.image.array > high
    masks = [bright, ~bright & (volume.image.array > high / 2)]
    result = encoded(volume, findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG]), tmp_path / "out")
    for made in result.objects:
        assert dciodvfy_errors(made.path) == [], made.kind
    (decoded,) = dcmqi_decode(result.objects[0].path, tmp_path / "dcmqi")
    for number, mask in enumerate(masks, start=1):
        assert int((decoded.labels == number).sum()) == int(mask.sum())
        truth = to_world(volume.image.affine, np.argwhere(mask).mean(axis=0))
        found = to_world(decoded.affine, np.argwhere(decoded.labels == number).mean(axis=0))
        assert np.linalg.norm(truth - found) < 0.1
    read = tid1500(result.objects[1].path, tmp_path / "sr.json")
    volumes = [g["measurementItems"][0]["value"] for g in read["Measurements"] if g["measurementItems"]]
    said = [s["value"] for s in result.summary if s["name"] == "Volume"]
    assert [float(v) for v in volumes] == said


def multi_frame_t1(path: Path) -> bool:
    ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    return int(ds.get("NumberOfFrames", 1) or 1) > 90


def select(root: Path, target: Path) -> Path:
    """Link the files of the wanted series alone: the largest, or the one multi-frame T1."""
    target.mkdir()
    by_series: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            if "Rows" not in ds:
                continue
            if "PerFrameFunctionalGroupsSequence" in ds and not multi_frame_t1(path):
                continue
            if "ImagePositionPatient" in ds or "PerFrameFunctionalGroupsSequence" in ds:
                by_series.setdefault(str(ds.SeriesInstanceUID), []).append(path)
    for number, path in enumerate(max(by_series.values(), key=len)):
        (target / f"{number:04d}.dcm").symlink_to(path)
    return target
