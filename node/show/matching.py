"""Whether a value is what somebody searches for (PS3.4 C.2.2.2, PS3.18 8.3.4).

A demand is made once of what was asked, and refused there if it is no value of its VR; then it is
compared with values as they are written in data sets, which may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

#: Says whether any of the values of an attribute is what is searched for.
Demand = Callable[[Sequence[str]], bool]

_WILD: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_NUMBER: Final = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
_LONGEST: Final = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "AS": 4, "PN": 324}
#: More than anybody asks for; each is compared with everything there is.
MOST_VALUES: Final = 1000
_LONGEST_TEXT: Final = 1024
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_DATE: Final = re.compile(r"[0-9]{8}")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9](([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?")
_MOMENT: Final = re.compile(r"[0-9]{4}([0-9]{2}([0-9]{2}([0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?)?)?)?")
#: What is not compared: marks of older ways to write, and the offset of a time zone.
_UNUSED: Final = {"DA": re.compile("[.-]"), "TM": re.compile(":"), "DT": re.compile(r"[+-][0-9]{4}$")}


class Unusable(ValueError):
    """A value that no attribute of its VR can have; the sentence says what is expected."""


def demand(text: str, vr: str) -> Demand | None:
    """Return what a value of a query demands; None: nothing (universal matching).

    Raises
    ------
    Unusable
        It is not a value, list, range or pattern of this VR.
    """
    if len(text) > (MOST_VALUES * 65 if vr == "UI" else _LONGEST_TEXT) or not text.isprintable():
        raise Unusable("is too long or holds control characters")
    if text in ("", "*", '""'):
        return None
    if vr == "UI":
        return _one_of(_uids(text))
    if vr in ("DA", "TM", "DT"):
        return _within(text, vr)
    if vr in _NUMBER:
        return _number(text)
    if vr == "PN":
        return _name(text)
    if vr == "CS":  # no letter of it is a comma (PS3.5 6.2)
        patterns = [_pattern(_short(one.strip(), vr)) for one in re.split(r"[,\\]", text)]
        return lambda values: any(pattern(value) for value in values for pattern in patterns)
    if vr in _WILD or vr == "AS":
        pattern = _pattern(_short(text.strip(" "), vr))
        return lambda values: any(map(pattern, values))
    raise Unusable("is an attribute that is not searched for")


def _uids(text: str) -> frozenset[str]:
    uids = frozenset(one.strip() for one in re.split(r"[,\\]", text))
    if len(uids) > MOST_VALUES:
        raise Unusable(f"lists more than {MOST_VALUES} UIDs")
    if not all(_UID.fullmatch(uid) and len(uid) <= 64 for uid in uids):
        raise Unusable("is to be a UID, or several with commas between them")
    return uids


def _one_of(wanted: frozenset[str]) -> Demand:
    return lambda values: not wanted.isdisjoint(values)


def _short(text: str, vr: str) -> str:
    if len(text) > _LONGEST.get(vr, _LONGEST_TEXT):
        raise Unusable(f"is longer than any {vr} value")
    return text


def _pattern(text: str, *, fold: bool = False) -> Callable[[str], bool]:
    """Return what compares a value with a text in which * is any letters and ? is one."""
    wanted = text.casefold() if fold else text
    if "*" not in wanted and "?" not in wanted:
        return (lambda value: value.casefold() == wanted) if fold else (lambda value: value == wanted)
    # Several stars side by side are one: otherwise they try every way to share what they stand for.
    pieces = re.sub(r"\*+", "*", wanted).split("*")
    return lambda value: _fits(value.casefold() if fold else value, pieces)


def _fits(value: str, pieces: Sequence[str]) -> bool:
    """Say whether a value is made of pieces with anything between them, in linear steps per piece."""
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return len(value) == len(first) and _same(value, first, 0)
    if len(value) < len(first) + len(last) or not _same(value, first, 0):
        return False
    if not _same(value, last, len(value) - len(last)):
        return False
    at, end = len(first), len(value) - len(last)
    for piece in pieces[1:-1]:
        found = next((i for i in range(at, end - len(piece) + 1) if _same(value, piece, i)), None)
        if found is None:
            return False
        at = found + len(piece)
    return True


def _same(value: str, piece: str, at: int) -> bool:
    return all(mark in ("?", letter) for mark, letter in zip(piece, value[at : at + len(piece)], strict=True))


def _name(text: str) -> Demand:
    """Compare without regard to case, and any of the three component groups (PS3.4 C.2.2.2.1)."""
    pattern = _pattern(_short(text.strip(" ").rstrip("^"), "PN"), fold=True)

    def fits(values: Sequence[str]) -> bool:
        for value in values:
            groups = {value, *value.split("=")}
            if any(pattern(group.strip(" ").rstrip("^")) for group in groups):
                return True
        return False

    return fits


def _number(text: str) -> Demand:
    try:
        wanted = float(text)
    except ValueError:
        raise Unusable("is to be a number") from None

    def fits(values: Sequence[str]) -> bool:
        return any(_as_number(value) == wanted for value in values)

    return fits


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _within(text: str, vr: str) -> Demand:
    """Compare dates and times with one, or with a range whose ends count (PS3.4 C.2.2.2.5)."""
    form = {"DA": _DATE, "TM": _TIME, "DT": _MOMENT}[vr]
    begin, dash, end = text.partition("-")
    if not (begin or end) or not all(form.fullmatch(one) for one in (begin, end) if one):
        raise Unusable(
            {
                "DA": "is to be a date as YYYYMMDD, or a range of two with a hyphen",
                "TM": "is to be a time as HHMMSS, or a range of two with a hyphen",
                "DT": "is to be a time as YYYYMMDDHHMMSS, or a range of two with a hyphen",
            }[vr]
        )
    low = _filled(begin, vr, "0")
    high = _filled(end if dash else begin, vr, "9") if end or not dash else "~"

    def fits(values: Sequence[str]) -> bool:
        for value in values:
            plain = _UNUSED[vr].sub("", value)
            if form.fullmatch(plain) and low <= _filled(plain, vr, "0") <= high:
                return True
        return False

    return fits


def _filled(text: str, vr: str, digit: str) -> str:
    """Return a moment with all of its digits, those that were not given the lowest or the highest."""
    whole, _, fraction = text.partition(".")
    digits = {"DA": 8, "TM": 6, "DT": 14}[vr]
    return whole.ljust(digits, digit) + fraction.ljust(6, digit)
