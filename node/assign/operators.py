"""What values are compared with, and how: the operators that all clauses of rules have in common."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Literal, NamedTuple


class Verdict(StrEnum):
    """Three-valued logic."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


#: What one value of an element is compared as; "other" (sequences, bulk data) only has presence.
Kind = Literal["text", "number", "years", "other"]

Wanted = re.Pattern[str] | float


class Operator(NamedTuple):
    """One operator of the match language. To add one, add an entry to `OPERATORS`."""

    words: str  #: as it reads after the keyword in an explanation
    kinds: tuple[Kind, ...]  #: what it can compare
    holds: Callable[[Sequence[Any], Sequence[Any]], bool]  #: (values of the element, wanted)


def _same(value: str | float, wanted: Wanted) -> bool:
    if isinstance(wanted, re.Pattern):
        return wanted.fullmatch(str(value).casefold()) is not None
    return abs(float(value) - wanted) <= 1e-6 * max(1.0, abs(wanted))


def _some(values: Sequence[Any], wanted: Sequence[Any]) -> bool:
    return any(_same(value, one) for value in values for one in wanted)


OPERATORS: dict[str, Operator] = {
    "is": Operator("is", ("text", "number", "years"), lambda v, w: len(v) == 1 and _some(v, w)),
    "has": Operator("has", ("text", "number"), _some),
    "not": Operator("is not", ("text", "number", "years"), lambda v, w: not _some(v, w)),
    "min": Operator("is at least", ("number", "years"), lambda v, w: all(one >= w[0] for one in v)),
    "max": Operator("is at most", ("number", "years"), lambda v, w: all(one <= w[0] for one in v)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One operator with what it wants."""

    operator: str
    wanted: tuple[Wanted, ...]
    words: str  #: e.g. "is at most 5.0"

    def holds(self, values: Sequence[str | float]) -> bool:
        """Say whether the (one or more) values of an element pass."""
        return OPERATORS[self.operator].holds(values, self.wanted)


def make_test(operator: str, value: Any, kind: Kind, element: str, multiplicity: str = "1") -> Test:
    """Check one operator of a clause.

    Parameters
    ----------
    element
        As it is called in a complaint.
    multiplicity
        How many values it may have, as DICOM says it (PS3.5 6.4).

    Raises
    ------
    ValueError
        The operator is unknown or does not fit; the sentence says what would.
    """
    if operator not in OPERATORS:
        known = ", ".join([*OPERATORS, "present", "missing"])
        raise ValueError(f"unknown operator {operator!r}; the known ones: {known}{hint(operator, OPERATORS)}")
    if kind == "other":
        raise ValueError(f"{element} has no plain value; only 'present' fits it")
    if kind not in OPERATORS[operator].kinds:
        raise ValueError(f"{operator!r} does not fit {element}, whose values are {_SPOKEN[kind]}")
    if operator == "is" and multiplicity != "1":
        raise ValueError(f"{element} has several values; write {{ has = ... }} to ask for one of them")
    if operator == "has" and multiplicity == "1":
        raise ValueError(f"{element} has a single value; 'has' is for several, use 'is'")
    several = value if isinstance(value, list | tuple) else [value]
    if not several:
        raise ValueError(f"{operator!r} has an empty list, which nothing can match")
    if operator in ("min", "max") and len(several) > 1:
        raise ValueError(f"{operator!r} takes one number")
    words = ", ".join(str(one) for one in several)
    return Test(
        operator=operator,
        wanted=tuple(_wanted(one, kind, element) for one in several),
        words=f"{OPERATORS[operator].words} {'any of ' if len(several) > 1 else ''}{words}",
    )


_SPOKEN: dict[Kind, str] = {"text": "text", "number": "numbers", "years": "ages in years", "other": "bulk"}


def _wanted(value: Any, kind: Kind, element: str) -> Wanted:
    if kind == "text":
        if not isinstance(value, str):
            raise ValueError(f"{element} is text, so {value} must stand in quotes")
        if not value.strip():
            raise ValueError(f"{element} is never an empty text; use {{ present = false }}")
        return pattern(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise ValueError(f"{element} is compared with {_SPOKEN[kind]}, not with {value!r}")
    return float(value)


def pattern(glob: str) -> re.Pattern[str]:
    r"""Compile a pattern of ``*``, ``?`` and literal text (``\*`` and ``\?`` are literal).

    Each piece between stars is found once and never looked for again (atomic groups), so that
    no value, however hostile, takes more than pattern length times value length.
    """
    pieces = [""]
    for part in re.findall(r"\\[*?]|.", glob.strip().casefold(), flags=re.DOTALL):
        if part == "*":
            pieces.append("")
        else:
            pieces[-1] += "." if part == "?" else re.escape(part[-1])
    first, *rest = pieces
    if rest:
        middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1] if piece)
        first += f"{middle}.*{rest[-1]}"
    return re.compile(first, flags=re.DOTALL)


def hint(word: str, known: Collection[str]) -> str:
    """Return what somebody may have meant, as the end of a sentence; "" where nothing is like it."""
    if near := _by_lower_case(tuple(known)).get(word.lower()):
        return f"; did you mean {near!r}?"
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


@cache
def _by_lower_case(names: tuple[str, ...]) -> dict[str, str]:
    return {name.lower(): name for name in names}
