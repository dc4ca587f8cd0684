"""What rules may ask of results, and what they are answered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.assign import parse_rules
from node.assign.operators import Verdict
from node.assign.results import hold, judge_results
from node.errors import ConfigError
from node.model import Answer, Outcome
from pipelines.contract import Code, Segment
from tests.assign.helpers import card, table

LUNG = Code("39607008", "SCT", "Lung")
FOUND = Outcome(
    objects=(),
    summary=(
        {"name": "Volume", "value": 2400.0, "unit": "mL", "segment": "Left lung"},
        {"name": "Volume", "value": 2600.0, "unit": "mL", "segment": "Right lung"},
        {"name": "Density, mean", "value": None, "unit": "[hnsf'U]", "segment": "Left lung"},
    ),
    evaluations=({"name": "Quality", "value": "Motion", "segment": "", "probability": 0.7},),
    detections=({"label": "Nodule 1", "confidence": 0.9}, {"label": "Nodule 2", "confidence": None}),
    segments=({"label": "Left lung", "voxels": 10}, {"label": "Right lung", "voxels": 0}),
)


def rules(said, name="lung-density"):
    lungs = tuple(
        Segment(number=n, label=label, category=LUNG, kind=LUNG)
        for n, label in enumerate(("Left lung", "Right lung"), start=1)
    )
    cards = {"lung-density": replace(card(), segments=lungs), "nodules": card("nodules")}
    asks = table({"Modality": "CT"}, name="asks", pipeline="nodules", results={name: said})
    return parse_rules([table({"Modality": "CT"}, name="lungs"), asks], cards)


def verdict(said, answer):
    return judge_results(rules(said)[1].results, "1.2.3", lambda *_: answer)


@pytest.mark.parametrize(
    ("said", "expected", "seen"),
    [
        ({"measurement": {"name": "Volume", "segment": "Left lung", "min": 2400}}, "yes", "2400"),
        ({"measurement": {"name": "vol*", "segment": "left*", "max": 2399}}, "no", "2400"),
        ({"measurement": {"name": "Volume", "min": 2500}}, "no", "2400, 2600"),
        ({"measurement": {"name": "Density*", "min": -900}}, "unknown", "not measured"),
        ({"measurement": {"name": "Density*", "min": -900, "missing": "yes"}}, "yes", "not measured"),
        ({"measurement": {"name": "Mass", "min": 1}}, "unknown", "nothing of that name"),
        ({"measurement": {"name": "Mass", "min": 1, "missing": "no"}}, "no", "nothing of that name"),
        ({"evaluation": {"name": "Quality", "is": ["motion", "noise"]}}, "yes", "Motion"),
        ({"evaluation": {"name": "Quality", "not": "Motion"}}, "no", "Motion"),
        ({"present": "Left lung"}, "yes", "10 voxels"),
        ({"present": "Right lung"}, "no", "0 voxels"),
        ({"absent": "Right lung"}, "yes", "0 voxels"),
        ({"detections": {"min": 2}}, "yes", "2"),
        ({"detections": {"label": "Nodule 1", "min": 2}}, "no", "1"),
        ({"detections": {"label": "Mass*", "max": 0}}, "yes", "0"),
        ({"refused": "*"}, "no", "results"),
        ({}, "yes", "results"),
    ],
)
def test_a_clause_meets_what_was_found(said, expected, seen):
    (one,) = verdict(said, Answer(job_id=1, outcome=FOUND))
    assert (one.verdict, one.seen) == (Verdict(expected), seen)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"refused": "slice-*"}, "yes"),
        ({"refused": "other"}, "no"),
        ({}, "no"),
        ({"present": "Left lung"}, "no"),
    ],
)
def test_a_clause_meets_a_refusal(said, expected):
    answer = Answer(job_id=1, outcome=Outcome(objects=()), refused="slice-gap")
    (one,) = verdict(said, answer)
    assert one.verdict is Verdict(expected)


def test_what_is_not_known_yet_is_unknown_and_does_not_hold():
    told = verdict({"present": ["Left lung", "Right lung"]}, None)
    assert [(one.verdict, one.seen) for one in told] == [(Verdict.UNKNOWN, "no results so far")] * 2
    assert not hold(told)
    assert hold(())


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"mesurement": {}}, "results.lung-density.mesurement: no such word"),
        ({"measurement": {"min": 1}}, "'name' is missing"),
        ({"measurement": {"name": "Volume"}}, "say what 'Volume' must be, e.g. min = 5.0"),
        ({"measurement": {"name": "Volume", "is": "5"}}, "is compared with numbers, not with '5'"),
        ({"measurement": {"name": "Volume", "more": 5}}, "unknown operator 'more'"),
        ({"measurement": {"name": "Volume", "min": 5, "missing": True}}, "'missing' must be"),
        ({"measurement": 5}, "is a table such as"),
        ({"evaluation": {"name": "Quality", "min": 5}}, "'min' does not fit evaluation 'Quality'"),
        ({"present": "Spleen"}, "'lung-density' has no such segment; it has 'Left lung', 'Right lung'"),
        ({"present": 1}, "is the label of a segment"),
        ({"detections": {}}, "say how many"),
        ({"refused": True}, "is the code of a reason"),
        ({"refused": "*", "present": "Left lung"}, "'refused' must stand alone"),
    ],
)
def test_mistakes_are_told_with_their_place(said, complaint):
    with pytest.raises(ConfigError) as told:
        rules(said)
    assert "rule 'asks', results.lung-density" in str(told.value)
    assert complaint in str(told.value)


def test_results_of_what_is_not_there_or_never_runs_are_a_complaint():
    with pytest.raises(
        ConfigError, match=r"there is no pipeline 'lung-densty'; did you mean 'lung-density'\?"
    ):
        rules({}, name="lung-densty")
    with pytest.raises(ConfigError, match=r"results\.nodules: no rule gives it a series"):
        rules({}, name="nodules")
