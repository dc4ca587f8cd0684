"""The rules for objects of any kind and for the set of them, each seen to fail on damage done on purpose.

Rules for one kind of object are tested in a file of their own (`test_seg_lint` ...), but for those of the
reports of the default profile.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from node.encode.lint import faults, lint
from node.encode.sr.tree import walk
from node.errors import EncodeError
from tests.encode.damage import Case, damaged, drop, in_first, put
from tests.encode.helpers import (
    LEFT_LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    Damage,
    encoded,
    findings_of,
    single_frame_volume,
)
from tests.phantoms import make_affine

SHAPE = (8, 24, 20)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("lint")
    array = np.random.default_rng(5).integers(-1000, 200, SHAPE).astype(np.int16)
    volume = single_frame_volume(folder / "in", array, make_affine("oblique"))
    left, right, nodule = (np.zeros(SHAPE, bool) for _ in range(3))
    left[1:6, 4:20, 2:9] = True
    right[2:7, 4:20, 11:18] = True
    right[3, 3:21, 11:18] = True
    nodule[5, 21:23, 3:7] = True
    findings = findings_of(volume, [left, right, nodule], [LEFT_LUNG, RIGHT_LUNG, NODULE_SEGMENT])
    findings = replace(findings, cautions=("Cut off below.",))
    return Case(volume, findings, encoded(volume, findings, folder / "out"))


def test_an_undamaged_result_has_no_fault(case: Case) -> None:
    assert case.judged(case.result.objects) == []


EVERY = ("seg", "sr-measurements", "sr-text")
COMMON: list[tuple[str, Damage, str]] = [
    ("preamble", lambda ds: setattr(ds, "preamble", b"X" * 128), "preamble"),
    ("meta", lambda ds: setattr(ds.file_meta, "ImplementationClassUID", "1.2.3"), "implementation"),
    ("charset", put("SpecificCharacterSet", "ISO_IR 100"), "ISO_IR 192"),
    ("creator", put("InstanceCreatorUID", "1.2.3"), "Instance Creator"),
    ("qualification", put("ContentQualification", "PRODUCT"), "RESEARCH"),
    ("type 2", drop("AccessionNumber"), "mandatory attributes are absent: AccessionNumber"),
    ("description", put("SeriesDescription", "lung-density"), "does not say research"),
    ("description of another", put("SeriesDescription", "x research only"), "not the configured one"),
    ("study", put("StudyInstanceUID", "1.2.3"), "study is not that of the source"),
    ("patient", put("PatientID", "someone else"), "disagree about PatientID"),
    ("content date", drop("ContentDate"), "Content Date"),
    ("equipment", drop("SoftwareVersions"), "SoftwareVersions is empty"),
    ("no contributor", drop("ContributingEquipmentSequence"), "one processing equipment"),
    (
        "contributor",
        in_first("ContributingEquipmentSequence", put("DeviceUID", "1.2.3")),
        "algorithm of the job",
    ),
    (
        "library",
        in_first("ContributingEquipmentSequence", put("Manufacturer", "highdicom")),
        "software library",
    ),
    ("instance", put("SOPInstanceUID", "1.2.3"), "not the one it is said to be"),
    ("bad uid", put("SeriesInstanceUID", "1.02"), "SeriesInstanceUID is not a UID"),
    ("series number", put("SeriesNumber", 9004), "Series Number is not one of this kind"),
    ("number of a second one", put("SeriesNumber", 9020 + 1), "not the configured one"),
]


@pytest.mark.parametrize(
    ("kind", "damage", "sentence"),
    [(EVERY[i % 3], *rule[1:]) for i, rule in enumerate(COMMON)],  # one function judges all kinds
    ids=[rule[0] for rule in COMMON],
)
def test_a_fault_of_any_object_is_found(
    case: Case, tmp_path: Path, kind: str, damage: Damage, sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(case, kind, damage, tmp_path))


def items(ds: Dataset, value_type: str) -> list[Dataset]:
    return [content for content in walk(ds) if content.get("ValueType") == value_type]


def remove(value_type: str, code: str = "") -> Damage:
    """Remove the first item of a type, and of a concept name if one is given."""

    def damage(ds: Dataset) -> None:
        for content in walk(ds):
            below = content.get("ContentSequence") or []
            for position, child in enumerate(below):
                names = child.get("ConceptNameCodeSequence") or [Dataset()]
                if child.ValueType == value_type and code in ("", names[0].get("CodeValue")):
                    del below[position]
                    return

    return damage


def in_item(value_type: str, damage: Damage, which: int = 0) -> Damage:
    return lambda ds: damage(items(ds, value_type)[which])


def in_version(damage: Damage) -> Damage:
    def first(ds: Dataset) -> None:
        damage(next(c for c in items(ds, "TEXT") if c.ConceptNameCodeSequence[0].CodeValue == "111003"))

    return first


def evidence_twice(ds: Dataset) -> None:
    series = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    series[0].ReferencedSOPSequence.append(series[0].ReferencedSOPSequence[0])


def evidence_lacks(ds: Dataset) -> None:
    series = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    del series[-1]


BOTH: list[tuple[str, Damage, str]] = [
    ("verified", put("VerificationFlag", "VERIFIED"), "unverified"),
    ("final", put("PreliminaryFlag", "FINAL"), "preliminary"),
    ("modality", put("Modality", "DOC"), "modality is not SR"),
    ("step", drop("ReferencedPerformedProcedureStepSequence"), "Performed Procedure Step"),
    ("continuity", put("ContinuityOfContent", "CONTINUOUS"), "run its lines together"),
    ("evidence twice", evidence_twice, "listed twice"),
    ("evidence lacks", evidence_lacks, "evidence is not what was used"),
    ("language", remove("CODE", "121049"), "language"),
    ("observer", remove("UIDREF", "121012"), "device observer"),
    ("algorithm", in_version(put("TextValue", "9.9")), "algorithm identification"),
    ("text", in_item("TEXT", put("TextValue", "")), "is empty"),
    ("name", in_item("NUM", drop("ConceptNameCodeSequence")), "no complete concept name"),
    ("no value", in_item("NUM", put("MeasuredValueSequence", [])), "neither a value nor a reason"),
    (
        "unit",
        in_item("NUM", in_first("MeasuredValueSequence", drop("MeasurementUnitsCodeSequence"))),
        "no unit",
    ),
]


@pytest.mark.parametrize("kind", EVERY[1:])
@pytest.mark.parametrize(("damage", "sentence"), [c[1:] for c in BOTH], ids=[c[0] for c in BOTH])
def test_a_fault_of_either_report_is_found(
    case: Case, tmp_path: Path, kind: str, damage: Damage, sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(case, kind, damage, tmp_path))


def bow_tie(region: Dataset) -> None:
    x, y = region.GraphicData[:2]
    points = [x, y, x + 4, y + 4, x + 4, y, x, y + 4, x - 1, y + 3, x - 1, y + 2, x - 1, y + 1, x, y]
    region.GraphicData = points


def few_points(region: Dataset) -> None:
    x, y = region.GraphicData[:2]
    region.GraphicData = [x, y, x + 1, y, x + 1, y + 1, x, y + 1, x, y]


def moved(region: Dataset) -> None:
    region.GraphicData = [v + 9 for v in region.GraphicData]


def on_another_slice(ds: Dataset) -> None:
    first = items(ds, "SCOORD")[1].ContentSequence[0].ReferencedSOPSequence[0]
    listed = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    first.ReferencedSOPInstanceUID = listed[0].ReferencedSOPInstanceUID


def groups_swapped(ds: Dataset) -> None:
    groups = items(ds, "CONTAINER")[-1]
    box = next(c for c in items(ds, "CONTAINER") if c.ConceptNameCodeSequence[0].CodeValue == "126010")
    assert groups in list(box.ContentSequence)
    box.ContentSequence = list(reversed(box.ContentSequence))


def number_in_contour_group(ds: Dataset) -> None:
    groups = [c for c in items(ds, "CONTAINER") if c.ConceptNameCodeSequence[0].CodeValue == "125007"]
    groups[0].ContentSequence.append(items(ds, "NUM")[0])


def foreign_image(ds: Dataset) -> None:
    items(ds, "IMAGE")[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


MEASUREMENTS: list[tuple[str, Damage, str]] = [
    ("title", in_first("ConceptNameCodeSequence", put("CodeValue", "126001")), "title"),
    ("template", drop("ContentTemplateSequence"), "template 1500"),
    ("foreign image", foreign_image, "not in the evidence"),
    ("order", groups_swapped, "one contour group and then one segment group"),
    ("tracking id", remove("TEXT", "112039"), "not tied"),
    ("tracking uid", remove("UIDREF", "112040"), "not tied"),
    ("no contour", remove("SCOORD"), "blank the report"),
    ("number beside contour", number_in_contour_group, "holds numbers"),
    ("open", in_item("SCOORD", lambda c: setattr(c, "GraphicData", c.GraphicData[:-2])), "closed"),
    ("point", in_item("SCOORD", put("GraphicType", "MULTIPOINT")), "closed polyline"),
    ("few points", in_item("SCOORD", few_points), "too few"),
    ("bow tie", in_item("SCOORD", bow_tie), "crosses itself"),
    ("moved", in_item("SCOORD", moved), "leaves the segment"),
    ("another slice", on_another_slice, "largest"),
    ("no segment", remove("IMAGE", "121191"), "does not refer to that segment"),
    ("a number less", remove("NUM"), "not those of the findings"),
    (
        "wrong volume",
        in_item("NUM", in_first("MeasuredValueSequence", put("NumericValue", "77"))),
        "not the number of the encoded segment",
    ),
]


@pytest.mark.parametrize(
    ("damage", "sentence"), [c[1:] for c in MEASUREMENTS], ids=[c[0] for c in MEASUREMENTS]
)
def test_a_fault_of_the_measurement_report_is_found(
    case: Case, tmp_path: Path, damage: Damage, sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(case, "sr-measurements", damage, tmp_path))


def without_findings(ds: Dataset) -> None:
    items(ds, "CONTAINER")[1].ContentSequence = []


TEXT: list[tuple[str, Damage, str]] = [
    ("title", in_first("ConceptNameCodeSequence", put("CodeValue", "126000")), "title"),
    (
        "container",
        in_item("CONTAINER", put("ContinuityOfContent", "CONTINUOUS"), 1),
        "run its lines together",
    ),
    ("notice", in_item("TEXT", put("TextValue", "fine"), 3), "research only"),
    ("number", remove("NUM"), "a measurement is missing"),
    ("silence", without_findings, "says nothing at all"),
    ("caution", remove("TEXT", "121106"), "research only"),
]


@pytest.mark.parametrize(("damage", "sentence"), [c[1:] for c in TEXT], ids=[c[0] for c in TEXT])
def test_a_fault_of_the_text_report_is_found(
    case: Case, tmp_path: Path, damage: Damage, sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(case, "sr-text", damage, tmp_path))


def test_a_caution_that_is_not_told_is_found(case: Case) -> None:
    material = case.material(replace(case.findings, cautions=("Cut off below.", "Noisy image.")))
    assert list(faults(case.result.objects, material)) == ["sr-text: 1 cautions are missing"]


def test_a_note_about_the_images_that_is_not_told_is_found(case: Case) -> None:
    volume = replace(case.volume, notes=("1 localizer left out",))
    material = case.material(case.findings, volume)
    assert list(faults(case.result.objects, material)) == ["sr-text: 1 notes about the images are missing"]


def test_an_object_changed_on_disk_is_found(case: Case, tmp_path: Path) -> None:
    seg = case.result.objects[0]
    path = tmp_path / "seg.dcm"
    path.write_bytes(seg.path.read_bytes() + b"\0\0")
    assert any("changed" in f for f in case.judged((replace(seg, path=path), *case.result.objects[1:])))


def test_a_set_without_report_or_out_of_order_or_with_one_series_twice_is_found(case: Case) -> None:
    seg, measurements, text = case.result.objects
    assert "there is no report" in case.judged((seg,))
    assert any("comes before" in fault for fault in case.judged((text, seg, measurements)))
    same = replace(measurements, series_uid=seg.series_uid)
    assert "two objects share one series_uid" in case.judged((seg, same, text))


def test_an_object_that_was_found_in_order_is_not_judged_again(case: Case, tmp_path: Path) -> None:
    seg, *others = case.result.objects
    path = tmp_path / "seg.dcm"
    path.write_bytes(seg.path.read_bytes() + b"\0\0")
    objects = (replace(seg, path=path), *others)
    judged = {seg.sop_instance_uid}
    assert list(faults(objects, case.material(case.findings), judged=judged)) == []
    assert judged == {thing.sop_instance_uid for thing in objects}


def test_an_object_with_a_fault_is_not_remembered_as_in_order(case: Case, tmp_path: Path) -> None:
    seg, *others = case.result.objects
    path = tmp_path / "seg.dcm"
    path.write_bytes(seg.path.read_bytes() + b"\0\0")
    judged: set[str] = set()
    assert list(faults((replace(seg, path=path), *others), case.material(case.findings), judged=judged))
    assert judged == {thing.sop_instance_uid for thing in others}


def test_a_result_in_a_series_of_the_source_is_found(case: Case, tmp_path: Path) -> None:
    found = damaged(case, "sr-text", put("SeriesInstanceUID", case.volume.series_uid), tmp_path)
    assert any("series of the source" in fault for fault in found)


def test_every_fault_is_listed_at_once(case: Case, tmp_path: Path) -> None:
    seg = case.result.objects[0]
    ds = pydicom.dcmread(seg.path)
    ds.ContentQualification, ds.SpecificCharacterSet = "PRODUCT", "ISO_IR 100"
    ds.save_as(tmp_path / "seg.dcm")
    objects = (replace(seg, path=tmp_path / "seg.dcm"), *case.result.objects[1:])
    with pytest.raises(EncodeError) as caught:
        lint(objects, case.material(case.findings), judged=set())
    assert "RESEARCH" in str(caught.value) and "ISO_IR 192" in str(caught.value)


def test_what_a_judge_found_before_it_gave_up_is_told_as_well(case: Case, tmp_path: Path) -> None:
    def worse(ds: Dataset) -> None:
        ds.ContentQualification = "PRODUCT"
        del ds.SharedFunctionalGroupsSequence

    found = damaged(case, "seg", worse, tmp_path)
    assert any("RESEARCH" in fault for fault in found)
    assert any("cannot be judged" in fault for fault in found)
