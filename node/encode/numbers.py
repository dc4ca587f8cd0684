"""What a result reports: each number once, checked against the encoded segmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.encode.repair import cut, decimal_string
from node.encode.seg.outlines import Outlines
from node.errors import EncodeError
from node.model import Volume
from pipelines.contract import Code, Findings, Measurement
from pipelines.measure import recompute

#: How far a pipeline's number may be from the one recomputed from the encoded mask.
RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-3

#: UCUM -> what people write; anything else is shown as its UCUM value.
_UNITS = {"[hnsf'U]": "HU", "1": "", "mm3": "mm³", "cm3": "cm³", "mm2": "mm²", "cm2": "cm²", "um": "µm"}
#: What people say for a concept, where viewers print its Code Meaning and have little room.
_NOUNS = {("112031", "DCM"): "HU"}  # Attenuation Coefficient


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One measurement as it is reported."""

    measurement: Measurement
    value: float  #: rounded to what a Decimal String holds; not a number: could not be measured
    label: str  #: of the segment, the segments or the detection, "" for the whole image

    @property
    def name(self) -> str:
        """For people: the derivation where it is not said by the name, then the name."""
        derivation = self.measurement.derivation
        name = self.measurement.name.meaning
        return f"{name}, {derivation.meaning.lower()}" if derivation else name

    @property
    def caption(self) -> Code:
        """The name with a Code Meaning that tells it from its siblings: "Mean HU", "Maximum HU".

        OHIF prints this meaning, value and unit beside a contour, cut off at the border of the
        viewport; it shows no derivation, so mean and percentile of one quantity would look alike.
        """
        name, derivation = self.measurement.name, self.measurement.derivation
        if derivation is None:
            return name
        noun = _NOUNS.get((name.value, name.scheme), name.meaning)
        return name._replace(meaning=cut(f"{derivation.meaning} {noun}", 64))

    @property
    def text(self) -> str:
        """For people: value with thousands separated, and unit."""
        if math.isnan(self.value):
            return "could not be measured"
        return f"{grouped(self.value)} {unit_text(self.measurement.unit.value)}".rstrip()

    def summary(self) -> Mapping[str, Any]:
        """For programs, as in `node.model.Outcome`; None where it could not be measured."""
        return {
            "name": self.name,
            "value": None if math.isnan(self.value) else self.value,
            "unit": self.measurement.unit.value,
            "segment": self.label,
        }


def unit_text(ucum: str) -> str:
    """Return a UCUM unit as people write it; annotations in braces are dropped."""
    return _UNITS.get(ucum, "" if ucum.startswith("{") else ucum)


def grouped(value: float) -> str:
    """Return a number with four significant digits at least and thousands separated.

    What would have five zeros behind the point, or more than fifteen digits, has an exponent.
    """
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    if not -5 <= magnitude < 15:
        return f"{value:.4g}"
    digits = max(0, 3 - magnitude)
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def reported(findings: Findings, outlines: Outlines | None, volume: Volume) -> tuple[Number, ...]:
    """Return every measurement, those with a ``check`` taken from the encoded segmentation.

    Raises
    ------
    EncodeError
        A number differs from what the encoded mask gives, or cannot be recomputed; or it is about
        something that is not there. Measurements of detections are taken as said.
    """
    labels = {segment.number: segment.label for segment in findings.segments}
    detections = {detection.number: detection.label for detection in findings.detections}
    numbers = []
    masks: dict[tuple[int, ...], Any] = {}  # the last one only: a mask is as large as the volume / 4
    for measurement in findings.measurements:
        about = measurement.union or (() if measurement.segment is None else (measurement.segment,))
        if unknown := [n for n in about if n not in labels]:
            raise EncodeError(
                f"'{measurement.name.meaning}' is about segment {unknown[0]}, which is not there"
            )
        if (pointed := measurement.detection) is not None and (about or pointed not in detections):
            fault = "a segment as well" if about else f"detection {pointed}, which is not there"
            raise EncodeError(f"'{measurement.name.meaning}' is about {fault}")
        value = measurement.value
        if measurement.check is not None:
            if outlines is None or not about:
                raise EncodeError(f"'{measurement.name.meaning}' cannot be checked without a segment")
            if about not in masks:
                masks = {about: outlines.mask(*about)}
            value = _checked(measurement, masks[about], volume)
        numbers.append(
            Number(
                measurement=measurement,
                value=rounded(value),
                label=detections[pointed] if pointed is not None else " + ".join(labels[n] for n in about),
            )
        )
    return tuple(numbers)


def rounded(value: float) -> float:
    """Return the value to seven significant digits; infinities could not be measured either."""
    return float(decimal_string(float(f"{value:.7g}"))) if math.isfinite(value) else math.nan


def _checked(measurement: Measurement, mask: Any, volume: Volume) -> float:
    try:
        value = recompute(str(measurement.check), mask, volume.image)
    except KeyError as error:
        raise EncodeError(f"'{measurement.name.meaning}' cannot be checked: {error.args[0]}") from error
    said = measurement.value
    if math.isnan(said) and math.isnan(value):
        return value
    if not math.isclose(said, value, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE):
        raise EncodeError(
            f"the pipeline says {measurement.name.meaning} {said:.6g} {measurement.unit.value}, "
            f"the encoded segment gives {value:.6g}"
        )
    return value
