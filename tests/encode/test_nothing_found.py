"""That nothing was found is said when nothing was, by every report, and never beside a finding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from node.encode import encode
from node.encode.items import code_of
from node.encode.render.results import general_lines
from node.encode.sr.tree import walk
from node.profile import Profile, Report
from pipelines.contract import Card, Code, Evaluation, Findings, Map, Measurement
from tests.encode.helpers import LEFT_LUNG, NODULE, RIGHT_LUNG, a_card, a_job, findings_of, material_of
from tests.encode.judges import dciodvfy_errors, dsrdump, needs_dciodvfy, needs_dsrdump, tid1500
from tests.encode.rich import MODERATE, NO_UNITS, PROBABILITY, SEVERITY, SHAPE, Rich, rich

PROFILES = [Profile(report="text", also=("pdf",)), Profile(report="air"), Profile(report="segment-only")]
ANSWER = Evaluation(name=SEVERITY, value=MODERATE, probability=0.9)
WITHOUT, WITH, ABSENT = "111241", "111242", "121054"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Rich:
    return rich(tmp_path_factory.mktemp("nothing"))


def the_case(made: Rich, what: str) -> tuple[Findings, Card]:
    empty = findings_of(made.volume, [np.zeros(SHAPE, bool)], [LEFT_LUNG])
    heat = Map(label="Heat", quantity=PROBABILITY, unit=NO_UNITS, array=np.full(SHAPE, 0.5, np.float32))
    number = Measurement(name=SEVERITY, value=3.0, unit=NO_UNITS)
    return {
        "nothing": (Findings(), a_card()),
        "nothing looked for": (Findings(), a_card(detects=(NODULE,))),
        "empty": (empty, a_card()),
        "empty and its own map": (replace(empty, maps=(replace(heat, segment=1),)), a_card()),
        "a map": (Findings(maps=(heat,)), a_card()),
        "empty and a map": (replace(empty, maps=(heat,)), a_card()),
        "empty and an answer": (replace(empty, evaluations=(ANSWER,)), a_card()),
        "empty and an answer of it": (replace(empty, evaluations=(replace(ANSWER, segment=1),)), a_card()),
        "empty and a number": (replace(empty, measurements=(*empty.measurements, number)), a_card()),
        "looked for and an answer": (Findings(evaluations=(ANSWER,)), a_card(detects=(NODULE,))),
    }[what]


#: What is found, whether that is nothing, the summary of the tree, and how many things are absent in it.
CASES = [
    ("nothing", True, WITHOUT, 0),
    ("nothing looked for", True, WITHOUT, 1),
    ("empty", True, WITHOUT, 1),
    ("empty and its own map", True, WITHOUT, 1),
    ("a map", False, WITH, 0),
    ("empty and a map", False, "", 1),
    ("empty and an answer", False, "", 1),
    ("empty and an answer of it", False, "", 1),
    ("empty and a number", False, "", 1),
    ("looked for and an answer", False, "", 1),
]


@needs_dciodvfy
@needs_dsrdump
@pytest.mark.parametrize(("what", "is_nothing", "summary", "absent"), CASES, ids=[c[0] for c in CASES])
def test_each_report_says_nothing_was_found_only_where_nothing_was(
    made: Rich, tmp_path: Path, what: str, is_nothing: bool, summary: str, absent: int
) -> None:
    findings, card = the_case(made, what)
    outcome = encode(a_job(card=card), findings, {"ct": made.volume}, tmp_path, PROFILES)
    reports = {thing.kind: thing.path for thing in outcome.objects if thing.kind.startswith("sr-")}
    assert set(reports) == {"sr-text", "sr-air", "sr-segments"}
    for kind, path in reports.items():
        assert dciodvfy_errors(path) == [] and dsrdump(path)[1] == []
        tree = pydicom.dcmread(path)
        if kind == "sr-text":
            lines = [str(c.TextValue) for c in walk(tree) if c.get("ValueType") == "TEXT"]
            assert any(line.startswith("Nothing was found") for line in lines) == is_nothing
            assert ("Map of probability: Heat." in lines) == ("map" in what)
            continue
        codes = [code_of(c.ConceptCodeSequence[0]).value for c in walk(tree) if c.get("ValueType") == "CODE"]
        assert [code for code in codes if code in (WITHOUT, WITH)] == [summary] * bool(summary)
        assert codes.count(ABSENT) == absent
        assert tid1500(path, tmp_path / "read.json")["Measurements"]
    segs = [thing for thing in outcome.objects if thing.kind == "seg"]
    told = general_lines(material_of(made.volume, findings, segs, card=card))
    assert any("Nothing was found" in line for line in told) == is_nothing


def test_a_page_names_what_was_not_there_beside_what_was(made: Rich, tmp_path: Path) -> None:
    findings, card = the_case(made, "empty and an answer")
    outcome = encode(a_job(card=card), findings, {"ct": made.volume}, tmp_path, PROFILES)
    segs = [thing for thing in outcome.objects if thing.kind == "seg"]
    card = replace(card, detects=(NODULE, Code("4147007", "SCT", "Mass")))
    assert general_lines(material_of(made.volume, findings, segs, card=card)) == [
        "Severity: Moderate (probability 90 %)",
        "No part of the image was marked as: Left lung.",
        "Nodule: none was detected.",
        "Mass: none was detected.",
    ]


@needs_dciodvfy
@needs_dsrdump
@pytest.mark.parametrize("report", ["viewer", "air", "segment-only", "text"])
@pytest.mark.parametrize("what", ["nothing", "classes", "detections", "empty"])
def test_whatever_is_found_each_profile_gives_a_report_that_says_it(
    made: Rich, tmp_path: Path, report: Report, what: str
) -> None:
    volume = made.volume
    none = np.zeros(SHAPE, bool)
    answer = Evaluation(name=SEVERITY, value=MODERATE, probability=0.5)
    detections = made.findings.detections
    findings = {
        "nothing": Findings(),
        "classes": Findings(evaluations=(answer,)),
        "detections": Findings(detections=detections),
        "empty": findings_of(volume, [none, none], [LEFT_LUNG, RIGHT_LUNG]),
    }[what]
    outcome = encode(a_job(), findings, {"ct": volume}, tmp_path, [Profile(report=report)])
    for thing in outcome.objects:
        if thing.kind != "seg":
            assert dciodvfy_errors(thing.path) == []
            assert dsrdump(thing.path)[1] == []
    tree = pydicom.dcmread(outcome.objects[-1].path)
    lines = [str(c.TextValue) for c in walk(tree) if c.get("ValueType") == "TEXT"]
    codes = [code_of(c.ConceptCodeSequence[0]) for c in walk(tree) if c.get("ValueType") == "CODE"]
    values = [code.value for code in codes]
    drawn = what == "detections" and report == "viewer"
    assert any(o.kind == "sr-measurements" for o in outcome.objects) == drawn
    if report in ("viewer", "text"):
        told = any(line.startswith("Nothing was found") for line in lines)
        assert told == (what in ("nothing", "empty"))
    else:
        assert ("111241" in values) == (what in ("nothing", "empty"))
        assert values.count("121054") == (2 if what == "empty" else 0)
        assert len(tid1500(outcome.objects[-1].path, tmp_path / "read.json")["Measurements"]) > 0
    if what == "classes":
        assert MODERATE.value in values


def test_a_kind_that_was_looked_for_and_not_detected_is_told(made: Rich, tmp_path: Path) -> None:
    mass = Code("4147007", "SCT", "Mass")
    card = a_card(detects=(NODULE, mass))
    lines, absent = {}, {}
    for what, detections in (("one", made.findings.detections), ("none", ())):
        folder = tmp_path / what
        folder.mkdir()
        profiles = [Profile(report="text"), Profile(report="air")]
        findings = Findings(detections=detections)
        text, air = encode(a_job(card=card), findings, {"ct": made.volume}, folder, profiles).objects
        tree = pydicom.dcmread(text.path)
        lines[what] = [str(c.TextValue) for c in walk(tree) if c.get("ValueType") == "TEXT"]
        codes = [c for c in walk(pydicom.dcmread(air.path)) if c.get("ValueType") == "CODE"]
        absent[what] = [code_of(c.ConceptCodeSequence[0]).value for c in codes].count("121054")
    assert "Mass: none was detected." in lines["one"] and absent["one"] == 1
    assert "Nothing was found: no Nodule or Mass was detected." in lines["none"] and absent["none"] == 2


def test_a_structure_of_which_nothing_was_measured_is_told_all_the_same(made: Rich, tmp_path: Path) -> None:
    findings = replace(made.findings, detections=(), measurements=(), evaluations=())
    outcome = encode(a_job(), findings, {"ct": made.volume}, tmp_path, [Profile(report="text")])
    tree = pydicom.dcmread(outcome.objects[-1].path)
    lines = [str(c.TextValue) for c in walk(tree) if c.get("ValueType") == "TEXT"]
    assert "Left lung: marked on 8 images." in lines and "Nodule: marked on 3 images." in lines
