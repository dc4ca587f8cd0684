"""The match language: what it accepts, and what it says of mistakes."""

from __future__ import annotations

import re
import time

import pytest

from node.assign import parse_rules
from node.assign.operators import pattern
from node.errors import ConfigError
from tests.assign.helpers import CARDS, table


def complaint_of(match: dict, **more: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_rules([table(match, **more)], CARDS)
    head, *lines = str(caught.value).splitlines()
    assert head == "The rules cannot be used:"
    return "\n".join(line.removeprefix("  rule 'a rule', ") for line in lines)


BAD_MATCHES = [
    (
        {"SliceThicknes": 5},
        "match.SliceThicknes: DICOM has no such keyword; did you mean 'SliceThickness'?",
    ),
    ({"modality": "CT"}, "match.modality: DICOM has no such keyword; did you mean 'Modality'?"),
    ({"Qqqqqqqq": "CT"}, "match.Qqqqqqqq: DICOM has no such keyword"),
    ({"Modality": {"max": 5}}, "match.Modality: 'max' does not fit Modality (CS), whose values are text"),
    (
        {"SliceThickness": {"maximum": 5}},
        "match.SliceThickness: unknown operator 'maximum'; "
        "the known ones: is, has, not, min, max, present, missing; did you mean 'max'?",
    ),
    (
        {"SliceThickness": {"mix": 5}},
        "match.SliceThickness: unknown operator 'mix'; "
        "the known ones: is, has, not, min, max, present, missing; did you mean 'min'?",
    ),
    (
        {"SliceThickness": {"max": "5"}},
        "match.SliceThickness: SliceThickness (DS) is compared with numbers, not with '5'",
    ),
    (
        {"SliceThickness": {"max": True}},
        "match.SliceThickness: SliceThickness (DS) is compared with numbers, not with True",
    ),
    (
        {"SliceThickness": {"max": float("nan")}},
        "match.SliceThickness: SliceThickness (DS) is compared with numbers, not with nan",
    ),
    ({"SliceThickness": {"max": [1, 2]}}, "match.SliceThickness: 'max' takes one number"),
    ({"Modality": 5}, "match.Modality: Modality (CS) is text, so 5 must stand in quotes"),
    ({"Modality": ""}, "match.Modality: Modality (CS) is never an empty text; use { present = false }"),
    ({"Modality": []}, "match.Modality: 'is' has an empty list, which nothing can match"),
    ({"Modality": {}}, "match.Modality: an empty table asks for nothing"),
    (
        {"Modality": {"has": "CT"}},
        "match.Modality: Modality (CS) has a single value; 'has' is for several, use 'is'",
    ),
    (
        {"ImageType": "ORIGINAL"},
        "match.ImageType: ImageType (CS) has several values; write { has = ... } to ask for one of them",
    ),
    (
        {"ContrastBolusAgentSequence": "iodine"},
        "match.ContrastBolusAgentSequence: ContrastBolusAgentSequence (SQ) has no plain value; "
        "only 'present' fits it",
    ),
    (
        {"Modality": {"missing": "no"}},
        'match.Modality: \'missing\' must be "yes" or "no", and stand beside another operator',
    ),
    (
        {"Modality": {"is": "CT", "missing": False}},
        'match.Modality: \'missing\' must be "yes" or "no", and stand beside another operator',
    ),
    ({"Modality": {"present": "yes"}}, "match.Modality: 'present' must be true or false, and stand alone"),
    (
        {"Modality": {"present": True, "not": "CT"}},
        "match.Modality: 'present' must be true or false, and stand alone",
    ),
]


@pytest.mark.parametrize(("match", "expected"), BAD_MATCHES)
def test_a_mistake_is_named_with_its_key_and_remedy(match, expected):
    assert complaint_of(match) == expected


@pytest.mark.parametrize(
    "keyword",
    """PatientName PatientID PatientBirthDate PatientAddress OtherPatientIDs AccessionNumber
    ReferringPhysicianName OperatorsName PatientTelephoneNumbers PatientComments""".split(),
)
def test_elements_that_identify_a_patient_cannot_be_matched(keyword):
    assert complaint_of({keyword: "X"}) == (
        f"match.{keyword}: identifies a patient, and rules are shown and logged; match something else"
    )


def test_an_unknown_pipeline_lists_the_known_ones():
    assert complaint_of({}, pipeline="lung-densty") == (
        "pipeline: there is no pipeline 'lung-densty'; the known ones: lung-density, spleen, tumour; "
        "did you mean 'lung-density'?"
    )


def test_all_complaints_of_all_rules_come_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_rules(
            [
                table({"Modalty": "CT", "SliceThickness": {"max": "a", "mni": 1}}, name="one"),
                table({"Modality": "CT"}, name="fine"),
                table({"PatientName": "*"}, name="two", pipeline="none"),
            ],
            CARDS,
        )
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0] for line in lines] == [
        "  rule 'one', match.Modalty",
        "  rule 'one', match.SliceThickness",
        "  rule 'one', match.SliceThickness",
        "  rule 'two', pipeline",
        "  rule 'two', match.PatientName",
    ]


def test_the_rule_of_the_design_reads_as_words():
    (rule,) = parse_rules(
        [
            table(
                {
                    "Modality": "CT",
                    "BodyPartExamined": {"is": ["CHEST", "THORAX", "LUNG"], "missing": "yes"},
                    "SliceThickness": {"max": 5.0},
                    "ImageType": {"has": "ORIGINAL", "not": "LOCALIZER"},
                    "ContrastBolusAgent": {"present": False},
                },
                send_to=("archive",),
            )
        ],
        CARDS,
    )
    assert rule.send_to == ("archive",)
    assert [clause.words for clause in rule.wants[0].clauses] == [
        "Modality is CT",
        "BodyPartExamined is any of CHEST, THORAX, LUNG (missing counts as yes)",
        "SliceThickness is at most 5.0",
        "ImageType has ORIGINAL and is not LOCALIZER",
        "ContrastBolusAgent is missing",
    ]


@pytest.mark.parametrize(
    ("glob", "text", "fits"),
    [
        ("CT", "CT", True),
        ("CT", "CTA", False),
        ("CT", "PCT", False),
        ("*portal*", "abdomen portal venous", True),
        ("*portal*", "PORTAL", True),
        ("*portal", "portal venous", False),
        ("portal*", "a portal", False),
        ("t?", "t1", True),
        ("t?", "t", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a*?c", "ac", False),
        ("*", "anything", True),
        (r"t2\*", "t2*", True),
        (r"t2\*", "t2w", False),
        (r"t2\**", "t2* axial", True),
        ("a.c", "abc", False),
        ("[abc]", "a", False),
        ("*b?d*", "axb bcd e", True),
    ],
)
def test_patterns_are_anchored_and_know_only_star_and_question_mark(glob, text, fits):
    assert (pattern(glob).fullmatch(text.casefold()) is not None) is fits


def test_no_value_can_make_a_pattern_slow():
    compiled = pattern("*a*a*a*a*a*a*a*b")
    begun = time.perf_counter()
    assert compiled.fullmatch("a" * 10_240) is None
    assert time.perf_counter() - begun < 1.0


def test_patterns_never_use_more_than_one_backtracking_star():
    assert re.sub(r"\(\?>[^)]*\)", "", pattern("a*b*c*d").pattern).count("*") == 1
