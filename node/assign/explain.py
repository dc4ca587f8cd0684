"""Why a rule did or did not want a series: every clause with the values it saw.

Shown to people and as JSON. No value here identifies a patient, since `node.assign.rule` refuses
to match on such elements; what a sender wrote is cut short and stripped of control characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydicom import Dataset

from node.assign.allowed import why_barred
from node.assign.judge import Judgement, Unreadable, judge, read
from node.assign.operators import Verdict
from node.assign.results import Ask, ResultVerdict, hold, judge_results, nothing_yet
from node.assign.rule import Clause, Rule
from node.model import Series
from node.text import clean
from pipelines.contract import Card

MOST_SHOWN = 6  #: different values per clause
LONGEST_SHOWN = 64  #: characters of one value


@dataclass(frozen=True, slots=True, kw_only=True)
class ClauseExplanation:
    """One clause and what it met."""

    keyword: str
    words: str  #: e.g. "SliceThickness is at most 5.0"
    verdict: Verdict  #: YES: some instance passes and none is unknown
    yes: int  #: instances
    no: int
    unknown: int
    seen: tuple[tuple[str, int], ...]  #: values as sent, with the number of instances, most first


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One rule, for one role, and why it does or does not match a series."""

    rule: str
    role: str  #: "" where the pipeline has only one
    pipeline: str
    title: str  #: of the pipeline, for people
    matched: bool
    why: str  #: a sentence
    clauses: tuple[ClauseExplanation, ...]
    results: tuple[ResultVerdict, ...]  #: what it wants of results of others, and what these are
    selected: int  #: instances that would become the input
    total: int


PRIOR = (
    "The series was fetched as an earlier study of another one; it starts nothing of its own until somebody "
    "sends it."
)


def explain(
    series: Series,
    headers: Mapping[str, Dataset],
    rules: Sequence[Rule],
    cards: Mapping[str, Card],
    ask: Ask = nothing_yet,
) -> list[Explanation]:
    """Explain every rule and role on a series; the arguments are those of `node.assign.assign`."""
    explanations = []
    for rule, want in [(one, want) for one in rules for want in one.wants]:
        judgement = judge(want, series, headers)
        results = judge_results(rule.results if want is rule.wants[0] else (), series.uid, ask)
        clauses = tuple(
            _clause(clause, verdicts, series, headers)
            for clause, verdicts in zip(want.clauses, judgement.by_clause, strict=True)
        )
        starts_nothing = series.is_prior and want.study == "current"
        why = _why(judgement, clauses, len(headers)) + _why_results(judgement, results)
        explanations.append(
            Explanation(
                rule=rule.name,
                role=want.role if rule.is_case else "",
                pipeline=rule.pipeline,
                title=cards[rule.pipeline].title,
                matched=judgement.matched and hold(results) and not starts_nothing,
                why=PRIOR if starts_nothing else why,
                clauses=clauses,
                results=results,
                selected=judgement.by_instance.count(Verdict.YES) if judgement.matched else 0,
                total=len(judgement.by_instance),
            )
        )
    return explanations


def render(explanations: Sequence[Explanation]) -> str:
    """Return the explanations as text for a terminal."""
    lines = []
    for told in explanations:
        lines.append(
            f"{'MATCHES' if told.matched else 'no match'}  {told.rule}  ->  {told.pipeline}{_as(told)}"
        )
        lines.append(f"  {told.why}")
        for clause in told.clauses:
            seen = ", ".join(f"{value} ({count})" for value, count in clause.seen)
            lines.append(f"    {clause.verdict:<7}  {clause.words};  saw {seen or 'nothing'}")
        for one in told.results:
            lines.append(f"    {one.verdict:<7}  {one.pipeline}: {one.words};  saw {one.seen}")
    return "\n".join(lines) or "There are no rules."


def _as(told: Explanation) -> str:
    return f" as {told.role!r}" if told.role else ""


