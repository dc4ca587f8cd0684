"""``[rules.results.<pipeline>]``: what a rule wants of the results of another pipeline.

Each table holds *clauses*:

- ``measurement = { name = "Volume", segment = "Left lung", max = 1500 }``: that number passes ``min``,
  ``max``, ``is`` or ``not``;
- ``evaluation = { name = "Breast density", is = ["c", "d"] }``: that answer passes ``is`` or ``not``;
- ``present = "Left lung"``, ``absent = ["Nodule", "Mass"]``: each of these has a voxel, or has none;
- ``detections = { label = "Nodule*", min = 1 }``: so many things were pointed at;
- ``refused = "too-few-slices"``: it refused the series for this reason.

Names, segments and labels are patterns as in `node.assign.operators`, with ``*`` for any text; a list
of tables asks for all of them. Where several numbers or answers fit, all of them must pass. One that is
not there makes the clause *unknown*, unless the table says ``missing = "yes"`` or ``"no"``. An empty
table asks for results, whatever they say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from node.assign.operators import Kind, Test, Verdict, hint, make_test, pattern
from node.model import Answer
from pipelines.contract import Card

About = Literal["measurement", "evaluation", "present", "absent", "detections", "refused"]
Complain = Callable[[str], None]
#: Finds what a pipeline said of a series, by its name and the Series Instance UID; None: nothing yet.
Ask = Callable[[str, str], Answer | None]

MOST_SHOWN = 6


def nothing_yet(_pipeline: str, _series_uid: str) -> Answer | None:
    """Return that nobody said anything: the `Ask` of a series that has just settled."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultClause:
    """One thing that a rule wants of results."""

    about: About
    words: str  #: e.g. "Volume of Left lung is at most 1500"
    name: re.Pattern[str] | None = None  #: of a measurement or an answer; label of what is pointed at
    segment: re.Pattern[str] | None = None  #: label; None: of any, or of the whole image
    tests: tuple[Test, ...] = ()
    missing: Verdict = Verdict.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultWant:
    """What a rule wants of the results of one pipeline; all clauses must hold."""

    pipeline: str
    clauses: tuple[ResultClause, ...]

    @property
    def of_refusals(self) -> bool:
        """Whether it is about a series that was refused."""
        return any(clause.about == "refused" for clause in self.clauses)

    @property
    def words(self) -> str:
        """Return all clauses as one sentence."""
        return "; ".join(clause.words for clause in self.clauses) or "has results"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultVerdict:
    """One clause and what it met; for people."""

    pipeline: str
    words: str
    verdict: Verdict
    seen: str  #: values, cut short


def judge_results(wants: Sequence[ResultWant], series_uid: str, ask: Ask) -> tuple[ResultVerdict, ...]:
    """Judge what a rule wants of results on a series: one verdict per clause, one for none."""
    verdicts = []
    for want in wants:
        answer = ask(want.pipeline, series_uid)
        for clause in want.clauses or (ResultClause(about="present", words=want.words),):
            verdict, seen = _judge(clause, answer)
            verdicts.append(
                ResultVerdict(pipeline=want.pipeline, words=clause.words, verdict=verdict, seen=seen)
            )
    return tuple(verdicts)


def hold(verdicts: Sequence[ResultVerdict]) -> bool:
    """Return whether a rule gets all that it wants of results."""
    return all(one.verdict is Verdict.YES for one in verdicts)


def _judge(clause: ResultClause, answer: Answer | None) -> tuple[Verdict, str]:
    if answer is None:
        return Verdict.UNKNOWN, "no results so far"
    if clause.about == "refused":
        refused = bool(answer.refused) and (clause.name is None or _fits(clause.name, answer.refused))
        return _verdict(refused), answer.refused or "results"
    if answer.refused:
        return Verdict.NO, f"it refused the series: {answer.refused}"
    if clause.name is None and clause.about == "present":
        return Verdict.YES, "results"
    values: list[float | str | None]
    match clause.about:
        case "present" | "absent":
            voxels = sum(row["voxels"] for row in answer.outcome.segments if _fits(clause.name, row["label"]))
            return _verdict((voxels > 0) is (clause.about == "present")), f"{voxels} voxels"
        case "detections":
            found = [row for row in answer.outcome.detections if _fits(clause.name, row["label"])]
            values = [float(len(found))]
        case _:
            rows = answer.outcome.summary if clause.about == "measurement" else answer.outcome.evaluations
            named = [row for row in rows if _fits(clause.name, row["name"])]
            values = [row["value"] for row in named if _fits(clause.segment, row["segment"])]
    told = ", ".join(map(_spoken, values[:MOST_SHOWN]))
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return clause.missing, told or "nothing of that name"
    return _verdict(all(test.holds([value]) for test in clause.tests for value in known)), told


