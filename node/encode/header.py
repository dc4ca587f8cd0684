"""The header of the source, repaired: what every result says of patient, study and order.

Hospital headers lack mandatory attributes, carry illegal values and a dozen character sets.
Whatever the source holds, what comes out is legal, in UTF-8 (ISO_IR 192), and equal in meaning;
each repair is told in a note that never holds a value.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue

from node.encode import attributes
from node.encode.attributes import Attribute
from node.encode.repair import Unrepairable, clean_text, decimal_string, repair
from node.errors import EncodeError

#: What decoding a hostile element was seen to raise.
UNREADABLE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    EOFError,
    struct.error,
    BytesLengthException,
)

#: Transfer syntax -> Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1).
LOSSY_SYNTAXES = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
_LOSSY_METHODS = frozenset({*LOSSY_SYNTAXES.values(), "ISO_13818_2", "ISO_14496_10", "ISO_23008_2"})
_LOSSY_TAGS = ["LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"]


class Lossy(NamedTuple):
    """Whether any source was ever compressed with loss, and how, as far as that is known."""

    ever: bool = False
    method: str = ""  #: Lossy Image Compression Method
    ratio: str = ""  #: Lossy Image Compression Ratio


NEVER_LOSSY = Lossy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the results take over from the source."""

    #: Patient, Clinical Trial, General Study and Patient Study attributes; UTF-8 text.
    dataset: Dataset
    requests: tuple[Dataset, ...]  #: Request Attributes items
    modality: str
    body_part: str  #: Body Part Examined, "" if unknown
    position_reference: str  #: Position Reference Indicator, "" if unknown
    utc_offset: str  #: Timezone Offset From UTC, "" if the source carries none
    lossy: Lossy
    notes: tuple[str, ...]  #: what was repaired; no values

    def local(self, moment: datetime) -> datetime:
        """Return a moment in the offset that the source's own dates and times are in (R-04).

        Without Timezone Offset From UTC in the source none is written, because it would
        reinterpret the copied Study Date and Time; the moment then stays in its own zone.
        """
        if not self.utc_offset:
            return moment
        sign = -1 if self.utc_offset[0] == "-" else 1
        hours, minutes = int(self.utc_offset[1:3]), int(self.utc_offset[3:])
        return moment.astimezone(timezone(sign * timedelta(hours=hours, minutes=minutes)))


@dataclass(slots=True)
class _Log:
    """Which attributes were repaired, and how."""

    missing: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def notes(self) -> tuple[str, ...]:
        told = (
            (self.missing, "Missing from the source and written empty"),
            (self.rewritten, "Not legal in the source and rewritten"),
            (self.dropped, "Not legal in the source and left out"),
        )
        return tuple(f"{text}: {', '.join(dict.fromkeys(names))}." for names, text in told if names)


def read_header(path: Path, study_uid: str, sources: Iterable[Path]) -> Header:
    """Read and repair the header of the source.

    Parameters
    ----------
    path
        One instance of the series whose grid the results are on; its pixels are not read.
    study_uid
        The study of the results.
    sources
        Every file used: one lossy image makes the result lossy.

    Raises
    ------
    EncodeError
        The file cannot be read at all.
    """
    with warnings.catch_warnings():  # pydicom quotes values in its warnings
        warnings.simplefilter("ignore")
        try:
            source = pydicom.dcmread(path, stop_before_pixels=True)
        except (OSError, InvalidDicomError, *UNREADABLE) as error:
            raise EncodeError(
                f"the header of a source instance cannot be read ({type(error).__name__})"
            ) from error
        return repair_header(source, study_uid, lossy=_lossy(sources))


def repair_header(source: Dataset, study_uid: str, *, lossy: Lossy = NEVER_LOSSY) -> Header:
    """Return what the results take over of one data set; see `read_header`."""
    log = _Log()
    clean = Dataset()
    clean.SpecificCharacterSet = "ISO_IR 192"
    for group in (attributes.PATIENT, attributes.STUDY, attributes.PATIENT_STUDY):
        _copy(source, clean, group, log)
    trial = Dataset()
    _copy(source, trial, attributes.CLINICAL_TRIAL, _Log())
    if _has(trial, attributes.CLINICAL_TRIAL_NEEDS, attributes.CLINICAL_TRIAL_ONE_OF):
        clean.update(trial)
    elif any(a.keyword in source for a in attributes.CLINICAL_TRIAL):
        log.dropped.append("the incomplete clinical trial attributes")
    clean.StudyInstanceUID = study_uid
    requested = Dataset()
    _copy(source, requested, (attributes.REQUEST,), log)
    return Header(
        dataset=clean,
        requests=tuple(requested.get("RequestAttributesSequence", ())),
        modality=_single(source, "Modality", log),
        body_part=_single(source, "BodyPartExamined", log),
        position_reference=_single(source, "PositionReferenceIndicator", log),
        utc_offset=_offset(source, log),
        lossy=lossy,
        notes=log.notes(),
    )


