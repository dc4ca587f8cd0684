"""Hold what a pipeline says against its contract and its card, before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from node.compute.complaint import (
    MOST_ENTRIES,
    of_array,
    of_code,
    of_colour,
    of_label,
    of_numbers,
    of_share,
    of_unit,
)
from node.compute.pointed import of_detections, of_maps
from pipelines.contract import Card, Case, Evaluation, Findings, Image, Measurement, Segment

LONGEST_CAUTION = 1024  #: a paragraph

#: Names by which a report says what a finding is and where it lies (PS3.16 TID 1411); a reader cannot
#: tell a result of the same name from them.
TAKEN_NAMES = frozenset({("121071", "DCM"), ("276214006", "SCT"), ("363698007", "SCT")})

#: How far an affine may be from the image's own, in mm; float32 arithmetic stays below.
AFFINE_MM = 1e-4


def validate(findings: Any, card: Card, case: Case) -> list[str]:
    """Return everything that is wrong with findings; nothing if they can be used.

    Parameters
    ----------
    findings
        What the pipeline returned, of whatever type.
    case
        The images as the node built them, not as the pipeline may have changed them.
    """
    if not isinstance(findings, Findings):
        return [f"it returned {type(findings).__name__} instead of Findings"]
    role = findings.role if findings.role is not None else next(iter(card.inputs))
    if not isinstance(role, str) or role not in case:
        return [f"its outlines are on the grid of {role!r}, which is no input"]
    try:
        return [
            *_of_waveform(findings, case[role]),
            *_of_outlines(findings, case[role]),
            *_of_segments(findings, card),
            *of_detections(findings, card, case[role]),
            *of_maps(findings, case[role]),
            *_of_measurements(findings),
            *_of_evaluations(findings),
            *_of_cautions(findings.cautions),
        ]
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        return [f"its findings are not of the declared types ({type(error).__name__})"]


def _of_waveform(findings: Findings, image: Image) -> Iterator[str]:
    if image.is_waveform and (findings.segments or findings.detections):
        yield "it outlines or points at a recording over time, which is no image"


def _of_outlines(findings: Findings, image: Image) -> Iterator[str]:
    labelmap, masks, count = findings.labelmap, findings.masks, len(findings.segments)
    if labelmap is not None and masks is not None:
        yield "it gives both a label map and masks"
    has_outlines = labelmap is not None or masks is not None
    if count and not has_outlines:
        yield f"it names {count} segments but gives no outlines"
    if masks is not None:
        yield from of_array(masks, (count, *image.array.shape), "b", "masks", "bool")
    if labelmap is not None:
        wrong = list(of_array(labelmap, image.array.shape, "u", "label map", "unsigned integer"))
        yield from wrong
        if not wrong and (highest := int(labelmap.max(initial=0))) > count:
            yield f"its label map has a label {highest}, but there are {count} segments"
    if findings.affine is None:
        if has_outlines:
            yield "it gives outlines without an affine"
    elif not _is_same(np.asarray(findings.affine), image.affine):
        yield "the affine of its outlines is not the image's own"


def _is_same(affine: Any, own: Any) -> bool:
    return affine.shape == (4, 4) and bool(np.allclose(affine, own, rtol=0, atol=AFFINE_MM))


def _of_segments(findings: Findings, card: Card) -> Iterator[str]:
    segments = findings.segments
    yield from of_numbers([segment.number for segment in segments], "segments")
    declared = {_nature(segment) for segment in card.segments}
    for segment in segments:
        what = f"segment {segment.number}"
        yield from of_label(segment.label, what)
        for code in (segment.category, segment.kind, segment.laterality, segment.anatomic_region):
            yield from of_code(code, what)
        if _nature(segment) not in declared:
            yield f"segment {segment.number} ({segment.kind.meaning}) is not declared by its card"
        yield from of_colour(segment.colour_rgb, what)


def _nature(segment: Segment) -> tuple[Any, ...]:
    """Return what a segment is, by codes; several lesions may be of one nature."""
    codes = (segment.category, segment.kind, segment.laterality, segment.anatomic_region)
    return tuple((code.scheme, code.value) if code else None for code in codes)


def _of_measurements(findings: Findings) -> Iterator[str]:
    if len(findings.measurements) > MOST_ENTRIES:
        yield f"it gives {len(findings.measurements)} measurements"
        return
    there = _there(findings)
    seen: set[Any] = set()
    for one in findings.measurements:
        what = f"the measurement {one.name.meaning!r}"
        yield from _of_name(one, what)
        for code in (one.name, one.method, one.derivation):
            yield from of_code(code, what)
        yield from of_unit(one.unit, what)
        if isinstance(one.value, bool) or not isinstance(one.value, int | float | np.number):
            yield f"{what} is {type(one.value).__name__}, not a number"
        elif np.isinf(one.value):
            yield f"{what} is infinite; what could not be measured is 'not a number'"
        yield from _of_place(one, there, what)
        if one.detection is not None and one.check is not None:
            yield f"{what} of {_place(one)} cannot be checked; only segments are measured again"
        identity = (one.segment, one.union, one.detection, one.name[:2], one.method, one.derivation)
        if identity in seen:
            yield f"{what} of {_place(one)} is there twice"
        seen.add(identity)


def _of_evaluations(findings: Findings) -> Iterator[str]:
    if len(findings.evaluations) > MOST_ENTRIES:
        yield f"it gives {len(findings.evaluations)} evaluations"
        return
    there = _there(findings)
    seen: set[Any] = set()
    for one in findings.evaluations:
        what = f"the evaluation {one.name.meaning!r}"
        yield from _of_name(one, what)
        for code in (one.name, one.value):
            yield from of_code(code, what)
        yield from of_share(one.probability, what, "probability")
        yield from _of_place(one, there, what)
        identity = (one.segment, one.detection, one.name[:2], one.value[:2])
        if identity in seen:
            yield f"{what} of {_place(one)} is there twice"
        seen.add(identity)


def _there(findings: Findings) -> dict[str, set[int]]:
    """Return the numbers that something can be about."""
    return {
        "segment": {segment.number for segment in findings.segments},
        "detection": {detection.number for detection in findings.detections},
    }


def _of_name(one: Measurement | Evaluation, what: str) -> Iterator[str]:
    if one.name[:2] in TAKEN_NAMES:
        yield f"{what} has the name by which a report says what or where a finding is; give it another"


def _of_place(one: Measurement | Evaluation, there: Mapping[str, set[int]], what: str) -> Iterator[str]:
    """Complain of what is about something that is not there, or about two things."""
    union = one.union if isinstance(one, Measurement) else ()
    about = [("segment", number) for number in (one.segment, *union)] + [("detection", one.detection)]
    for kind, number in about:
        if number is not None and number not in there[kind]:
            yield f"{what} is about {kind} {number}, which is not there"
    if one.detection is not None and (one.segment is not None or union):
        yield f"{what} is about a segment and a detection at once"


def _place(one: Measurement | Evaluation) -> str:
    if one.detection is not None:
        return f"detection {one.detection}"
    return "the whole image" if one.segment is None else f"segment {one.segment}"


def _of_cautions(cautions: Sequence[str]) -> Iterator[str]:
    if isinstance(cautions, str) or len(cautions) > 100:
        yield "its cautions are not a short list of sentences"
    elif not all(isinstance(one, str) and 0 < len(one) <= LONGEST_CAUTION for one in cautions):
        yield f"a caution is not a sentence of 1 to {LONGEST_CAUTION} characters"
