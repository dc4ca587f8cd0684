"""The match language of ``[[rules]]``: typed, anchored, never evaluated.

Each entry of ``[rules.match]`` is a *clause*: a DICOM keyword and what its value must be.

| written                              | holds when the element                                     |
|--------------------------------------|------------------------------------------------------------|
| ``Modality = "CT"``                  | is this value                                              |
| ``BodyPartExamined = ["CHEST", "LUNG"]`` | is any of these                                        |
| ``SeriesDescription = "*portal*"``   | fits the pattern: ``*`` any text, ``?`` one character      |
| ``SliceThickness = { max = 5.0 }``   | is at most this; ``min`` likewise (all values, if several) |
| ``ImageType = { has = "ORIGINAL" }`` | has this (or any of a list) among its several values       |
| ``ImageType = { not = "LOCALIZER" }``| has no value that is this (or any of a list)               |
| ``Modality = { is = "CT" }``         | the plain form, for use beside other operators             |
| ``ContrastBolusAgent = { present = true }`` | is there and not empty                              |
| ``... = { ..., missing = "no" }``    | what a missing or empty element counts as: "yes" or "no"   |

Text is compared whole, trimmed, without regard to case; a backslash makes ``*`` or ``?``
literal. Numbers (DS, IS, FD ...) are compared as numbers, ages (AS) in years. Operators of one
table must all hold. Without ``missing``, a missing, empty or unreadable element makes the clause
*unknown*, which is neither yes nor no; `node.assign.judge` says what follows from that.

Elements that identify a patient cannot be matched: rules and their explanations are shown to
people and kept in logs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Literal, NamedTuple

from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_dict

from node.config import RuleTable
from node.errors import ConfigError
from pipelines.contract import Card


class Verdict(StrEnum):
    """Three-valued logic."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


#: What one value of an element is compared as; "other" (sequences, bulk data) only has presence.
Kind = Literal["text", "number", "years", "other"]

_KIND_BY_VR: dict[str, Kind] = {
    **dict.fromkeys("AE CS DA DT LO LT SH ST TM UC UI UR UT".split(), "text"),
    **dict.fromkeys("DS FD FL IS SL SS SV UL US UV".split(), "number"),
    "AS": "years",
}

#: Of the patient group (0010,xxxx) only these may be matched: they describe, but name nobody.
_ANONYMOUS = frozenset(
    """PatientSex PatientSexNeutered PatientAge PatientSize PatientWeight PatientBodyMassIndex
    PregnancyStatus PatientSpeciesDescription AnatomicalOrientationType ExaminedBodyThickness""".split()
)
#: Outside that group, these identify all the same; so does every person's name (VR PN).
_IDENTIFYING = frozenset("AccessionNumber StudyID AdmissionID RequestedProcedureID".split())

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """What a rule says about one element."""

    keyword: str
    kind: Kind
    tests: tuple[Test, ...] = ()
    missing: Verdict = Verdict.UNKNOWN  #: what a missing or empty element counts as
    present: bool | None = None  #: set: the clause is about presence alone

    @property
    def words(self) -> str:
        """Return the clause as a sentence, e.g. ``"SliceThickness is at most 5.0"``."""
        if self.present is not None:
            return f"{self.keyword} is {'present' if self.present else 'missing'}"
        said = " and ".join(test.words for test in self.tests)
        default = "" if self.missing is Verdict.UNKNOWN else f" (missing counts as {self.missing})"
        return f"{self.keyword} {said}{default}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One ``[[rules]]`` entry, checked; all clauses must hold."""

    name: str
    pipeline: str
    send_to: tuple[str, ...]
    clauses: tuple[Clause, ...]


