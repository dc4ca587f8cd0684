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
        for content in _walk(group):
            if content.ValueType == "NUM" and content.get("MeasuredValueSequence"):
                value = content.MeasuredValueSequence[0]
                unit = value.MeasurementUnitsCodeSequence[0].CodeValue
                meaning = content.ConceptNameCodeSequence[0].CodeMeaning
                finding.numbers.append((meaning, float(value.NumericValue), unit))
            elif content.ValueType == "SCOORD" and finding.plane is None:
                source = content.ContentSequence[0].ReferencedSOPSequence[0]
                frame = int(source.get("ReferencedFrameNumber", 1))
                finding.plane = str(source.ReferencedSOPInstanceUID), frame
                finding.graphic = str(content.GraphicType)
                finding.points = np.array(content.GraphicData, dtype=np.float64).reshape(-1, 2)
    return list(found.values())


def _name(content: Dataset) -> str:
    names = content.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def _walk(content: Dataset) -> Iterator[Dataset]:
    for child in content.get("ContentSequence", ()):
        yield child
        yield from _walk(child)
