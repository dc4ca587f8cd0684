"""What a measurement report says of each finding, read without the code that wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from tests.viewer.page import Plane


@dataclass(kw_only=True)
class Finding:
    """All groups of a report that bear one Tracking Unique Identifier."""

    tracking_uid: str
    label: str  #: Tracking Identifier
    #: name, value and UCUM unit of every number that was measured
    numbers: list[tuple[str, float, str]] = field(default_factory=list)
    plane: Plane | None = None  #: that its first region is drawn on
    graphic: str = ""  #: POINT, POLYLINE ... of the first region
    #: (points, 2): (column, row) of DICOM, which counts from the corner of the first pixel
    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))


def read_findings(report: Path) -> list[Finding]:
    """Return the findings of a report in the order in which their first groups stand."""
    dataset = pydicom.dcmread(report)
    (box,) = (c for c in dataset.ContentSequence if _name(c) == "126010")
    found: dict[str, Finding] = {}
    for group in box.ContentSequence:
        said = {_name(c): c for c in group.ContentSequence}
        uid = str(said["112040"].UID)
        finding = found.setdefault(uid, Finding(tracking_uid=uid, label=str(said["112039"].TextValue)))
        finding.numbers += [number for content in group.ContentSequence for number in _number(content)]
        for content in _walk(group):
            if content.ValueType == "SCOORD" and finding.plane is None:
                source = content.ContentSequence[0].ReferencedSOPSequence[0]
                frame = int(source.get("ReferencedFrameNumber", 1))
                finding.plane = str(source.ReferencedSOPInstanceUID), frame
                finding.graphic = str(content.GraphicType)
                finding.points = np.array(content.GraphicData, dtype=np.float64).reshape(-1, 2)
    return list(found.values())


def numbers_of(report: Path) -> list[tuple[str, float, str]]:
    """Return name, value and UCUM unit of every measurement that has a value.

    Measurements are what stands in a Measurement Group itself: a number that tells of another item,
    such as the probability of an evaluation, or of an image in the library, is none.
    """
    dataset = pydicom.dcmread(report)
    boxes = [c for c in dataset.ContentSequence if _name(c) == "126010"]
    groups = [group for box in boxes for group in box.ContentSequence if _name(group) == "125007"]
    return [number for group in groups for c in group.ContentSequence for number in _number(c)]


def _number(content: Dataset) -> Iterator[tuple[str, float, str]]:
    if content.ValueType == "NUM" and content.get("MeasuredValueSequence"):
        value = content.MeasuredValueSequence[0]
        unit = value.MeasurementUnitsCodeSequence[0].CodeValue
        yield content.ConceptNameCodeSequence[0].CodeMeaning, float(value.NumericValue), unit


def _name(content: Dataset) -> str:
    names = content.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def _walk(content: Dataset) -> Iterator[Dataset]:
    for child in content.get("ContentSequence", ()):
        yield child
        yield from _walk(child)
