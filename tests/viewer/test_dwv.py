"""What the node emits, seen in dwv: a second opinion, by parsers that OHIF has no part in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.viewer.checks import mirror, picture
from tests.viewer.dwv import Dwv
from tests.viewer.dwv_checks import check_annotations, check_masks
from tests.viewer.studies import SHAPES, Study, phantom

pytestmark = pytest.mark.viewer

SQUARE = (2.5, 0.8, 0.8)  #: slices, rows, columns in mm
STUDIES: dict[str, Callable[[Path], Study]] = {
    "axial": lambda folder: phantom(folder, "dwv-axial", spacing_mm=SQUARE, pointing=tuple(SHAPES)),
    "oblong": lambda folder: phantom(folder, "dwv-oblong", spacing_mm=(2.5, 0.8, 0.6)),
    "oblique": lambda folder: phantom(
        folder, "dwv-oblique", orientation="oblique", reversed_slices=True, spacing_mm=SQUARE
    ),
    "overlap": lambda folder: phantom(folder, "dwv-overlap", overlap=True, spacing_mm=SQUARE),
}

Opened = tuple[Dwv, Study]


@pytest.fixture(scope="module", params=STUDIES)
def opened(request, tmp_path_factory, open_dwv) -> Opened:
    """One of the studies, its images loaded."""
    study = STUDIES[request.param](tmp_path_factory.mktemp(request.param))
    return _with_images(open_dwv(), study)


def _with_images(viewer: Dwv, study: Study) -> Opened:
    _, told = viewer.load(study.images)
    assert not told, told
    return viewer, study


def test_every_segment_is_read_voxel_by_voxel(opened: Opened) -> None:
    check_masks(*opened)


def test_a_segment_is_drawn_over_the_image_in_its_colour(opened: Opened) -> None:
    viewer, study = opened
    for turn, file in enumerate(study.results["seg"]):
        data, _ = viewer.load([file])
        for segment in study.segments_of(file).values():
            plane = study.fullest(segment)
            layers = viewer.show(data, study.affines[plane][:3, 3])
            path = picture(study, f"seg-{turn}-{segment}")
            viewer.screenshot(path)
            rgb = np.asarray(Image.open(path).convert("RGB")).astype(float)
            hue = rgb - rgb.mean(axis=-1, keepdims=True)
            wanted = np.array(study.colours[segment], float) - np.mean(study.colours[segment])
            strength = hue @ wanted / np.linalg.norm(wanted)
            alike = strength > 0.9 * np.maximum(np.linalg.norm(hue, axis=-1), 20.0)
            assert layers > 1, "the segmentation has no layer"
            assert alike.any(), f"segment {segment} is not drawn in its colour"


def test_every_finding_is_an_annotation_where_the_report_has_it(opened: Opened) -> None:
    check_annotations(*opened)


def test_a_mirrored_mask_does_not_pass(tmp_path: Path, open_dwv) -> None:
    study = phantom(tmp_path, "dwv-spoilt", spacing_mm=SQUARE)
    mirror(study.only("seg"))
    viewer, _ = _with_images(open_dwv(), study)
    with pytest.raises(AssertionError, match="misplaced"):
        check_masks(viewer, study)


def test_dwv_still_takes_a_multi_frame_volume_for_a_film(tmp_path: Path, open_dwv) -> None:
    """A limit of the viewer: it reads frames as moments, and no frame number inside of a reference."""
    grid = {"multi_frame": True, "orientation": "sagittal", "spacing_mm": SQUARE}
    study = phantom(tmp_path, "dwv-multi-frame", **grid)
    viewer, _ = _with_images(open_dwv(), study)
    _, told = viewer.load([study.only("seg")])
    assert told == ["No index for first frame origin"]
    with pytest.raises(AssertionError, match="is on another plane"):
        check_annotations(viewer, study)
