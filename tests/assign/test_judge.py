"""Three-valued logic over real values, missing values and hostile values."""

from __future__ import annotations

from itertools import product

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from node import INSTANCE_CREATOR_UID
from node.assign.judge import judge, judge_clause, read
from node.assign.operators import Verdict
from node.assign.rule import parse_rules
from tests.assign.helpers import CARDS, dataset, series, table
from tests.paths import SHARED, needs_shared

YES, NO, UNKNOWN = Verdict.YES, Verdict.NO, Verdict.UNKNOWN


def rule_of(match):
    return parse_rules([table(match)], CARDS)[0].wants[0]


def verdict(match, header):
    (clause,) = rule_of(match).clauses
    return judge_clause(clause, header)


@pytest.mark.parametrize(
    ("match", "attributes", "expected"),
    [
        ({"Modality": "CT"}, {"Modality": "CT"}, YES),
        ({"Modality": "ct"}, {"Modality": "CT"}, YES),
        ({"Modality": "CT"}, {"Modality": " CT "}, YES),
        ({"Modality": "CT"}, {"Modality": "CTX"}, NO),
        ({"Modality": "CT"}, {"Modality": "MR"}, NO),
        ({"Modality": "CT"}, {"Modality": ["CT", "MR"]}, NO),  # one value was asked for
        ({"Modality": "CT"}, {"Modality": ""}, UNKNOWN),
        ({"Modality": "CT"}, {"Modality": None}, UNKNOWN),
        ({"Modality": "CT"}, {}, UNKNOWN),
        ({"Modality": ["CT", "PT"]}, {"Modality": "PT"}, YES),
        ({"Modality": ["CT", "PT"]}, {"Modality": "MR"}, NO),
        ({"SeriesDescription": "*Portal*"}, {"SeriesDescription": "abd PORTAL 3mm"}, YES),
        ({"SeriesDescription": "portal"}, {"SeriesDescription": "abd portal 3mm"}, NO),
        ({"SliceThickness": 5}, {"SliceThickness": "5.0"}, YES),
        ({"SliceThickness": 5}, {"SliceThickness": "5.000000"}, YES),
        ({"SliceThickness": {"max": 5.0}}, {"SliceThickness": "5"}, YES),
        ({"SliceThickness": {"max": 5.0}}, {"SliceThickness": "5.1"}, NO),
        ({"SliceThickness": {"min": 1, "max": 5.0}}, {"SliceThickness": "0.5"}, NO),
        ({"SliceThickness": {"max": 5.0}}, {}, UNKNOWN),
        ({"SliceThickness": {"max": 5.0, "missing": "yes"}}, {}, YES),
        ({"SliceThickness": {"max": 5.0, "missing": "no"}}, {"SliceThickness": None}, NO),
        ({"PixelSpacing": {"max": 1.0}}, {"PixelSpacing": ["0.9", "1.0"]}, YES),
        ({"PixelSpacing": {"max": 1.0}}, {"PixelSpacing": ["0.9", "1.1"]}, NO),
        ({"ImageType": {"has": "original"}}, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, YES),
        ({"ImageType": {"has": "ORIGINAL"}}, {"ImageType": ["DERIVED", "PRIMARY"]}, NO),
        ({"ImageType": {"has": "ORIGINAL"}}, {"ImageType": "ORIGINAL"}, YES),
        ({"ImageType": {"not": "LOCALIZER"}}, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, NO),
        ({"ImageType": {"not": ["LOCALIZER", "AXIAL"]}}, {"ImageType": ["ORIGINAL", "AXIAL"]}, NO),
        ({"ImageType": {"not": "LOCALIZER"}}, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, YES),
        ({"ImageType": {"not": "LOCALIZER"}}, {}, UNKNOWN),
        ({"SeriesNumber": 3}, {"SeriesNumber": "3"}, YES),
        ({"SeriesNumber": {"not": [3, 4]}}, {"SeriesNumber": "4"}, NO),
        ({"PatientAge": {"min": 18}}, {"PatientAge": "017Y"}, NO),
        ({"PatientAge": {"min": 18}}, {"PatientAge": "018Y"}, YES),
        ({"PatientAge": {"min": 1.5}}, {"PatientAge": "018M"}, YES),
        ({"PatientAge": {"min": 18}}, {"PatientAge": "old"}, UNKNOWN),
        ({"ContrastBolusAgent": {"present": True}}, {"ContrastBolusAgent": "iodine"}, YES),
        ({"ContrastBolusAgent": {"present": True}}, {"ContrastBolusAgent": ""}, NO),
        ({"ContrastBolusAgent": {"present": False}}, {}, YES),
        ({"ContrastBolusAgentSequence": {"present": True}}, {"ContrastBolusAgentSequence": [Dataset()]}, YES),
        ({"ContrastBolusAgentSequence": {"present": True}}, {"ContrastBolusAgentSequence": []}, NO),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_one_clause_on_one_instance(match, attributes, expected):
    assert verdict(match, dataset(**attributes)) is expected


def raw(keyword_tag: int, vr: str, value: bytes) -> Dataset:
    made = Dataset()
    tag = Tag(keyword_tag)
    made[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "value", [b"five", b"5,0", b"NaN", b"1e999", b"\xff\xfe", b"5\\", b"\\", b"--", b" \0"]
)
def test_a_value_that_is_no_number_is_never_yes(value):
    expected = YES if value == b"5\\" else UNKNOWN
    assert verdict({"SliceThickness": {"max": 5.0}}, raw(0x00180050, "DS", value)) is expected


@pytest.mark.filterwarnings("ignore")
def test_oversized_values_are_unknown_and_not_worked_through():
    assert verdict({"SeriesDescription": "*a*"}, raw(0x0008103E, "LO", b"a" * 100_000)) is UNKNOWN
    assert verdict({"ImageType": {"has": "A"}}, raw(0x00080008, "CS", b"A\\" * 50_000)) is UNKNOWN


@pytest.mark.filterwarnings("ignore")
def test_an_element_sent_with_a_foreign_representation_does_not_raise():
    for vr, value in [
        ("FD", b"123"),
        ("US", b"1"),
        ("SQ", b"junk"),
        ("UN", b"5.0 "),
        ("OB", b"\1\2"),
        ("AT", b"1"),
    ]:
        assert verdict({"SliceThickness": {"max": 5.0}}, raw(0x00180050, vr, value)) in (UNKNOWN, YES)


def test_the_truth_table_of_an_instance():
    match = {"Modality": "CT", "BodyPartExamined": "CHEST"}
    told = {YES: ("CT", "CHEST"), NO: ("MR", "HEAD"), UNKNOWN: (None, None)}
    for first, second in product(told, told):
        header = dataset(Modality=told[first][0], BodyPartExamined=told[second][1])
        (found,) = judge(rule_of(match), *series([header])).by_instance
        if NO in (first, second):
            assert found is NO
        else:
            assert found is (UNKNOWN if UNKNOWN in (first, second) else YES)


CHEST, HEAD, SILENT = (dataset(BodyPartExamined=part) for part in ("CHEST", "HEAD", None))


@pytest.mark.parametrize(
    ("headers", "matched"),
    [
        ([CHEST, CHEST], True),
        ([CHEST, HEAD], True),  # the head is left out
        ([HEAD, HEAD], False),
        ([CHEST, SILENT], False),
        ([HEAD, SILENT], False),
        ([CHEST, None], False),  # a header that cannot be read
        ([], False),
    ],
)
def test_the_truth_table_of_a_series(headers, matched):
    assert judge(rule_of({"BodyPartExamined": "CHEST"}), *series(headers)).matched is matched


def test_a_rule_without_clauses_takes_everything_but_own_results():
    assert judge(rule_of({}), *series([CHEST, HEAD])).matched
    own = dataset(BodyPartExamined="CHEST", InstanceCreatorUID=INSTANCE_CREATOR_UID)
    assert not judge(rule_of({}), *series([CHEST, own])).matched


def test_functional_groups_are_looked_into():
    shared, frames = Dataset(), [Dataset(), Dataset()]
    shared.PixelMeasuresSequence = [dataset(SliceThickness="2.0", PixelSpacing=["1", "1"])]
    for frame, echo in zip(frames, (10.0, 80.0), strict=True):
        frame.MREchoSequence = [dataset(EffectiveEchoTime=echo)]
    header = dataset(SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=frames)
    assert verdict({"SliceThickness": {"max": 5}}, header) is YES
    assert verdict({"EffectiveEchoTime": {"max": 100}}, header) is YES
    assert verdict({"EffectiveEchoTime": {"max": 50}}, header) is NO  # not for every frame
    assert verdict({"RepetitionTime": {"max": 50}}, header) is UNKNOWN
    frames[1].MREchoSequence = []
    assert verdict({"EffectiveEchoTime": {"max": 100}}, header) is UNKNOWN  # missing in one frame


def test_the_top_level_wins_over_functional_groups():
    shared = Dataset()
    shared.PixelMeasuresSequence = [dataset(SliceThickness="9.0")]
    header = dataset(SliceThickness="2.0", SharedFunctionalGroupsSequence=[shared])
    assert read(header, "SliceThickness", "number") == [(2.0,)]


@pytest.mark.filterwarnings("ignore")
def test_broken_functional_groups_are_unknown():
    for vr in ("SQ", "UN", "LO"):
        assert verdict({"SliceThickness": {"max": 5}}, raw(0x52009229, vr, b"junk")) is UNKNOWN


@needs_shared
@pytest.mark.filterwarnings("ignore")
def test_every_real_header_gives_a_verdict_and_none_raises():
    rule = rule_of(
        {
            "Modality": ["CT", "MR"],
            "SliceThickness": {"min": 0.1, "max": 10},
            "ImageType": {"has": "ORIGINAL", "not": "LOCALIZER"},
            "PatientAge": {"min": 0},
            "PixelSpacing": {"max": 2},
            "AcquisitionDate": {"present": True},
            "SeriesDescription": {"not": "*loc*", "missing": "yes"},
        }
    )
    counts = dict.fromkeys(Verdict, 0)
    for path in sorted(SHARED.rglob("*.dcm")):
        try:
            header = dcmread(path, stop_before_pixels=True, force=True)
        except Exception:  # noqa: BLE001, S112  # what cannot be parsed at all never gets here
            continue
        (found,) = judge(rule, *series([header])).by_instance
        counts[found] += 1
    assert counts[YES] > 100
    assert sum(counts.values()) > 500


@needs_shared
def test_a_real_enhanced_mr_is_matched_by_values_in_its_functional_groups():
    paths = sorted((SHARED / "mr_head_enhanced_xa30_study").rglob("*.dcm"))
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    enhanced = [h for h in headers if h.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4.1"]
    assert enhanced
    for header in enhanced:
        assert "SliceThickness" not in header
        assert verdict({"SliceThickness": {"max": 10}}, header) is YES
        assert verdict({"SliceThickness": {"max": 0.1}}, header) is NO
