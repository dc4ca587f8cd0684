"""What the index remembers of a header: the attributes that are searched for, as text.

A value is kept as it is written in a data set, several with backslashes between them and a sequence as
JSON text, so that equal ones of many series are one string in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from sys import intern
from typing import Any, Final

from pydicom.datadict import dictionary_keyword, dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from node.show.dicom_json import Element, Model, as_model, texts_as

#: Keyword -> text of what a header says.
Kept = Mapping[str, str]

#: Of the study and its patient (PS3.18 Table 10.6.1-5 and 10.6.3-3, and what viewers ask for besides).
STUDY: Final = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyInstanceUID",
    "StudyID",
)
#: Of the series.
SERIES: Final = (
    "SeriesDate",
    "SeriesTime",
    "Modality",
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "SeriesDescription",
    "ManufacturerModelName",
    "BodyPartExamined",
    "ProtocolName",
    "PatientPosition",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Laterality",
    "FrameOfReferenceUID",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "RequestAttributesSequence",
)
#: Of the instance.
INSTANCE: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "ContentDate",
    "ContentTime",
    "InstanceNumber",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
)
#: Told even where nothing is known (type 2 of the tables of PS3.18 10.6.3).
REQUIRED: Final = frozenset(
    """StudyDate StudyTime AccessionNumber ReferringPhysicianName PatientName PatientID PatientBirthDate
    PatientSex StudyInstanceUID StudyID Modality SeriesInstanceUID SeriesNumber SOPClassUID SOPInstanceUID
    InstanceNumber""".split()
)
#: No attribute is remembered beyond this length.
_LONGEST: Final = 4096
_WHOLE_NUMBERS: Final = re.compile(r"([0-9]{1,10}(\\[0-9]{1,10})*)?")


def keep(ds: Dataset, keywords: Iterable[str]) -> dict[str, str]:
    """Return what a header says of some attributes, as text.

    Those that it lacks are not in it, nor those of which it says something that `told` could not tell.
    """
    model = as_model(ds, tags=[tag_of(keyword) for keyword in keywords])
    kept = {}
    for tag, element in model.items():
        text, vr = text_of(element), dictionary_VR(int(tag, 16))
        is_whole = vr != "US" or _WHOLE_NUMBERS.fullmatch(text)
        if len(text) <= _LONGEST and is_whole and (vr == "SQ") == (element["vr"] == "SQ"):
            kept[keyword_of(int(tag, 16))] = intern(text)
    return kept


def text_of(element: Element) -> str:
    """Return the values of an attribute as one text."""
    values = element.get("Value") or []
    if element["vr"] == "SQ":
        return json.dumps(values, separators=(",", ":")) if values else ""
    return "\\".join(one_text(value) for value in values)


def one_text(value: Any) -> str:
    """Return one value of DICOM JSON as it is written in a data set."""
    if value is None:
        return ""
    if isinstance(value, dict):
        groups = [value.get(part, "") for part in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return str(value)


def told(kept: Kept, keywords: Iterable[str]) -> Model:
    """Return attributes that were kept as DICOM JSON."""
    model: Model = {}
    for keyword in keywords:
        text = kept.get(keyword)
        if text is None and keyword not in REQUIRED:
            continue
        tag, vr = tag_of(keyword), dictionary_VR(keyword)
        values = (json.loads(text) if vr == "SQ" else texts_as(text, vr)) if text else []
        if values is None:  # US alone: rows and columns
            values = [int(one) for one in (text or "").split("\\")]
        model[f"{tag:08X}"] = {"vr": vr, "Value": values} if values else {"vr": vr}
    return model


@cache
def tag_of(keyword: str) -> int:
    """Return the tag of one of our keywords."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no attribute of DICOM")
    return tag


@cache
def keyword_of(tag: int) -> str:
    """Return the keyword of a tag of the dictionary."""
    return dictionary_keyword(tag)
