"""Findings on real images of every sort: what an object points at is what was marked.

The marks are made by value: the pixels of a rectangle above a threshold that only this plane has.
So the raw pixels of whatever an object refers to tell whether it is the right instance and frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import convert_color_space
from skimage.draw import polygon2mask

from node.assemble.image import load_volume
from node.encode import encode
from node.model import Outcome, Volume
from node.profile import EXTRAS, Profile
from pipelines.contract import Detection, Findings, InputSpec, Map
from pipelines.measure import measure_segment
from tests.encode.helpers import ABNORMAL, LUNG, NODULE, NODULE_SEGMENT, RIGHT, a_card, a_job
from tests.encode.judges import dciodvfy_errors, needs_dciodvfy
from tests.encode.rich import NO_UNITS, PROBABILITY
from tests.paths import SHARED, needs_shared
from tests.phantoms import instances_of
from tests.viewer.reports import read_findings

pytestmark = [needs_shared, pytest.mark.filterwarnings("ignore:.*:UserWarning")]

#: SOP Classes of what lies in an archive begin with this.
STORAGE = "1.2.840.10008.5.1.4.1.1."
#: Grey of what is in colour differs by rounding; so many of a hundred pixels may change sides.
COLOUR_SLACK = 0.01


@dataclass(frozen=True)
class Source:
    """Real images of one series."""

    where: str  #: glob below the shared data
    modality: str
    kind: str = "volume"
    unit: str = "1"
    first: int = 0  #: of the files in order of position
    count: int | None = None


SOURCES = {
    "CT": Source(
        "ct_pet_mr_rtstruct_sts002/dicom/STS_002/CT/image/*.dcm", "CT", unit="[hnsf'U]", first=10, count=8
    ),
    "MR, sagittal and oblique": Source("mr_head_t1_siemens_3d/*.dcm", "MR", first=90, count=8),
    "MR, enhanced multi-frame": Source("mr_head_enhanced_xa30_study/5_anat-T1w_acq-tfl/*", "MR"),
    "CR": Source("cxr/RG1_J2KI.dcm", "CR", kind="planes"),
    "DX": Source("cxr/dx_image.dcm", "DX", kind="planes"),
    "MG": Source("mammography/OutOfBoundsOverlay.dcm", "MG", kind="planes"),
    "US cine": Source("us_cine/examples_ybr_color.dcm", "US", kind="planes"),
}


@dataclass(frozen=True)
class Encoded:
    """Everything that was made of marks on one source."""

    volume: Volume
    findings: Findings
    box: tuple[slice, slice]  #: rows, columns that hold all marks
    outcome: Outcome

    def of(self, kind: str) -> list[Dataset]:
        return [pydicom.dcmread(thing.path) for thing in self.outcome.objects if thing.kind == kind]

    @property
    def all(self) -> list[Dataset]:
        return [pydicom.dcmread(thing.path) for thing in self.outcome.objects]


@cache
def _volume(name: str) -> Volume:
    source = SOURCES[name]
    files = [file for file in sorted(SHARED.glob(source.where)) if pydicom.misc.is_dicom(file)]
    if len(files) > 1:
        headers = {file: pydicom.dcmread(file, stop_before_pixels=True) for file in files}
        files.sort(key=lambda file: _along(headers[file]))
    spec = InputSpec(modality=(source.modality,), unit=source.unit, kind=source.kind, slices_min=1)
    return load_volume(instances_of(files[source.first :][: source.count]), spec)


def _along(header: Dataset) -> float:
    normal = np.cross(*np.reshape(np.array(header.ImageOrientationPatient, float), (2, 3)))
    return float(normal @ np.array(header.ImagePositionPatient, float))


@pytest.fixture(scope="module", params=SOURCES)
def made(request, tmp_path_factory) -> Encoded:
    volume = _volume(request.param)
    source = SOURCES[request.param]
    count, rows, columns = volume.image.array.shape
    box = slice(rows // 4, rows // 4 + min(rows // 2, 120)), slice(columns // 4, 3 * columns // 4)
    mask = np.zeros(volume.image.array.shape, bool)
    for index in range(count // 3, min(count, count // 3 + 3)):
        part = volume.image.array[(index, *box)]
        mask[(index, *box)] = part > np.quantile(part, 0.7 + 0.05 * (index % 3))
    findings = _findings(volume, mask)
    outcome = encode(
        a_job(card=a_card(inputs={"ct": InputSpec(modality=(source.modality,), unit=source.unit)})),
        findings,
        {"ct": volume},
        tmp_path_factory.mktemp("out"),
        [Profile(also=EXTRAS), Profile(report="air")],
    )
    return Encoded(volume, findings, box, outcome)


def _findings(volume: Volume, mask: NDArray[np.bool_]) -> Findings:
    """Return a segment, a box around the brightest, and a map of it."""
    segment = replace(NODULE_SEGMENT, number=1)
    index = int(np.argmax(mask.any(axis=(1, 2))))
    at = np.argwhere(mask[index])
    corners = np.array([[index, *at.min(axis=0)], [index, *at.max(axis=0)]], dtype=np.float64)
    detection = Detection(
        number=1,
        label="Nodule seen",
        category=ABNORMAL,
        kind=NODULE,
        shape="box",
        points=corners,
        confidence=0.75,
        laterality=RIGHT,
        anatomic_region=LUNG,
    )
    heat = np.where(mask, np.float32(0.75), np.float32(0.0))
    return Findings(
        labelmap=mask.astype(np.uint8),
        affine=volume.image.affine,
        segments=(segment,),
        detections=(detection,),
        maps=(
            Map(label="Attention", quantity=PROBABILITY, unit=NO_UNITS, array=heat),
            Map(label="Nodule", quantity=PROBABILITY, unit=NO_UNITS, array=heat, segment=1),
        ),
        measurements=tuple(measure_segment(("mean",), mask, volume.image, segment=1)),
    )


@needs_dciodvfy
def test_dciodvfy_finds_no_error_in_any_object(made: Encoded) -> None:
    for thing in made.outcome.objects:
        assert dciodvfy_errors(thing.path) == [], thing.kind


def test_all_kinds_are_made_or_a_note_says_why_not(made: Encoded) -> None:
    kinds = {thing.kind for thing in made.outcome.objects}
    assert {"seg", "sr-measurements", "sr-text", "sr-air"} <= kinds
    assert len(set(EXTRAS) - kinds) <= len(made.outcome.notes)
    if made.volume.image.is_spatial:
        assert set(EXTRAS) <= kinds


def test_a_frame_of_the_segmentation_names_the_plane_whose_pixels_it_marks(made: Encoded) -> None:
    checked = 0
    for seg in made.of("seg"):
        assert seg.SegmentationType == "BINARY"
        planes = np.atleast_3d(seg.pixel_array.T).T
        for groups, plane in zip(seg.PerFrameFunctionalGroupsSequence, planes, strict=True):
            reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
            raw, is_colour = _raw(made.volume, reference)
            _check_by_value(raw[made.box], plane[made.box] > 0, is_colour)
            assert not np.delete(plane, np.s_[made.box[0]], axis=0).any()
            checked += 1
    assert checked == min(3, len(made.volume.slices))


@pytest.mark.parametrize("kind", ["sr-measurements", "sr-air"])
def test_a_contour_lies_on_the_plane_whose_pixels_were_marked(made: Encoded, kind: str) -> None:
    """Inside of the segment's most pixels are bright; in the whole rectangle three of ten."""
    (thing,) = [thing for thing in made.outcome.objects if thing.kind == kind]
    found = {finding.label: finding for finding in read_findings(thing.path) if finding.plane}
    assert "Nodule seen" in found
    if kind == "sr-measurements":
        assert "Nodule" in found
    for label, finding in found.items():
        uid, frame = finding.plane
        named = next(c for c in _walk(pydicom.dcmread(thing.path)) if _names(c, uid, frame))
        raw, _ = _raw(made.volume, named.ReferencedSOPSequence[0])
        points = finding.points[:, ::-1] - 0.5
        if label == "Nodule seen":
            corners = made.findings.detections[0].points
            plane = made.volume.slices[int(corners[0, 0])]
            assert (plane.sop_instance_uid, plane.frame or 1) == finding.plane
            assert np.allclose([points.min(axis=0), points.max(axis=0)], corners[:, 1:], atol=0.51)
            continue
        inside = polygon2mask(raw.shape, points)[made.box]
        part = raw[made.box].astype(float)
        low, high = np.quantile(part, [0.2, 0.7])
        bright = float((part[inside] >= high).mean()), float((part[inside] <= low).mean())
        assert max(bright) > 0.5, bright


