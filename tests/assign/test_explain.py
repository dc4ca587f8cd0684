"""What `radnode explain` tells."""

from __future__ import annotations

import json

import pytest

from node import INSTANCE_CREATOR_UID
from node.assign import as_dict, explain, parse_rules, render
from tests.assign.helpers import CARDS, dataset, series, table

MATCH = {"Modality": "CT", "BodyPartExamined": ["CHEST", "LUNG"], "SliceThickness": {"max": 5.0}}


def told(match, headers):
    return explain(*series(headers), parse_rules([table(match, name="lungs")], CARDS), CARDS)


def ct(**changes):
    return dataset(**{"Modality": "CT", "BodyPartExamined": "CHEST", "SliceThickness": "2.5"} | changes)


def test_every_clause_is_shown_with_what_it_saw_even_after_one_failed():
    text = render(told(MATCH, [ct(Modality="MR"), ct(Modality="MR", SliceThickness="9")]))
    assert text.splitlines() == [
        "no match  lungs  ->  lung-density",
        "  Not so: Modality is CT.",
        "    no       Modality is CT;  saw MR (2)",
        "    yes      BodyPartExamined is any of CHEST, LUNG;  saw CHEST (2)",
        "    yes      SliceThickness is at most 5.0;  saw 2.5 (1), 9 (1)",
    ]


def test_a_match_says_how_many_instances_and_what_was_left_out():
    (explanation,) = told(MATCH, [ct(), ct(), ct(SliceThickness="9")])
    assert explanation.matched
    assert (explanation.selected, explanation.total) == (2, 3)
    assert explanation.why == "2 of 3 instances match; 1 left out because a clause says no to them."


def test_a_missing_tag_is_named_with_the_number_of_instances():
    (explanation,) = told(MATCH, [ct(), ct(SliceThickness=None), ct(SliceThickness=None)])
    assert not explanation.matched
    assert explanation.why == (
        "Missing or unreadable: SliceThickness in 2 of 3 instances. "
        'Where a missing value is acceptable, the rule can say so with missing = "yes".'
    )
    assert explanation.clauses[2].seen == (("missing", 2), ("2.5", 1))


def test_unreadable_headers_are_told():
    (explanation,) = told(MATCH, [ct(), None])
    assert explanation.why == "The header of 1 of 2 instances cannot be read."


def test_clauses_that_never_hold_together_are_told():
    (explanation,) = told(MATCH, [ct(Modality="MR"), ct(BodyPartExamined="HEAD")])
    assert explanation.why == "No instance satisfies all clauses at once."


def test_own_results_are_told():
    (explanation,) = told({}, [ct(InstanceCreatorUID=INSTANCE_CREATOR_UID)])
    assert explanation.why == "The series was made by this node, and own results never start jobs."


@pytest.mark.filterwarnings("ignore")
def test_what_a_sender_wrote_is_cut_and_cannot_steer_the_terminal():
    (explanation,) = told({"SeriesDescription": "x"}, [dataset(SeriesDescription="\x1b[2J" + "y" * 500)])
    ((value, count),) = explanation.clauses[0].seen
    assert value.startswith(" [2Jyyy")
    assert len(value) == 67
    assert count == 1


def test_many_different_values_are_summed_up():
    (explanation,) = told({"SliceThickness": 1}, [dataset(SliceThickness=str(n)) for n in range(20)])
    assert explanation.clauses[0].seen[-1] == ("14 other values", 14)


def test_no_rules_say_so():
    assert render([]) == "There are no rules."


def test_the_same_goes_out_as_json():
    explanations = told(MATCH, [ct()])
    (back,) = json.loads(json.dumps(as_dict(explanations)))
    assert back["matched"] is True
    assert back["clauses"][0] == {
        "keyword": "Modality",
        "words": "Modality is CT",
        "verdict": "yes",
        "yes": 1,
        "no": 0,
        "unknown": 0,
        "seen": [{"value": "CT", "instances": 1}],
    }
