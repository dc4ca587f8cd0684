"""RT Structure Sets, read and filled by hand from the source's own headers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from scipy.ndimage import gaussian_filter
from skimage.draw import polygon2mask

from node.encode.render import rtstruct
from node.model import Volume
from node.profile import Presentation
from pipelines.contract import Detection
from tests.encode.extras import (
    SOURCES,
    Judged,
    dcmdump,
    of_kind,
    only,
    real_volume,
    result_of,
    rich_case,
    stored,
)
from tests.encode.helpers import ABNORMAL, LEFT_LUNG, NODULE, RIGHT_LUNG, findings_of
from tests.encode.judges import dciodvfy_errors, needs, needs_dciodvfy
from tests.paths import SHARED, needs_shared
from tests.phantoms import asymmetric_phantom, to_world

SHAPE = (9, 40, 34)
#: A line through several slices.
CROSSING = Detection(
    number=1,
    label="Longest axis",
    category=ABNORMAL,
    kind=NODULE,
    shape="line",
    points=np.array([[2.0, 12.0, 14.0], [5.0, 20.0, 21.0]]),
)


def masks() -> list[np.ndarray]:
    """A body of bars, and one with a hole, an island in it, a corner contact and a second part."""
    bars = asymmetric_phantom(SHAPE, np.eye(4)).mask
    holed = np.zeros(SHAPE, bool)
    holed[2:7, 12:30, 14:30] = True
    holed[3:6, 16:26, 18:26] = False
    holed[4, 20:22, 21:23] = True
    holed[2:5, 30:33, 30:33] = True
    holed[6, 35, 3:5] = True
    return [bars, holed & ~bars]


def geometry(contour: Dataset, paths: dict[str, Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return position, orientation and spacing of the image that a contour is referred to."""
    reference = contour.ContourImageSequence[0]
    source = pydicom.dcmread(paths[reference.ReferencedSOPInstanceUID], stop_before_pixels=True)
    if "ReferencedFrameNumber" not in reference:
        return (
            np.array(source.ImagePositionPatient, float),
            np.array(source.ImageOrientationPatient, float).reshape(2, 3),
            np.array(source.PixelSpacing, float),
        )
    shared = source.SharedFunctionalGroupsSequence[0]
    own = source.PerFrameFunctionalGroupsSequence[reference.ReferencedFrameNumber - 1]
    return (
        np.array(own.PlanePositionSequence[0].ImagePositionPatient, float),
        np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3),
        np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float),
    )


