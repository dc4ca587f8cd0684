"""What the measurement groups of a report must be: what is expected of each finding, and what is there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.encode.items import code_of, place_of, plane_places
from node.encode.material import Material
from node.encode.numbers import rounded
from node.encode.sr import groups as said
from node.encode.sr import measurements
from node.encode.sr.contour import POINTS_MAX, POINTS_MIN, is_simple
from node.encode.sr.regions import IMAGE_REGION, VOLUME_SURFACE
from node.encode.sr.tree import MEASUREMENT_FAILURE, children, name_of
from node.encode.tracking import tracking_uid
from node.model import Volume
from pipelines.contract import Detection, Evaluation, Measurement, Segment

#: How far, in pixels, a drawing may be from what was found.
NEAR = 0.02
_GROUPS = {"1410": "contour group", "1411": "segment group", "1501": "image-level group"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """Which templates one kind of report uses for what."""

    segment: tuple[str, ...]
    detection: tuple[str, ...]  #: one of these
    bare_points: bool  #: whether a point is drawn as such, which OHIF makes its own probe
    whole_images: bool  #: whether it tells what is not about one finding, and what was not found


VIEWER = Habit(segment=("1410", "1411"), detection=("1410",), bare_points=False, whole_images=False)
RECORDING = Habit(segment=(), detection=(), bare_points=False, whole_images=True)
AIR = Habit(segment=("1411",), detection=("1410", "1411"), bare_points=True, whole_images=True)
SEGMENTS = Habit(segment=("1411",), detection=("1501",), bare_points=True, whole_images=True)


def group_faults(dataset: Dataset, material: Material, habit: Habit) -> Iterator[str]:
    """Yield every fault of the measurement groups of a report."""
    boxes = children(dataset, "CONTAINER", measurements.IMAGING_MEASUREMENTS)
    groups = [g for box in boxes for g in children(box, "CONTAINER", said.MEASUREMENT_GROUP)]
    if not groups:
        yield "there is no measurement group"
    by_uid: dict[str, list[Dataset]] = {}
    for group in groups:
        names = children(group, "TEXT", said.TRACKING_ID)
        uids = [str(content.UID) for content in children(group, "UIDREF", said.TRACKING_UID)]
        if len(names) != 1 or len(uids) != 1:
            yield "a group is not tied to a finding by one Tracking Identifier and one Tracking UID"
            return
        by_uid.setdefault(uids[0], []).append(group)
    outlines, findings = material.outlines, material.findings
    for segment in findings.segments:
        mine = by_uid.pop(outlines.tracking(segment.number)[1], []) if outlines else []
        yield from _segment_faults(mine, segment, material, habit)
    for detection in findings.detections:
        mine = by_uid.pop(tracking_uid(material, detection), [])
        yield from _detection_faults(mine, detection, material, habit)
    yield from _rest_faults([g for mine in by_uid.values() for g in mine], material, habit)


def _segment_faults(
    groups: list[Dataset], segment: Segment, material: Material, habit: Habit
) -> Iterator[str]:
    outlines, what = material.outlines, f"segment {segment.number}"
    if outlines is None:
        yield "there are segments without a segmentation"
        return
    empty = not outlines.voxels(segment.number)
    meant = (("1501",) if habit.whole_images else ()) if empty else habit.segment
    if tuple(map(_template, groups)) != meant:
        named = " and then ".join(f"one {_GROUPS[template]}" for template in meant) or "no group"
        yield f"there is not {named} tied to {what} by its Tracking UID"
        return
    for group in groups:
        yield from _finding_faults(group, segment, what)
        if _template(group) == "1410":
            yield from _contour_faults(group, segment.number, material)
            continue
        references = children(group, "IMAGE", said.REFERENCED_SEGMENT)
        pointed = [content.ReferencedSOPSequence[0] for content in references]
        if not empty and pointed != [outlines.reference(segment.number)]:
            yield f"the group of {what} does not refer to that segment"
        if not empty and [str(c.UID) for c in children(group, "UIDREF", said.SOURCE_SERIES)] != [
            material.volume.series_uid
        ]:
            yield f"the group of {what} does not name the series that was segmented"
        about = [m for m in material.findings.measurements if m.segment == segment.number]
        answers = [e for e in material.findings.evaluations if e.segment == segment.number]
        yield from _told_faults(group, about, answers, material, what, is_absent=empty)


def _detection_faults(
    groups: list[Dataset], detection: Detection, material: Material, habit: Habit
) -> Iterator[str]:
    what = f"detection {detection.number}"
    if len(groups) != 1 or _template(groups[0]) not in habit.detection:
        yield f"there is not one group tied to {what} by its Tracking UID"
        return
    (group,) = groups
    yield from _finding_faults(group, detection, what)
    if "1501" not in habit.detection:
        yield from _drawing_faults(group, detection, material, habit)
    about = [m for m in material.findings.measurements if m.detection == detection.number]
    answers = [e for e in material.findings.evaluations if e.detection == detection.number]
    yield from _told_faults(group, about, answers, material, what, confidence=detection.confidence)


def _rest_faults(groups: list[Dataset], material: Material, habit: Habit) -> Iterator[str]:
    """What is about no single finding: the image, several structures, nothing found."""
    findings = material.findings
    if not habit.whole_images:
        if groups:
            yield "a group is tied to no finding by its Tracking UID"
        return
    if any(_template(group) != "1501" for group in groups):
        yield "a group about no single finding is not an image-level group"
    loose = [m for m in findings.measurements if m.segment is None and m.detection is None]
    answers = [e for e in findings.evaluations if e.segment is None and e.detection is None]
    numbers = [name_of(content)[:2] for group in groups for content in children(group, "NUM")]
    if sorted(numbers) != sorted(m.name[:2] for m in loose if math.isfinite(m.value)):
        yield "the numbers about the whole image are not those of the findings"
    summary = said.summary_of(material)
    whole = [] if summary is None else [Evaluation(name=said.SUMMARY, value=summary)]
    failed = [Evaluation(name=m.name, value=MEASUREMENT_FAILURE) for m in loose if not math.isfinite(m.value)]
    absent = [Evaluation(name=said.PRESENCE, value=said.ABSENT) for _ in said.undetected(material)]
    if not answers_agree(groups, [*failed, *answers, *absent, *whole], in_order=False):
        yield "the answers about the whole image are not those of the findings, or nothing found is not said"


def _finding_faults(group: Dataset, finding: Segment | Detection, what: str) -> Iterator[str]:
    kinds = [code_of(c.ConceptCodeSequence[0])[:2] for c in children(group, "CODE", said.FINDING)]
    sites = children(group, "CODE", said.FINDING_SITE)
    carriers = sites or children(group, "CODE", said.FINDING)
    sides = [
        code_of(side.ConceptCodeSequence[0])[:2]
        for carrier in carriers
        for side in children(carrier, "CODE", said.LATERALITY)
    ]
    site = said.finding_site(finding)
    meant_sites = [] if site is None else [site[:2]]
    meant_sides = [] if finding.laterality is None else [finding.laterality[:2]]
    told_sites = [code_of(c.ConceptCodeSequence[0])[:2] for c in sites]
    if (kinds, told_sites, sides) != ([finding.kind[:2]], meant_sites, meant_sides):
        yield f"a group of {what} names another finding, site or side"


def _contour_faults(group: Dataset, number: int, material: Material) -> Iterator[str]:
    """The contour of a segment: one, closed, simple, on the slice where it is largest."""
    outlines, what = material.outlines, f"the contour of segment {number}"
    regions = children(group, "SCOORD", IMAGE_REGION)
    if len(regions) != 1 or outlines is None:
        yield f"segment {number} has no contour, which would blank the report in OHIF"
        return
    if children(group, "NUM"):
        yield f"the contour group of segment {number} holds numbers"
    points = _points(regions[0], 2)
    yield from _closed_faults(regions[0], points, what)
    if not is_simple(points):
        yield f"{what} crosses itself"
    areas, index = outlines.voxels(number), _plane(regions[0], material.volume)
    if index is None or areas.get(index) != max(areas.values()):
        yield f"{what} is not on the slice where it is largest"
        return
    rows, columns = np.nonzero(outlines.plane(number, index))
    box = (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    if left < box[0] or right > box[1] or top < box[2] or bottom > box[3]:
        yield f"{what} leaves the segment"


def _drawing_faults(group: Dataset, detection: Detection, material: Material, habit: Habit) -> Iterator[str]:
    """The drawing of a detection: where it was found, on an image of the series or in its frame."""
    what, volume = f"the drawing of detection {detection.number}", material.volume
    flat = children(group, "SCOORD", IMAGE_REGION)
    deep = [*children(group, "SCOORD3D", IMAGE_REGION), *children(group, "SCOORD3D", VOLUME_SURFACE)]
    if bool(flat) == bool(deep) or (_template(group) == "1410" and len(flat) + len(deep) != 1):
        yield f"{what} is missing, which would blank the report in OHIF, or there are several"
        return
    for content in (*flat, *deep):
        is_point = detection.shape == "point" and habit.bare_points
        if (content.GraphicType == "POINT") != is_point:
            yield f"{what} is of another shape"
        if detection.shape != "line" and not is_point:
            yield from _closed_faults(content, _points(content, 2 if flat else 3), what)
    if any(_plane(content, volume) is None for content in flat):
        yield f"{what} is not on an image that was used"
        return
    if any(str(content.ReferencedFrameOfReferenceUID) != volume.frame_of_reference_uid for content in deep):
        yield f"{what} is in another frame of reference"
        return
    drawn = np.concatenate([_indices(content, volume) for content in (*flat, *deep)])
    edge = np.array(volume.image.array.shape) - 0.5
    if (drawn < -0.5 - NEAR).any() or (drawn > edge + NEAR).any():
        yield f"{what} leaves the image"
    found = np.clip(np.asarray(detection.points, dtype=np.float64), -0.5, edge)
    ends = np.abs(drawn.min(axis=0) - found.min(axis=0)), np.abs(drawn.max(axis=0) - found.max(axis=0))
    beside = max(float(end[1:].max()) for end in ends)
    low, high = found[:, 0].min() - 0.5 - NEAR, found[:, 0].max() + 0.5 + NEAR
    pixel = 0.5 if detection.shape == "point" and not habit.bare_points else 0.0
    if beside > NEAR + pixel or not (low <= drawn[:, 0].min() and drawn[:, 0].max() <= high):
        yield f"{what} is not where it was found"
    if len({_plane(content, volume) for content in flat}) != len(flat):
        yield f"{what} is twice on one image"


def _closed_faults(content: Dataset, points: NDArray[np.float64], what: str) -> Iterator[str]:
    if content.GraphicType not in ("POLYLINE", "POLYGON") or not np.array_equal(points[0], points[-1]):
        yield f"{what} is not a closed polyline"
    if not POINTS_MIN <= len(points) <= POINTS_MAX:
        yield f"{what} has too few or too many points"


def _told_faults(
    group: Dataset,
    about: list[Measurement],
    answers: list[Evaluation],
    material: Material,
    what: str,
    *,
    confidence: float | None = None,
    is_absent: bool = False,
) -> Iterator[str]:
    """Numbers and answers, each with its code, in the order of the findings.

    That something ``is_absent`` stands before all that its pipeline says of it.
    """
    items = children(group, "NUM")
    if confidence is not None:
        first = items.pop(0) if items else Dataset()
        right = math.isclose(_value(first), 100 * confidence, rel_tol=1e-5, abs_tol=1e-5)
        if name_of(first) != said.CERTAINTY or not right:
            yield f"the confidence of {what} is not that of the findings"
    wanted = [m for m in about if math.isfinite(m.value)]
    if [name_of(content)[:2] for content in items] != [m.name[:2] for m in wanted]:
        yield f"the numbers of {what} are not those of the findings"
        return
    for content, measurement in zip(items, wanted, strict=True):
        expected, outlines = measurement.value, material.outlines
        if measurement.check == "volume" and measurement.segment is not None and outlines is not None:
            voxels = sum(outlines.voxels(measurement.segment).values())
            expected = voxels * material.volume.image.voxel_ml
        same = math.isclose(_value(content), rounded(expected), rel_tol=1e-4, abs_tol=1e-3)
        if not same or _unit(content) != measurement.unit.value:
            told = "the encoded segment" if measurement.segment is not None else "the findings"
            yield f"{what}: {measurement.name.meaning} is not the number of {told}"
    failed = [Evaluation(name=m.name, value=MEASUREMENT_FAILURE) for m in about if m not in wanted]
    absent = [Evaluation(name=said.PRESENCE, value=said.ABSENT)] * is_absent
    if not answers_agree([group], [*absent, *failed, *answers]):
        yield f"the answers about {what} are not those of the findings"


#: Name, value, and probability in percent.
Answer = tuple[tuple[str, ...], tuple[str, ...], float | None]


def answers_agree(
    groups: Sequence[Dataset],
    meant: Sequence[Evaluation],
    *,
    in_order: bool = True,
) -> bool:
    """Return whether the answers in some groups are those that are meant.

    Compared one by one; a probability is written with seven digits.
    """
    found, expected = [a for group in groups for a in _answers(group)], [_expected_answer(e) for e in meant]
    if not in_order:
        found, expected = sorted(found, key=_rank), sorted(expected, key=_rank)
    return len(found) == len(expected) and all(
        one[:2] == other[:2] and _same_chance(one[2], other[2])
        for one, other in zip(found, expected, strict=True)
    )


def _answers(group: Dataset) -> list[Answer]:
    aside = {said.FINDING[:2], said.FINDING_CATEGORY[:2]}
    found: list[Answer] = []
    for content in children(group, "CODE"):
        if content.RelationshipType != "CONTAINS" or name_of(content)[:2] in aside:
            continue
        chances = [_value(c) for c in children(content, "NUM", said.CERTAINTY)]
        value = code_of(content.ConceptCodeSequence[0])[:2]
        found.append((name_of(content)[:2], value, chances[0] if chances else None))
    return found


def _expected_answer(answer: Evaluation) -> Answer:
    chance = None if answer.probability is None else 100 * answer.probability
    return answer.name[:2], answer.value[:2], chance


def _same_chance(found: float | None, meant: float | None) -> bool:
    if found is None or meant is None:
        return found is meant
    return math.isclose(found, meant, rel_tol=1e-6)


def _rank(answer: Answer) -> tuple[tuple[str, ...], tuple[str, ...], float]:
    """Sort by; rounding leaves the order of probabilities."""
    return answer[0], answer[1], -1.0 if answer[2] is None else answer[2]


def _template(group: Dataset) -> str:
    templates = group.get("ContentTemplateSequence") or ()
    return str(templates[0].get("TemplateIdentifier")) if templates else ""


def _value(content: Dataset) -> float:
    values = content.get("MeasuredValueSequence") or ()
    return float(values[0].NumericValue) if values else math.nan


def _unit(content: Dataset) -> str:
    values = content.get("MeasuredValueSequence") or ()
    units = values[0].get("MeasurementUnitsCodeSequence") if values else None
    return code_of(units[0]).value if units else ""


def _points(content: Dataset, dimensions: int) -> NDArray[np.float64]:
    return np.array(content.GraphicData, dtype=np.float64).reshape(-1, dimensions)


def _plane(region: Dataset, volume: Volume) -> int | None:
    """Return the slice that a SCOORD lies on."""
    sources = children(region, "IMAGE")
    reference = sources[0].ReferencedSOPSequence[0] if sources else Dataset()
    return plane_places(volume).get(place_of(reference))


def _indices(content: Dataset, volume: Volume) -> NDArray[np.float64]:
    """Return the points of a drawing as (points, 3) (slice, row, column) index."""
    if content.ValueType == "SCOORD":
        points = _points(content, 2)
        return np.column_stack([np.full(len(points), _plane(content, volume)), points[:, ::-1] - 0.5])
    inverse = np.linalg.inv(volume.image.affine)
    indices: NDArray[np.float64] = _points(content, 3) @ inverse[:3, :3].T + inverse[:3, 3]
    return indices
