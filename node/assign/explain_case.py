"""Why the series of a study do or do not make a case: for each role, which of them fit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from node.assign.case import Around, bind
from node.assign.results import ResultVerdict, hold, judge_results
from node.assign.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleExplanation:
    """One role and the series that fit it."""

    role: str
    study: str  #: "current" or "prior"
    words: str  #: what the rule wants
    fits: tuple[str, ...]  #: how people call the series that fit, e.g. "Series 4"
    bound: str  #: which of them it is; "" where there is none, or more than one
    series_uid: str  #: of that one
    optional: bool  #: after its time the case goes on without


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseExplanation:
    """One rule on one study."""

    rule: str
    pipeline: str
    is_complete: bool
    why: str  #: what it lacks; ""
    roles: tuple[RoleExplanation, ...]
    results: tuple[ResultVerdict, ...]  #: what it wants of results on the series of its first role


def explain_cases(rules: Sequence[Rule], study_uid: str, around: Around) -> list[CaseExplanation]:
    """Explain every rule of several series on a study."""
    return [_explain(rule, study_uid, around) for rule in rules if rule.is_case]


def _explain(rule: Rule, study_uid: str, around: Around) -> CaseExplanation:
    held = {"current": around.study(study_uid)}
    if any(want.study == "prior" for want in rule.wants):
        held["prior"] = around.patient(study_uid)
    names = {one.series.uid: one.name for group in held.values() for one in group}
    route = bind(replace(rule, results=()), study_uid, around)
    first = next(iter(route.inputs.values()))[0].series_uid if route else ""
    results = judge_results(rule.results, first, around.answer) if route else ()
    roles = []
    for want in rule.wants:
        fits = tuple(sorted({one.name for one in held[want.study] if one.fits(want)}))
        chosen = route.inputs.get(want.role, ()) if route else ()
        lacking = route.lack.roles if route and route.lack else ()
        uid = chosen[0].series_uid if chosen and want.role not in lacking else ""
        roles.append(
            RoleExplanation(
                role=want.role,
                study=want.study,
                words=want.words,
                fits=fits,
                bound=names.get(uid, ""),
                series_uid=uid,
                optional=want.optional,
            )
        )
    why = "No series of the study fits any role." if route is None else ""
    return CaseExplanation(
        rule=rule.name,
        pipeline=rule.pipeline,
        is_complete=route is not None and route.lack is None and hold(results),
        why=route.lack.sentence if route and route.lack else why,
        roles=tuple(roles),
        results=results,
    )


def render_cases(explanations: Sequence[CaseExplanation]) -> str:
    """Return the explanations as text for a terminal; "" where there is nothing to tell."""
    lines = []
    for told in explanations:
        lines.append(f"{'COMPLETE' if told.is_complete else 'no case '}  {told.rule}  ->  {told.pipeline}")
        lines += [f"  {told.why}"] if told.why else []
        for one in told.roles:
            others = [name for name in one.fits if name != one.bound]
            also = f" ({', '.join(others)} would fit)" if others else ""
            of = " of an earlier study" if one.study == "prior" else ""
            of += " (it goes on without)" if one.optional else ""
            lines.append(f"    {one.role}{of}: {one.bound or 'none'}{also};  wants: {one.words}")
        for result in told.results:
            lines.append(f"    {result.verdict:<7}  {result.pipeline}: {result.words};  saw {result.seen}")
    return "\n".join(lines)


def cases_as_dict(explanations: Sequence[CaseExplanation]) -> list[dict[str, Any]]:
    """Return the explanations as plain lists, dictionaries and text, for JSON."""
    return [
        {
            **asdict(told),
            "roles": [asdict(one) for one in told.roles],
            "results": [{**asdict(one), "verdict": str(one.verdict)} for one in told.results],
        }
        for told in explanations
    ]