def filled(roi_contours: Dataset, volume: Volume) -> np.ndarray:
    """Return the voxels inside the closed contours of a region, by the even-odd rule."""
    paths = {s.sop_instance_uid: s.path for s in volume.slices}
    planes = {(s.sop_instance_uid, s.frame): i for i, s in enumerate(volume.slices)}
    mask = np.zeros(volume.image.array.shape, bool)
    for contour in roi_contours.ContourSequence:
        position, (columns, rows), (row_mm, column_mm) = geometry(contour, paths)
        points = np.array(contour.ContourData, float).reshape(-1, 3) - position
        assert np.abs(points @ np.cross(columns, rows)).max() < 1e-3  # on the plane of the image
        index = np.stack([points @ rows / row_mm, points @ columns / column_mm], axis=1)
        reference = contour.ContourImageSequence[0]
        plane = planes[reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber")]
        mask[plane] ^= polygon2mask(mask.shape[1:], index)
    return mask


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


@pytest.mark.parametrize(("orientation", "source"), SOURCES)
def test_contours_filled_on_the_images_they_name_are_the_segments(
    tmp_path: Path, orientation: str, source: str
) -> None:
    bars, holed = masks()
    array = np.where(bars, 300, -1000).astype(np.int16)
    volume = stored(tmp_path / "in", array, orientation, source)
    if source == "reversed":
        bars, holed = bars[::-1], holed[::-1]
    findings = findings_of(volume, [bars, holed], [LEFT_LUNG, RIGHT_LUNG])
    ds = pydicom.dcmread(only(result_of(volume, findings, tmp_path / "out", "rtstruct"), "rtstruct"))
    assert [roi.ROIName for roi in ds.StructureSetROISequence] == ["Left lung", "Right lung"]
    for mask, contours in zip((bars, holed), ds.ROIContourSequence, strict=True):
        assert dice(filled(contours, volume), mask) == 1.0
    assert ds.FrameOfReferenceUID == volume.frame_of_reference_uid


def test_a_region_says_what_it_is_who_made_it_and_from_which_segment(tmp_path: Path) -> None:
    case = rich_case(tmp_path / "in")
    result = result_of(case.volume, case.findings, tmp_path / "out", "rtstruct")
    ds = pydicom.dcmread(only(result, "rtstruct"))
    roi, seen, drawn = (
        ds.StructureSetROISequence[0],
        ds.RTROIObservationsSequence[0],
        ds.ROIContourSequence[0],
    )
    assert roi.ROIGenerationAlgorithm == "AUTOMATIC"
    assert roi.ROIDerivationAlgorithmIdentificationSequence[0].AlgorithmName == "lung-density"
    assert list(drawn.ROIDisplayColor) == list(LEFT_LUNG.colour_rgb)
    assert seen.RTROIInterpretedType == "ORGAN"
    kind = seen.RTROIIdentificationCodeSequence[0]
    assert kind.CodeValue == "39607008"
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    segs = {o.sop_instance_uid: o for o in of_kind(result, "seg")}
    source = roi.DefinitionSourceSequence[0]
    seg = pydicom.dcmread(segs[source.ReferencedSOPInstanceUID].path)
    (named,) = [s for s in seg.SegmentSequence if s.SegmentNumber == source.ReferencedSegmentNumber]
    assert named.SegmentLabel == "Left lung"
    voxels = int(case.findings.mask(1).sum())
    assert float(roi.ROIVolume) == pytest.approx(voxels * case.volume.image.voxel_ml)
    assert ds.RTROIObservationsSequence[2].RTROIInterpretedType == ""  # a nodule is no organ, and no target
    assert ds.ApprovalStatus == "UNAPPROVED"
    assert "Research use only" in ds.StructureSetDescription


def test_detections_are_points_lines_and_closed_contours_where_they_were_seen(tmp_path: Path) -> None:
    case = rich_case(tmp_path / "in")
    ds = pydicom.dcmread(
        only(result_of(case.volume, case.findings, tmp_path / "out", "rtstruct"), "rtstruct")
    )
    affine = case.volume.image.affine
    point, line, box, contour = (item.ContourSequence for item in list(ds.ROIContourSequence)[3:])
    assert [c.ContourGeometricType for c in (point[0], line[0])] == ["POINT", "OPEN_PLANAR"]
    said = np.array(line[0].ContourData, float).reshape(-1, 3)
    np.testing.assert_allclose(said, to_world(affine, case.findings.detections[1].points), atol=1e-3)
    assert [c.ContourGeometricType for c in box] == ["CLOSED_PLANAR"] * 3  # slices 4, 5 and 6
    corners = np.array([c.ContourData for c in box], float).reshape(-1, 3)
    np.testing.assert_allclose(corners.mean(axis=0), to_world(affine, (5, 23, 39.5)), atol=1e-3)
    (outline,) = contour
    assert outline.ContourGeometricType == "CLOSED_PLANAR"
    corners = np.array(outline.ContourData, float).reshape(-1, 3)
    assert {tuple(np.round(p, 3)) for p in corners} >= {
        tuple(np.round(p, 3)) for p in to_world(affine, case.findings.detections[3].points)
    }
    assert "confidence 0.9" in ds.RTROIObservationsSequence[6].ROIObservationDescription


@needs_dciodvfy
@needs("dcmdump", "dcmtk")
@pytest.mark.parametrize("source", ["single", "enhanced"])
def test_dciodvfy_and_dcmtk_have_nothing_against_it(tmp_path: Path, source: str) -> None:
    bars, holed = masks()
    volume = stored(tmp_path / "in", np.where(bars, 300, -1000).astype(np.int16), "oblique", source)
    findings = findings_of(volume, [bars, holed], [LEFT_LUNG, RIGHT_LUNG], detections=(CROSSING,))
    path = only(result_of(volume, findings, tmp_path / "out", "rtstruct"), "rtstruct")
    assert dciodvfy_errors(path) == []
    assert "RTStructureSetStorage" in dcmdump(path)
    line = pydicom.dcmread(path).ROIContourSequence[2].ContourSequence[0]
    assert line.ContourGeometricType == "OPEN_NONPLANAR"


def test_a_ragged_segment_stays_within_explicit_vr_and_is_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ragged = rng.random((1, 90, 90)) < 0.75
    volume = stored(tmp_path / "in", np.zeros(ragged.shape, np.int16), "axial", "single")
    findings = findings_of(volume, [ragged], [LEFT_LUNG])
    ds = pydicom.dcmread(only(result_of(volume, findings, tmp_path / "out", "rtstruct"), "rtstruct"))
    contours = ds.ROIContourSequence[0]
    assert max(len("\\".join(map(str, c.ContourData))) for c in contours.ContourSequence) < 65534
    np.testing.assert_array_equal(filled(contours, volume), ragged)


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    case = rich_case(tmp_path / "in")
    one, two = (
        only(result_of(case.volume, case.findings, tmp_path / name, "rtstruct"), "rtstruct")
        for name in ("one", "two")
    )
    assert one.read_bytes() == two.read_bytes()


def test_without_a_frame_of_reference_or_a_finding_there_is_a_reason_instead(tmp_path: Path) -> None:
    case = rich_case(tmp_path / "in")
    nowhere = replace(case.volume, frame_of_reference_uid="")
    result = result_of(nowhere, case.findings, tmp_path / "nowhere", "rtstruct")
    assert of_kind(result, "rtstruct") == []
    assert any("no frame of reference" in note for note in result.notes)
    nothing = findings_of(case.volume, [np.zeros(case.volume.image.array.shape, bool)], [LEFT_LUNG])
    result = result_of(case.volume, nothing, tmp_path / "nothing", "rtstruct")
    assert any("nothing was outlined" in note for note in result.notes)
    small = Presentation(max_object_mb=0.001)
    result = result_of(case.volume, case.findings, tmp_path / "small", "rtstruct", presentation=small)
    assert any("max_object_mb" in note for note in result.notes)


def test_noise_is_refused_before_anything_of_it_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(4).random((4, 200, 200)) < 0.3
    volume = stored(tmp_path / "in", np.zeros(noise.shape, np.int16), "axial", "single")
    monkeypatch.setattr(rtstruct, "polygons", None)  # calling it would fail the job
    result = result_of(volume, findings_of(volume, [noise], [LEFT_LUNG]), tmp_path / "out", "rtstruct")
    assert of_kind(result, "rtstruct") == []
    assert any("Use the Segmentation" in note for note in result.notes)


@needs_shared
def test_a_real_series_of_a_prostate_gives_its_own_contours(tmp_path: Path) -> None:
    volume = real_volume(SHARED / "mr_prostate_adc_ge", "MR")
    smooth = gaussian_filter(volume.image.array, 3)
    bright = smooth > np.percentile(smooth, 95)
    findings = findings_of(volume, [bright], [LEFT_LUNG])
    path = only(result_of(volume, findings, tmp_path / "out", "rtstruct"), "rtstruct")
    contours = pydicom.dcmread(path).ROIContourSequence[0]
    assert dice(filled(contours, volume), bright) > 0.9999


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("rtstruct")
    made = rich_case(folder / "in")
    return Judged(
        made.volume, made.findings, result_of(made.volume, made.findings, folder / "out", "rtstruct")
    )


def test_an_undamaged_structure_set_has_no_fault(case: Judged) -> None:
    assert case.faults(*of_kind(case.result, "rtstruct")) == []


def roi(keyword: str, value: object, number: int = 0) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds.StructureSetROISequence[number], keyword, value)


