"""What must be seen in a viewer of a study with our results. Each check raises AssertionError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon2mask

from tests.paths import REPOSITORY
from tests.viewer.page import Plane, Viewer
from tests.viewer.reports import Finding
from tests.viewer.studies import Study, series_uid

ARTEFACTS = REPOSITORY / "test-artefacts" / "viewer"

#: How far a drawn contour may lie from where it should be, in pixels of the viewport; a voxel of
#: these studies is 6 pixels wide or more.
CONTOUR_PX = 1.0
#: So many lines OHIF writes beside a finding; the text report has them all.
LINES_SHOWN = 5
#: What OHIF writes instead of the name of a number.
SHORT_NAMES = {"Length": ": ", "AREA": "Area: : "}


def picture(study: Study, what: str) -> Path:
    """Return where a screenshot is kept."""
    return ARTEFACTS / f"{study.name}-{what}.png"


def check_segments(viewer: Viewer, study: Study) -> None:
    """The viewer's label maps hold every voxel of every segment, and no other."""
    told: set[int] = set()
    for turn, file in enumerate(study.results["seg"]):
        within = study.segments_of(file)
        viewer.open(series_uid(file))
        viewer.screenshot(picture(study, f"seg-object-{turn + 1}" if turn else "seg"))
        seen = viewer.segments(series_uid(file))
        assert set(seen) == set(within), f"segments {sorted(seen)} instead of {sorted(within)}"
        assert not told & set(within.values()), f"segments {sorted(within.values())} are told twice"
        told |= set(within.values())
        for number, segment in within.items():
            compare_voxels(seen[number], study.masks[segment], f"segment {segment}")
    assert told == set(study.masks), f"segments {sorted(told)} instead of {sorted(study.masks)}"


def compare_voxels(
    seen: Mapping[Plane, NDArray[np.bool_]], wanted: Mapping[Plane, NDArray[np.bool_]], who: str
) -> None:
    """Say whether voxels are missing or in the wrong place; both: plane -> (rows, columns)."""
    counted, counts = _counts(seen), _counts(wanted)
    assert counted == counts, f"{who} has other voxel counts: {counted} instead of {counts}"
    for plane, mask in wanted.items():
        off = int((seen[plane] != mask).sum())
        assert not off, f"{who} is misplaced: {off} voxels differ on {plane}"


def check_colours(viewer: Viewer, study: Study) -> None:
    """On the screen, what lies in a segment in the patient has its colour, and the rest is grey."""
    for file in study.results["seg"]:
        viewer.open(series_uid(file))
        for segment in study.segments_of(file).values():
            viewer.turn_to(study.fullest(segment))
            viewer.screenshot(picture(study, f"seg-{segment}"))
            _check_colour(viewer, study, segment)


def _check_colour(viewer: Viewer, study: Study, segment: int) -> None:
    """Look at the fullest plane of a segment; other segments may be shown as well."""
    height, width = viewer.canvas().shape[:2]
    picture_rgb = viewer.canvas().astype(float)
    plane = study.fullest(segment)
    here = {n: m[plane] for n, m in study.masks.items() if plane in m}
    union = np.any(list(here.values()), axis=0)
    alone = here[segment] & ~np.any([m for n, m in here.items() if n != segment] or [~union], axis=0)
    # A voxel's own centre, one voxel away from any border: drawn borders are thick and blurred.
    inside = np.argwhere(ndimage.binary_erosion(alone))
    outside = np.argwhere(~ndimage.binary_dilation(union, np.ones((3, 3))))
    for indices, is_inside in ((inside, True), (outside, False)):
        if not len(indices):
            continue  # too thin, or wholly inside of another segment
        at = np.rint(viewer.to_pixels(study.world(plane, indices))).astype(int)
        shown = ((at >= 0) & (at < (width, height))).all(axis=1)
        assert shown.any(), f"segment {segment}: nothing of it is on the screen"
        rgb = picture_rgb[at[shown, 1], at[shown, 0]]
        hue = rgb - rgb.mean(axis=1, keepdims=True)
        if is_inside:
            wanted = np.array(study.colours[segment], float) - np.mean(study.colours[segment])
            alike = hue @ wanted / (np.linalg.norm(hue, axis=1) * np.linalg.norm(wanted) + 1e-9)
            assert (alike > 0.9).all(), f"segment {segment} is not drawn in its colour"
        else:
            assert (np.ptp(rgb, axis=1) <= 2).all(), f"beside segment {segment} something is coloured"


