"""What must be seen in a viewer of a study with our results. Each check raises AssertionError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tests.paths import REPOSITORY
from tests.viewer.page import Plane, Viewer
from tests.viewer.studies import Study

ARTEFACTS = REPOSITORY / "test-artefacts" / "viewer"

#: How far a drawn contour may lie from where it should be, in pixels of the viewport; a voxel of
#: these studies is 6 pixels wide or more.
CONTOUR_PX = 1.0


def picture(study: Study, what: str) -> Path:
    """Return where a screenshot is kept."""
    return ARTEFACTS / f"{study.name}-{what}.png"


def check_segments(viewer: Viewer, study: Study) -> None:
    """The viewer's label map holds every voxel of every segment, and no other."""
    viewer.open(study.series_uid("seg"))
    viewer.screenshot(picture(study, "seg"))
    seen = viewer.segments(study.series_uid("seg"))
    assert set(seen) == set(study.masks), f"segments {sorted(seen)} instead of {sorted(study.masks)}"
    for number, planes in study.masks.items():
        counted, wanted = _counts(seen[number]), _counts(planes)
        assert counted == wanted, f"segment {number} has other voxel counts: {counted} instead of {wanted}"
        for plane, mask in planes.items():
            off = int((seen[number][plane] != mask).sum())
            assert not off, f"segment {number} is misplaced: {off} voxels differ on {plane}"


def check_colours(viewer: Viewer, study: Study) -> None:
    """On the screen, what lies in a segment in the patient has its colour, and the rest is grey."""
    height, width = viewer.canvas().shape[:2]
    everywhere = {n: study.fullest(n) for n in study.masks}
    for number, plane in everywhere.items():
        viewer.turn_to(plane)
        viewer.screenshot(picture(study, f"seg-{number}"))
        picture_rgb = viewer.canvas().astype(float)
        here = {n: m[plane] for n, m in study.masks.items() if plane in m}
        union = np.any(list(here.values()), axis=0)
        alone = here[number] & ~np.any([m for n, m in here.items() if n != number] or [~union], axis=0)
        # A voxel's own centre, one voxel away from any border: drawn borders are thick and blurred.
        inside = np.argwhere(ndimage.binary_erosion(alone))
        outside = np.argwhere(~ndimage.binary_dilation(union, np.ones((3, 3))))
        for indices, is_inside in ((inside, True), (outside, False)):
            if not len(indices):
                continue  # too thin, or wholly inside of another segment
            at = np.rint(viewer.to_pixels(study.world(plane, indices))).astype(int)
            shown = ((at >= 0) & (at < (width, height))).all(axis=1)
            assert shown.any(), f"segment {number}: nothing of it is on the screen"
            rgb = picture_rgb[at[shown, 1], at[shown, 0]]
            hue = rgb - rgb.mean(axis=1, keepdims=True)
            if is_inside:
                wanted = np.array(study.colours[number], float) - np.mean(study.colours[number])
                alike = hue @ wanted / (np.linalg.norm(hue, axis=1) * np.linalg.norm(wanted) + 1e-9)
                assert (alike > 0.9).all(), f"segment {number} is not drawn in its colour"
            else:
                assert (np.ptp(rgb, axis=1) <= 2).all(), f"beside segment {number} something is coloured"


def check_measurements(viewer: Viewer, study: Study) -> None:
    """Every structure's contour is drawn on its slice around its voxels, with all of our numbers."""
    series = study.series_uid("sr-measurements")
    viewer.open(series)
    viewer.screenshot(picture(study, "sr-measurements"))
    loaded = viewer.series(series, "d.measurements.map(m => m.loaded)")
    assert viewer.overlay() and any(loaded), "the report is blank: no measurement is drawn"
    assert all(loaded) and len(loaded) == len(study.masks), f"measurements loaded: {loaded}"
    assert not viewer.series(series, "d.isHydrated"), "the viewer shows its own numbers instead of ours"
    for turn, number in enumerate(sorted(study.masks)):
        if turn:
            viewer.next_measurement()
            viewer.screenshot(picture(study, f"sr-measurements-{number}"))
        plane, points = study.contour(number)
        shown = viewer.shown_plane()
        assert shown == plane, f"segment {number}: the contour is on {plane}, the viewer shows {shown}"
        assert study.masks[number][plane].sum() == study.masks[number][study.fullest(number)].sum()
        told = [line for line in viewer.overlay() if line.strip()]
        for name, value, unit in study.numbers(number):
            line = f"{name}: {value:.2f} {unit}"
            assert line in told, f"segment {number}: '{line}' is not among {told}"
        assert len(set(told)) == len(told), f"segment {number}: a line cannot be told from another: {told}"
        # DICOM counts from the corner of the first pixel, an affine from its centre.
        wanted = viewer.to_pixels(study.world(plane, points[:, ::-1] - 0.5))
        drawn = viewer.drawn()
        assert drawn, f"segment {number}: no contour is drawn"
        off = min(_distance(line, wanted) for line in drawn)
        assert off <= CONTOUR_PX, f"segment {number}: the contour is drawn {off:.1f} pixels away"


def check_text(viewer: Viewer, study: Study) -> None:
    """Every sentence of the text report can be read, and names stand before values."""
    viewer.open(study.series_uid("sr-text"))
    viewer.screenshot(picture(study, "sr-text"))
    names = ("Algorithm Name: ", "Algorithm Version: ", "Finding: ", "Comment: Research use only.")
    check_sentences(viewer, [*study.sentences(), *names])


def check_sentences(viewer: Viewer, sentences: Iterable[str]) -> None:
    """Each sentence stands in the viewport, however it is broken into lines."""
    read = " ".join(viewer.text().split())
    for sentence in sentences:
        assert " ".join(sentence.split()) in read, f"'{sentence}' cannot be read"


def _counts(planes: Mapping[Plane, NDArray[np.bool_]]) -> dict[Plane, int]:
    return {plane: int(mask.sum()) for plane, mask in sorted(planes.items())}


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return how far the corners of two polylines are from each other's, at most."""
    apart = np.linalg.norm(one[:, None] - other[None], axis=2)
    return float(max(apart.min(axis=0).max(), apart.min(axis=1).max()))
