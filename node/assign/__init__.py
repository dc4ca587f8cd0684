"""Step 3: rules choose pipelines, and can say why.

`parse_rules` checks the rules once, at start; `assign` applies them to a settled series, and
`assign_cases` those that bind several series to the roles of a pipeline; `explain` tells for each
rule which clause met which value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydicom import Dataset

from node.assign.case import Around, Held, assign_cases, bind
from node.assign.explain import Explanation, as_dict, explain, render, why_not
from node.assign.explain_case import CaseExplanation, cases_as_dict, explain_cases, render_cases
from node.assign.judge import judge
from node.assign.rule import Rule, keywords_of, parse_rules
from node.model import Route, Series

__all__ = [
    "Around",
    "CaseExplanation",
    "Explanation",
    "Held",
    "Rule",
    "as_dict",
    "assign",
    "assign_cases",
    "bind",
    "cases_as_dict",
    "explain",
    "explain_cases",
    "keywords_of",
    "parse_rules",
    "render",
    "render_cases",
    "why_not",
]


def assign(series: Series, headers: Mapping[str, Dataset], rules: Sequence[Rule]) -> list[Route]:
    """Return what the rules of a single series ask for, in the order of the rules.

    Rules that ask for the same pipeline on the same instances give one route, which carries all
    their names and destinations. Own results never match.

    Parameters
    ----------
    headers
        The readable headers by SOP Instance UID, without pixel data.
    """
    routes: dict[tuple[str, tuple[str, ...]], Route] = {}
    for rule in rules:
        if rule.is_case:
            continue
        (want,) = rule.wants
        judgement = judge(want, series, headers)
        if not judgement.matched:
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
