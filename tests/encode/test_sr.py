"""The two reports, read by dcmqi, DCMTK, dicom3tools and highdicom."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from node.encode.numbers import grouped
from node.encode.sr.tree import walk
from node.errors import EncodeError
from node.model import Outcome
from pipelines.contract import Code, Evaluation, Findings, Measurement
from pipelines.measure import measure_segment
from tests.encode.helpers import (
    LEFT_LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    encoded,
    enhanced_volume,
    findings_of,
    single_frame_volume,
)
from tests.encode.judges import dciodvfy_errors, dsrdump, needs_dciodvfy, needs_dsrdump, tid1500
from tests.phantoms import make_affine

SHAPE = (12, 40, 36)
PERCENT = Code("%", "UCUM", "Percent")
YES = Code("373066001", "SCT", "Yes")
QUESTION = Code("Q1", "99TEST", "Pleural effusion")
SCORE = Code("S1", "99TEST", "Score")


def lungs() -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(7)
    array = rng.integers(-1000, 200, SHAPE).astype(np.int16)
    left, right, nodule = (np.zeros(SHAPE, bool) for _ in range(3))
    left[2:9, 6:20, 4:16] = True
    left[5, 4:24, 3:17] = True  # the key slice
    right[1:7, 8:30, 20:30] = True
    nodule[3:5, 10:14, 22:26] = True
    return array, [left, right, nodule]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Findings, Outcome]:
    folder = tmp_path_factory.mktemp("sr")
    array, masks = lungs()
    volume = single_frame_volume(folder / "in", array, make_affine("oblique"))
    findings = findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG, NODULE_SEGMENT])
    both = masks[0] | masks[1]
    findings = replace(
        findings,
        measurements=(
            *findings.measurements,
            Measurement(name=SCORE, value=math.nan, unit=PERCENT, segment=1),
            Measurement(name=SCORE, value=0.0, unit=PERCENT, segment=2),
            *measure_segment(("volume", "laa-950"), both, volume.image, union=(1, 2)),
        ),
        evaluations=(
            Evaluation(name=QUESTION, value=YES, segment=1, probability=0.87),
            Evaluation(name=QUESTION, value=YES),
        ),
        cautions=("The lung bases are cut off.",),
    )
    return findings, encoded(volume, findings, folder / "out")


def path_of(result: Outcome, kind: str) -> Path:
    return next(o.path for o in result.objects if o.kind == kind)


def lines_of(path: Path) -> list[str]:
    return [str(c.TextValue) for c in walk(pydicom.dcmread(path)) if c.get("ValueType") == "TEXT"]


@needs_dciodvfy
@needs_dsrdump
def test_validators_have_nothing_to_say(case: tuple[Findings, Outcome]) -> None:
    for made in case[1].objects:
        assert dciodvfy_errors(made.path) == [], made.kind
        if made.kind != "seg":
            printed, complaints = dsrdump(made.path)
            assert complaints == []
            assert "Preliminary Flag" in printed


def test_dcmqi_returns_every_group_with_our_numbers(case: tuple[Findings, Outcome], tmp_path: Path) -> None:
    findings, result = case
    read = tid1500(path_of(result, "sr-measurements"), tmp_path / "sr.json")
    groups = read["Measurements"]
    assert len(groups) == 2 * len(findings.segments)
    places = {
        str(s.TrackingUID): (str(ds.SOPInstanceUID), int(s.SegmentNumber))
        for ds in (pydicom.dcmread(o.path) for o in result.objects if o.kind == "seg")
        for s in ds.SegmentSequence
    }
    for segment, contour, measured in zip(findings.segments, groups[0::2], groups[1::2], strict=True):
        assert contour["TrackingUniqueIdentifier"] == measured["TrackingUniqueIdentifier"]
        assert contour["TrackingIdentifier"] == measured["TrackingIdentifier"] == segment.label
        place = (measured["segmentationSOPInstanceUID"], measured["ReferencedSegment"])
        assert place == places[measured["TrackingUniqueIdentifier"]]
        assert measured["measurementAlgorithmIdentification"]["AlgorithmName"] == "lung-density"
        assert measured["Laterality"]["CodeMeaning"] == segment.laterality.meaning
        said = {
            (i["quantity"]["CodeValue"], i.get("derivationModifier", {}).get("CodeMeaning")): i
            for i in measured["measurementItems"]
        }
        for measurement in findings.measurements:
            if measurement.segment != segment.number or math.isnan(measurement.value):
                continue
            derivation = measurement.derivation.meaning if measurement.derivation else None
            item = said[measurement.name.value, derivation]
            assert float(item["value"]) == pytest.approx(measurement.value, rel=1e-6)
            assert item["units"]["CodeValue"] == measurement.unit.value


def test_no_two_numbers_of_a_structure_bear_the_same_caption(case: tuple[Findings, Outcome]) -> None:
    """OHIF shows neither derivation nor method: nothing but the meaning tells them apart."""
    report = pydicom.dcmread(path_of(case[1], "sr-measurements"))
    for group in (c for c in walk(report) if c.get("ContentTemplateSequence")):
        names = [
            c.ConceptNameCodeSequence[0] for c in group.get("ContentSequence", ()) if c.ValueType == "NUM"
        ]
        captions = [str(name.CodeMeaning) for name in names]
        assert len(set(captions)) == len(captions)
        if captions:
            assert captions[:3] == ["Volume", "Mean HU", "15th percentile HU"]
            assert [str(name.CodeValue) for name in names[:3]] == ["118565006", "112031", "112031"]


def test_only_the_root_of_a_template_names_it(case: tuple[Findings, Outcome]) -> None:
    """PS3.3 C.18.8: the group of an image library is a row of TID 1600; TID 1601 begins at an image."""
    report = pydicom.dcmread(path_of(case[1], "sr-measurements"))
    named = [
        (c.ConceptNameCodeSequence[0].CodeMeaning, c.ContentTemplateSequence[0].TemplateIdentifier)
        for c in walk(report)
        if "ContentTemplateSequence" in c
    ]
    assert set(named) == {
        ("Imaging Measurement Report", "1500"),
        ("Image Library", "1600"),
        ("Measurement Group", "1410"),
        ("Measurement Group", "1411"),
    }


def test_the_summary_holds_the_same_numbers_as_the_report(case: tuple[Findings, Outcome]) -> None:
    summary = case[1].summary
    assert len(summary) == len(case[0].measurements)
    ds = pydicom.dcmread(path_of(case[1], "sr-text"))
    told = [c.MeasuredValueSequence for c in walk(ds) if c.get("ValueType") == "NUM"]
    values = [float(v[0].NumericValue) if v else None for v in told]
    assert {v["value"] for v in summary} <= set(values)
    assert {"name": "Score", "value": None, "unit": "%", "segment": "Left lung"} in summary
    assert summary[-2]["segment"] == "Left lung + Right lung"


def test_the_contour_lies_on_the_largest_slice_around_the_mask(case: tuple[Findings, Outcome]) -> None:
    report = hd.sr.srread(path_of(case[1], "sr-measurements"))
    seg = hd.seg.segread(path_of(case[1], "seg"))
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == 3
    points = groups[0].roi.value
    assert groups[0].roi.graphic_type.value == "POLYLINE"
    assert (points[0] == points[-1]).all()
    # rows 4..23 and columns 3..16 on slice 5, as pixel edges in (column, row)
    assert points.min(axis=0).tolist() == [3.0, 4.0]
    assert points.max(axis=0).tolist() == [17.0, 24.0]
    source = groups[0].roi.ContentSequence[0].ReferencedSOPSequence[0]
    frames = [
        group
        for group in seg.PerFrameFunctionalGroupsSequence
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1
    ]
    key = frames[3].DerivationImageSequence[0].SourceImageSequence[0]  # frames start at slice 2
    assert source.ReferencedSOPInstanceUID == key.ReferencedSOPInstanceUID
    assert not groups[0].get_measurements()


def test_highdicom_parses_the_segment_groups(case: tuple[Findings, Outcome]) -> None:
    report = hd.sr.srread(path_of(case[1], "sr-measurements"))
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [g.tracking_identifier for g in groups] == ["Left lung", "Right lung", "Nodule"]
    assert len(groups[2].finding_sites) == 1
    assert groups[0].get_qualitative_evaluations()


def test_the_text_report_says_everything_in_plain_lines(case: tuple[Findings, Outcome]) -> None:
    lines = lines_of(path_of(case[1], "sr-text"))
    assert "Research use only. Not for diagnosis." in lines
    assert "Made for a test" in lines
    assert "Caution: The lung bases are cut off." in lines
    assert "Left lung: Pleural effusion: Yes (probability 87 %)" in lines
    assert "Pleural effusion: Yes" in lines
    assert "Left lung: Score could not be measured" in lines
    assert "Right lung: Score 0 %" in lines
    assert any(line.startswith("Left lung + Right lung: Volume ") and line.endswith(" mL") for line in lines)
    assert any("HU" in line for line in lines)
    assert "lung-density" in lines and "0.1.0" in lines and "radnode project" in lines


def test_a_failed_measurement_has_a_qualifier_where_readers_can_bear_it(
    case: tuple[Findings, Outcome],
) -> None:
    failed = {}
    for kind in ("sr-measurements", "sr-text"):
        numbers = [c for c in walk(pydicom.dcmread(path_of(case[1], kind))) if c.get("ValueType") == "NUM"]
        failed[kind] = [c for c in numbers if not c.MeasuredValueSequence]
    assert failed["sr-measurements"] == []  # it would blank the report in OHIF
    assert [c.NumericValueQualifierCodeSequence[0].CodeValue for c in failed["sr-text"]] == ["114006"]


def test_reports_name_all_evidence_once_and_their_siblings(case: tuple[Findings, Outcome]) -> None:
    *segs, measurements, text = case[1].objects
    seg_uids = tuple(seg.sop_instance_uid for seg in segs)
    assert measurements.refers_to == seg_uids
    assert text.refers_to == (*seg_uids, measurements.sop_instance_uid)
    (study,) = pydicom.dcmread(text.path).CurrentRequestedProcedureEvidenceSequence
    listed = [
        r.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for r in s.ReferencedSOPSequence
    ]
    assert len(listed) == len(set(listed)) == SHAPE[0] + len(segs) + 1


@needs_dciodvfy
@needs_dsrdump
def test_nothing_found_is_said_in_words_and_leaves_no_blank_measurement_report(tmp_path: Path) -> None:
    array, _ = lungs()
    volume = single_frame_volume(tmp_path / "in", array, make_affine())
    none = np.zeros(SHAPE, bool)
    result = encoded(volume, findings_of(volume, [none, none], [LEFT_LUNG, RIGHT_LUNG]), tmp_path / "out")
    assert [o.kind for o in result.objects] == ["seg", "sr-text"]
    lines = lines_of(path_of(result, "sr-text"))
    assert lines_of(path_of(result, "sr-text"))
    assert "Nothing was found: no part of the image was marked as Left lung or Right lung." in lines
    assert any(note.startswith("No measurement report") for note in result.notes)
    assert dciodvfy_errors(path_of(result, "sr-text")) == []
    assert dsrdump(path_of(result, "sr-text"))[1] == []


def test_one_empty_structure_does_not_blank_the_report_of_the_others(tmp_path: Path) -> None:
    array, masks = lungs()
    volume = single_frame_volume(tmp_path / "in", array, make_affine())
    findings = findings_of(volume, [np.zeros(SHAPE, bool), masks[1]], [LEFT_LUNG, RIGHT_LUNG])
    result = encoded(volume, findings, tmp_path / "out")
    read = tid1500(path_of(result, "sr-measurements"), tmp_path / "sr.json")
    assert {g["TrackingIdentifier"] for g in read["Measurements"]} == {"Right lung"}
    lines = lines_of(path_of(result, "sr-text"))
    assert "Left lung: nothing was found." in lines
    assert "Left lung: Volume 0 mL" in lines


@needs_dciodvfy
def test_a_pipeline_that_outlines_nothing_gives_a_text_report_alone(tmp_path: Path) -> None:
    array, _ = lungs()
    volume = single_frame_volume(tmp_path / "in", array, make_affine())
    findings = Findings(evaluations=(Evaluation(name=QUESTION, value=YES, probability=0.5),))
    result = encoded(volume, findings, tmp_path / "out")
    assert [o.kind for o in result.objects] == ["sr-text"]
    assert "Pleural effusion: Yes (probability 50 %)" in lines_of(result.objects[0].path)
    assert dciodvfy_errors(result.objects[0].path) == []
    silent = encoded(volume, Findings(), tmp_path / "silent")
    assert "Nothing was found by this analysis." in lines_of(silent.objects[0].path)


def test_contours_on_a_multi_frame_source_name_the_frame(tmp_path: Path) -> None:
    array, masks = lungs()
    volume = enhanced_volume(tmp_path / "in.dcm", array, make_affine())
    result = encoded(volume, findings_of(volume, [masks[0]], [LEFT_LUNG]), tmp_path / "out")
    ds = pydicom.dcmread(path_of(result, "sr-measurements"))
    (region,) = [c for c in walk(ds) if c.get("ValueType") == "SCOORD"]
    assert region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber == 6
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    assert [len(s.ReferencedSOPSequence) for s in study.ReferencedSeriesSequence] == [1, 1]


def test_the_procedure_reported_is_that_of_the_source(tmp_path: Path) -> None:
    array, masks = lungs()
    procedure = pydicom.Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator = "CTCH", "99HOSPITAL"
    procedure.CodeMeaning = "CT of the chest"
    volume = single_frame_volume(
        tmp_path / "in", array, make_affine(), headers={"ProcedureCodeSequence": [procedure]}
    )
    result = encoded(volume, findings_of(volume, [masks[0]], [LEFT_LUNG]), tmp_path / "out")
    read = tid1500(path_of(result, "sr-measurements"), tmp_path / "sr.json")
    assert read["procedureReported"]["CodeMeaning"] == "CT of the chest"
    ds = pydicom.dcmread(path_of(result, "sr-text"))
    assert ds.PerformedProcedureCodeSequence[0].CodeValue == "CTCH"
    declared = {s.CodingSchemeDesignator for s in ds.CodingSchemeIdentificationSequence}
    assert "99HOSPITAL" in declared


@pytest.mark.parametrize("check", ["volume", "mean", "laa-950"])
def test_a_number_that_the_mask_does_not_bear_out_is_not_reported(tmp_path: Path, check: str) -> None:
    array, masks = lungs()
    volume = single_frame_volume(tmp_path / "in", array, make_affine())
    findings = findings_of(volume, [masks[0]], [LEFT_LUNG])
    (honest,) = measure_segment((check,), masks[0], volume.image, segment=1)
    wrong = replace(honest, value=honest.value * 1.01)
    with pytest.raises(EncodeError, match="the encoded segment gives"):
        encoded(volume, replace(findings, measurements=(wrong,)), tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [{"check": "nonsense"}, {"segment": 9}, {"segment": None, "check": "volume"}],
)
def test_a_number_that_cannot_be_checked_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    array, masks = lungs()
    volume = single_frame_volume(tmp_path / "in", array, make_affine())
    findings = findings_of(volume, [masks[0]], [LEFT_LUNG])
    wrong = replace(findings.measurements[0], **change)
    with pytest.raises(EncodeError):
        encoded(volume, replace(findings, measurements=(wrong,)), tmp_path / "out")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2431.234, "2,431"),
        (1234567.0, "1,234,567"),
        (1.764, "1.764"),
        (0.0, "0"),
        (-346.8698, "-346.9"),
        (0.000123456, "0.0001235"),
        (0.0000123456, "0.00001235"),
        (0.00000123456, "1.235e-06"),
        (-4.9e-9, "-4.9e-09"),
        (1e-300, "1e-300"),
        (1.5e300, "1.5e+300"),
        (123456789012345.0, "123,456,789,012,345"),
        (87.0, "87"),
        (99999.97, "100,000"),
    ],
)
def test_numbers_for_people_have_four_digits_and_grouped_thousands(value: float, text: str) -> None:
    assert grouped(value) == text
