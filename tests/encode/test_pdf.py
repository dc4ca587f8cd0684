"""The report as a PDF: read by other programs, the same on every run, with the notice on every page."""

from __future__ import annotations

import io
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pypdf import PdfReader

from node.encode import encode
from node.encode.common import RESEARCH_NOTICE, save
from node.encode.lint import faults
from node.encode.lint.render import document_faults, pdf_faults
from node.encode.render.pdf import make_pdf
from node.encode.render.results import detection_rows, general_lines, measurement_rows, place_of
from node.encode.render.secondary_capture import MAPS_MAX
from node.model import Outcome, ResultObject, Volume
from node.profile import Presentation, Profile, Report
from pipelines.contract import Findings, Map
from tests.encode.helpers import (
    LEFT_LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    a_card,
    a_job,
    findings_of,
    material_of,
    single_frame_volume,
)
from tests.encode.judges import dciodvfy_errors, needs, needs_dciodvfy
from tests.encode.rich import NO_UNITS, PROBABILITY, Rich, rich
from tests.phantoms import make_affine

KIND = "pdf"


def made_of(volume: Volume, findings: Findings, folder: Path, report: Report = "viewer") -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    return encode(a_job(), findings, {"ct": volume}, folder, (Profile(report=report, also=("pdf",)),))


def report_of(result: Outcome) -> ResultObject:
    (thing,) = [t for t in result.objects if t.kind == KIND]
    return thing


def document_of(thing: ResultObject) -> bytes:
    ds = pydicom.dcmread(thing.path)
    return ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]


