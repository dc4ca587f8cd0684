"""A data set as DICOM JSON Model object (PS3.18 F.2), whatever is in it.

Values are written straight from their bytes where these are plain, which they mostly are: a header of a
hundred elements takes half a millisecond. What cannot be read as its VR is told as text, or left out.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from node.header.value import PARSE_ERRORS

#: One attribute: {"vr": ..., "Value" or "BulkDataURI" or "InlineBinary": ...}.
Element = dict[str, Any]
#: Tag in eight hexadecimal digits -> attribute.
Model = dict[str, Element]
#: Path of an element ("00420011", "0040A730/0/00421010") -> where its value is to be had.
Locate = Callable[[str], str]

#: Binary values of at most so many bytes stand in the text, in base64.
INLINE_BYTES: Final = 1024
#: Sequences nested deeper than this are left out.
_DEEPEST: Final = 32

_CHARACTER_SET: Final = 0x00080005
_UTF8: Final[Element] = {"vr": "CS", "Value": ["ISO_IR 192"]}  #: JSON is nothing else
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_ONE_TEXT: Final = frozenset({"LT", "ST", "UR", "UT"})  # a backslash is a letter (PS3.5 6.2)
_TEXT: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "SH", "TM", "UC", "UI"})
#: Of these alone a byte beyond ASCII or an escape sequence is text in a character set.
_IN_CHARACTER_SET: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_NUMBERS: Final = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_SWAPPED: Final = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}  # bytes of a word
_NAME_PARTS: Final = ("Alphabetic", "Ideographic", "Phonetic")


def as_model(ds: Dataset, locate: Locate | None = None, *, tags: Iterable[int] | None = None) -> Model:
    """Return a data set as DICOM JSON.

    Parameters
    ----------
    locate
        Tells where long binary values are to be had; None leaves them out.
    tags
        Of the elements wanted; None: all. Group lengths and file meta information are never told.
    """
    return _model(ds, locate, tags, "", 0, _is_signed(ds))


def _model(
    ds: Dataset, locate: Locate | None, tags: Iterable[int] | None, within: str, depth: int, signed: bool
) -> Model:
    model: Model = {}
    for tag in sorted(ds.keys() if tags is None else (BaseTag(tag) for tag in tags if tag in ds)):
        if tag.element == 0 or tag.group <= 0x0002:
            continue
        name = f"{tag:08X}"
        try:
            told = _element(ds, tag, locate, within + name, depth, signed)
        except PARSE_ERRORS:
            told = _as_text(ds.get_item(tag))
        if told is not None:
            model[name] = _UTF8 if tag == _CHARACTER_SET else told
    return model


def _element(
    ds: Dataset, tag: BaseTag, locate: Locate | None, path: str, depth: int, signed: bool
) -> Element | None:
    raw: Any = ds.get_item(tag, keep_deferred=True)
    if isinstance(raw, RawDataElement):
        vr = raw.VR if raw.VR and raw.VR != "UN" else _vr_of(tag, signed, raw.VR or "")
        if vr != "SQ" and (raw.value is None or isinstance(raw.value, bytes)):
            plain = _plain(raw.value or b"", vr, little=raw.is_little_endian)
            if plain is not None:
                return {"vr": vr, "Value": plain} if plain else {"vr": vr}
            if vr in BINARY:
                return _binary(raw.value or b"", vr, locate, path, little=raw.is_little_endian)
    element = ds[tag]
    vr, value = str(element.VR), element.value
    if " or " in vr:
        vr = _settled(vr, signed)
    if vr == "SQ":
        if depth >= _DEEPEST:
            return None
        items = [
            _model(item, locate, None, f"{path}/{number}/", depth + 1, signed)
            for number, item in enumerate(value)
        ]
        return {"vr": vr, "Value": items} if items else {"vr": vr}
    if vr in BINARY:
        return _binary(bytes(value or b""), vr, locate, path, little=True)
    values = _values(value, vr)
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def _plain(data: bytes, vr: str, *, little: bool) -> list[Any] | None:
    """Return the values of well-formed bytes, [] where there are none; None: pydicom has to look."""
    if form := _NUMBERS.get(vr):
        if len(data) % struct.calcsize(form):
            return None
        order = "<" if little else ">"
        return [_number(v) for v in struct.unpack(f"{order}{len(data) // struct.calcsize(form)}{form}", data)]
    if vr == "AT":
        if len(data) % 4:
            return None
        words = struct.unpack(f"{'<' if little else '>'}{len(data) // 2}H", data)
        return [f"{words[i]:04X}{words[i + 1]:04X}" for i in range(0, len(words), 2)]
    if vr in BINARY or not data.isascii() or (vr in _IN_CHARACTER_SET and b"\x1b" in data):
        return None
    return texts_as(data.decode("ascii"), vr)


def texts_as(text: str, vr: str) -> list[Any] | None:
    """Return the values of a text as it is encoded, backslashes and padding included.

    Returns
    -------
    list or None
        [] where there is no value; None for a VR that is no text.
    """
    if vr in _ONE_TEXT:
        text = text.rstrip(" \0")
        return [text] if text else []
    found = [one.strip(" \0") for one in text.split("\\")]
    if found == [""]:
        return []
    if vr == "PN":
        names = [name_as(one) for one in found]
        return names if any(names) else []
    if vr in ("DS", "IS"):
        return [_decimal(one) for one in found]
    return [one or None for one in found] if vr in _TEXT else None


def name_as(text: str) -> dict[str, str] | None:
    """Return a Person Name by its component groups (PS3.18 F.2.2); None: it is empty."""
    groups = (group.strip(" ^") and group.rstrip(" ") for group in text.split("=")[:3])
    return {part: group for part, group in zip(_NAME_PARTS, groups, strict=False) if group} or None


def _decimal(text: str) -> int | float | str | None:
    """Return a number in text as a number; what is none stays text, as PS3.18 F.2.3 allows."""
    if not text:
        return None
    try:
        if text.lstrip("+-").isdigit():
            return int(text)
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _number(value: int | float) -> int | float | str:
    """Return a number as JSON can hold it (PS3.18 Table F.2.3-1 has no number that is none)."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _values(value: Any, vr: str) -> list[Any]:
    """Return the values that pydicom made."""
    if value is None or value == "":
        return []
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    values = list(value) if several else [value]
    if vr == "PN":
        return [name_as(str(one)) for one in values]
    if vr == "AT":
        return [f"{int(one):08X}" for one in values]
    if vr in ("DS", "IS"):
        return [_decimal(str(getattr(one, "original_string", one)).strip()) for one in values]
    if vr in _NUMBERS:
        return [_number(one) for one in values]
    return [str(one).rstrip(" \0") or None for one in values]


