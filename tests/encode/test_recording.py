"""Findings on an electrocardiogram: reports that refer to a waveform, and no picture objects."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture

from node.assemble.image import load_volumes
from node.compute.findings import validate
from node.encode import encode
from node.encode.sr.tree import walk
from node.errors import EncodeError
from node.picture import draw_findings
from node.picture.trace import draw_trace
from node.profile import EXTRAS, Profile
from pipelines.contract import Code, Evaluation, Findings, Image, InputSpec, Measurement, Segment
from tests.encode.helpers import a_card, a_job
from tests.encode.judges import dciodvfy_errors, dsrdump, needs_dciodvfy, needs_dsrdump
from tests.paths import SHARED, needs_shared
from tests.phantom_cine import group, sines, write_ecg
from tests.phantoms import instances_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

ECG = InputSpec(modality=("ECG",), unit="mV", kind="waveform", slices_min=1)
CARD = a_card(inputs={"ecg": ECG})
RATE = Measurement(name=Code("8867-4", "LN", "Heart rate"), value=71.5, unit=Code("/min", "UCUM", "/min"))
RHYTHM = Evaluation(
    name=Code("271921002", "SCT", "Electrocardiogram finding"),
    value=Code("164889003", "SCT", "Atrial fibrillation"),
    probability=0.83,
)
FOUND = Findings(measurements=(RATE,), evaluations=(RHYTHM,))
REPORTS = ("viewer", "air", "segment-only", "text")


def volumes_of(folder, *groups):
    path = write_ecg(folder / "ecg.dcm", groups or [group(sines())])
    return load_volumes({"ecg": instances_of([path])}, CARD)


def objects(folder, volumes, findings, profile):
    out = folder / f"{profile.report}-{bool(findings.measurements)}"
    out.mkdir()
    return encode(a_job(card=CARD), findings, volumes, out, (profile,))


@needs_dciodvfy
@needs_dsrdump
@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("findings", [FOUND, Findings()], ids=["found", "nothing"])
def test_every_report_of_a_recording_is_in_order(tmp_path, report, findings):
    outcome = objects(tmp_path, volumes_of(tmp_path), findings, Profile(report=report, also=EXTRAS))
    kinds = {thing.kind for thing in outcome.objects}
    assert not kinds & {"seg", "secondary-capture", "rtstruct", "parametric-map", "presentation-state"}
    assert "pdf" in kinds
    for thing in outcome.objects:
        assert dciodvfy_errors(thing.path) == [], thing.kind
        if thing.kind.startswith("sr-"):
            assert dsrdump(thing.path)[1] == []
    assert any("no image to draw on" in note for note in outcome.notes)


def test_measurements_and_answers_refer_to_the_waveform_and_not_to_an_image(tmp_path):
    volumes = volumes_of(tmp_path)
    outcome = objects(tmp_path, volumes, FOUND, Profile())
    (thing,) = (t for t in outcome.objects if t.kind == "sr-measurements")
    report = pydicom.dcmread(thing.path)
    (box,) = (c for c in report.ContentSequence if c.ValueType == "CONTAINER")
    (found,) = box.ContentSequence
    kinds = {content.ValueType: content for content in found.ContentSequence}
    source = kinds["WAVEFORM"].ReferencedSOPSequence[0]
    assert source.ReferencedSOPInstanceUID == volumes["ecg"].slices[0].sop_instance_uid
    assert source.ReferencedSOPClassUID.name == "12-lead ECG Waveform Storage"
    assert "IMAGE" not in kinds and float(kinds["NUM"].MeasuredValueSequence[0].NumericValue) == 71.5
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    named = [r.ReferencedSOPInstanceUID for series in evidence for r in series.ReferencedSOPSequence]
    assert named == [source.ReferencedSOPInstanceUID]


def test_a_report_for_people_is_called_what_it_is(tmp_path):
    outcome = objects(tmp_path, volumes_of(tmp_path), FOUND, Profile(report="text"))
    (thing,) = outcome.objects
    report = pydicom.dcmread(thing.path)
    assert report.ConceptNameCodeSequence[0].CodeMeaning == "EKG study"
    told = [content.get("TextValue") for content in walk(report)]
    assert "Heart rate 71.5 /min" in told
    assert "Electrocardiogram finding: Atrial fibrillation (probability 83 %)" in told


def test_a_recording_cannot_be_outlined(tmp_path):
    volumes = volumes_of(tmp_path)
    image = volumes["ecg"].image
    code = Code("91723000", "SCT", "Anatomical Structure")
    segment = Segment(number=1, label="x", category=code, kind=code)
    outlined = Findings(
        labelmap=np.ones(image.array.shape, np.uint8), affine=image.affine, segments=(segment,)
    )
    assert any("no image" in said for said in validate(outlined, CARD, {"ecg": image}))
    with pytest.raises(EncodeError, match="waveform"):
        objects(tmp_path, volumes, outlined, Profile())


def ink(picture: Picture.Image) -> np.ndarray:
    """Return where the curves are: (rows, columns), bool."""
    return np.asarray(picture.convert("L")) < 100


def test_the_curves_are_those_of_the_samples():
    """A sine of 1 Hz over 2 s, right of the labels: its crests and troughs are where they must be."""
    time_s = np.arange(1000) / 500
    array = np.sin(2 * np.pi * time_s).astype(np.float32)[None, None]
    facts = {"sampling_hz": 500.0, "channels": "I"}
    image = Image(
        array=array,
        affine=np.eye(4),
        unit=Code("mV", "UCUM", "millivolt"),
        modality="ECG",
        facts=facts,
        is_spatial=False,
    )
    trace = draw_trace(image, 662)
    drawn = ink(trace.picture)[:, 54:654]
    rows = np.where(drawn.any(axis=0), drawn.argmax(axis=0), -1)  # the highest ink of each column
    assert (rows >= 0).all()
    assert rows[75] == rows.min() and rows[375] == rows.min()  # crests at 0.25 s and 1.25 s of 2 s
    lowest = drawn.shape[0] - 1 - drawn[::-1].argmax(axis=0)
    assert lowest[225] == lowest.max() and lowest[525] == lowest.max()
    assert "0.2 s by 0.5 mV" in trace.caption


def test_a_spike_of_one_sample_is_not_lost():
    array = np.zeros((1, 1, 60_000), np.float32)
    array[0, 0, 33_333] = 1.0
    facts = {"sampling_hz": 6000.0, "channels": "I"}
    unit = Code("mV", "UCUM", "millivolt")
    image = Image(array=array, affine=np.eye(4), unit=unit, modality="ECG", facts=facts, is_spatial=False)
    drawn = ink(draw_trace(image, 662).picture)[:, 54:654]
    assert int(drawn.sum(axis=0).argmax()) == pytest.approx(333, abs=1)


def test_a_curve_is_one_line_without_gaps():
    array = np.zeros((1, 1, 1200), np.float32)
    array[0, 0, 600:] = 1.0  # a step between two columns of pixels
    facts = {"sampling_hz": 600.0, "channels": "I"}
    unit = Code("mV", "UCUM", "millivolt")
    image = Image(array=array, affine=np.eye(4), unit=unit, modality="ECG", facts=facts, is_spatial=False)
    drawn = ink(draw_trace(image, 662).picture)[:, 54:654]
    high, low = drawn[:, 500].argmax(), drawn[:, 100].argmax()
    assert low - high > 30 and drawn[high : low + 1].any(axis=1).all()


def test_a_long_or_flat_recording_is_drawn_and_its_limits_are_told():
    unit = Code("mm[Hg]", "UCUM", "mm[Hg]")
    array = np.zeros((20, 1, 30_000), np.float32)
    array[1] += np.linspace(0, 140, 30_000)
    facts = {"sampling_hz": 100.0, "channels": ",".join(f"channel {n}" for n in range(20))}
    image = Image(array=array, affine=np.eye(4), unit=unit, modality="HD", facts=facts, is_spatial=False)
    trace = draw_trace(image)
    assert "The first 10 of 300 s." in trace.caption and "16 of 20 channels." in trace.caption
    assert trace.picture.height < 2000


@needs_shared
def test_a_real_electrocardiogram_is_drawn_and_reported(tmp_path):
    path = SHARED / "ecg" / "waveform_ecg.dcm"
    volumes = load_volumes({"ecg": instances_of([path])}, CARD)
    outcome = objects(tmp_path, volumes, FOUND, Profile(also=("pdf",)))
    for thing in outcome.objects:
        assert dciodvfy_errors(thing.path) == [], thing.kind
    picture = draw_findings(FOUND, {"ecg": volumes["ecg"].image}, CARD)
    assert ink(picture)[:600, 60:].sum() > 5000
