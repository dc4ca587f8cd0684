"""What the two viewers make of an object of each kind: a verdict, as of `tests.viewer.readers`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pydicom

from tests.viewer.checks import (
    check_contours,
    check_measurements,
    check_picture,
    check_segments,
    check_text,
    picture,
)
from tests.viewer.dwv import Dwv
from tests.viewer.dwv_checks import check_annotations, check_masks
from tests.viewer.page import Viewer
from tests.viewer.readers import YES, plain
from tests.viewer.reports import numbers_of
from tests.viewer.studies import Study, series_uid

#: What OHIF says when it gives up -> what it means.
GIVEN_UP = {
    "Fractional segmentations are not yet supported": "it has no support for fractional segmentations",
    "Invalid typed array length": "it never ends loading a map with fewer frames than the source",
}
#: The same of dwv.
DWV_GIVEN_UP = {
    "it never ends loading": "it never ends loading",
    "FRACTIONAL": "it has no support for fractional segmentations",
}
#: So long a series may load that was known to load at once.
LOADING_MS = 15_000
_CHECKS = {
    "seg": check_segments,
    "sr-measurements": check_measurements,
    "sr-text": check_text,
    "rtstruct": check_contours,
    "secondary-capture": check_picture,
}


def in_ohif(viewer: Viewer, kind: str, study: Study) -> str:
    """Open the first object of a kind in OHIF and look."""
    file = study.results[kind][0]
    series = series_uid(file)
    if viewer.series(series, "d?.unsupported"):
        return "no: it lists the series with a warning sign, and cannot open it"
    try:
        if kind in _CHECKS:
            _CHECKS[kind](viewer, study)
            return YES
        return _other_in_ohif(viewer, kind, file, study)
    except AssertionError as error:
        return f"no: {plain(str(error))}"


def _other_in_ohif(viewer: Viewer, kind: str, file: Path, study: Study) -> str:
    viewer.click(series_uid(file))
    viewer.page.wait_for_timeout(LOADING_MS)
    viewer.screenshot(picture(study, kind))
    for said, meant in GIVEN_UP.items():
        if any(said in error for error in viewer.errors):
            return f"no: {meant}"
    if kind in ("sr-air", "sr-segments"):
        if not viewer.text().strip():
            return "no: it shows an empty black viewport, for a group without a contour blanks a report"
        text = " ".join(viewer.text().split())
        for name, value, unit in numbers_of(file):
            told = re.findall(rf"{re.escape(name)}: (-?[0-9.]+) {re.escape(unit)}", text)
            if not any(abs(float(number) - value) <= 0.005 for number in told):
                return f"no: {name} cannot be read"
        return "yes: as text, in which every number can be read"
    if kind == "pdf":
        told = viewer.page.locator('[data-cy="viewport-grid"]').inner_html()
        if "No online PDF viewer installed" in told:
            return "-: it hands the document to the browser, and one without a screen has no PDF viewer"
    return f"no: nothing that can be checked is shown ({plain(viewer.text())})"


def in_dwv(viewer: Dwv, kind: str, study: Study) -> str:
    """Load the first object of a kind in dwv, over the images, and look."""
    try:
        if kind == "seg":
            check_masks(viewer, study)
            return YES
        if kind == "sr-measurements":
            check_annotations(viewer, study)
            return YES
        file = study.results[kind][0]
        data, complaints = viewer.load([file])
        values, annotations = viewer.values(data), viewer.annotations(data)
        if kind == "secondary-capture" and len(values) and not complaints:
            viewer.show(data, np.zeros(3))
            viewer.screenshot(picture(study, "dwv-secondary-capture"))
            same = np.array_equal(values, pydicom.dcmread(file).pixel_array.ravel())
            return YES if same else "no: it has other pixels"
        if kind == "parametric-map" and len(values):
            return "no: it takes the frames for a film of grey images, without their places"
        if annotations:
            return f"yes: {len(annotations)} annotations of {len(study.findings())} findings"
        if complaints:
            known = [meant for said, meant in DWV_GIVEN_UP.items() if any(said in c for c in complaints)]
            return f"no: {known[0] if known else plain(complaints[0])}"
        return "no: it finds neither an image nor an annotation in it"
    except AssertionError as error:
        known = [meant for said, meant in DWV_GIVEN_UP.items() if said in str(error)]
        return f"no: {known[0] if known else plain(str(error))}"