def first_contour(change: Callable[[Dataset], None], number: int = 0) -> Callable[[Dataset], None]:
    return lambda ds: change(ds.ROIContourSequence[number].ContourSequence[0])


def moved(by_mm: float) -> Callable[[Dataset], None]:
    def move(contour: Dataset) -> None:
        contour.ContourData = [f"{float(v) + by_mm:.4f}" for v in contour.ContourData]

    return move


def study(ds: Dataset) -> Dataset:
    return ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]


def without_last(ds: Dataset) -> None:
    for keyword in ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence"):
        del ds[keyword].value[-1]


def without_a_contour(ds: Dataset) -> None:
    del ds.ROIContourSequence[0].ContourSequence[0]


def halved(contour: Dataset) -> None:
    """Cut a rectangle in two at its middle; its corners stay on pixel edges."""
    points = np.array(contour.ContourData, float).reshape(4, 3)
    steps = points.copy()
    steps[0], steps[1] = points[0] + (points[3] - points[0]) / 2, points[1] + (points[2] - points[1]) / 2
    contour.ContourData = [f"{v:.4f}" for v in steps.ravel()]


DAMAGES: list[tuple[str, Callable[[Dataset], None], str]] = [
    ("modality", lambda ds: setattr(ds, "Modality", "OT"), "modality is not RT Structure Set"),
    ("approved", lambda ds: setattr(ds, "ApprovalStatus", "APPROVED"), "unapproved"),
    ("silent", lambda ds: setattr(ds, "StructureSetDescription", "Contours"), "does not say research"),
    ("frame", roi("ReferencedFrameOfReferenceUID", "1.2.3"), "frame of reference is not that"),
    ("study", lambda ds: setattr(study(ds), "ReferencedSOPInstanceUID", "1.2.3"), "study or series"),
    (
        "images",
        lambda ds: study(ds).RTReferencedSeriesSequence[0].ContourImageSequence.pop(),
        "referenced images are not those",
    ),
    ("numbers", roi("ROINumber", 9), "not the same, each once"),
    ("one less", without_last, "the regions are not the findings"),
    ("name", roi("ROIName", "Right lung"), "not named as the finding"),
    ("tracking", roi("ROIDescription", "Research"), "not named as the finding"),
    ("manual", roi("ROIGenerationAlgorithm", "MANUAL"), "made automatically"),
    (
        "colour",
        lambda ds: setattr(ds.ROIContourSequence[0], "ROIDisplayColor", [1, 2, 3]),
        "another colour",
    ),
    (
        "code",
        lambda ds: setattr(
            ds.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0], "CodeValue", "10200004"
        ),
        "another code",
    ),
    ("source", roi("DefinitionSourceSequence", []), "segment that it was made from"),
    ("volume", roi("ROIVolume", "1"), "another volume"),
    (
        "open",
        first_contour(lambda c: setattr(c, "ContourGeometricType", "OPEN_PLANAR")),
        "not closed",
    ),
    ("count", first_contour(lambda c: setattr(c, "NumberOfContourPoints", 3)), "miscounts"),
    ("moved", first_contour(moved(0.3)), "does not lie on pixel edges"),
    (
        "other image",
        first_contour(lambda c: setattr(c.ContourImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3")),
        "does not lie on pixel edges of its image",
    ),
    ("slice", without_a_contour, "not on the slices"),
    ("half", first_contour(halved), "does not enclose the voxels"),
    (
        "shape",
        first_contour(lambda c: setattr(c, "ContourGeometricType", "OPEN_PLANAR"), 3),
        "another shape",
    ),
    ("moved point", first_contour(moved(0.3), 3), "does not lie where it was detected"),
    (
        "two points",
        lambda ds: ds.ROIContourSequence[3].ContourSequence.append(
            ds.ROIContourSequence[3].ContourSequence[0]
        ),
        "more than one contour",
    ),
    (
        "foreign image",
        first_contour(lambda c: setattr(c.ContourImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3"), 3),
        "image that is not of the source",
    ),
]


@pytest.mark.parametrize(("damage", "sentence"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_a_damaged_structure_set_is_caught(
    case: Judged, damage: Callable[[Dataset], None], sentence: str, tmp_path: Path
) -> None:
    found = case.damaged("rtstruct", damage, tmp_path)
    assert any(sentence in fault for fault in found), found
