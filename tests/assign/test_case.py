"""Rules of several series: what they want of each role, and what they make of a study."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.around import Among
from node.assign import Held, bind, explain_cases, parse_rules, render_cases
from node.config import RuleTable
from node.errors import ConfigError
from node.model import Series
from pipelines.contract import InputSpec
from tests.assign.helpers import card, dataset, series

STUDY = "1.2"


def spec(**more):
    return InputSpec(modality=("MR",), unit="1", **more)


TUMOUR = replace(
    card("tumour"),
    inputs={
        "t1": spec(select={"SeriesDescription": "T1*"}),
        "t1c": spec(select={"SeriesDescription": "T1*C"}),
        "flair": spec(select={"SeriesDescription": "*FLAIR*"}),
    },
)
BARE = replace(card("bare"), inputs={"t1": spec(), "t2": spec()})
CHANGE = replace(card("change"), inputs={"current": spec(), "prior": spec(study="prior")})
CARDS = {one.name: one for one in (card("lung"), TUMOUR, BARE, CHANGE)}


def rule_of(pipeline="tumour", *, cards=CARDS, **more):
    return parse_rules([RuleTable(name="a rule", pipeline=pipeline, **more)], cards)[0]


def complaints_of(pipeline, *, cards=CARDS, **more):
    with pytest.raises(ConfigError) as caught:
        rule_of(pipeline, cards=cards, **more)
    return [line.removeprefix("  rule 'a rule', ") for line in str(caught.value).splitlines()[1:]]


def held(number, description=None, *, study=STUDY, patient="P1", date="20260102", modality="MR"):
    """Return a series of one instance."""
    said = {
        "Modality": modality,
        "SeriesDescription": description,
        "SeriesNumber": str(number),
        "PatientID": patient,
        "StudyDate": date,
    }
    made, headers = series([dataset(**{k: v for k, v in said.items() if v is not None})])
    uid = f"{study}.{number}"
    instances = tuple(
        replace(one, sop_instance_uid=f"{uid}.{one.sop_instance_uid}", series_uid=uid, study_uid=study)
        for one in made.instances
    )
    by_uid = {f"{uid}.{key}": header for key, header in headers.items()}
    return Held(
        series=Series(uid=uid, study_uid=study, revision=1, instances=instances),
        read=lambda asked: {i.sop_instance_uid: by_uid[i.sop_instance_uid] for i in asked},
    )


def bound(rule, *some, study=STUDY):
    """Return role -> Series Number of a case, and what it lacks."""
    route = bind(rule, study, Among(some))
    if route is None:
        return None
    uids = {role: chosen[0].series_uid.rpartition(".")[2] for role, chosen in route.inputs.items()}
    return uids, route.lack.sentence if route.lack else ""


def test_a_role_wants_what_the_rule_says_else_what_the_card_says():
    rule = rule_of(match={"MagneticFieldStrength": {"min": 1.0}}, inputs={"flair": {"EchoTime": {"min": 80}}})
    assert {want.role: want.words for want in rule.wants} == {
        "t1": "Modality is MR; MagneticFieldStrength is at least 1.0; SeriesDescription is T1*",
        "t1c": "Modality is MR; MagneticFieldStrength is at least 1.0; SeriesDescription is T1*C",
        "flair": "Modality is MR; MagneticFieldStrength is at least 1.0; EchoTime is at least 80",
    }


def test_a_pipeline_of_one_series_is_bound_as_ever_and_may_select_for_itself():
    (want,) = rule_of("lung", match={"SliceThickness": {"max": 5}}).wants
    assert want.words == "SliceThickness is at most 5"
    chosen = replace(card("self"), inputs={"ct": spec(select={"BodyPartExamined": "CHEST"})})
    (want,) = rule_of("self", cards={"self": chosen}).wants
    assert want.words == "Modality is MR; BodyPartExamined is CHEST"
    (want,) = rule_of("self", cards={"self": chosen}, match={"Modality": "CT"}).wants
    assert want.words == "Modality is CT"


def test_mistakes_are_named_by_role_and_key():
    assert complaints_of("tumour", inputs={"flar": {"Modality": "MR"}, "t1": {"Modalty": "MR"}}) == [
        "inputs.flar: 'tumour' has no such role; it has t1, t1c, flair; did you mean 'flair'?",
        "inputs.t1.Modalty: DICOM has no such keyword; did you mean 'Modality'?",
    ]


def test_roles_that_nothing_tells_apart_are_a_complaint():
    assert complaints_of("bare") == [
        "inputs: nothing tells role 't2' from role 't1'; write what is different about them as "
        "[rules.inputs.t2] and [rules.inputs.t1]"
    ]
    assert rule_of("bare", inputs={"t2": {"EchoTime": {"min": 80}}}).is_case
    assert rule_of("change").is_case, "an earlier study is another matter"


def test_what_a_card_selects_is_checked_whether_a_rule_uses_it_or_not():
    odd = replace(TUMOUR, name="odd", inputs={**TUMOUR.inputs, "t2": spec(select={"SliceThicknes": 5})})
    lines = complaints_of("lung", cards={**CARDS, "odd": odd})
    assert lines == [
        "  pipeline 'odd', inputs.t2.select.SliceThicknes: DICOM has no such keyword; "
        "did you mean 'SliceThickness'?"
    ]


def test_results_cannot_be_filed_in_an_earlier_study():
    odd = replace(CHANGE, inputs={"prior": spec(study="prior"), "current": spec()})
    (line,) = complaints_of("change", cards={"change": odd})
    assert line.startswith("pipeline: the first role of 'change' (prior) is of an earlier study")


T1, T1C, FLAIR = held(3, "T1 ax"), held(7, "T1 ax C"), held(5, "ax FLAIR")
COMPLETE = ({"t1": "3", "t1c": "7", "flair": "5"}, "")


@given(st.permutations([T1, T1C, FLAIR, held(1, "localizer"), held(9, "T1 ax C", modality="SEG")]))
def test_each_role_is_bound_to_one_series_whatever_their_order(study):
    assert bound(rule_of(), *study) == COMPLETE


def test_series_of_another_study_are_none_of_it():
    assert bound(rule_of(), T1, T1C, FLAIR, held(6, "FLAIR", study="9.9")) == COMPLETE
    assert bound(rule_of(), held(1, "localizer")) is None


def test_a_series_that_two_roles_would_need_is_told():
    assert bound(rule_of(), T1C, FLAIR)[1] == (
        "Of the study only Series 7 can have one of 2 roles, and each needs a series of its own: "
        "'t1' wants Modality is MR; SeriesDescription is T1*; "
        "'t1c' wants Modality is MR; SeriesDescription is T1*C."
    )


def test_all_that_is_missing_is_told_at_once():
    _, why = bound(rule_of(), T1)
    assert why.count("No series of the study") == 2


def test_several_candidates_are_named_by_their_numbers_and_never_by_a_description():
    _, why = bound(rule_of(), T1, T1C, FLAIR, held(8, "FLAIR of SMITH"))
    assert why == (
        "Several series of the study fit role 'flair' (Series 5, Series 8), and a role takes one. "
        "Say more in [rules.inputs.flair], so that one is left."
    )


def test_a_series_without_a_number_is_named_by_the_end_of_its_uid():
    odd = held("", "FLAIR")
    assert "Series ...1.2." in bound(rule_of(), T1, T1C, FLAIR, odd)[1]


NOW, BEFORE, OLD = (
    held(number, study=f"1.{number}", date=date)
    for number, date in ((6, "20260102"), (5, "20250102"), (4, "20240102"))
)


def priors(*some):
    return bound(rule_of("change"), NOW, *some, study="1.6")


@given(st.permutations([BEFORE, OLD, held(7, study="1.7", date="20270101")]))
def test_the_prior_is_of_the_newest_earlier_study(others):
    assert priors(*others) == ({"current": "6", "prior": "5"}, "")


def test_an_earlier_study_that_does_not_fit_is_passed_over():
    assert priors(held(5, study="1.5", date="20250102", modality="CT"), OLD)[0]["prior"] == "4"


@pytest.mark.parametrize("other", [held(8, study="1.8", patient="P2"), held(8, study="1.8", patient="")])
def test_a_study_of_another_patient_or_of_nobody_is_no_prior(other):
    assert priors(other) == (
        {"current": "6"},
        "The node holds no earlier study of the patient that fits role 'prior' (Modality is MR).",
    )


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ([held(8, study="1.8", date="20260102"), OLD], "another one that fits is of the same day"),
        ([held(8, study="1.8", date=None)], "the Study Date of another one that fits is not known"),
        ([BEFORE, held(8, study="1.8", date="20250102")], "two earlier ones that fit are of the same day"),
    ],
)
def test_studies_that_cannot_be_put_in_order_are_refused(others, why):
    assert priors(*others)[1] == (
        f"Which study of the patient is the newest earlier one cannot be told: {why}."
    )


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
@pytest.mark.parametrize("date", [None, "", "2024", "2024.1.2", "20240102-20240105"])
def test_a_date_that_is_none_is_not_known(date):
    assert held(8, date=date).study_date == ""


def test_a_study_of_no_known_day_has_no_prior():
    undated = held(6, study="1.6", date=None)
    why = bound(rule_of("change"), undated, OLD, study="1.6")[1]
    assert why.endswith("cannot be told: the Study Date of the current one is not known.")


def test_later_studies_alone_are_told_as_that():
    why = bound(rule_of("change"), OLD, NOW, study="1.4")[1]
    assert why == (
        "What the node holds of the patient that fits role 'prior' (Modality is MR) is of later studies."
    )


def test_the_explanation_tells_role_by_role():
    (told,) = explain_cases([rule_of()], STUDY, Among([T1, T1C]))
    assert render_cases([told]).splitlines() == [
        "no case   a rule  ->  tumour",
        "  No series of the study fits role 'flair': Modality is MR; SeriesDescription is *FLAIR*.",
        "    t1: Series 3 (Series 7 would fit);  wants: Modality is MR; SeriesDescription is T1*",
        "    t1c: Series 7;  wants: Modality is MR; SeriesDescription is T1*C",
        "    flair: none;  wants: Modality is MR; SeriesDescription is *FLAIR*",
    ]
    (told,) = explain_cases([rule_of("change")], "1.6", Among([NOW, OLD]))
    assert told.is_complete
    assert render_cases([told]).splitlines()[-1] == (
        "    prior of an earlier study: Series 4;  wants: Modality is MR"
    )
