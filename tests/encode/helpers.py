"""Cases for the encoder: simulated DICOM on disk, the volume a loader would make of it, a job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from node.encode import EncodeJob, encode
from node.encode.common import save
from node.encode.header import read_header
from node.encode.lint.seg import seg_faults
from node.encode.lint.whole import object_faults
from node.encode.material import Material, NotApplicable
from node.encode.numbers import reported
from node.encode.seg.make import make_segs
from node.encode.seg.outlines import read_outlines
from node.encode.tracking import tracking_uid
from node.model import Outcome, ResultObject, Slice, Volume
from node.profile import Profile
from pipelines.contract import Card, Code, Findings, Image, InputSpec, Segment
from pipelines.measure import measure_segment
from tests.phantoms import asymmetric_phantom, make_affine, to_world, write_ct_series, write_enhanced_ct

HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
NODULE = Code("27925004", "SCT", "Nodule")

LEFT_LUNG = Segment(
    number=1, label="Left lung", category=ANATOMY, kind=LUNG, laterality=LEFT, colour_rgb=(90, 160, 230)
)
RIGHT_LUNG = Segment(
    number=2, label="Right lung", category=ANATOMY, kind=LUNG, laterality=RIGHT, colour_rgb=(230, 160, 90)
)
NODULE_SEGMENT = Segment(
    number=3, label="Nodule", category=ABNORMAL, kind=NODULE, laterality=RIGHT, anatomic_region=LUNG
)


VIEWER = Profile()
PHANTOM_SHAPE = (8, 24, 20)


def a_card(**changes: Any) -> Card:
    values: dict[str, Any] = {
        "name": "lung-density",
        "version": "0.1.0",
        "title": "Lung volumes and density",
        "maker": "radnode project",
        "intended_use": "Research on simulated data",
        "use": "somewhere:Something",
        "inputs": {"ct": InputSpec(modality=("CT",), unit="[hnsf'U]")},
        "parameters": {"threshold_hu": -950, "note": "a, b = c"},
        "digest": "ab" * 32,
        "warning": "Made for a test",
    }
    return Card(**{**values, **changes})


def a_job(**changes: Any) -> EncodeJob:
    values: dict[str, Any] = {
        "job_key": "0123456789abcdef" * 4,
        "card": a_card(),
        "created_at": datetime(2026, 3, 4, 5, 6, 7, 890, tzinfo=UTC),
        "ae_title": "RADNODE",
        "station": "node-1",
    }
    return EncodeJob(**{**values, **changes})


def single_frame_volume(
    folder: Path, array: np.ndarray, affine: np.ndarray, *, reverse: bool = False, **options: Any
) -> Volume:
    """Write a CT series and return its volume; ``reverse``: the volume runs against the normal."""
    paths = write_ct_series(folder, array, affine, **options)
    planes = []
    for path in paths:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        position = tuple(float(v) for v in ds.ImagePositionPatient)
        planes.append(
            Slice(
                sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID,
                frame=None,
                path=path,
                position_mm=position,
            )
        )
    direction = affine[:3, 0]
    planes.sort(key=lambda p: float(np.dot(p.position_mm, direction)), reverse=reverse)
    if reverse:
        array, affine = array[::-1], _flipped(affine, array.shape[0])
    return _volume(array, affine, planes, ds)


def enhanced_volume(path: Path, array: np.ndarray, affine: np.ndarray, **options: Any) -> Volume:
    """Write an Enhanced CT instance and return its volume."""
    write_enhanced_ct(path, array, affine, **options)
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    planes = [
        Slice(
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            frame=number,
            path=path,
            position_mm=tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient),
        )
        for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence, start=1)
    ]
    planes.sort(key=lambda p: float(np.dot(p.position_mm, affine[:3, 0])))
    return _volume(array, affine, planes, ds)


def _flipped(affine: np.ndarray, count: int) -> np.ndarray:
    flipped = affine.copy()
    flipped[:3, 3] = to_world(affine, (count - 1, 0, 0))
    flipped[:3, 0] = -affine[:3, 0]
    return flipped


def _volume(array: np.ndarray, affine: np.ndarray, planes: Sequence[Slice], ds: Any) -> Volume:
    return Volume(
        image=Image(array=array.astype(np.float32), affine=affine, unit=HU, modality=str(ds.Modality)),
        slices=tuple(planes),
        series_uid=str(ds.SeriesInstanceUID),
        study_uid=str(ds.StudyInstanceUID),
        frame_of_reference_uid=str(ds.FrameOfReferenceUID),
    )


def findings_of(
    volume: Volume, masks: Sequence[np.ndarray], segments: Sequence[Segment], **changes: Any
) -> Findings:
    """Return findings with volume, mean and percentile of every segment."""
    measured = []
    for mask, segment in zip(masks, segments, strict=True):
        names = ("volume", "mean", "percentile-15")
        measured += measure_segment(names, mask, volume.image, segment=segment.number)
    overlap = np.sum(masks, axis=0).max() > 1
    labelmap = None
    if not overlap:
        labelmap = np.zeros(volume.image.array.shape, np.uint8)
        for mask, segment in zip(masks, segments, strict=True):
            labelmap[mask] = segment.number
    values: dict[str, Any] = {
        "labelmap": labelmap,
        "masks": np.stack(masks) if overlap else None,
        "affine": volume.image.affine,
        "segments": tuple(segments),
        "measurements": tuple(measured),
    }
    return Findings(**{**values, **changes})


def encoded(volume: Volume, findings: Findings, folder: Path, **job: Any) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    return encode(a_job(**job), findings, {"ct": volume}, folder)


def material_of(
    volume: Volume,
    findings: Findings,
    things: Sequence[ResultObject] = (),
    *,
    profile: Profile = VIEWER,
    **job: Any,
) -> Material:
    """Return what an object is made from, or judged by, once these things lie on disk."""
    material = Material(
        job=a_job(**job),
        header=read_header(volume.slices[0].path, volume.study_uid, [s.path for s in volume.slices]),
        findings=findings,
        volumes={"ct": volume},
        role="ct",
        profile=profile,
        siblings=tuple(things),
    )
    outlines = None
    if segs := [thing for thing in things if thing.kind == "seg"]:
        uids = {tracking_uid(material, segment): segment.number for segment in findings.segments}
        outlines = read_outlines(segs, volume, uids)
    numbers = reported(findings, outlines, volume) if outlines or not findings.segments else ()
    return replace(material, outlines=outlines, numbers=numbers)


Damage = Callable[[pydicom.Dataset], None]


def segs_of(
    volume: Volume, findings: Findings, folder: Path, *, profile: Profile = VIEWER, **job: Any
) -> list[ResultObject]:
    """Write the Segmentations of findings alone, have them judged, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    material = material_of(volume, findings, profile=profile, **job)
    things: list[ResultObject] = []
    with contextlib.suppress(NotApplicable):
        for number, dataset in enumerate(make_segs(material), start=1):
            things.append(save(dataset, folder / f"seg-{number}.dcm", kind="seg"))
    material = material_of(volume, findings, things, profile=profile, **job)
    for thing in things:
        dataset = pydicom.dcmread(thing.path)
        found = [*object_faults(dataset, thing, material), *seg_faults(dataset, thing, material)]
        assert found == []
    return things


def a_phantom_case(folder: Path, **options: object) -> tuple[Volume, np.ndarray]:
    """Write an oblique CT series of a phantom; return its volume and the mask of what is in it."""
    affine = make_affine("oblique")
    phantom = asymmetric_phantom(PHANTOM_SHAPE, affine)
    return single_frame_volume(folder, phantom.array_hu, affine, **options), phantom.mask
