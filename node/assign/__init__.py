"""Step 3: rules choose pipelines, and can say why.

`parse_rules` checks the rules once, at start; `assign` applies them to a settled series, and
`assign_cases` those that bind several series to the roles of a pipeline; `explain` tells for each
rule which clause met which value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydicom import Dataset

from node.assign.allowed import under
from node.assign.case import Around, Held, assign_cases, bind
from node.assign.explain import Explanation, as_dict, explain, render, why_not
from node.assign.explain_case import CaseExplanation, cases_as_dict, explain_cases, render_cases
from node.assign.judge import judge
from node.assign.results import Ask, hold, judge_results, nothing_yet
from node.assign.rule import Rule, keywords_of, parse_rules
from node.job import JobSpec
from node.model import Route, Series

__all__ = [
    "Around",
    "Ask",
    "CaseExplanation",
    "Explanation",
    "Held",
    "Rule",
    "as_dict",
    "assign",
    "assign_all",
    "assign_cases",
    "bind",
    "cases_as_dict",
    "explain",
    "explain_cases",
    "keywords_of",
    "nothing_yet",
    "parse_rules",
    "places",
    "render",
    "render_cases",
    "under",
    "why_not",
]


def assign(
    series: Series, headers: Mapping[str, Dataset], rules: Sequence[Rule], ask: Ask = nothing_yet
) -> list[Route]:
    """Return what the rules of a single series ask for, in the order of the rules.

    Rules that ask for the same pipeline on the same instances give one route, which carries all
    their names and destinations. Own results never match, and what was fetched as a prior starts nothing.

    Parameters
    ----------
    headers
        The readable headers by SOP Instance UID, without pixel data.
    ask
        What other pipelines said.
    """
    routes: dict[tuple[str, tuple[str, ...]], Route] = {}
    for rule in rules if not series.is_prior else ():
        if rule.is_case:
            continue
        (want,) = rule.wants
        judgement = judge(want, series, headers)
        if not judgement.matched or not hold(judge_results(rule.results, series.uid, ask)):
            continue
        chosen = judgement.chosen
        same = (rule.pipeline, tuple(sorted(instance.sop_instance_uid for instance in chosen)))
        if earlier := routes.get(same):
            routes[same] = replace(
                earlier,
                rule=f"{earlier.rule}, {rule.name}",
                send_to=tuple(dict.fromkeys((*earlier.send_to, *rule.send_to))),
            )
        else:
            routes[same] = Route(
                rule=rule.name, pipeline=rule.pipeline, inputs={want.role: chosen}, send_to=rule.send_to
            )
    return list(routes.values())


def assign_all(settled: Held, rules: Sequence[Rule], around: Around) -> list[Route]:
    """Return what the rules of a single series, and those of several, ask for."""
    alone = assign(settled.series, settled.headers, rules, around.answer)
    return alone + assign_cases(settled, rules, around)


def places(rules: Sequence[Rule], spec: JobSpec) -> tuple[str, ...]:
    """Return where results go, and where rules on them may send them later."""
    later = (
        place for rule in rules if rule.results and rule.pipeline == spec.pipeline for place in rule.send_to
    )
    return tuple(dict.fromkeys((*spec.send_to, *later)))
