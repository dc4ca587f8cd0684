"""Answers are judged as they are written: with their digits, in their place, whatever their name."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.compute.findings import TAKEN_NAMES
from node.encode import encode
from node.encode.lint.groups import answers_agree
from node.encode.sr import groups as said
from node.encode.sr import tree
from node.encode.sr.tree import children, walk
from node.profile import Profile
from pipelines.contract import Code, Evaluation, Findings, Measurement
from tests.encode.helpers import a_job
from tests.encode.rich import MODERATE, NO_UNITS, SEVERITY, Rich, rich

PRESENT = Code("52101004", "SCT", "Present")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Rich:
    return rich(tmp_path_factory.mktemp("answers"))


def group_of(*answers: Evaluation) -> pydicom.Dataset:
    items = [said.evaluation_item(tree.CONTAINS, answer) for answer in answers]
    return tree.container(tree.CONTAINS, said.MEASUREMENT_GROUP, items)


@given(st.floats(0.0, 1.0))
@example(0.10675500183954867)  # its percentage is rounded up with seven digits and down with five
@example(5e-324)
def test_every_probability_agrees_with_what_is_written_of_it(probability: float) -> None:
    answer = Evaluation(name=SEVERITY, value=MODERATE, probability=probability)
    assert answers_agree([group_of(answer)], [answer])


@given(st.floats(0.001, 1.0))
def test_a_probability_a_thousandth_beside_does_not_agree(probability: float) -> None:
    answer = Evaluation(name=SEVERITY, value=MODERATE, probability=probability)
    assert not answers_agree([group_of(answer)], [replace(answer, probability=probability * 0.999)])
    assert not answers_agree([group_of(answer)], [replace(answer, probability=None)])


@pytest.mark.parametrize("segment", [3, None])
def test_a_probability_of_many_digits_is_encoded(made: Rich, tmp_path: Path, segment: int | None) -> None:
    answer = Evaluation(name=SEVERITY, value=MODERATE, segment=segment, probability=0.10675500183954867)
    findings = replace(made.findings, evaluations=(answer,))
    profiles = [Profile(), Profile(report="air"), Profile(report="segment-only")]
    assert encode(a_job(), findings, {"ct": made.volume}, tmp_path, profiles).objects


def test_presence_is_an_answer_like_others_whatever_stands_before_it(made: Rich, tmp_path: Path) -> None:
    presence = Evaluation(name=said.PRESENCE, value=PRESENT, segment=3)
    findings = replace(
        made.findings,
        measurements=(Measurement(name=Code("S", "99TEST", "S"), value=math.nan, unit=NO_UNITS, segment=3),),
        evaluations=(Evaluation(name=SEVERITY, value=MODERATE, segment=3), presence),
    )
    profiles = [Profile(), Profile(report="air"), Profile(report="segment-only")]
    outcome = encode(a_job(), findings, {"ct": made.volume}, tmp_path, profiles)
    for thing in outcome.objects:
        if thing.kind in ("sr-measurements", "sr-air", "sr-segments"):
            tree_of = pydicom.dcmread(thing.path)
            assert [
                str(content.ConceptCodeSequence[0].CodeValue)
                for group in walk(tree_of)
                for content in children(group, "CODE", said.PRESENCE)
            ] == [PRESENT.value]


def test_presence_is_answered_beside_the_absence_of_an_empty_structure(made: Rich, tmp_path: Path) -> None:
    masks = np.array(made.findings.masks)
    masks[2] = False
    answers = tuple(Evaluation(name=n, value=MODERATE, segment=3) for n in (SEVERITY, said.PRESENCE))
    findings = replace(made.findings, masks=masks, measurements=(), maps=(), evaluations=answers)
    profiles = [Profile(report="air"), Profile(report="segment-only")]
    assert encode(a_job(), findings, {"ct": made.volume}, tmp_path, profiles).objects


def test_the_names_that_findings_may_not_use_are_those_of_the_report() -> None:
    assert {said.FINDING[:2], said.FINDING_CATEGORY[:2], said.FINDING_SITE[:2]} == TAKEN_NAMES


def test_an_answer_alone_is_a_whole_result(made: Rich, tmp_path: Path) -> None:
    findings = Findings(evaluations=(Evaluation(name=said.PRESENCE, value=PRESENT, probability=0.9),))
    profiles = [Profile(report="air"), Profile(report="segment-only")]
    assert encode(a_job(), findings, {"ct": made.volume}, tmp_path, profiles).objects