def check_measurements(viewer: Viewer, study: Study) -> None:
    """Every finding is drawn where it is, on its slice, with all of our numbers.

    Three things must agree: what is true (masks and detections), what the report says, and what
    the viewer draws and writes.
    """
    series = series_uid(study.only("sr-measurements"))
    findings = study.findings()
    told = {finding.label for finding in findings}
    meant = {*study.labels.values(), *study.detections}
    viewer.open(series)
    viewer.wait_for_lines()
    viewer.screenshot(picture(study, "sr-measurements"))
    loaded = viewer.series(series, "d.measurements.map(m => m.loaded)")
    assert viewer.overlay() and any(loaded), "the report is blank: no measurement is drawn"
    assert told == meant, f"the report tells of {sorted(told)} instead of {sorted(meant)}"
    assert all(loaded) and len(loaded) == len(findings), f"measurements loaded: {loaded}"
    assert not viewer.series(series, "d.isHydrated"), "the viewer shows its own numbers instead of ours"
    for turn, finding in enumerate(findings):
        if turn:
            viewer.next_measurement()
            viewer.screenshot(picture(study, f"sr-measurements-{turn + 1}"))
        _check_place(study, finding)
        _check_drawn(viewer, study, finding)


def _check_place(study: Study, finding: Finding) -> None:
    """What the report points at is where the finding is."""
    by_label = {label: number for number, label in study.labels.items()}
    if (number := by_label.get(finding.label)) is not None:
        fullest = study.masks[number][study.fullest(number)].sum()
        at = study.masks[number].get(finding.plane)
        assert at is not None and at.sum() == fullest, (
            f"{finding.label} is not pointed at where it is largest"
        )
        # The outline of the largest part runs along the outer edges of its voxels.
        wanted = [_extent(_edges(part)) for part in _largest_parts(at)]
        off = min(float(np.abs(_extent(finding.points) - extent).max()) for extent in wanted)
        assert off <= 0.51, f"{finding.label} is outlined {off:.2f} pixels away"
        return
    slices, rows, columns = study.detections[finding.label].points.T
    index = study.planes.index(finding.plane)
    assert round(slices.min()) <= index <= round(slices.max()), f"{finding.label} is on slice {index}"
    wanted = np.stack([columns, rows], axis=1) + 0.5
    if study.detections[finding.label].shape == "box":
        wanted = np.array([*wanted, *np.stack([wanted[:, 0], wanted[::-1, 1]], axis=1)])
    # Points may be added along straight lines, and a point is drawn as the outline of its pixel.
    apart = np.linalg.norm(finding.points[:, None] - wanted[None], axis=2)
    off = max(apart.min(axis=0).max(), *np.abs(_extent(finding.points) - _extent(wanted)))
    assert off <= 0.75, f"{finding.label}: the report points {off:.2f} pixels away"


def _largest_parts(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the largest connected part, where corners do not connect and where they do."""
    found = []
    for connected in (None, np.ones((3, 3))):
        parts, _ = ndimage.label(mask, connected)
        sizes = np.bincount(parts[mask])
        found += [parts == number for number in np.flatnonzero(sizes == sizes.max())]
    return found


def _edges(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (column, row) of the outer corners of a mask, as DICOM counts."""
    rows, columns = np.nonzero(mask)
    return np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], dtype=float)


