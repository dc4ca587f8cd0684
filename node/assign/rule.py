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

from node.assign.chain import complaints_of_chains
from node.config import RuleTable, WithoutPrior
from node.errors import ConfigError
from pipelines.contract import Card, Study


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
class Want:
    """What a rule wants of the series in one role; all clauses must hold."""

    role: str
    clauses: tuple[Clause, ...]
    study: Study = "current"

    @property
    def words(self) -> str:
        """Return all clauses as one sentence."""
        return "; ".join(clause.words for clause in self.clauses) or "any series"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One ``[[rules]]`` entry, checked."""

    name: str
    pipeline: str
    send_to: tuple[str, ...]
    wants: tuple[Want, ...]  #: one for each role of the pipeline, in the order of its card
    wait_s: float  #: how long a case may lack a series
    without_prior: WithoutPrior

    @property
    def is_case(self) -> bool:
        """Whether it takes several series (`node.assign.case`), or each by itself."""
        return len(self.wants) > 1


def parse_rules(tables: Sequence[RuleTable], cards: Mapping[str, Card]) -> tuple[Rule, ...]:
    """Check all rules of the configuration against the DICOM dictionary and the known pipelines.

    Raises
    ------
    ConfigError
        Lists every complaint, one per line, with the rule's name and the key.
    """
    complaints: list[str] = []
    rules = []
    for card in cards.values():
        for role, spec in card.inputs.items():
            _clauses(spec.select, f"inputs.{role}.select", _complain(complaints, f"pipeline {card.name!r}"))
    complaints += [f"  {complaint}" for complaint in complaints_of_chains(cards)]
    for table in tables:
        complain = _complain(complaints, f"rule {table.name!r}")
        wants: tuple[Want, ...] = ()
        if table.pipeline in cards:
            wants = _wants(table, cards[table.pipeline], complain)
        else:
            known = ", ".join(sorted(cards)) or "none is installed"
            hint = _hint(table.pipeline, cards)
            complain(f"pipeline: there is no pipeline {table.pipeline!r}; the known ones: {known}{hint}")
            _clauses(table.match, "match", complain)
        rules.append(
            Rule(
                name=table.name,
                pipeline=table.pipeline,
                send_to=table.send_to,
                wants=wants,
                wait_s=table.wait_s,
                without_prior=table.without_prior,
            )
        )
    if complaints:
        raise ConfigError("\n".join(["The rules cannot be used:", *dict.fromkeys(complaints)]))
    return tuple(rules)


Complain = Callable[[str], None]


def _complain(complaints: list[str], who: str) -> Complain:
    return lambda sentence: complaints.append(f"  {who}, {sentence}")


def _say_nothing(_sentence: str) -> None:
    pass


def _wants(table: RuleTable, card: Card, complain: Complain) -> tuple[Want, ...]:
    """Return what a rule wants in each role: its own words, else those of the card."""
    for role in table.inputs.keys() - card.inputs.keys():
        complain(
            f"inputs.{role}: {card.name!r} has no such role; it has {', '.join(card.inputs)}"
            f"{_hint(role, card.inputs)}"
        )
    common = _clauses(table.match, "match", complain)
    for role in table.inputs.keys() & (card.inputs.keys() - card.series_inputs.keys()):
        complain(
            f"inputs.{role}: is a result of {card.inputs[role].result!r}, and no series can be bound to it"
        )
    several = len(card.series_inputs) > 1
    wants = []
    for role, spec in card.series_inputs.items():
        own = table.inputs.get(role)
        if own is not None:
            clauses = (*common, *_clauses(own, f"inputs.{role}", complain))
        else:  # mistakes of the card were told already
            clauses = (
                common if common and not several else (*common, *_clauses(spec.select, "", _say_nothing))
            )
        if (several or clauses != common) and all(clause.keyword != "Modality" for clause in clauses):
            clauses = (*_clauses({"Modality": list(spec.modality)}, "", _say_nothing), *clauses)
        wants.append(Want(role=role, clauses=clauses, study=spec.study))
    for index, want in enumerate(wants):
        for earlier in wants[:index]:
            if (want.study, set(want.clauses)) == (earlier.study, set(earlier.clauses)):
                complain(
                    f"inputs: nothing tells role {want.role!r} from role {earlier.role!r}; write what is "
                    f"different about them as [rules.inputs.{want.role}] and [rules.inputs.{earlier.role}]"
                )
    if wants and wants[0].study == "prior":
        complain(
            f"pipeline: the first role of {card.name!r} ({wants[0].role}) is of an earlier study, but the "
            "results would be filed there; its card must begin with a role of the current study"
        )
    return tuple(wants)


def _clauses(said: Mapping[str, Any], place: str, complain: Complain) -> tuple[Clause, ...]:
    """Parse one table of clauses; those with a complaint are left out."""
    parsed = [_clause(keyword, value, f"{place}.{keyword}: ", complain) for keyword, value in said.items()]
    return tuple(clause for clause in parsed if clause is not None)


def _clause(keyword: str, said: Any, place: str, complain: Complain) -> Clause | None:
    """Parse one entry of a table of clauses; None after any complaint."""
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


#: What is looked at whatever the rules say: whose the series is, and how people call it.
_ALWAYS = frozenset("""InstanceCreatorUID PatientID IssuerOfPatientID StudyDate SeriesNumber""".split())


def keywords_of(rules: Iterable[Rule]) -> frozenset[str]:
    """Return the elements that some rules look at, and those that tell whose a series is."""
    clauses = (clause for rule in rules for want in rule.wants for clause in want.clauses)
    return _ALWAYS | {clause.keyword for clause in clauses}