def _spoken(value: float | str | None) -> str:
    return "not measured" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _verdict(holds: bool) -> Verdict:
    return Verdict.YES if holds else Verdict.NO


def _fits(wanted: re.Pattern[str] | None, text: str) -> bool:
    return wanted is None or wanted.fullmatch(text.casefold()) is not None


def parse_results(
    said: Mapping[str, Mapping[str, Any]], cards: Mapping[str, Card], complain: Complain
) -> tuple[ResultWant, ...]:
    """Check what a rule says of results; what has a complaint is left out."""
    wants = []
    for name, table in said.items():
        place = f"results.{name}"
        if name not in cards:
            complain(f"{place}: there is no pipeline {name!r}{hint(name, cards)}")
            continue
        clauses: list[ResultClause] = []
        for key, value in table.items():
            if key not in _READ:
                complain(f"{place}.{key}: no such word; there are {', '.join(_READ)}{hint(key, _READ)}")
                continue
            for one in value if isinstance(value, list) else [value]:
                try:
                    clauses.append(_READ[key](key, one))
                except ValueError as complaint:
                    complain(f"{place}.{key}: {complaint}")
        if any(clause.about == "refused" for clause in clauses) and any(
            clause.about != "refused" for clause in clauses
        ):
            complain(f"{place}: what was refused has no results; 'refused' must stand alone")
        _check_labels(clauses, cards[name], place, complain)
        wants.append(ResultWant(pipeline=name, clauses=tuple(clauses)))
    return tuple(wants)


def _check_labels(clauses: Sequence[ResultClause], card: Card, place: str, complain: Complain) -> None:
    """Complain of segments that a pipeline cannot outline."""
    labels = [segment.label for segment in card.segments]
    for clause in clauses:
        if clause.about in ("present", "absent") and not any(_fits(clause.name, one) for one in labels):
            known = ", ".join(map(repr, labels[:10])) or "none"
            complain(f"{place}: '{clause.words}', but {card.name!r} has no such segment; it has {known}")


def _compared(kind: Kind) -> Callable[[str, Any], ResultClause]:
    def read(key: str, said: Any) -> ResultClause:
        table = _table(said)
        name, segment = _text(table, "name"), _text(table, "segment", needed=False)
        missing = table.pop("missing", None)
        if missing not in (None, "yes", "no"):
            raise ValueError('\'missing\' must be "yes" or "no"')
        tests = tuple(
            make_test(operator, value, kind, f"{key} {name!r}") for operator, value in table.items()
        )
        if not tests:
            example = "min = 5.0" if kind == "number" else 'is = "..."'
            raise ValueError(f"say what {name!r} must be, e.g. {example}")
        words = f"{name}{f' of {segment}' if segment else ''} {' and '.join(test.words for test in tests)}"
        return ResultClause(
            about="measurement" if kind == "number" else "evaluation",
            words=words + (f" (missing counts as {missing})" if missing else ""),
            name=pattern(name),
            segment=pattern(segment) if segment else None,
            tests=tests,
            missing=Verdict(missing) if missing else Verdict.UNKNOWN,
        )

    return read


def _outlined(key: str, said: Any) -> ResultClause:
    if not isinstance(said, str) or not said.strip():
        raise ValueError("is the label of a segment, in quotes, or a list of them")
    about: About = "present" if key == "present" else "absent"
    return ResultClause(about=about, words=f"{said} is {about}", name=pattern(said))


def _counted(key: str, said: Any) -> ResultClause:
    table = _table(said)
    label = _text(table, "label", needed=False)
    tests = tuple(make_test(operator, value, "number", key) for operator, value in table.items())
    if not tests:
        raise ValueError("say how many, e.g. { min = 1 }")
    words = f"number of detections{f' of {label}' if label else ''} {' and '.join(t.words for t in tests)}"
    return ResultClause(about="detections", words=words, name=pattern(label) if label else None, tests=tests)


def _refusal(_key: str, said: Any) -> ResultClause:
    if not isinstance(said, str) or not said.strip():
        raise ValueError('is the code of a reason, in quotes, such as "too-few-slices", or "*" for any')
    return ResultClause(about="refused", words=f"it was refused as {said}", name=pattern(said))


_READ: dict[str, Callable[[str, Any], ResultClause]] = {
    "measurement": _compared("number"),
    "evaluation": _compared("text"),
    "present": _outlined,
    "absent": _outlined,
    "detections": _counted,
    "refused": _refusal,
}


def _table(said: Any) -> dict[str, Any]:
    if not isinstance(said, Mapping):
        raise ValueError(f"is a table such as {{ name = ..., min = ... }}, not {said!r}")
    return dict(said)


def _text(table: dict[str, Any], key: str, *, needed: bool = True) -> str:
    text = table.pop(key, None)
    if text is None and not needed:
        return ""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{key!r} is missing" if text is None else f"{key!r} is text in quotes")
    return text