def _extent(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _check_drawn(viewer: Viewer, study: Study, finding: Finding) -> None:
    """The viewer shows what the report says of one finding."""
    who = finding.label
    shown = viewer.shown_plane()
    assert shown == finding.plane, f"{who}: the contour is on {finding.plane}, the viewer shows {shown}"
    told = [line for line in viewer.overlay() if line.strip()]
    lines = [
        f"{SHORT_NAMES.get(name, name + ': ')}{value:.2f} {unit}" for name, value, unit in finding.numbers
    ]
    assert len(set(lines)) == len(lines), f"{who}: a line cannot be told from another: {lines}"
    for line in lines[:LINES_SHOWN]:
        assert line in told, f"{who}: '{line}' is not among {told}"
    # DICOM counts from the corner of the first pixel, an affine from its centre.
    wanted = viewer.to_pixels(study.world(finding.plane, finding.points[:, ::-1] - 0.5))
    drawn = viewer.drawn()
    assert drawn, f"{who}: no contour is drawn"
    if finding.graphic == "POINT":  # an arrow that ends there
        off = min(float(np.linalg.norm(line - wanted, axis=1).min()) for line in drawn)
    else:
        off = min(_distance(line, wanted) for line in drawn)
    assert off <= CONTOUR_PX, f"{who}: the contour is drawn {off:.1f} pixels away"


def check_text(viewer: Viewer, study: Study) -> None:
    """Every sentence of the text report can be read, and names stand before values."""
    viewer.open(series_uid(study.only("sr-text")))
    viewer.screenshot(picture(study, "sr-text"))
    names = ("Algorithm Name: ", "Algorithm Version: ", "Finding: ", "Comment: Research use only.")
    check_sentences(viewer, [*study.sentences(), *names])


def check_sentences(viewer: Viewer, sentences: Iterable[str]) -> None:
    """Each sentence stands in the viewport, however it is broken into lines."""
    read = " ".join(viewer.text().split())
    for sentence in sentences:
        assert " ".join(sentence.split()) in read, f"'{sentence}' cannot be read"


def check_contours(viewer: Viewer, study: Study) -> None:
    """The contours of the structure set enclose every voxel of every segment, and no other."""
    viewer.open(series_uid(study.only("rtstruct")))
    viewer.screenshot(picture(study, "rtstruct"))
    seen: dict[str, dict[Plane, NDArray[np.bool_]]] = {}
    shape = next(mask.shape for planes in study.masks.values() for mask in planes.values())
    for name, plane, points in viewer.contours():
        affine = study.affines[plane]
        index = np.linalg.lstsq(affine[:3, 1:3], (points - affine[:3, 3]).T, rcond=None)[0].T
        inside = polygon2mask(shape, index)
        planes = seen.setdefault(name, {})
        planes[plane] = planes.get(plane, np.zeros(shape, bool)) ^ inside  # a hole is a contour as well
    for number, label in study.labels.items():
        compare_voxels(seen.get(label, {}), study.masks[number], label)
        viewer.turn_to(study.fullest(number))
        viewer.screenshot(picture(study, f"rtstruct-{number}"))
        assert viewer.paths(), f"{label} is not drawn"


def check_picture(viewer: Viewer, study: Study) -> None:
    """The overlay series is shown as an image in colour."""
    file = study.results["secondary-capture"][0]
    viewer.click(series_uid(file))
    viewer.rest()
    viewer.screenshot(picture(study, "secondary-capture"))
    shown = viewer.shown_plane()
    wanted = str(pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
    assert shown is not None and shown[0] == wanted, f"the viewer shows {shown}"
    rgb = viewer.canvas().astype(int)
    coloured = int((np.ptp(rgb, axis=-1) > 40).sum())
    assert coloured > 100, f"only {coloured} pixels have a colour"


def mirror(seg: Path) -> None:
    """Spoil a BINARY Segmentation: every frame is turned from left to right."""
    dataset = pydicom.dcmread(seg)
    shape = (dataset.NumberOfFrames, dataset.Rows, dataset.Columns)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    frames = bits[: np.prod(shape)].reshape(shape)
    packed = np.packbits(frames[..., ::-1].ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    dataset.save_as(seg)


def _counts(planes: Mapping[Plane, NDArray[np.bool_]]) -> dict[Plane, int]:
    return {plane: int(mask.sum()) for plane, mask in sorted(planes.items())}


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return how far the corners of two polylines are from each other's, at most."""
    apart = np.linalg.norm(one[:, None] - other[None], axis=2)
    return float(max(apart.min(axis=0).max(), apart.min(axis=1).max()))
