"""SR content items, one function per value type (PS3.3 C.17.3), and a walk over a tree.

Relationship types are those of PS3.3 C.17.3.2.4, shortened in the calls: a template row reads as
one line here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.encode.items import code_of, coded, item
from node.encode.repair import clean_text, decimal_string
from pipelines.contract import Code

CONTAINS = "CONTAINS"
HAS_PROPERTIES = "HAS PROPERTIES"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
INFERRED_FROM = "INFERRED FROM"
SELECTED_FROM = "SELECTED FROM"

#: Numeric Value Qualifier for what could not be measured (CID 42).
MEASUREMENT_FAILURE = Code("114006", "DCM", "Measurement failure")

Items = Sequence[Dataset]


def _content(kind: str, how: str | None, name: Code | None, children: Items) -> Dataset:
    dataset = item(RelationshipType=how, ValueType=kind)
    if name is not None:
        dataset.ConceptNameCodeSequence = [coded(name)]
    if children:
        dataset.ContentSequence = list(children)
    return dataset


def container(
    how: str | None, name: Code, children: Items, *, template: str = "", separate: bool = True
) -> Dataset:
    """CONTAINER; ``separate`` items are shown with their names (Continuity Of Content)."""
    dataset = _content("CONTAINER", how, name, children)
    dataset.ContinuityOfContent = "SEPARATE" if separate else "CONTINUOUS"
    if template:
        dataset.ContentTemplateSequence = [item(MappingResource="DCMR", TemplateIdentifier=template)]
    return dataset


def text(how: str, name: Code, value: str, children: Items = ()) -> Dataset:
    """TEXT; control characters other than line ends are taken out."""
    dataset = _content("TEXT", how, name, children)
    dataset.TextValue = clean_text(value, lines=True) or "-"
    return dataset


def code(how: str, name: Code, value: Code, children: Items = ()) -> Dataset:
    """CODE."""
    dataset = _content("CODE", how, name, children)
    dataset.ConceptCodeSequence = [coded(value)]
    return dataset


def uidref(how: str, name: Code, value: str) -> Dataset:
    """UIDREF."""
    dataset = _content("UIDREF", how, name, ())
    dataset.UID = value
    return dataset


def num(how: str, name: Code, value: float, unit: Code, children: Items = ()) -> Dataset:
    """NUM; not a number becomes an empty value with a qualifier (R-43)."""
    dataset = _content("NUM", how, name, children)
    if math.isnan(value):
        dataset.MeasuredValueSequence = []
        dataset.NumericValueQualifierCodeSequence = [coded(MEASUREMENT_FAILURE)]
    else:
        dataset.MeasuredValueSequence = [
            item(MeasurementUnitsCodeSequence=[coded(unit)], NumericValue=decimal_string(value))
        ]
    return dataset


def image(how: str, name: Code | None, reference: Dataset, children: Items = ()) -> Dataset:
    """IMAGE."""
    dataset = _content("IMAGE", how, name, children)
    dataset.ReferencedSOPSequence = [reference]
    return dataset


def composite(how: str, name: Code, reference: Dataset) -> Dataset:
    """COMPOSITE: an object that is no image."""
    dataset = _content("COMPOSITE", how, name, ())
    dataset.ReferencedSOPSequence = [reference]
    return dataset


def waveform(how: str, name: Code, reference: Dataset) -> Dataset:
    """WAVEFORM: all channels of a recording (PS3.3 C.18.5)."""
    dataset = _content("WAVEFORM", how, name, ())
    dataset.ReferencedSOPSequence = [reference]
    return dataset


def day(how: str, name: Code, value: str) -> Dataset:
    """DATE, as a DICOM date."""
    dataset = _content("DATE", how, name, ())
    dataset.Date = value
    return dataset


def scoord(how: str, name: Code, shape: str, points: NDArray[np.float64], children: Items) -> Dataset:
    """SCOORD: (points, 2), (column, row); a closed POLYLINE repeats its first point (C.18.6.1)."""
    dataset = _content("SCOORD", how, name, children)
    dataset.GraphicType = shape
    dataset.GraphicData = [float(v) for v in np.asarray(points, dtype=np.float32).ravel()]
    return dataset


def scoord3d(how: str, name: Code, shape: str, points: NDArray[np.float64], frame_uid: str) -> Dataset:
    """SCOORD3D: (points, 3), LPS mm in a frame of reference (PS3.3 C.18.9)."""
    dataset = _content("SCOORD3D", how, name, ())
    dataset.GraphicType = shape
    dataset.GraphicData = [float(v) for v in np.asarray(points, dtype=np.float32).ravel()]
    dataset.ReferencedFrameOfReferenceUID = frame_uid
    return dataset


def walk(root: Dataset) -> Iterator[Dataset]:
    """Yield a content item and everything below it, parents first."""
    yield root
    for child in root.get("ContentSequence") or ():
        yield from walk(child)


def name_of(content: Dataset) -> Code:
    """Return the concept name of a content item; ("", "", "") if it has none."""
    names = content.get("ConceptNameCodeSequence") or ()
    return code_of(names[0]) if names else Code("", "", "")


def children(content: Dataset, value_type: str = "", name: Code | None = None) -> list[Dataset]:
    """Return the children of a content item of a type and a name (value and scheme count)."""
    return [
        child
        for child in content.get("ContentSequence") or ()
        if (not value_type or child.get("ValueType") == value_type)
        and (name is None or name_of(child)[:2] == name[:2])
    ]