def _copy(source: Dataset, target: Dataset, wanted: Iterable[Attribute], log: _Log) -> None:
    for attribute in wanted:
        name = attribute.keyword
        if name not in source:
            if attribute.type2:
                setattr(target, name, None)
                log.missing.append(name)
            continue
        value, unreadable = _decoded(source, name)
        if attribute.items:
            items = [] if unreadable or not isinstance(value, Iterable) else list(value)
            kept = [clean for item in items if (clean := _item(item, attribute, log)) is not None]
            if kept:
                setattr(target, name, kept)
            if unreadable or len(kept) < len(items):
                log.dropped.append(name)
            continue
        text = None if unreadable else _legal(value, attribute)
        if text is None:
            log.dropped.append(name)
            if attribute.type2:
                setattr(target, name, None)
            continue
        if _as_text(value) != _as_text(text):
            log.rewritten.append(name)
        if text or attribute.type2:
            setattr(target, name, text or None)


def _item(item: Any, attribute: Attribute, log: _Log) -> Dataset | None:
    clean = Dataset()
    if isinstance(item, Dataset):
        _copy(item, clean, attribute.items, log)
    return clean if len(clean) and _has(clean, attribute.needs, attribute.one_of) else None


def _has(item: Dataset, needs: Iterable[str], one_of: tuple[str, ...]) -> bool:
    return all(item.get(k) for k in needs) and (not one_of or any(item.get(k) for k in one_of))


def _legal(value: Any, attribute: Attribute) -> str | list[str] | None:
    """Return the legal value, or None when there is none."""
    vr = dictionary_VR(attribute.keyword)
    try:
        if attribute.keyword in attributes.MULTIPLE and isinstance(value, MultiValue | list):
            parts = [repair(vr, part, identifier=attribute.identifier) for part in value]
            return [part for part in parts if part]
        text = repair(vr, value, identifier=attribute.identifier)
    except (Unrepairable, *UNREADABLE):
        return None
    return None if text and attribute.values and text not in attribute.values else text


def _decoded(source: Dataset, keyword: str) -> tuple[Any, bool]:
    """Return the value as pydicom decodes it, and whether that failed."""
    try:
        value = source[keyword].value
        str(value)
    except UNREADABLE:
        return None, True
    return value, False


def _single(source: Dataset, keyword: str, log: _Log) -> str:
    holder = Dataset()
    _copy(source, holder, (Attribute(keyword),), log)
    return str(holder.get(keyword) or "")


def _offset(source: Dataset, log: _Log) -> str:
    if "TimezoneOffsetFromUTC" not in source:
        return ""
    value, unreadable = _decoded(source, "TimezoneOffsetFromUTC")
    text = "" if unreadable or value is None else clean_text(str(value))
    if re.fullmatch(r"[+-](0\d|1[0-4])[0-5]\d", text) and text != "-0000":
        return text
    if text or unreadable:
        log.dropped.append("TimezoneOffsetFromUTC")
    return ""


def _as_text(value: Any) -> list[str]:
    """Return a value for comparison, without the padding that PS3.5 calls insignificant."""
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return [t for t in ("" if v is None else str(v).strip(" \0").rstrip("=") for v in values) if t]


def _lossy(sources: Iterable[Path]) -> Lossy:
    """Look for a source that was compressed with loss, now or before it was decoded (R-09)."""
    for path in dict.fromkeys(sources):
        try:
            source = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_LOSSY_TAGS))
        except (OSError, InvalidDicomError, *UNREADABLE) as error:
            raise EncodeError(f"a source instance cannot be read again ({type(error).__name__})") from error
        flags, ratios, methods = (
            _as_text(_decoded(source, tag)[0]) if tag in source else [] for tag in _LOSSY_TAGS
        )
        method = LOSSY_SYNTAXES.get(str(source.file_meta.get("TransferSyntaxUID", "")), "")
        if flags == ["01"] or method:
            known = [m for m in methods if m in _LOSSY_METHODS]
            numbers = [float(r) for r in ratios if re.fullmatch(r"\d{1,9}(\.\d*)?", r)]
            return Lossy(
                ever=True,
                method=known[0] if known else method,
                ratio=decimal_string(numbers[0]) if numbers and numbers[0] > 0 else "",
            )
    return NEVER_LOSSY
