"""What the node emits, seen in OHIF: a result that a viewer leaves blank is worth nothing.

Run with ``deploy/test.sh -m viewer``; screenshots are kept in ``test-artefacts/viewer``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from node.profile import Profile
from tests.viewer.checks import (
    check_colours,
    check_measurements,
    check_segments,
    check_sentences,
    check_text,
    mirror,
    picture,
)
from tests.viewer.page import Viewer
from tests.viewer.studies import SHAPES, Study, chest, phantom

pytestmark = pytest.mark.viewer

SQUARE = (2.5, 0.8, 0.8)  #: slices, rows, columns in mm
LABELMAP = Profile(labelmap="always")
STUDIES: dict[str, Callable[[Path], Study]] = {
    "axial": lambda folder: phantom(folder, "axial", spacing_mm=SQUARE, pointing=tuple(SHAPES)),
    "oblique": lambda folder: phantom(
        folder, "oblique", orientation="oblique", reversed_slices=True, spacing_mm=SQUARE
    ),
    "multi-frame": lambda folder: phantom(
        folder,
        "multi-frame",
        multi_frame=True,
        orientation="sagittal",
        spacing_mm=SQUARE,
        pointing=tuple(SHAPES),
    ),
    "overlap": lambda folder: phantom(folder, "overlap", overlap=True, spacing_mm=SQUARE),
    "labelmap": lambda folder: phantom(folder, "labelmap", spacing_mm=SQUARE, profiles=[LABELMAP]),
    "labelmap-overlap": lambda folder: phantom(
        folder,
        "labelmap-overlap",
        overlap=True,
        orientation="oblique",
        spacing_mm=SQUARE,
        profiles=[LABELMAP],
    ),
    "chest": chest,
}

Shown = tuple[Viewer, Study]


@pytest.fixture(scope="module", params=STUDIES)
def shown(request, tmp_path_factory, open_study) -> Shown:
    """One of the studies, open in the viewer."""
    study = STUDIES[request.param](tmp_path_factory.mktemp(request.param))
    return open_study(study), study


def test_every_segment_is_shown_voxel_by_voxel(shown: Shown) -> None:
    check_segments(*shown)


def test_a_segment_has_its_colour_where_it_lies_in_the_patient(shown: Shown) -> None:
    check_colours(*shown)


def test_every_measurement_is_drawn_on_its_slice_with_our_numbers(shown: Shown) -> None:
    check_measurements(*shown)


def test_the_text_report_can_be_read(shown: Shown) -> None:
    check_text(*shown)


def test_ohif_still_misplaces_contours_on_oblong_pixels(tmp_path: Path, open_study) -> None:
    """A defect of the viewer: it multiplies columns with the row spacing (imageToWorldCoords)."""
    study = phantom(tmp_path, "oblong", spacing_mm=(2.5, 0.8, 0.6))
    viewer = open_study(study)
    check_segments(viewer, study)
    with pytest.raises(AssertionError, match=r"the contour is drawn .* pixels away"):
        check_measurements(viewer, study)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory, open_study) -> Shown:
    """A study whose masks are mirrored and whose report has lost its contours."""
    study = phantom(tmp_path_factory.mktemp("spoilt"), "spoilt", spacing_mm=SQUARE)
    mirror(study.only("seg"))
    report = pydicom.dcmread(study.only("sr-measurements"))
    (box,) = (c for c in report.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == "126010")
    box.ContentSequence = [
        g for g in box.ContentSequence if g.ContentTemplateSequence[0].TemplateIdentifier != "1410"
    ]
    report.save_as(study.only("sr-measurements"))
    return open_study(study), study


def test_a_mirrored_mask_does_not_pass(spoilt: Shown) -> None:
    with pytest.raises(AssertionError, match="misplaced"):
        check_segments(*spoilt)
    with pytest.raises(AssertionError, match=r"not drawn in its colour|is coloured"):
        check_colours(*spoilt)


def test_a_report_without_contours_does_not_pass(spoilt: Shown) -> None:
    with pytest.raises(AssertionError, match="blank"):
        check_measurements(*spoilt)
    assert picture(spoilt[1], "sr-measurements").exists()


def test_a_sentence_that_is_not_there_does_not_pass(spoilt: Shown) -> None:
    viewer, study = spoilt
    check_text(viewer, study)
    with pytest.raises(AssertionError, match="'Left lung: Volume 9,999 mL' cannot be read"):
        check_sentences(viewer, [*study.sentences(), "Left lung: Volume 9,999 mL"])
