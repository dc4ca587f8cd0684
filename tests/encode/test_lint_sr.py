"""Every rule about reports, seen to fail on one that was damaged on purpose; one report for each profile."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from node.encode import encode
from node.encode.lint import JUDGES, faults
from node.encode.material import Material
from node.encode.sr.tree import children, name_of, walk
from node.model import Outcome, Predecessor
from node.profile import Coordinates, Profile, Report
from pipelines.contract import Code, Findings, Measurement
from pipelines.measure import measure_segment
from tests.encode.damage import drop, in_first, put
from tests.encode.helpers import Damage, a_job, material_of
from tests.encode.rich import LENGTH, MILLIMETRE, Rich, rich

Choice = tuple[Report, Coordinates]
VIEWER: Choice = ("viewer", "image")
AIR: Choice = ("air", "image")
PATIENT: Choice = ("air", "patient")
SEGMENTS: Choice = ("segment-only", "image")
TEXT: Choice = ("text", "image")


@dataclass(frozen=True)
class Case:
    rich: Rich
    outcomes: dict[Choice, Outcome]
    materials: dict[Choice, Material]

    def judged(self, choice: Choice, damage: Damage, kind: str) -> list[str]:
        """Damage one report and let the judge of its kind say what is wrong."""
        thing = next(o for o in self.outcomes[choice].objects if o.kind == kind)
        ds = pydicom.dcmread(thing.path)
        damage(ds)
        return list(JUDGES[kind](ds, thing, self.materials[choice]))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("lint-sr")
    made = rich(folder / "in")
    lungs = made.findings.mask(1) | made.findings.mask(2)
    together = measure_segment(("volume",), lungs, made.volume.image, union=(1, 2))
    measurements = (*made.findings.measurements, *together)
    made = replace(made, findings=replace(made.findings, measurements=measurements))
    made = replace(made, volume=replace(made.volume, notes=("1 localizer left out",)))
    outcomes, materials = {}, {}
    for number, choice in enumerate((VIEWER, AIR, PATIENT, SEGMENTS, TEXT)):
        out = folder / str(number)
        out.mkdir()
        profile = Profile(report=choice[0], coordinates=choice[1])
        outcomes[choice] = encoded(made, out, profile)
        siblings = outcomes[choice].objects[:-1]
        materials[choice] = material_of(made.volume, made.findings, siblings, profile=profile)
    return Case(made, outcomes, materials)


def encoded(made: Rich, out: Path, profile: Profile) -> Outcome:
    return encode(a_job(), made.findings, {"ct": made.volume}, out, [profile])


def items(ds: Dataset, value_type: str, code: str = "") -> list[Dataset]:
    return [c for c in walk(ds) if c.get("ValueType") == value_type and code in ("", name_of(c).value)]


def groups(ds: Dataset) -> list[Dataset]:
    return items(ds, "CONTAINER", "125007")


def template(group: Dataset) -> str:
    return str(group.ContentTemplateSequence[0].TemplateIdentifier)


def group_with(ds: Dataset, number: str, value_type: str) -> Dataset:
    return next(g for g in groups(ds) if template(g) == number and children(g, value_type))


def at(value_type: str, damage: Damage, code: str = "", which: int = 0) -> Damage:
    return lambda ds: damage(items(ds, value_type, code)[which])


def without(value_type: str, code: str = "", which: int = 0) -> Damage:
    """Take out an item of a type, and of a concept name if one is given."""

    def damage(ds: Dataset) -> None:
        victim = items(ds, value_type, code)[which]
        for content in walk(ds):
            below = content.get("ContentSequence") or []
            for position, child in enumerate(below):
                if child is victim:
                    del below[position]
                    return

    return damage


def value(number: str) -> Damage:
    return in_first("MeasuredValueSequence", put("NumericValue", number))


def coded_as(code: str) -> Damage:
    return in_first("ConceptCodeSequence", put("CodeValue", code))


def group_without(number: int) -> Damage:
    def damage(ds: Dataset) -> None:
        box = items(ds, "CONTAINER", "126010")[0]
        del box.ContentSequence[number]

    return damage


def in_group(which: int, damage: Damage) -> Damage:
    return lambda ds: damage(groups(ds)[which])


def moved(content: Dataset) -> None:
    content.GraphicData = [v + 5 for v in content.GraphicData]


def out_of_the_image(content: Dataset) -> None:
    content.GraphicData = [v + 500 for v in content.GraphicData]


def on_another_image(ds: Dataset) -> None:
    listed = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    for region in items(ds, "SCOORD")[3:]:
        reference = region.ContentSequence[0].ReferencedSOPSequence[0]
        reference.ReferencedSOPInstanceUID = listed[0].ReferencedSOPInstanceUID


def in_the_patient(ds: Dataset) -> None:
    region = items(ds, "SCOORD")[3]
    region.ValueType, region.GraphicData = "SCOORD3D", [1.0, 2.0, 3.0]
    region.ReferencedFrameOfReferenceUID = "1.2.3"
    del region.ContentSequence


def with_image_level_group(ds: Dataset) -> None:
    group = copy.deepcopy(groups(ds)[0])
    group.ContentTemplateSequence[0].TemplateIdentifier = "1501"
    group.ContentSequence = [c for c in group.ContentSequence if c.ValueType != "SCOORD"]
    children(group, "UIDREF", Code("112040", "DCM", ""))[0].UID = "1.2.3"
    items(ds, "CONTAINER", "126010")[0].ContentSequence.append(group)


def with_drawing(ds: Dataset) -> None:
    region = Dataset()
    region.RelationshipType, region.ValueType, region.GraphicType = "CONTAINS", "SCOORD", "POINT"
    region.GraphicData = [1.0, 1.0]
    name = Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "111030", "DCM", "Image Region"
    region.ConceptNameCodeSequence = [name]
    groups(ds)[0].ContentSequence.append(region)


def other_segment(ds: Dataset) -> None:
    reference = items(ds, "IMAGE", "121191")[0].ReferencedSOPSequence[0]
    reference.ReferencedSegmentNumber = 7 - int(reference.ReferencedSegmentNumber)


def one_region_less(ds: Dataset) -> None:
    group = next(g for g in groups(ds) if len(children(g, "SCOORD")) == 3)
    region = children(group, "SCOORD")[1]
    region.ContentSequence = children(group, "SCOORD")[0].ContentSequence


def composite_as_image(ds: Dataset) -> None:
    items(ds, "COMPOSITE")[0].ValueType = "IMAGE"


def with_predecessor(ds: Dataset) -> None:
    reference, series, study = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = (
        "1.2.840.10008.5.1.4.1.1.88.22",
        "1.2.3",
    )
    series.SeriesInstanceUID, series.ReferencedSOPSequence = "1.2.4", [reference]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = str(ds.StudyInstanceUID), [series]
    ds.PredecessorDocumentsSequence = [study]


#: What is damaged, how, in which report, and what the judge says of it.
RULES: list[tuple[str, Choice, str, Damage, str]] = [
    # every report
    ("verified", AIR, "sr-air", put("VerificationFlag", "VERIFIED"), "unverified"),
    ("no observer", AIR, "sr-air", without("UIDREF", "121012"), "device observer"),
    ("foreign predecessor", AIR, "sr-air", with_predecessor, "predecessor documents"),
    (
        "no unit",
        AIR,
        "sr-air",
        at("NUM", in_first("MeasuredValueSequence", drop("MeasurementUnitsCodeSequence")), "118565006"),
        "no unit",
    ),
    # roots
    ("sibling missing", AIR, "sr-air", without("IMAGE", "DERIVED-OBJECT"), "every other object"),
    ("sibling missing", SEGMENTS, "sr-segments", without("IMAGE", "DERIVED-OBJECT"), "every other object"),
    ("sibling missing", VIEWER, "sr-text", without("COMPOSITE", "DERIVED-OBJECT"), "every other object"),
    ("no image", VIEWER, "sr-text", composite_as_image, "every other object"),
    ("class", AIR, "sr-air", put("SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.33"), "class or title"),
    (
        "title",
        SEGMENTS,
        "sr-segments",
        in_first("ConceptNameCodeSequence", put("CodeValue", "126000")),
        "class or title",
    ),
    ("template", SEGMENTS, "sr-segments", drop("ContentTemplateSequence"), "template 1500"),
    (
        "template",
        AIR,
        "sr-air",
        in_first("ContentTemplateSequence", put("TemplateIdentifier", "2000")),
        "template 1500",
    ),
    ("library", AIR, "sr-air", without("IMAGE", ""), "image library"),
    *(
        (f"{what} untold", choice, kind, at("TEXT", put("TextValue", "Something."), "121106", which), said)
        for choice, kind in ((AIR, "sr-air"), (SEGMENTS, "sr-segments"), (TEXT, "sr-text"))
        for which, (what, said) in enumerate(
            (
                ("notice", "for research only"),
                ("warning", "1 warnings of the card are missing"),
                ("caution", "1 cautions are missing"),
                ("note", "1 notes about the images are missing"),
            )
        )
    ),
    # groups of any kind
    ("no tracking id", AIR, "sr-air", without("TEXT", "112039"), "not tied"),
    ("no tracking uid", SEGMENTS, "sr-segments", without("UIDREF", "112040", 3), "not tied"),
    ("another uid", VIEWER, "sr-measurements", at("UIDREF", put("UID", "1.2.3"), "112040"), "Tracking UID"),
    (
        "another uid of a detection",
        VIEWER,
        "sr-measurements",
        at("UIDREF", put("UID", "1.2.3"), "112040", 6),
        "not one group tied to detection 1",
    ),
    (
        "no groups",
        AIR,
        "sr-air",
        at("CONTAINER", put("ContentSequence", []), "126010"),
        "no measurement group",
    ),
    ("kind", AIR, "sr-air", at("CODE", coded_as("4147007"), "121071"), "another finding"),
    ("site", AIR, "sr-air", at("CODE", coded_as("4147007"), "363698007", 3), "another finding, site or side"),
    (
        "side",
        VIEWER,
        "sr-measurements",
        at("CODE", coded_as("7771000"), "272741003", -1),
        "another finding, site or side",
    ),
    # viewers
    ("group without contour", VIEWER, "sr-measurements", group_without(0), "one contour group and then"),
    (
        "groups swapped",
        VIEWER,
        "sr-measurements",
        lambda ds: items(ds, "CONTAINER", "126010")[0].ContentSequence.reverse(),
        "one contour group and then",
    ),
    ("no drawing", VIEWER, "sr-measurements", without("SCOORD", "111030", 3), "blank"),
    ("no drawing of a segment", VIEWER, "sr-measurements", without("SCOORD"), "blank"),
    ("group without any", VIEWER, "sr-measurements", with_image_level_group, "tied to no finding"),
    ("in the patient", VIEWER, "sr-measurements", in_the_patient, "in the patient"),
    # drawings of detections
    ("moved", VIEWER, "sr-measurements", at("SCOORD", moved, "", 3), "not where it was found"),
    ("moved box", AIR, "sr-air", at("SCOORD", moved, "", -2), "not where it was found"),
    ("outside", VIEWER, "sr-measurements", at("SCOORD", out_of_the_image, "", 4), "leaves the image"),
    ("another image", VIEWER, "sr-measurements", on_another_image, "not where it was found"),
    (
        "foreign image",
        AIR,
        "sr-air",
        at(
            "SCOORD",
            lambda c: setattr(
                c.ContentSequence[0].ReferencedSOPSequence[0], "ReferencedSOPInstanceUID", "1.2.3"
            ),
        ),
        "not on an image",
    ),
    (
        "shape",
        VIEWER,
        "sr-measurements",
        at("SCOORD", put("GraphicType", "POINT"), "", 3),
        "another shape",
    ),
    (
        "open",
        VIEWER,
        "sr-measurements",
        at("SCOORD", lambda c: setattr(c, "GraphicData", c.GraphicData[:-2]), "", 5),
        "closed",
    ),
    (
        "few points",
        VIEWER,
        "sr-measurements",
        at("SCOORD", put("GraphicData", [36.5, 20.5, 43.5, 20.5, 43.5, 26.5, 36.5, 26.5, 36.5, 20.5]), "", 5),
        "too few",
    ),
    ("twice on one image", AIR, "sr-air", one_region_less, "twice on one image"),
    (
        "frame of reference",
        PATIENT,
        "sr-air",
        at("SCOORD3D", put("ReferencedFrameOfReferenceUID", "1.2.3")),
        "another frame of reference",
    ),
    (
        "beside the plane",
        PATIENT,
        "sr-air",
        at(
            "SCOORD3D",
            lambda c: setattr(c, "GraphicData", [c.GraphicData[0], c.GraphicData[1], c.GraphicData[2] + 3.0]),
        ),
        "not where it was found",
    ),
    ("far from the patient", PATIENT, "sr-air", at("SCOORD3D", out_of_the_image), "leaves the image"),
    # segments
    ("another segment", SEGMENTS, "sr-segments", other_segment, "does not refer to that segment"),
    ("no source series", AIR, "sr-air", without("UIDREF", "121232"), "does not name the series"),
    ("drawing", SEGMENTS, "sr-segments", with_drawing, "3D Slicer"),
    # numbers and answers
    ("volume", AIR, "sr-air", at("NUM", value("77"), "118565006"), "not the number of the encoded segment"),
    (
        "length",
        VIEWER,
        "sr-measurements",
        at("NUM", value("77"), "410668003"),
        "not the number of the findings",
    ),
    (
        "unit",
        VIEWER,
        "sr-measurements",
        at(
            "NUM",
            in_first(
                "MeasuredValueSequence", in_first("MeasurementUnitsCodeSequence", put("CodeValue", "cm"))
            ),
            "410668003",
        ),
        "not the number of the findings",
    ),
    ("number missing", SEGMENTS, "sr-segments", without("NUM", "410668003"), "numbers of detection 2"),
    ("confidence", VIEWER, "sr-measurements", at("NUM", value("77"), "111012", -1), "confidence"),
    ("failure", AIR, "sr-air", without("CODE", "410668003"), "answers about detection 3"),
    ("answer", AIR, "sr-air", at("CODE", coded_as("24484000"), "246112005"), "answers about segment 3"),
    ("probability", AIR, "sr-air", at("NUM", value("99"), "111012", 0), "answers about segment 3"),
    ("answer about all", AIR, "sr-air", at("CODE", coded_as("24484000"), "246112005", -1), "whole image"),
    ("number about several", AIR, "sr-air", without("NUM", "118565006", -1), "whole image"),
    (
        "group about all",
        AIR,
        "sr-air",
        in_group(-1, in_first("ContentTemplateSequence", put("TemplateIdentifier", "1410"))),
        "image-level",
    ),
    # text
    (
        "detection untold",
        TEXT,
        "sr-text",
        at("TEXT", put("TextValue", "Something."), "121071", 10),
        "detections are missing",
    ),
    ("answer untold", TEXT, "sr-text", without("CODE", "246112005"), "an evaluation is missing"),
    ("number untold", TEXT, "sr-text", without("NUM", "410668003"), "a measurement is missing"),
]


@pytest.mark.parametrize("choice", [VIEWER, AIR, PATIENT, SEGMENTS, TEXT])
def test_an_undamaged_report_has_no_fault(case: Case, choice: Choice) -> None:
    assert list(faults(case.outcomes[choice].objects, case.materials[choice])) == []


@pytest.mark.parametrize(
    ("choice", "kind", "damage", "sentence"),
    [rule[1:] for rule in RULES],
    ids=[f"{rule[2]}: {rule[0]}" for rule in RULES],
)
def test_a_fault_of_a_report_is_found(
    case: Case,
    choice: Choice,
    kind: str,
    damage: Damage,
    sentence: str,
) -> None:
    found = case.judged(choice, damage, kind)
    assert any(sentence in fault for fault in found), found


def test_a_predecessor_that_is_not_named_is_found(case: Case) -> None:
    earlier = Predecessor(study_uid="1.2", series_uid="1.3", sop_class_uid="1.4", sop_instance_uid="1.5")
    objects = case.outcomes[TEXT].objects
    material = material_of(
        case.rich.volume,
        case.rich.findings,
        objects[:-1],
        profile=Profile(report="text"),
        predecessors=(earlier,),
    )
    assert any("predecessor documents" in fault for fault in faults(objects, material))


def test_silence_about_nothing_found_is_found(case: Case, tmp_path: Path) -> None:
    made = replace(case.rich, findings=Findings())
    (thing,) = encoded(made, tmp_path, Profile(report="air")).objects
    ds = pydicom.dcmread(thing.path)
    without("CODE", "111017")(ds)
    material = material_of(made.volume, made.findings, profile=Profile(report="air"))
    assert any("nothing found is not said" in fault for fault in JUDGES["sr-air"](ds, thing, material))


def test_a_number_that_nobody_found_is_found(case: Case) -> None:
    more = Measurement(name=LENGTH, value=1.0, unit=MILLIMETRE, detection=4)
    findings = replace(case.rich.findings, measurements=(*case.rich.findings.measurements, more))
    objects = case.outcomes[AIR].objects
    material = material_of(case.rich.volume, findings, objects[:-1], profile=Profile(report="air"))
    assert any("numbers of detection 4" in fault for fault in faults(objects, material))