def _names(content: Dataset, uid: str, frame: int) -> bool:
    """Whether a content item is a reference to this frame."""
    items = content.get("ReferencedSOPSequence", ())
    return any(
        i.ReferencedSOPInstanceUID == uid and int(i.get("ReferencedFrameNumber", 1)) == frame for i in items
    )


def test_every_reference_to_the_source_is_to_an_instance_and_a_frame_that_exist(made: Encoded) -> None:
    files = {plane.sop_instance_uid: plane.path for plane in made.volume.slices}
    siblings = {thing.sop_instance_uid for thing in made.outcome.objects}
    for dataset in made.all:
        for item in _items(dataset):
            uid = str(item.get("ReferencedSOPInstanceUID", ""))
            is_composite = str(item.get("ReferencedSOPClassUID", "")).startswith(STORAGE)
            if not is_composite or uid in siblings:
                continue  # the study itself, or a procedure step
            assert uid in files, f"{dataset.SeriesDescription} refers to an unknown instance"
            header = _header(files[uid])
            assert item.ReferencedSOPClassUID == header.SOPClassUID
            frames = item.get("ReferencedFrameNumber")
            if frames is not None:
                numbers = [int(n) for n in np.atleast_1d(frames)]
                assert int(header.get("NumberOfFrames", 0)) >= max(numbers) >= min(numbers) >= 1


