"""What must be found in dwv of a study with our results. Each check raises AssertionError."""

from __future__ import annotations

import numpy as np

from tests.viewer.checks import compare_voxels, picture
from tests.viewer.dwv import Dwv
from tests.viewer.page import Plane
from tests.viewer.studies import Study


def check_masks(viewer: Dwv, study: Study) -> None:
    """The viewer's masks hold every voxel of every segment, and no other."""
    told: set[int] = set()
    for file in study.results["seg"]:
        data, complaints = viewer.load([file])
        assert not complaints, complaints
        loaded = viewer.mask(data)
        assert loaded is not None, "the segmentation is not loaded as pixels"
        values, origins = loaded
        planes = [_plane_at(study, origin) for origin in origins]
        within = study.segments_of(file)
        assert set(np.unique(values)) - {0} == set(within)
        told |= set(within.values())
        for number, segment in within.items():
            seen = {p: m == number for p, m in zip(planes, values, strict=True) if (m == number).any()}
            compare_voxels(seen, study.masks[segment], f"segment {segment}")
    assert told == set(study.masks)


def check_annotations(viewer: Dwv, study: Study) -> None:
    """The viewer has one annotation for every finding of the report, in the same place."""
    data, complaints = viewer.load([study.only("sr-measurements")])
    assert not complaints, complaints
    seen = {a["tracking"]: a for a in viewer.annotations(data)}
    findings = study.findings()
    assert {f.label for f in findings} == {*study.labels.values(), *study.detections}
    assert set(seen) == {f.tracking_uid for f in findings}
    for turn, finding in enumerate(findings):
        annotation = seen[finding.tracking_uid]
        assert annotation["label"] == finding.label
        at = annotation["instance"], annotation["frame"]
        assert at == finding.plane, f"{finding.label} is on another plane"
        points = np.array(annotation["points"] or [annotation["centre"]], dtype=float)
        apart = np.linalg.norm(points[:, None] - finding.points[None], axis=2).min(axis=1).max()
        same = np.allclose([points.min(0), points.max(0)], [finding.points.min(0), finding.points.max(0)])
        assert apart < 0.01 and same, f"{finding.label} is {points.tolist()}, not {finding.points.tolist()}"
        viewer.show(data, study.affines[finding.plane][:3, 3])
        viewer.screenshot(picture(study, f"dwv-sr-measurements-{turn + 1}"))
        assert viewer.draws(data), f"{finding.label} is not drawn on its plane"


def _plane_at(study: Study, origin: np.ndarray) -> Plane:
    """Return the source plane whose first pixel lies there."""
    return min(study.affines, key=lambda p: float(np.linalg.norm(study.affines[p][:3, 3] - origin)))
