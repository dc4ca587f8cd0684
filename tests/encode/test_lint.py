"""Every rule of the lint, seen to fail on an object that was damaged on purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from node.encode.lint import faults, lint
from node.encode.sr.tree import walk
from node.errors import EncodeError
from node.model import Outcome, ResultObject, Volume
from pipelines.contract import Findings
from tests.encode.helpers import (
    LEFT_LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    a_job,
    encoded,
    findings_of,
    material_of,
    single_frame_volume,
)
from tests.phantoms import make_affine

SHAPE = (8, 24, 20)


@dataclass
class Case:
    volume: Volume
    findings: Findings
    result: Outcome

    def judged(self, objects: tuple[ResultObject, ...]) -> list[str]:
        return list(faults(objects, material_of(self.volume, self.findings, self.result.objects)))


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


def damaged(case: Case, kind: str, damage: Callable[[Dataset], None], folder: Path) -> list[str]:
    """Damage one object, describe it anew as a careless writer would, and judge the set."""
    objects = []
    for made in case.result.objects:
        if made.kind == kind:
            ds = pydicom.dcmread(made.path)
            damage(ds)
            path = folder / made.path.name
            ds.save_as(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            made = replace(made, path=path, sha256=digest)
        objects.append(made)
    return case.judged(tuple(objects))


def put(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


def drop(keyword: str) -> Callable[[Dataset], None]:
    return lambda ds: delattr(ds, keyword)


def in_first(sequence: str, damage: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    return lambda ds: damage(ds[sequence].value[0])


def in_segment(damage: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    return in_first("SegmentSequence", damage)


def in_frame(sequence: str, damage: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    return in_first("PerFrameFunctionalGroupsSequence", in_first(sequence, damage))


def in_shared(sequence: str, damage: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    return in_first("SharedFunctionalGroupsSequence", in_first(sequence, damage))


EVERY = ("seg", "sr-measurements", "sr-text")
COMMON: list[tuple[str, Callable[[Dataset], None], str]] = [
    ("preamble", lambda ds: setattr(ds, "preamble", b"X" * 128), "preamble"),
    ("meta", lambda ds: setattr(ds.file_meta, "ImplementationClassUID", "1.2.3"), "implementation"),
    ("charset", put("SpecificCharacterSet", "ISO_IR 100"), "ISO_IR 192"),
    ("creator", put("InstanceCreatorUID", "1.2.3"), "Instance Creator"),
    ("qualification", put("ContentQualification", "PRODUCT"), "RESEARCH"),
    ("type 2", drop("AccessionNumber"), "mandatory attributes are absent: AccessionNumber"),
    ("description", put("SeriesDescription", "lung-density"), "does not say research"),
    ("description of another", put("SeriesDescription", "x research only"), "does not name the algorithm"),
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
]


@pytest.mark.parametrize(
    ("kind", "damage", "sentence"),
    [(EVERY[i % 3], *rule[1:]) for i, rule in enumerate(COMMON)],  # one function judges all kinds
    ids=[rule[0] for rule in COMMON],
)
def test_a_fault_of_any_object_is_found(
    case: Case, tmp_path: Path, kind: str, damage: Callable[[Dataset], None], sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(case, kind, damage, tmp_path))


def other_frame_source(ds: Dataset) -> None:
    groups = ds.PerFrameFunctionalGroupsSequence
    groups[0].DerivationImageSequence = groups[1].DerivationImageSequence


def flip_a_pixel(ds: Dataset) -> None:
    ds.PixelData = bytes([ds.PixelData[0] ^ 1]) + ds.PixelData[1:]


def swap_segments(ds: Dataset) -> None:
    ds.SegmentSequence = list(reversed(ds.SegmentSequence))


def same_tracking(ds: Dataset) -> None:
    ds.SegmentSequence[1].TrackingUID = ds.SegmentSequence[0].TrackingUID


def other_side(ds: Dataset) -> None:
    kind = ds.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = "24028007"


def other_kind(ds: Dataset) -> None:
    ds.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"


def less_evidence(ds: Dataset) -> None:
    references = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence = references[:-1]


SEG: list[tuple[str, Callable[[Dataset], None], str]] = [
    ("class", put("Modality", "CT"), "class or modality"),
    ("type", put("SegmentationType", "FRACTIONAL"), "not BINARY"),
    ("no series", drop("ReferencedSeriesSequence"), "viewers cannot open it"),
    (
        "series",
        in_first("ReferencedSeriesSequence", put("SeriesInstanceUID", "1.2.3")),
        "viewers cannot open",
    ),
    ("instances", less_evidence, "not those that were used"),
    ("frame of reference", put("FrameOfReferenceUID", "1.2.3"), "frame of reference"),
    ("rows", put("Rows", 23), "Rows and Columns"),
    ("spacing", in_shared("PixelMeasuresSequence", put("PixelSpacing", [1, 1])), "spacing"),
    (
        "orientation",
        in_shared("PlaneOrientationSequence", put("ImageOrientationPatient", [1, 0, 0, 0, 1, 0])),
        "orientation",
    ),
    ("segments", swap_segments, "segments are not those"),
    ("tracking", in_segment(drop("TrackingUID")), "no tracking identifier"),
    ("one tracking for two", same_tracking, "share one Tracking UID"),
    ("label", in_segment(put("SegmentLabel", "")), "no label"),
    ("colour", in_segment(drop("RecommendedDisplayCIELabValue")), "no display colour"),
    ("algorithm", in_segment(put("SegmentAlgorithmName", "else")), "names another algorithm"),
    ("algorithm macro", in_segment(drop("SegmentationAlgorithmIdentificationSequence")), "another algorithm"),
    ("side", other_side, "another side"),
    ("kind", other_kind, "other codes"),
    ("region", lambda ds: delattr(ds.SegmentSequence[2], "AnatomicRegionSequence"), "another region"),
    ("frames", put("NumberOfFrames", 3), "Number of Frames"),
    ("length", lambda ds: setattr(ds, "PixelData", ds.PixelData + b"\0\0"), "length"),
    ("short", lambda ds: setattr(ds, "PixelData", ds.PixelData[:-200]), "fewer pixels"),
    (
        "identification",
        in_first("PerFrameFunctionalGroupsSequence", drop("SegmentIdentificationSequence")),
        "does not name its segment",
    ),
    (
        "unknown segment",
        in_frame("SegmentIdentificationSequence", put("ReferencedSegmentNumber", 9)),
        "not described",
    ),
    ("source", other_frame_source, "same segment on the same plane"),
    (
        "position",
        in_frame("PlanePositionSequence", put("ImagePositionPatient", [0, 0, 0])),
        "do not lie where",
    ),
    ("dimension", in_frame("FrameContentSequence", put("DimensionIndexValues", [1, 99])), "Dimension Index"),
    ("pixel", flip_a_pixel, "pixels of the findings"),
    ("overlap", put("SegmentsOverlap", "YES"), "Segments Overlap"),
]


@pytest.mark.parametrize(("damage", "sentence"), [c[1:] for c in SEG], ids=[c[0] for c in SEG])
def test_a_fault_of_a_segmentation_is_found(
    case: Case, tmp_path: Path, damage: Callable[[Dataset], None], sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(case, "seg", damage, tmp_path))


def items(ds: Dataset, value_type: str) -> list[Dataset]:
    return [content for content in walk(ds) if content.get("ValueType") == value_type]


def remove(value_type: str, code: str = "") -> Callable[[Dataset], None]:
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


def in_item(value_type: str, damage: Callable[[Dataset], None], which: int = 0) -> Callable[[Dataset], None]:
    return lambda ds: damage(items(ds, value_type)[which])


def in_version(damage: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    def first(ds: Dataset) -> None:
        damage(next(c for c in items(ds, "TEXT") if c.ConceptNameCodeSequence[0].CodeValue == "111003"))

    return first


def evidence_twice(ds: Dataset) -> None:
    series = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    series[0].ReferencedSOPSequence.append(series[0].ReferencedSOPSequence[0])


def evidence_lacks(ds: Dataset) -> None:
    series = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    del series[-1]


BOTH: list[tuple[str, Callable[[Dataset], None], str]] = [
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
    case: Case, tmp_path: Path, kind: str, damage: Callable[[Dataset], None], sentence: str
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


MEASUREMENTS: list[tuple[str, Callable[[Dataset], None], str]] = [
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
    case: Case, tmp_path: Path, damage: Callable[[Dataset], None], sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(case, "sr-measurements", damage, tmp_path))


def without_findings(ds: Dataset) -> None:
    items(ds, "CONTAINER")[1].ContentSequence = []


TEXT: list[tuple[str, Callable[[Dataset], None], str]] = [
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
    case: Case, tmp_path: Path, damage: Callable[[Dataset], None], sentence: str
) -> None:
    assert any(sentence in fault for fault in damaged(case, "sr-text", damage, tmp_path))


def test_a_caution_that_is_not_told_is_found(case: Case) -> None:
    told = replace(case.findings, cautions=("Cut off below.", "Noisy image."))
    found = list(faults(case.result.objects, {"ct": case.volume}, job=a_job(), findings=told, role="ct"))
    assert found == ["sr-text: 1 cautions are missing"]


def test_a_note_about_the_images_that_is_not_told_is_found(case: Case) -> None:
    volume = replace(case.volume, notes=("1 localizer left out",))
    objects = case.result.objects
    found = list(faults(objects, {"ct": volume}, job=a_job(), findings=case.findings, role="ct"))
    assert found == ["sr-text: 1 notes about the images are missing"]


def test_an_object_changed_on_disk_is_found(case: Case, tmp_path: Path) -> None:
    seg = case.result.objects[0]
    path = tmp_path / "seg.dcm"
    path.write_bytes(seg.path.read_bytes() + b"\0\0")
    assert any("changed" in f for f in case.judged((replace(seg, path=path), *case.result.objects[1:])))


def test_a_set_without_text_or_out_of_order_or_with_one_series_twice_is_found(case: Case) -> None:
    seg, measurements, text = case.result.objects
    assert "there is no text report" in case.judged((seg, measurements))
    assert any("comes before" in fault for fault in case.judged((text, seg, measurements)))
    same = replace(measurements, series_uid=seg.series_uid)
    assert "two objects share one series_uid" in case.judged((seg, same, text))


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
        lint(objects, {"ct": case.volume}, job=a_job(), findings=case.findings, role="ct")
    assert "RESEARCH" in str(caught.value) and "ISO_IR 192" in str(caught.value)
