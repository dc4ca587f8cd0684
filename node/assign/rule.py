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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_dict

from node.assign.chain import complaints_of_chains
from node.assign.operators import Kind, Test, Verdict, hint, make_test
from node.assign.results import ResultWant, parse_results
from node.config import RuleTable, WithoutPrior
from node.errors import ConfigError
from pipelines.contract import Card, Study

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
    barred: frozenset[str] = frozenset()  #: policies whose instances it may not use, `node.assign.allowed`
    optional: bool = False  #: a case goes on without, after its time

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
    wants: tuple[Want, ...]  #: one for each role that takes a series, in the order of the card
    wait_s: float  #: how long a case may lack a series
    without_prior: WithoutPrior
    results: tuple[ResultWant, ...] = ()  #: what others must have found on the series of the first role

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
            near = hint(table.pipeline, cards)
            complain(f"pipeline: there is no pipeline {table.pipeline!r}; the known ones: {known}{near}")
            _clauses(table.match, "match", complain)
        rules.append(
            Rule(
                name=table.name,
                pipeline=table.pipeline,
                send_to=table.send_to,
                wants=wants,
                wait_s=table.wait_s,
                without_prior=table.without_prior,
                results=parse_results(table.results, cards, complain),
            )
        )
    complaints += _unasked(rules, cards)
    if complaints:
        raise ConfigError("\n".join(["The rules cannot be used:", *dict.fromkeys(complaints)]))
    return tuple(rules)


def _unasked(rules: Sequence[Rule], cards: Mapping[str, Card]) -> Iterator[str]:
    """Complain of results that nobody asks for, so that a rule on them can never match."""
    asked = {rule.pipeline for rule in rules if not rule.results}
    asked |= {rule.pipeline for rule in rules if all(want.pipeline != rule.pipeline for want in rule.results)}
    more = set(asked)
    while more:
        more = {spec.result for name in more if name in cards for spec in cards[name].inputs.values()} - asked
        asked |= more
    for rule in rules:
        for want in rule.results:
            if want.pipeline not in asked:
                yield (
                    f"  rule {rule.name!r}, results.{want.pipeline}: no rule gives it a series, so there "
                    "never are any results; write one that does"
                )


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
            f"{hint(role, card.inputs)}"
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
        optional = spec.optional and table.incomplete == "proceed"
        wants.append(Want(role=role, clauses=clauses, study=spec.study, optional=optional))
    if table.incomplete == "proceed" and not any(want.optional for want in wants):
        complain(f'incomplete = "proceed": no role of {card.name!r} is optional, so it can do without none')
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
        complain(f"{place}DICOM has no such keyword{hint(keyword, keyword_dict)}")
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
            tests.append(make_test(operator, value, kind, f"{keyword} ({vr})", dictionary_VM(tag)))
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


#: What is looked at whatever the rules say: whose the series is, and how people call it.
_ALWAYS = frozenset("""InstanceCreatorUID PatientID IssuerOfPatientID StudyDate SeriesNumber""".split())


def keywords_of(rules: Iterable[Rule]) -> frozenset[str]:
    """Return the elements that some rules look at, and those that tell whose a series is."""
    clauses = (clause for rule in rules for want in rule.wants for clause in want.clauses)
    return _ALWAYS | {clause.keyword for clause in clauses}