def pages_of(document: bytes) -> list[str]:
    """Return the text of each page as pypdf reads it, white space as single blanks."""
    return [" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(document)).pages]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rich, Outcome]:
    made = rich(tmp_path_factory.mktemp("source"))
    return made, made_of(made.volume, made.findings, tmp_path_factory.mktemp("results"))


@needs_dciodvfy
def test_the_validator_finds_no_error(case: tuple[Rich, Outcome]) -> None:
    assert dciodvfy_errors(report_of(case[1]).path) == []


@needs("dcm2pdf", "dcmtk")
def test_dcmtk_takes_the_document_out(case: tuple[Rich, Outcome], tmp_path: Path) -> None:
    thing = report_of(case[1])
    subprocess.run(["dcm2pdf", str(thing.path), str(tmp_path / "out.pdf")], check=True, capture_output=True)
    assert (tmp_path / "out.pdf").read_bytes().rstrip(b"\0") == document_of(thing).rstrip(b"\0")


@needs("pdftotext", "poppler-utils")
def test_poppler_reads_every_number_that_is_reported(case: tuple[Rich, Outcome], tmp_path: Path) -> None:
    made, result = case
    target = tmp_path / "report.pdf"
    target.write_bytes(document_of(report_of(result)))
    run = subprocess.run(
        ["pdftotext", "-layout", str(target), "-"], capture_output=True, text=True, check=True
    )
    assert not run.stderr
    segs = [t for t in result.objects if t.kind == "seg"]
    for number in material_of(made.volume, made.findings, segs).numbers:
        assert number.text in run.stdout
    for told in (*(s.label for s in made.findings.segments), *(d.label for d in made.findings.detections)):
        assert told in run.stdout
    for told in ("Severity: Moderate (probability 75 %)", "60 %", "Cut off below.", "Made for a test"):
        assert told in run.stdout


def test_the_notice_is_on_every_page_with_its_number(case: tuple[Rich, Outcome]) -> None:
    pages = pages_of(document_of(report_of(case[1])))
    assert len(pages) > 1
    for number, text in enumerate(pages, start=1):
        assert RESEARCH_NOTICE in text and f"Page {number} of {len(pages)}" in text
        assert "lung-density 0.1.0" in text


def test_nothing_of_the_patient_is_on_the_pages(case: tuple[Rich, Outcome]) -> None:
    made, result = case
    source = pydicom.dcmread(made.volume.slices[0].path)
    text = " ".join(pages_of(document_of(report_of(result))))
    identity = [str(source.get(k, "")) for k in ("PatientID", "PatientBirthDate", "AccessionNumber")]
    identity += [part for part in str(source.PatientName).split("^") if part]
    identity += [made.volume.study_uid, made.volume.series_uid]
    for value in filter(None, identity):
        assert value not in text


def test_the_header_says_what_it_is_and_what_it_was_made_from(case: tuple[Rich, Outcome]) -> None:
    made, result = case
    thing = report_of(result)
    ds = pydicom.dcmread(thing.path)
    assert ds.DocumentTitle == "Lung volumes and density (research only)"
    assert ds.ConceptNameCodeSequence[0].CodeValue == "18748-4"
    assert (ds.MIMETypeOfEncapsulatedDocument, ds.BurnedInAnnotation) == ("application/pdf", "NO")
    named = {str(one.ReferencedSOPInstanceUID) for one in ds.SourceInstanceSequence}
    assert {plane.sop_instance_uid for plane in made.volume.slices} <= named
    assert {t.sop_instance_uid for t in result.objects if t.kind == "seg"} <= named
    long = made_title("x" * 90, made)
    assert len(long) <= 64 and long.endswith("(research only)")


def made_title(title: str, made: Rich) -> str:
    (ds,) = make_pdf(material_of(made.volume, Findings(), card=a_card(title=title)))
    return str(ds.DocumentTitle)


def test_two_runs_give_the_same_bytes(case: tuple[Rich, Outcome], tmp_path: Path) -> None:
    made, result = case
    again = made_of(made.volume, made.findings, tmp_path)
    assert report_of(again).sha256 == report_of(result).sha256


def test_labels_of_any_script_are_printed_or_told_in_other_words(tmp_path: Path) -> None:
    volume = single_frame_volume(tmp_path, np.zeros((3, 24, 24), np.int16), make_affine("axial"))
    masks = [np.zeros((3, 24, 24), bool) for _ in range(4)]
    for place, mask in enumerate(masks):
        mask[1, 4:9, 5 * place : 5 * place + 4] = True
    labels = ("Пухлина & <b>", "Νεφρός", "Größe µ³", "肝臓")
    segments = [replace(LEFT_LUNG, number=n, label=label) for n, label in enumerate(labels, start=1)]
    findings = findings_of(volume, masks, segments)
    result = made_of(volume, findings, tmp_path / "out")
    text = " ".join(pages_of(document_of(report_of(result))))
    for label in labels[:3]:
        assert label in text
    assert "肝臓" not in text and "Lung" in text  # told by what kind of thing it is


def test_a_hundred_structures_fill_many_pages_with_their_heads(tmp_path: Path) -> None:
    volume = single_frame_volume(tmp_path, np.zeros((4, 50, 60), np.int16), make_affine("axial"))
    labelmap = np.zeros((4, 50, 60), np.uint8)
    for n in range(104):
        labelmap[n % 4, 5 * (n // 12) : 5 * (n // 12) + 3, 5 * (n % 12) : 5 * (n % 12) + 3] = n + 1
    segments = [replace(RIGHT_LUNG, number=n + 1, label=f"Structure {n + 1}") for n in range(104)]
    findings = findings_of(volume, [labelmap == n + 1 for n in range(104)], segments)
    pages = pages_of(document_of(report_of(made_of(volume, findings, tmp_path / "out", "text"))))
    assert all(f"Structure {n + 1} Volume" in " ".join(pages) for n in range(104))
    tables = [text for text in pages if "Volume" in text]
    assert len(tables) > 3 and all("Structure Measurement Value" in text for text in tables)


def test_results_are_told_in_the_order_in_which_they_are_read(case: tuple[Rich, Outcome]) -> None:
    made, result = case
    segs = [t for t in result.objects if t.kind == "seg"]
    material = material_of(made.volume, made.findings, segs)
    assert general_lines(material)[:3] == [
        "Severity: Moderate (probability 75 %)",
        "3 structures outlined.",
        "4 detections.",
    ]
    rows = measurement_rows(material)
    assert [row.cells[0] for row in rows if row.first] == ["Left lung", "Right lung", "Nodule"]
    assert rows[-1].cells[1:] == ("Severity", "Moderate (probability 25 %)")
    found = detection_rows(material)
    assert found[1].cells[2:] == ("70 %", "Length 8.5 mm")
    assert found[2].cells[3] == "Length could not be measured"
    assert place_of(made.findings.detections[2], made.volume) == "Right Lung, images 5 to 7"


def test_finding_nothing_is_a_result(tmp_path: Path) -> None:
    volume = single_frame_volume(tmp_path, np.zeros((3, 16, 16), np.int16), make_affine("axial"))
    empty = [np.zeros((3, 16, 16), bool)] * 2
    result = made_of(volume, findings_of(volume, empty, (LEFT_LUNG, RIGHT_LUNG)), tmp_path / "a")
    said = "Nothing was found: no part of the image was marked as Left lung or Right lung."
    assert said in pages_of(document_of(report_of(result)))[0]
    result = made_of(volume, Findings(affine=volume.image.affine), tmp_path / "b")
    assert "Nothing was found by this analysis." in pages_of(document_of(report_of(result)))[0]


def test_hostile_words_do_not_break_the_pages(tmp_path: Path) -> None:
    volume = single_frame_volume(tmp_path, np.zeros((3, 16, 16), np.int16), make_affine("axial"))
    mask = np.zeros((3, 16, 16), bool)
    mask[1, 2:5, 2:5] = True
    odd = replace(NODULE_SEGMENT, number=1, label="<para>&nbsp;</b>" + "W" * 40)
    findings = findings_of(volume, [mask], [odd], cautions=("A" * 3000 + " <img src='file:///etc/passwd'/>",))
    (ds,) = make_pdf(material_of(volume, findings, card=a_card(warning="<b>unclosed & \x00 bad")))
    assert list(document_faults(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])) == []


@pytest.fixture
def judged(case: tuple[Rich, Outcome], tmp_path: Path) -> Callable[[Callable[[Dataset], None]], list[str]]:
    """Return a function that damages the report and says what the linter finds."""
    made, result = case
    siblings = [t for t in result.objects if t.kind in ("seg", "sr-measurements")]
    material = material_of(made.volume, made.findings, siblings)

    def judge(damage: Callable[[Dataset], None]) -> list[str]:
        ds = pydicom.dcmread(report_of(result).path)
        damage(ds)
        written = save(ds, tmp_path / "damaged.dcm", kind=KIND, siblings=siblings)
        return [f for f in faults([*siblings, written], material) if f.startswith(f"{KIND}:")]

    assert judge(lambda ds: None) == []
    return judge


def test_maps_that_are_not_drawn_are_told(tmp_path: Path) -> None:
    array = np.zeros((3, 32, 32), np.int16)
    volume = single_frame_volume(tmp_path / "in", array, make_affine("axial"))
    one = Map(label="Heat", quantity=PROBABILITY, unit=NO_UNITS, array=np.ones(array.shape, np.float32))
    findings = Findings(affine=volume.image.affine, maps=(one,) * (MAPS_MAX + 1))
    text = " ".join(pages_of(document_of(report_of(made_of(volume, findings, tmp_path / "out")))))
    assert "1 more map is not drawn." in text


def _drop_sources(ds: Dataset) -> None:
    ds.SourceInstanceSequence = [
        one for one in ds.SourceInstanceSequence if not str(one.ReferencedSOPClassUID).endswith(".1.2")
    ]


def _drop_siblings(ds: Dataset) -> None:
    ds.SourceInstanceSequence = [
        one for one in ds.SourceInstanceSequence if str(one.ReferencedSOPClassUID).endswith(".1.2")
    ]


DAMAGES: dict[str, tuple[Callable[[Dataset], None], str]] = {
    "modality": (lambda ds: setattr(ds, "Modality", "OT"), "class or modality"),
    "type": (lambda ds: setattr(ds, "MIMETypeOfEncapsulatedDocument", "text/plain"), "MIME type"),
    "title": (lambda ds: setattr(ds, "DocumentTitle", "Doe"), "Document Title"),
    "concept": (lambda ds: setattr(ds, "ConceptNameCodeSequence", []), "concept"),
    "burned in": (lambda ds: setattr(ds, "BurnedInAnnotation", "YES"), "Burned In Annotation"),
    "conversion": (lambda ds: delattr(ds, "ConversionType"), "Conversion Type"),
    "sources": (_drop_sources, "every instance that was used"),
    "siblings": (_drop_siblings, "does not refer"),
    "length": (lambda ds: setattr(ds, "EncapsulatedDocumentLength", 10), "Encapsulated Document Length"),
    "not a PDF": (lambda ds: setattr(ds, "EncapsulatedDocument", b"x" * 100), "not a whole PDF"),
}


@pytest.mark.parametrize(("damage", "fault"), DAMAGES.values(), ids=DAMAGES.keys())
def test_the_linter_sees_what_is_wrong(
    judged: Callable[[Callable[[Dataset], None]], list[str]], damage: Callable[[Dataset], None], fault: str
) -> None:
    found = judged(damage)
    assert any(fault in one for one in found), found


def test_the_linter_misses_the_notice_on_a_single_page(case: tuple[Rich, Outcome]) -> None:
    document = document_of(report_of(case[1]))
    assert list(document_faults(document)) == []
    assert "PDF" in next(document_faults(document[:-20]))
    silent = without_notice(document)
    pages = len(pages_of(document))
    assert list(document_faults(silent)) == [f"1 of {pages} pages do not carry the notice"]


def without_notice(document: bytes) -> bytes:
    """Return the document with the notice of its first page changed, packed to the same length or less."""
    place = 0
    while True:
        place = document.index(b"stream\n", place) + len(b"stream\n")
        try:
            page = zlib.decompress(document[place : document.index(b"endstream", place)])
        except zlib.error:
            continue
        if f"({RESEARCH_NOTICE})".encode() in page:
            break
    end = document.index(b"endstream", place)
    silent = page.replace(f"({RESEARCH_NOTICE})".encode(), b"(" + b" " * len(RESEARCH_NOTICE) + b")")
    packed = zlib.compress(silent, 9)
    assert len(packed) <= end - place
    return document[:place] + packed.ljust(end - place, b"\0") + document[end:]


def test_the_linter_knows_the_limit(case: tuple[Rich, Outcome]) -> None:
    made, result = case
    thing, siblings = report_of(result), [t for t in result.objects if t.kind == "seg"]
    material = material_of(made.volume, made.findings, siblings)
    small = replace(material, job=replace(material.job, presentation=Presentation(max_object_mb=0.01)))
    found = list(pdf_faults(pydicom.dcmread(thing.path), thing, small))
    assert found == ["it is larger than objects may be"]


def test_a_report_larger_than_objects_may_be_becomes_a_note(
    case: tuple[Rich, Outcome], tmp_path: Path
) -> None:
    made, _ = case
    job = a_job(presentation=Presentation(max_object_mb=0.01))
    outcome = encode(job, made.findings, {"ct": made.volume}, tmp_path, (Profile(also=("pdf",)),))
    assert not any(thing.kind == "pdf" for thing in outcome.objects)
    assert "No PDF report was made: it needs more than max_object_mb." in outcome.notes