def as_dict(explanations: Sequence[Explanation]) -> list[dict[str, Any]]:
    """Return the explanations as plain lists, dictionaries and text, for JSON."""
    return [
        {
            **asdict(told),
            "clauses": [
                {
                    **asdict(clause),
                    "verdict": str(clause.verdict),
                    "seen": [{"value": value, "instances": count} for value, count in clause.seen],
                }
                for clause in told.clauses
            ],
            "results": [{**asdict(one), "verdict": str(one.verdict)} for one in told.results],
        }
        for told in explanations
    ]


def why_not(
    series: Series,
    headers: Mapping[str, Dataset],
    rules: Sequence[Rule],
    cards: Mapping[str, Card],
    ask: Ask = nothing_yet,
) -> str:
    """Say in one line why no rule wants a series; kept in the journal and shown by ``status``."""
    told = explain(series, headers, rules, cards, ask)
    if not told:
        return "There are no rules."
    if len({one.why for one in told}) == 1:
        return told[0].why
    return " ".join(f"{one.rule}{_as(one)}: {one.why}" for one in told)


def _clause(
    clause: Clause, verdicts: tuple[Verdict, ...], series: Series, headers: Mapping[str, Dataset]
) -> ClauseExplanation:
    seen = Counter(_seen(clause, headers.get(instance.sop_instance_uid)) for instance in series.instances)
    shown = seen.most_common(MOST_SHOWN)
    if rest := len(seen) - len(shown):
        shown.append((f"{rest} other values", seen.total() - sum(count for _, count in shown)))
    counts = Counter(verdicts)
    if counts[Verdict.UNKNOWN]:
        verdict = Verdict.UNKNOWN
    else:
        verdict = Verdict.YES if counts[Verdict.YES] else Verdict.NO
    return ClauseExplanation(
        keyword=clause.keyword,
        words=clause.words,
        verdict=verdict,
        yes=counts[Verdict.YES],
        no=counts[Verdict.NO],
        unknown=counts[Verdict.UNKNOWN],
        seen=tuple(shown),
    )


def _seen(clause: Clause, header: Dataset | None) -> str:
    if header is None:
        return "a header that cannot be read"
    told = dict.fromkeys(_spoken(found) for found in read(header, clause.keyword, clause.kind))
    text = " | ".join(list(told)[:MOST_SHOWN])
    return clean(text, LONGEST_SHOWN)


def _spoken(found: tuple[str | float, ...] | Unreadable) -> str:
    if isinstance(found, Unreadable):
        return f"unreadable: {found.why}"
    if not found:
        return "missing"
    return "\\".join(f"{v:g}" if isinstance(v, float) else v for v in found[:MOST_SHOWN])


def _why_results(judgement: Judgement, results: Sequence[ResultVerdict]) -> str:
    """Say what is not as wanted of results, where all else is."""
    if not judgement.matched or hold(results):
        return ""
    missed = [one for one in results if one.verdict is not Verdict.YES]
    told = "; ".join(f"{one.pipeline}: {one.words} (saw {one.seen})" for one in missed)
    return f" {'Not known' if any(one.verdict is Verdict.UNKNOWN for one in missed) else 'Not so'}: {told}."


def _why(judgement: Judgement, clauses: Sequence[ClauseExplanation], readable: int) -> str:
    total = len(judgement.by_instance)
    yes, unknown = (judgement.by_instance.count(v) for v in (Verdict.YES, Verdict.UNKNOWN))
    if judgement.own:
        return "The series was made by this node, and own results never start jobs."
    if judgement.barred:
        return why_barred(judgement.series)
    if judgement.matched:
        left = f"; {total - yes} left out because a clause says no to them" if yes < total else ""
        return f"{yes} of {total} instances match{left}."
    if unknown and readable < total:
        return f"The header of {total - readable} of {total} instances cannot be read."
    if unknown:
        blamed = [f"{c.keyword} in {c.unknown} of {total} instances" for c in clauses if c.unknown]
        return (
            f"Missing or unreadable: {'; '.join(blamed)}. "
            'Where a missing value is acceptable, the rule can say so with missing = "yes".'
        )
    blamed = [clause.words for clause in clauses if clause.no == total]
    if blamed:
        return f"Not so: {'; '.join(blamed)}."
    return "No instance satisfies all clauses at once."
