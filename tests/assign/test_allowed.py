"""Which rules may use what came under which policy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.assign import assign, explain, parse_rules, under, why_not
from node.assign.allowed import is_barred
from node.assign.rule import Want
from node.config import Policy
from tests.assign.helpers import CARDS, dataset, series, table

RULES = parse_rules(
    [table({"Modality": "CT"}, "lungs"), table({"Modality": "CT"}, "spleens", "spleen")], CARDS
)
POLICIES = {
    "all": Policy(),
    "lungs only": Policy(rules=("lungs",)),
    "spleens only": Policy(rules=("spleens",)),
    "nothing": Policy(rules=()),
}
KNOWN = under(RULES, POLICIES)


def came_under(*policies: str, prior: bool = False):
    found, headers = series([dataset(Modality="CT") for _ in policies])
    instances = tuple(
        replace(instance, policy=policy, prior=prior)
        for instance, policy in zip(found.instances, policies, strict=True)
    )
    return replace(found, instances=instances), headers


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        (["all"], ["lungs", "spleens"]),
        ([""], ["lungs", "spleens"]),
        (["gone from the configuration"], ["lungs", "spleens"]),
        (["lungs only"], ["lungs"]),
        (["lungs only", "nothing"], ["lungs"]),
        (["lungs only", "spleens only"], ["lungs", "spleens"]),
        (["nothing", "nothing"], []),
        (["nothing", "all"], ["lungs", "spleens"]),
    ],
)
def test_a_rule_may_use_a_series_if_one_of_its_policies_allows_it(policies, expected):
    found, headers = came_under(*policies)
    assert [route.rule for route in assign(found, headers, KNOWN)] == expected


def test_without_policies_every_rule_may_use_everything():
    found, headers = came_under("nothing")
    assert len(assign(found, headers, under(RULES, {}))) == 2


def test_what_was_fetched_as_an_earlier_study_may_be_that_for_any_rule_and_starts_nothing():
    found, headers = came_under("nothing", prior=True)
    want = Want(role="earlier", clauses=(), study="prior", barred=frozenset({"nothing"}))
    assert not is_barred(want, found)
    assert is_barred(replace(want, study="current"), found)
    assert is_barred(want, came_under("nothing")[0])
    assert assign(found, headers, KNOWN) == []


def test_it_is_told_which_policy_keeps_a_series_from_a_rule():
    found, headers = came_under("lungs only", "lungs only")
    first, second = explain(found, headers, KNOWN, CARDS)
    assert (first.matched, second.matched) == (True, False)
    assert (
        second.why
        == "It came under policy 'lungs only', and that is not for this rule: see [accept.policies]."
    )
    found, headers = came_under("nothing", "lungs only", "nothing")
    told = why_not(found, headers, KNOWN[1:], CARDS)
    assert told.startswith("It came under policies 'lungs only', 'nothing',")
