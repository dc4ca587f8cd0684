"""Values from hospital headers, made legal: one function per family of value representation.

A value is cleaned where its meaning stays the same (``10:20:30`` is ``102030``), cut where it is
prose, and given up where a changed value could be somebody else's (a cut identifier). Clauses
are those of PS3.5 section 6.2.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from typing import Any

from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from node.uid import is_legal

#: Longest text of a value, in characters; PN counts per component group.
LONGEST = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64, "ST": 1024, "LT": 10240}
#: Line ends and tabs may stand in running text.
RUNNING_TEXT = frozenset({"ST", "LT", "UT"})
_TIME = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d|60)(\.\d{1,6})?)?)?")


class Unrepairable(ValueError):
    """There is no legal value with the same meaning."""


def repair(vr: str, value: Any, *, identifier: bool = False) -> str:
    """Return the legal form of one header value, "" for an empty one.

    Parameters
    ----------
    vr
        Value representation, not SQ.
    value
        As pydicom decoded it: text, number, person name, or several of them.
    identifier
        The value names somebody or something: it is never shortened or joined.

    Raises
    ------
    Unrepairable
        Nothing legal means the same; the sentence never holds the value.
    """
    if value is None:
        return ""
    if isinstance(value, MultiValue | list | tuple):
        parts = [repair(vr, part, identifier=identifier) for part in value]
        if len([p for p in parts if p]) <= 1:
            return "".join(parts)
        if identifier or vr not in ("LO", "SH", "ST", "LT", "UT", "UC"):
            raise Unrepairable("several values where one is allowed")
        return _prose(vr, "/".join(parts), identifier=False)
    if isinstance(value, bytes | bytearray):
        raise Unrepairable("not text")
    text = str(value)
    match vr:
        case "PN":
            return _person_name(value if isinstance(value, PersonName) else PersonName(text))
        case "DA":
            return _date(text)
        case "TM":
            return _time(text)
        case "AS":
            return _age(text)
        case "CS":
            return _code_string(text)
        case "DS":
            return _decimal(text)
        case "UI":
            return _uid(text)
        case _:
            return _prose(vr, text, identifier=identifier)


def clean_text(text: str, *, lines: bool = False) -> str:
    """Return text without control characters and lone surrogates; line ends stay if ``lines``."""
    kept = (
        c if unicodedata.category(c) not in ("Cc", "Cs") or (lines and c in "\r\n\t\f") else " " for c in text
    )
    return "".join(kept).strip(" ")


def cut(text: str, characters: int) -> str:
    """Return one line of prose of at most this many characters, without a backslash.

    What it adds is ASCII: some readers, dciodvfy among them, count bytes where PS3.5 6.2 counts
    characters.
    """
    line = clean_text(text).replace("\\", "/")
    return line if len(line) <= characters else line[: characters - 3].rstrip() + "..."


def _prose(vr: str, text: str, *, identifier: bool) -> str:
    lines = vr in RUNNING_TEXT
    cleaned = clean_text(text, lines=lines)
    if not lines and "\\" in cleaned:
        if identifier:
            raise Unrepairable("a backslash in an identifier")
        cleaned = cleaned.replace("\\", "/")
    longest = LONGEST.get(vr)
    if longest and len(cleaned) > longest:
        if identifier:
            raise Unrepairable(f"longer than {longest} characters")
        cleaned = cleaned[:longest].rstrip()
    return cleaned


def _person_name(name: PersonName) -> str:
    """Up to three component groups (alphabetic, ideographic, phonetic) of five components."""
    groups = [clean_text(group).replace("\\", "/") for group in str(name).split("=")][:3]
    groups = ["^".join(group.split("^")[:5])[: LONGEST["PN"]].rstrip() for group in groups]
    return "=".join(groups).rstrip("=")


def _date(text: str) -> str:
    digits = re.sub(r"^(\d{4})[-./](\d{2})[-./](\d{2})$", r"\1\2\3", clean_text(text))
    if not digits:
        return ""
    try:
        if len(digits) != 8 or not digits.isascii():
            raise ValueError
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        raise Unrepairable("not a date") from None
    return digits


def _time(text: str) -> str:
    digits = clean_text(text).replace(":", "")
    if not digits:
        return ""
    whole, point, fraction = digits.partition(".")
    digits = whole + point + fraction[:6] if fraction else whole
    if not digits.isascii() or not _TIME.fullmatch(digits):
        raise Unrepairable("not a time")
    return digits


def _age(text: str) -> str:
    stripped = clean_text(text).upper()
    if not stripped:
        return ""
    found = re.fullmatch(r"([0-9]{1,3})([DWMY])", stripped)
    if not found:
        raise Unrepairable("not an age")
    return f"{int(found[1]):03d}{found[2]}"


def _code_string(text: str) -> str:
    cleaned = clean_text(text).upper()
    if not re.fullmatch(r"[A-Z0-9_ ]{0,16}", cleaned):
        raise Unrepairable("not a code string")
    return cleaned


def _decimal(text: str) -> str:
    cleaned = clean_text(text)
    if not cleaned:
        return ""
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", cleaned):
        raise Unrepairable("not a number")
    return cleaned if len(cleaned) <= 16 else decimal_string(float(cleaned))


def decimal_string(value: float) -> str:
    """Return the closest Decimal String: at most 16 characters.

    Raises
    ------
    Unrepairable
        The value is infinite or not a number.
    """
    if value == 0:
        return "0"
    for digits in range(15, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16 and re.fullmatch(r"-?[0-9.]+(e[+-][0-9]+)?", text):
            return text
    raise Unrepairable("not a finite number")


def _uid(text: str) -> str:
    cleaned = text.strip(" \0")
    if cleaned and not is_legal(cleaned):
        raise Unrepairable("not a UID")
    return cleaned