def _check_by_value(raw: NDArray[np.generic], marked: NDArray[np.bool_], is_colour: bool) -> None:
    """The marked pixels are the brightest of the rectangle, or the darkest where black means bright."""
    assert 0 < marked.sum() < marked.size
    inside, outside = raw[marked].astype(float), raw[~marked].astype(float)
    if is_colour:
        threshold = np.sort(raw.ravel())[-int(marked.sum())]
        wrong = (inside < threshold).sum() + (outside > threshold).sum()
        assert wrong <= COLOUR_SLACK * marked.size, f"{wrong} of {marked.size} pixels are others"
    else:
        assert inside.min() > outside.max() or inside.max() < outside.min(), "other pixels are marked"


def _raw(volume: Volume, reference: Dataset) -> tuple[NDArray[np.generic], bool]:
    """Return stored values (rows, columns) of the plane that a reference names; of colour, its grey."""
    uid = str(reference.ReferencedSOPInstanceUID)
    pixels, photometric = _pixels(next(p.path for p in volume.slices if p.sop_instance_uid == uid))
    is_many = pixels.ndim == (4 if photometric != "grey" else 3)
    frame = reference.get("ReferencedFrameNumber")
    assert (frame is not None) == is_many, "a frame is named where there are several, and only there"
    plane = pixels[int(frame) - 1] if is_many else pixels
    if photometric == "grey":
        return plane, False
    rgb = convert_color_space(plane, photometric, "RGB") if photometric != "RGB" else plane
    return rgb @ np.array([0.299, 0.587, 0.114]), True


@cache
def _pixels(path: Path) -> tuple[NDArray[np.generic], str]:
    dataset = pydicom.dcmread(path)
    is_colour = int(dataset.SamplesPerPixel) > 1
    pixels = dataset.pixel_array
    return pixels, ("RGB" if is_colour else "grey")


@cache
def _header(path: Path) -> Dataset:
    return pydicom.dcmread(path, stop_before_pixels=True)


def _walk(content: Dataset):
    for child in content.get("ContentSequence", ()):
        yield child
        yield from _walk(child)


def _items(dataset: Dataset):
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _items(item)