def _binary(data: bytes, vr: str, locate: Locate | None, path: str, *, little: bool) -> Element | None:
    if not data:
        return {"vr": vr}
    if len(data) > INLINE_BYTES:
        return None if locate is None else {"vr": vr, "BulkDataURI": locate(path)}
    return {"vr": vr, "InlineBinary": base64.b64encode(as_little(data, vr, little=little)).decode("ascii")}


def as_little(data: bytes, vr: str, *, little: bool) -> bytes:
    """Return a binary value in little endian byte order, as DICOMweb gives all (PS3.18 F.2.7)."""
    word = _SWAPPED.get(vr, 1)
    if little or word == 1 or len(data) % word:
        return data
    return b"".join(data[at : at + word][::-1] for at in range(0, len(data), word))


def _as_text(raw: Any) -> Element | None:
    """Return what cannot be read as its VR as the letters that stand there; None for anything else."""
    value = getattr(raw, "value", None)
    vr = getattr(raw, "VR", None) or "UN"
    if not isinstance(value, bytes) or vr not in _TEXT | _ONE_TEXT | {"DS", "IS"}:
        return None
    text = value.decode("ascii", "replace").strip(" \0")
    return {"vr": vr, "Value": [text]} if text else {"vr": vr}


def _vr_of(tag: BaseTag, signed: bool, said: str) -> str:
    """Return the VR of an element that does not tell it: as the dictionary has it."""
    if tag in _PIXELS:
        return said or "OW"
    return _settled(_dictionary(tag), signed) or said


@cache
def _dictionary(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _settled(vr: str, signed: bool) -> str:
    """Return the VR meant where the dictionary has several (PS3.5 A.1)."""
    if "OW" in vr:
        return "OW"
    return ("SS" if signed else "US") if vr == "US or SS" else vr


def _is_signed(ds: Dataset) -> bool:
    try:
        return bool(ds.get("PixelRepresentation") == 1)
    except PARSE_ERRORS:
        return False


def first_text(model: Mapping[str, Element], tag: str) -> str:
    """Return the first value of an attribute as text; "" where there is none."""
    values = model.get(tag, {}).get("Value") or [None]
    return "" if values[0] is None else str(values[0])
