"""Hold what a pipeline says against its contract and its card, before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.contract import Card, Case, Code, Evaluation, Findings, Image, Measurement, Segment

#: Far above any real use; a report beyond this helps nobody.
MOST_ENTRIES = 10_000
LONGEST_LABEL, LONGEST_CAUTION = 64, 1024  # VR LO (PS3.5 6.2); a paragraph
LONGEST_SCHEME, LONGEST_MEANING = 16, 64  # VR SH and LO (PS3.3 8.8)

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
            *_of_outlines(findings, case[role]),
            *_of_segments(findings, card),
            *_of_measurements(findings),
            *_of_evaluations(findings),
            *_of_cautions(findings.cautions),
        ]
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        return [f"its findings are not of the declared types ({type(error).__name__})"]


def _of_outlines(findings: Findings, image: Image) -> Iterator[str]:
    labelmap, masks, count = findings.labelmap, findings.masks, len(findings.segments)
    if labelmap is not None and masks is not None:
        yield "it gives both a label map and masks"
    if labelmap is None and masks is None:
        if count:
            yield f"it names {count} segments but gives no outlines"
        return
    if masks is not None:
        yield from _of_array(masks, (count, *image.array.shape), "b", "masks", "bool")
    if labelmap is not None:
        wrong = list(_of_array(labelmap, image.array.shape, "u", "label map", "unsigned integer"))
        yield from wrong
        if not wrong and (highest := int(labelmap.max(initial=0))) > count:
            yield f"its label map has a label {highest}, but there are {count} segments"
    if findings.affine is None:
        yield "it gives outlines without an affine"
    elif not _is_same(np.asarray(findings.affine), image.affine):
        yield "the affine of its outlines is not the image's own"


def _of_array(array: Any, shape: tuple[int, ...], kind: str, name: str, kind_name: str) -> Iterator[str]:
    if not isinstance(array, np.ndarray):
        yield f"its {name} is {type(array).__name__}, not a numpy array"
        return
    if array.dtype.kind != kind:
        yield f"its {name} is of type {array.dtype}, not {kind_name}"
    if array.shape != shape:
        yield f"its {name} has the shape {array.shape}, not {shape}"


def _is_same(affine: Any, own: Any) -> bool:
    return affine.shape == (4, 4) and bool(np.allclose(affine, own, rtol=0, atol=AFFINE_MM))


def _of_segments(findings: Findings, card: Card) -> Iterator[str]:
    segments = findings.segments
    if [segment.number for segment in segments] != list(range(1, len(segments) + 1)):
        yield "its segments are not numbered 1, 2, 3 ..."
    declared = {_nature(segment) for segment in card.segments}
    for segment in segments:
        if not segment.label.strip() or len(segment.label) > LONGEST_LABEL:
            yield f"segment {segment.number} needs a label of 1 to {LONGEST_LABEL} characters"
        for code in (segment.category, segment.kind, segment.laterality, segment.anatomic_region):
            yield from _of_code(code, f"segment {segment.number}")
        if _nature(segment) not in declared:
            yield f"segment {segment.number} ({segment.kind.meaning}) is not declared by its card"
        colour = segment.colour_rgb
        if len(colour) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in colour):
            yield f"the colour of segment {segment.number} is not three numbers from 0 to 255"


def _nature(segment: Segment) -> tuple[Any, ...]:
    """Return what a segment is, by codes; several lesions may be of one nature."""
    codes = (segment.category, segment.kind, segment.laterality, segment.anatomic_region)
    return tuple((code.scheme, code.value) if code else None for code in codes)


def _of_measurements(findings: Findings) -> Iterator[str]:
    if len(findings.measurements) > MOST_ENTRIES:
        yield f"it gives {len(findings.measurements)} measurements"
        return
    numbers = {segment.number for segment in findings.segments}
    seen: set[Any] = set()
    for one in findings.measurements:
        what = f"the measurement {one.name.meaning!r}"
        for code in (one.name, one.unit, one.method, one.derivation):
            yield from _of_code(code, what)
        if one.unit.scheme != "UCUM":
            yield f"{what} has a unit of {one.unit.scheme!r}; units are UCUM"
        if isinstance(one.value, bool) or not isinstance(one.value, int | float | np.number):
            yield f"{what} is {type(one.value).__name__}, not a number"
        elif np.isinf(one.value):
            yield f"{what} is infinite; what could not be measured is 'not a number'"
        yield from _of_places(one, numbers, what)
        identity = (one.segment, one.union, one.name[:2], one.method, one.derivation)
        if identity in seen:
            yield f"{what} of {_place(one)} is there twice"
        seen.add(identity)


def _of_evaluations(findings: Findings) -> Iterator[str]:
    if len(findings.evaluations) > MOST_ENTRIES:
        yield f"it gives {len(findings.evaluations)} evaluations"
        return
    numbers = {segment.number for segment in findings.segments}
    seen: set[Any] = set()
    for one in findings.evaluations:
        what = f"the evaluation {one.name.meaning!r}"
        for code in (one.name, one.value):
            yield from _of_code(code, what)
        if one.probability is not None and not 0.0 <= one.probability <= 1.0:
            yield f"{what} has a probability of {one.probability}, not from 0 to 1"
        yield from _of_places(one, numbers, what)
        identity = (one.segment, one.name[:2], one.value[:2])
        if identity in seen:
            yield f"{what} of {_place(one)} is there twice"
        seen.add(identity)


def _of_places(one: Measurement | Evaluation, numbers: set[int], what: str) -> Iterator[str]:
    union = one.union if isinstance(one, Measurement) else ()
    for number in (one.segment, *union):
        if number is not None and number not in numbers:
            yield f"{what} is about segment {number}, which is not there"


def _place(one: Measurement | Evaluation) -> str:
    return "the whole image" if one.segment is None else f"segment {one.segment}"


def _of_code(code: Code | None, what: str) -> Iterator[str]:
    if code is None:
        return
    if not all(isinstance(part, str) and part.strip() and part.isprintable() for part in code):
        yield f"a code of {what} has an empty or unprintable part"
    elif len(code.scheme) > LONGEST_SCHEME or len(code.meaning) > LONGEST_MEANING:
        yield f"a code of {what} is longer than DICOM allows"


def _of_cautions(cautions: Sequence[str]) -> Iterator[str]:
    if isinstance(cautions, str) or len(cautions) > 100:
        yield "its cautions are not a short list of sentences"
    elif not all(isinstance(one, str) and 0 < len(one) <= LONGEST_CAUTION for one in cautions):
        yield f"a caution is not a sentence of 1 to {LONGEST_CAUTION} characters"
