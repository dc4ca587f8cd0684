"""Grayscale Softcopy Presentation States: rendered by DCMTK, filled again, judged by dicom3tools."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pydicom
import pytest
from pydicom.dataset import Dataset
from skimage.draw import polygon2mask

from node.encode.render import presentation_state
from node.encode.render.presentation_state import LOOPS_MAX
from node.profile import Presentation
from pipelines.contract import Detection
from tests.encode.extras import (
    SOURCES,
    Judged,
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

SHAPE = (7, 30, 24)
KIND = "presentation-state"
POINT = Detection(
    number=1,
    label="Nodule",
    category=ABNORMAL,
    kind=NODULE,
    shape="point",
    points=np.array([[1.0, 5.0, 6.0]]),
)


def masks() -> list[np.ndarray]:
    """A ring with an island, and a bar; both on some slices only."""
    ring = np.zeros(SHAPE, bool)
    ring[2:5, 4:20, 4:16] = True
    ring[2:5, 8:16, 7:13] = False
    ring[3, 11:13, 9:11] = True
    bar = np.zeros(SHAPE, bool)
    bar[4:6, 22:27, 3:20] = True
    return [ring, bar]


def array_hu() -> np.ndarray:
    return np.random.default_rng(2).integers(-900, 900, SHAPE).astype(np.int16)


def state_of(
    folder: Path, orientation: str = "axial", source: str = "single", **options: Any
) -> tuple[Any, Any, Path]:
    """Return the volume, its masks and the presentation state of both."""
    volume = stored(folder / "in", array_hu(), orientation, source, **options)
    shown = [mask[::-1] for mask in masks()] if source == "reversed" else masks()
    findings = findings_of(volume, shown, [LEFT_LUNG, RIGHT_LUNG])
    return volume, shown, only(result_of(volume, findings, folder / "out", KIND), KIND)


def rendered(path: Path, source: Path, frame: int | None, folder: Path) -> np.ndarray:
    """Return the image as DCMTK shows it under a presentation state: (rows, columns), 0 to 255."""
    out = folder / "rendered.pgm"
    command = ["dcmp2pgm", "-p", str(path), *(["-f", str(frame)] if frame else []), str(source), str(out)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "E:" not in run.stderr, run.stderr
    return np.array(PIL.Image.open(out)).astype(int)


def windowed(array: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Return grey values of the linear window function (PS3.3 C.11.2.1.2.1)."""
    return np.clip((array - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


@pytest.mark.parametrize(("orientation", "source"), SOURCES)
def test_the_drawings_filled_on_their_images_are_the_segments(
    tmp_path: Path, orientation: str, source: str
) -> None:
    volume, shown, path = state_of(tmp_path, orientation, source)
    ds = pydicom.dcmread(path)
    planes = {(s.sop_instance_uid, s.frame): i for i, s in enumerate(volume.slices)}
    names = {layer.GraphicLayer: layer.GraphicLayerDescription for layer in ds.GraphicLayerSequence}
    filled = {
        "Left lung, research only": np.zeros(SHAPE, bool),
        "Right lung, research only": np.zeros(SHAPE, bool),
    }
    for annotation in ds.GraphicAnnotationSequence[1:]:
        (reference,) = annotation.ReferencedImageSequence
        index = planes[reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber")]
        for graphic in annotation.GraphicObjectSequence:
            points = np.array(graphic.GraphicData).reshape(-1, 2)
            assert graphic.GraphicAnnotationUnits == "PIXEL"
            filled[names[annotation.GraphicLayer]][index] ^= polygon2mask(SHAPE[1:], points[:, ::-1] - 0.5)
    for mask, found in zip(shown, filled.values(), strict=True):
        np.testing.assert_array_equal(found, mask)


@needs("dcmp2pgm", "dcmtk")
@pytest.mark.parametrize("source", ["single", "enhanced reversed"])
def test_dcmtk_shows_the_images_through_the_window_of_the_source(tmp_path: Path, source: str) -> None:
    headers = {} if source != "single" else {"WindowCenter": ["40", "300"], "WindowWidth": ["400", "1500"]}
    volume, _, path = state_of(tmp_path, source=source, headers=headers)
    for index in (2, 4):
        plane = volume.slices[index]
        seen = rendered(path, plane.path, plane.frame, tmp_path)
        assert np.abs(seen - windowed(array_hu()[index], 40, 400)).max() <= 2


@needs("dcmp2pgm", "dcmtk")
def test_planes_that_are_rescaled_each_in_its_own_way_are_shown_as_their_windows_say(tmp_path: Path) -> None:
    pairs = [(1.0 + index / 4, -100.0 * index) for index in range(SHAPE[0])]
    headers = {"WindowCenter": "100", "WindowWidth": "800"}
    volume, _, path = state_of(tmp_path, rescale=pairs, headers=headers)
    assert "RescaleSlope" not in pydicom.dcmread(path)
    for index in (2, 5):
        seen = rendered(path, volume.slices[index].path, None, tmp_path)
        assert np.abs(seen - windowed(array_hu()[index], 100, 800)).max() <= 3


@needs("dcmp2pgm", "dcmtk")
def test_an_image_that_is_stored_inverted_is_shown_inverted(tmp_path: Path) -> None:
    headers = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": "40", "WindowWidth": "400"}
    volume, _, path = state_of(tmp_path, headers=headers)
    seen = rendered(path, volume.slices[3].path, None, tmp_path)
    assert np.abs(seen - (255 - windowed(array_hu()[3], 40, 400))).max() <= 2


@needs_dciodvfy
@needs("dcmp2pgm", "dcmtk")
def test_lookup_tables_of_the_source_are_taken_along(tmp_path: Path) -> None:
    steps = np.where(np.arange(2048) < 1024, 0, 65535).astype("<u2")

    def tables(_: int, ds: Dataset) -> None:
        del ds.WindowCenter, ds.WindowWidth
        table = Dataset()
        table.add_new("LUTDescriptor", "SS", [2048, -1024, 16])
        table.add_new("LUTData", "OW", steps.tobytes())
        ds.VOILUTSequence = [table]

    volume, _, path = state_of(tmp_path, edit=tables, headers={"WindowCenter": "1", "WindowWidth": "2"})
    assert dciodvfy_errors(path) == []
    seen = rendered(path, volume.slices[3].path, None, tmp_path)
    np.testing.assert_array_equal(seen, np.where(array_hu()[3] < 0, 0, 255))


def test_only_images_with_findings_are_referenced_and_frames_in_one_reference(tmp_path: Path) -> None:
    volume, _, path = state_of(tmp_path, "oblique", "enhanced reversed")
    (series,) = pydicom.dcmread(path).ReferencedSeriesSequence
    (reference,) = series.ReferencedImageSequence
    assert list(reference.ReferencedFrameNumber) == sorted(volume.slices[i].frame for i in (2, 3, 4, 5))


@needs_dciodvfy
@needs("dcmpschk", "dcmtk")
@pytest.mark.parametrize("source", ["single", "enhanced"])
def test_dciodvfy_and_dcmtk_have_nothing_against_it(tmp_path: Path, source: str) -> None:
    volume = stored(tmp_path / "in", array_hu(), "oblique", source)
    findings = findings_of(volume, masks(), [LEFT_LUNG, RIGHT_LUNG], detections=(POINT,))
    path = only(result_of(volume, findings, tmp_path / "out", KIND), KIND)
    assert dciodvfy_errors(path) == []
    run = subprocess.run(["dcmpschk", str(path)], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    affected = [line for line in lines if "Affected" in line or "Error:" in line]
    # DCMTK 3.6.7 holds an offset of +0000 for illegal
    assert [line for line in affected if "Affected" in line and "ContributionDateTime" not in line] == []
    assert any("Testing" in line for line in lines)


def test_what_is_drawn_bears_labels_confidence_colours_and_tracking_on_layers_that_say_research(
    tmp_path: Path,
) -> None:
    case = rich_case(tmp_path / "in")
    ds = pydicom.dcmread(only(result_of(case.volume, case.findings, tmp_path / "out", KIND), KIND))
    layers = [layer.GraphicLayer for layer in ds.GraphicLayerSequence]
    assert layers == ["AI RESEARCH ONLY", *(f"AI RESEARCH {n}" for n in range(1, 8))]
    assert (
        len({tuple(la.GraphicLayerRecommendedDisplayCIELabValue) for la in ds.GraphicLayerSequence[1:4]}) == 3
    )
    notice = ds.GraphicAnnotationSequence[0]
    assert notice.TextObjectSequence[0].UnformattedTextValue == "Research use only. Not for diagnosis."
    assert "ReferencedImageSequence" not in notice  # on every image
    texts = {t.UnformattedTextValue for a in ds.GraphicAnnotationSequence for t in a.TextObjectSequence}
    assert {"Left lung", "Nodule point (60 %)", "Nodule contour (90 %)"} <= texts
    (point,) = [
        g
        for a in ds.GraphicAnnotationSequence[1:]
        for g in a.GraphicObjectSequence
        if g.GraphicType == "POINT"
    ]
    assert list(point.GraphicData) == [40.5, 23.5]  # the centre of pixel (column 40, row 23)
    assert ds.ContentLabel == "AI_RESEARCH_ONLY"


def test_images_in_colour_and_images_without_findings_get_a_reason_instead(tmp_path: Path) -> None:
    volume = stored(tmp_path / "in", array_hu(), "axial", "single")
    findings = findings_of(volume, masks(), [LEFT_LUNG, RIGHT_LUNG])
    coloured = replace(volume, image=replace(volume.image, colour=np.zeros((*SHAPE, 3), np.uint8)))
    result = result_of(coloured, findings, tmp_path / "colour", KIND)
    assert of_kind(result, KIND) == []
    assert any("these are in colour" in note for note in result.notes)
    nothing = findings_of(volume, [np.zeros(SHAPE, bool)], [LEFT_LUNG])
    result = result_of(volume, nothing, tmp_path / "nothing", KIND)
    assert any("nothing to draw" in note for note in result.notes)
    small = Presentation(max_object_mb=0.001)
    result = result_of(volume, findings, tmp_path / "small", KIND, presentation=small)
    assert any("max_object_mb" in note for note in result.notes)


@pytest.mark.parametrize("share", [0.3, 0.72])
def test_noise_is_drawn_by_what_is_largest_in_it_and_little_else_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    noise = np.random.default_rng(4).random((3, 200, 200)) < share
    volume = stored(tmp_path / "in", np.zeros(noise.shape, np.int16), "axial", "single")
    findings = findings_of(volume, [noise], [LEFT_LUNG])
    traced: list[int] = []
    loops = presentation_state.loops
    monkeypatch.setattr(presentation_state, "loops", lambda p: traced.append(len(found := loops(p))) or found)
    result = result_of(volume, findings, tmp_path / "out", KIND)
    only(result, KIND)
    assert len(traced) == 2 * len(noise)  # once by the maker, once by the judge
    assert max(traced) <= 3 * LOOPS_MAX


def test_what_is_too_ragged_for_any_reader_gets_a_reason_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(5).random((2, 60, 60)) < 0.6
    volume = stored(tmp_path / "in", np.zeros(noise.shape, np.int16), "axial", "single")
    findings = findings_of(volume, [noise], [LEFT_LUNG])
    for number, limit in enumerate(("CORNERS_MAX", "LINES_MAX")):
        with monkeypatch.context() as patch:
            patch.setattr(presentation_state, limit, 10)
            result = result_of(volume, findings, tmp_path / f"out{number}", KIND)
        assert of_kind(result, KIND) == []
        assert any("Use the Segmentation" in note for note in result.notes)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda i, ds: setattr(ds, "PhotometricInterpretation", "PALETTE COLOR"), "not stored as grey"),
        (
            lambda i, ds: setattr(ds, "PhotometricInterpretation", f"MONOCHROME{1 + i % 2}"),
            "some images are stored inverted",
        ),
        (
            lambda i, ds: setattr(ds, "ModalityLUTSequence", [Dataset()]),
            "Modality LUT of the images is damaged",
        ),
    ],
)
def test_images_that_one_state_cannot_show_get_a_reason_instead(
    tmp_path: Path, edit: Callable[[int, Dataset], None], sentence: str
) -> None:
    volume = stored(tmp_path / "in", array_hu(), "axial", "single", edit=edit)
    findings = findings_of(volume, masks(), [LEFT_LUNG, RIGHT_LUNG])
    result = result_of(volume, findings, tmp_path / "out", KIND)
    assert any(sentence in note for note in result.notes), result.notes


def test_illegal_windows_are_left_out(tmp_path: Path) -> None:
    def spoil(index: int, ds: Dataset) -> None:
        ds.WindowWidth = ["0", "-5", "1e400", None][index % 4]

    _, _, path = state_of(tmp_path, edit=spoil)
    assert "SoftcopyVOILUTSequence" not in pydicom.dcmread(path)


def test_a_very_ragged_segment_is_drawn_within_bounds(tmp_path: Path) -> None:
    ragged = np.random.default_rng(3).random((1, 160, 160)) < 0.72
    volume = stored(tmp_path / "in", np.zeros(ragged.shape, np.int16), "axial", "single")
    findings = findings_of(volume, [ragged], [LEFT_LUNG])
    ds = pydicom.dcmread(only(result_of(volume, findings, tmp_path / "out", KIND), KIND))
    graphics = ds.GraphicAnnotationSequence[1].GraphicObjectSequence
    assert len(graphics) == LOOPS_MAX
    assert max(g.NumberOfGraphicPoints for g in graphics) <= 4000


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    case = rich_case(tmp_path / "in")
    one, two = (
        only(result_of(case.volume, case.findings, tmp_path / name, KIND), KIND) for name in ("one", "two")
    )
    assert one.read_bytes() == two.read_bytes()


@needs_shared
@needs_dciodvfy
@needs("dcmp2pgm", "dcmtk")
def test_a_real_series_is_shown_through_its_own_window(tmp_path: Path) -> None:
    volume = real_volume(SHARED / "ct_chest_philips_5mm", "CT")
    bright = volume.image.array > 600
    path = only(result_of(volume, findings_of(volume, [bright], [LEFT_LUNG]), tmp_path / "out", KIND), KIND)
    assert dciodvfy_errors(path) == []
    index = int(bright.sum(axis=(1, 2)).argmax())
    source = pydicom.dcmread(volume.slices[index].path)
    seen = rendered(path, volume.slices[index].path, None, tmp_path)
    centre, width = (np.ravel(source[k].value)[0] for k in ("WindowCenter", "WindowWidth"))
    expected = windowed(volume.image.array[index], float(centre), float(width))
    assert np.abs(seen - expected).max() <= 2


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("state")
    window = {"WindowCenter": "40", "WindowWidth": "400"}
    volume = stored(folder / "in", array_hu(), "oblique", "single", headers=window)
    findings = findings_of(volume, masks(), [LEFT_LUNG, RIGHT_LUNG], detections=(POINT,))
    return Judged(volume, findings, result_of(volume, findings, folder / "out", KIND))


def test_an_undamaged_presentation_state_has_no_fault(case: Judged) -> None:
    assert case.faults(*of_kind(case.result, KIND)) == []


def put(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


def graphic(change: Callable[[Dataset], None], number: int = 1) -> Callable[[Dataset], None]:
    return lambda ds: change(ds.GraphicAnnotationSequence[number].GraphicObjectSequence[0])


def moved(by: float) -> Callable[[Dataset], None]:
    return lambda g: setattr(g, "GraphicData", [v + by for v in g.GraphicData])


def opened(g: Dataset) -> None:
    g.GraphicData = [*g.GraphicData[:-2], 7, 7]


DAMAGES: list[tuple[str, Callable[[Dataset], None], str]] = [
    ("modality", put("Modality", "OT"), "modality is not Grayscale"),
    ("label", put("ContentLabel", "FINDINGS"), "does not say research"),
    (
        "layers",
        lambda ds: setattr(ds.GraphicLayerSequence[1], "GraphicLayer", "AI RESEARCH ONLY"),
        "layers are not different",
    ),
    ("layer", lambda ds: ds.GraphicLayerSequence.pop(), "layers that are described"),
    (
        "area",
        lambda ds: setattr(
            ds.DisplayedAreaSelectionSequence[0], "DisplayedAreaBottomRightHandCorner", [30, 24]
        ),
        "not the whole image",
    ),
    (
        "series",
        lambda ds: setattr(ds.ReferencedSeriesSequence[0], "SeriesInstanceUID", "1.2.3"),
        "series is not that of the source",
    ),
    (
        "image",
        lambda ds: ds.ReferencedSeriesSequence[0].ReferencedImageSequence.pop(),
        "images are not those with findings",
    ),
    (
        "foreign image",
        lambda ds: setattr(
            ds.GraphicAnnotationSequence[1].ReferencedImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3"
        ),
        "an image that is not referenced",
    ),
    ("units", graphic(put("GraphicAnnotationUnits", "DISPLAY")), "not in pixels"),
    ("count", graphic(put("NumberOfGraphicPoints", 3)), "miscounts"),
    ("outside", graphic(moved(40)), "leaves the image"),
    ("open", graphic(opened), "not closed"),
    ("no notice", lambda ds: ds.GraphicAnnotationSequence.pop(0), "on every image"),
    ("one less", lambda ds: ds.GraphicAnnotationSequence.pop(), "not those of the findings"),
    ("moved", graphic(moved(1)), "1 drawings do not show"),
    ("moved detection", graphic(moved(0.25), -1), "1 drawings do not show"),
    ("rescale", put("RescaleIntercept", "-1024"), "rescaling is not that"),
    ("inverted", put("PresentationLUTShape", "INVERSE"), "shown inverted"),
    ("window", lambda ds: delattr(ds, "SoftcopyVOILUTSequence"), "window of an image"),
]


@pytest.mark.parametrize(("damage", "sentence"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_a_damaged_presentation_state_is_caught(
    case: Judged, damage: Callable[[Dataset], None], sentence: str, tmp_path: Path
) -> None:
    found = case.damaged(KIND, damage, tmp_path)
    assert any(sentence in fault for fault in found), found