def parse_rules(tables: Sequence[RuleTable], cards: Mapping[str, Card]) -> tuple[Rule, ...]:
    """Check all rules of the configuration against the DICOM dictionary and the known pipelines.

    Raises
    ------
    ConfigError
        Lists every complaint, one per line, with the rule's name and the key.
    """
    complaints: list[str] = []
    rules = []
    for table in tables:

        def complain(sentence: str, name: str = table.name) -> None:
            complaints.append(f"  rule {name!r}, {sentence}")

        _check_pipeline(table.pipeline, cards, complain)
        clauses = [_clause(keyword, said, complain) for keyword, said in table.match.items()]
        rules.append(
            Rule(
                name=table.name,
                pipeline=table.pipeline,
                send_to=table.send_to,
                clauses=tuple(clause for clause in clauses if clause is not None),
            )
        )
    if complaints:
        raise ConfigError("\n".join(["The rules cannot be used:", *complaints]))
    return tuple(rules)


Complain = Callable[[str], None]


def _check_pipeline(name: str, cards: Mapping[str, Card], complain: Complain) -> None:
    if name not in cards:
        known = ", ".join(sorted(cards)) or "none is installed"
        complain(f"pipeline: there is no pipeline {name!r}; the known ones: {known}{_hint(name, cards)}")
    elif len(cards[name].inputs) != 1:
        roles = ", ".join(cards[name].inputs)
        complain(f"pipeline: {name!r} needs several series ({roles}); a rule can bind only one so far")


def _clause(keyword: str, said: Any, complain: Complain) -> Clause | None:
    """Parse one entry of ``[rules.match]``; None after any complaint."""
    place = f"match.{keyword}: "
    tag = keyword_dict.get(keyword)
    if tag is None:
        complain(f"{place}DICOM has no such keyword{_hint(keyword, keyword_dict)}")
        return None
    vr = dictionary_VR(tag).split(" ")[0]  # "US or SS" behaves as its first
    if vr == "PN" or keyword in _IDENTIFYING or (tag >> 16 == 0x0010 and keyword not in _ANONYMOUS):
        complain(f"{place}identifies a patient, and rules are shown and logged; match something else")
        return None
    kind = _KIND_BY_VR.get(vr, "other")
    table: dict[str, Any] = dict(said) if isinstance(said, Mapping) else {"is": said}

    good = True
    present, missing = table.pop("present", None), table.pop("missing", None)
    if present is not None and (not isinstance(present, bool) or table or missing is not None):
        complain(f"{place}'present' must be true or false, and stand alone")
        good = False
    if missing is not None and (missing not in ("yes", "no") or not table):
        complain(f'{place}\'missing\' must be "yes" or "no", and stand beside another operator')
        good = False
    if not table and present is None and missing is None:
        complain(f"{place}an empty table asks for nothing")
        good = False
    tests = []
    for operator, value in table.items():
        try:
            tests.append(_test(operator, value, kind, f"{keyword} ({vr})", dictionary_VM(tag)))
        except ValueError as complaint:
            complain(f"{place}{complaint}")
            good = False
    if not good:
        return None
    return Clause(
        keyword=keyword,
        kind=kind,
        tests=tuple(tests),
        missing=Verdict(missing) if missing else Verdict.UNKNOWN,
        present=present,
    )


def _test(operator: str, value: Any, kind: Kind, element: str, multiplicity: str) -> Test:
    if operator not in OPERATORS:
        known = ", ".join([*OPERATORS, "present", "missing"])
        raise ValueError(
            f"unknown operator {operator!r}; the known ones: {known}{_hint(operator, OPERATORS)}"
        )
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
        return _pattern(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise ValueError(f"{element} is compared with {_SPOKEN[kind]}, not with {value!r}")
    return float(value)


def _pattern(glob: str) -> re.Pattern[str]:
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


def _hint(word: str, known: Mapping[str, Any]) -> str:
    if near := _by_lower_case(tuple(known)).get(word.lower()):
        return f"; did you mean {near!r}?"
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


@cache
def _by_lower_case(names: tuple[str, ...]) -> dict[str, str]:
    return {name.lower(): name for name in names}


def keywords_of(rules: Iterable[Rule]) -> frozenset[str]:
    """Return the elements that some rules look at, and the one that tells our own results."""
    return frozenset({"InstanceCreatorUID", *(clause.keyword for rule in rules for clause in rule.clauses)})
