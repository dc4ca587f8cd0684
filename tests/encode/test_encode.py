"""The step as a whole: files, identity, several inputs."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

import node
from node.encode import encode
from node.encode.sr.tree import walk
from node.errors import EncodeError
from pipelines import codes
from pipelines.contract import Code, InputSpec
from tests.encode.helpers import (
    LEFT_LUNG,
    a_card,
    a_job,
    a_phantom_case,
    encoded,
    findings_of,
)
from tests.encode.judges import dciodvfy_errors, dcmqi_decode, needs_dciodvfy


def test_the_same_job_gives_the_same_bytes_and_another_job_other_uids(tmp_path: Path) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    first, again = (encoded(volume, findings, tmp_path / name) for name in "ab")
    assert [o.sha256 for o in first.objects] == [o.sha256 for o in again.objects]
    other = encoded(volume, findings, tmp_path / "c", job_key="ee" * 32)
    assert not {o.sop_instance_uid for o in first.objects} & {o.sop_instance_uid for o in other.objects}


def test_the_files_are_what_they_are_said_to_be(tmp_path: Path) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    result = encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    assert [o.path.name for o in result.objects] == ["seg.dcm", "sr-measurements.dcm", "sr-text.dcm"]
    for made in result.objects:
        data = made.path.read_bytes()
        assert data[:132] == b"\0" * 128 + b"DICM"
        assert hashlib.sha256(data).hexdigest() == made.sha256
        ds = pydicom.dcmread(made.path)
        assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID == made.sop_instance_uid
        assert ds.file_meta.ImplementationClassUID == node.IMPLEMENTATION_CLASS_UID
        assert ds.InstanceCreatorUID == node.INSTANCE_CREATOR_UID
        assert (ds.ContentDate, ds.ContentTime) == ("20260304", "050607.000890")
        assert ds.SeriesDescription.startswith("lung-density 0.1.0 ")
        assert ds.SeriesDescription.endswith("research only")
        assert ds.StudyInstanceUID == volume.study_uid
        assert ds.ContentQualification == "RESEARCH"


def test_a_source_in_another_time_zone_keeps_its_own(tmp_path: Path) -> None:
    volume, mask = a_phantom_case(tmp_path / "in", headers={"TimezoneOffsetFromUTC": "+0900"})
    result = encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    for made in result.objects:
        ds = pydicom.dcmread(made.path)
        assert ds.TimezoneOffsetFromUTC == "+0900"
        local = datetime.strptime(f"{ds.ContentDate}{ds.ContentTime}+0900", "%Y%m%d%H%M%S.%f%z")
        assert local == datetime(2026, 3, 4, 5, 6, 7, 890, tzinfo=UTC)


def test_the_algorithm_is_named_alike_in_all_four_places(tmp_path: Path) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    result = encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    seg, measurements, _ = (pydicom.dcmread(o.path) for o in result.objects)
    equipment = seg.ContributingEquipmentSequence[0]
    macro = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    items = {c.ConceptNameCodeSequence[0].CodeValue: c for c in measurements.ContentSequence}
    assert macro.AlgorithmSource == equipment.Manufacturer == items["121014"].TextValue == "radnode project"
    assert macro.AlgorithmName == equipment.ManufacturerModelName == items["121015"].TextValue
    assert macro.AlgorithmVersion == equipment.SoftwareVersions == "0.1.0"
    assert equipment.DeviceUID == items["121012"].UID
    assert seg.Manufacturer == "radnode" and seg.SoftwareVersions == node.__version__


@needs_dciodvfy
def test_inputs_of_another_study_are_named_as_other_evidence(tmp_path: Path) -> None:
    current, mask = a_phantom_case(tmp_path / "current")
    prior, _ = a_phantom_case(tmp_path / "prior", seed="prior")
    spec = InputSpec(modality=("CT",), unit="[hnsf'U]")
    job = a_job(card=a_card(inputs={"current": spec, "prior": spec}))
    (tmp_path / "out").mkdir()
    findings = findings_of(current, [mask], [LEFT_LUNG])
    result = encode(job, findings, {"prior": prior, "current": current}, tmp_path / "out")
    seg, report, _ = (pydicom.dcmread(o.path) for o in result.objects)
    assert seg.StudyInstanceUID == current.study_uid
    assert [s.SeriesInstanceUID for s in seg.ReferencedSeriesSequence] == [current.series_uid]
    (other,) = seg.StudiesContainingOtherReferencedInstancesSequence
    assert other.StudyInstanceUID == prior.study_uid
    (pertinent,) = report.PertinentOtherEvidenceSequence
    assert pertinent.StudyInstanceUID == prior.study_uid
    assert all(dciodvfy_errors(o.path) == [] for o in result.objects)


@needs_dciodvfy
def test_requests_lossy_pixels_and_private_codes_make_legal_objects(tmp_path: Path) -> None:
    request = Dataset()
    request.RequestedProcedureID, request.AccessionNumber = "RP1", "A-9"
    headers = {
        "RequestAttributesSequence": [request],
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "9",
        "LossyImageCompressionMethod": "ISO_10918_1",
        "IssuerOfPatientID": "HOSPITAL",
    }
    volume, mask = a_phantom_case(tmp_path / "in", headers=headers)
    result = encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    seg, report, _ = (pydicom.dcmread(o.path) for o in result.objects)
    assert seg.RequestAttributesSequence[0].RequestedProcedureID == "RP1"
    assert seg.LossyImageCompression == "01" and seg.LossyImageCompressionMethod == "ISO_10918_1"
    assert report.ReferencedRequestSequence[0].AccessionNumber == "A-9"
    assert report.IssuerOfPatientID == "HOSPITAL"
    assert all(dciodvfy_errors(o.path) == [] for o in result.objects)


@needs_dciodvfy
def test_the_maker_answers_for_its_private_codes_but_not_for_those_of_the_hospital(tmp_path: Path) -> None:
    procedure = Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator = "CTCH", "99HOSPITAL"
    procedure.CodeMeaning = "CT of the chest"
    volume, mask = a_phantom_case(tmp_path / "in", headers={"ProcedureCodeSequence": [procedure]})
    own = replace(LEFT_LUNG, kind=Code("X", "99OWN", "Something of our own"))
    card = a_card(maker="A maker")
    result = encoded(volume, findings_of(volume, [mask], [own]), tmp_path / "out", card=card)
    report = pydicom.dcmread(result.objects[1].path)
    declared = {
        s.CodingSchemeDesignator: s.get("CodingSchemeResponsibleOrganization")
        for s in report.CodingSchemeIdentificationSequence
    }
    assert declared == {"99HOSPITAL": None, "99OWN": "A maker", codes.PRIVATE_SCHEME: "radnode"}
    assert all(dciodvfy_errors(o.path) == [] for o in result.objects)


@needs_dciodvfy
def test_long_names_of_card_and_segment_are_cut_not_refused(tmp_path: Path) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    segment = replace(LEFT_LUNG, label="Lobe" * 30)
    result = encoded(
        volume,
        findings_of(volume, [mask], [segment]),
        tmp_path / "out",
        card=a_card(name="n" * 90, title="t" * 90),
    )
    seg = pydicom.dcmread(result.objects[0].path)
    assert len(seg.SegmentSequence[0].SegmentLabel) == 64
    assert len(seg.SeriesDescription) <= 64 and seg.SeriesDescription.endswith("research only")
    assert all(dciodvfy_errors(o.path) == [] for o in result.objects)


def test_findings_on_an_unknown_role_are_refused(tmp_path: Path) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    with pytest.raises(EncodeError, match="'mr'"):
        encoded(volume, replace(findings_of(volume, [mask], [LEFT_LUNG]), role="mr"), tmp_path / "out")


def test_neither_notes_nor_errors_hold_patient_data(tmp_path: Path) -> None:
    headers = {"PatientSex": "U", "PatientBirthDate": "19801332", "PatientName": "Secret^Person" * 9}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume, mask = a_phantom_case(tmp_path / "in", headers=headers)
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    notes = " ".join(encoded(volume, findings, tmp_path / "out").notes)
    assert "PatientSex" in notes and "Secret" not in notes and "1980" not in notes


@needs_dciodvfy
def test_what_was_noticed_of_the_images_is_told_in_the_report_and_the_notes(tmp_path: Path) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    volume = replace(volume, notes=("Slices at the ends may be missing",))
    result = encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    assert "Images: Slices at the ends may be missing." in result.notes
    said = [str(c.TextValue) for c in walk(pydicom.dcmread(result.objects[-1].path)) if "TextValue" in c]
    assert "Images: Slices at the ends may be missing." in said


def test_a_caution_with_control_characters_is_told_without_them(tmp_path: Path) -> None:
    """A pipeline may quote the name of a kernel, and a header may hold anything."""
    volume, mask = a_phantom_case(tmp_path / "in")
    findings = findings_of(volume, [mask], [LEFT_LUNG], cautions=("Kernel B31\x1b\\f\u00fc: sharp.", " "))
    result = encoded(volume, findings, tmp_path / "out")
    said = [str(c.TextValue) for c in walk(pydicom.dcmread(result.objects[-1].path)) if "TextValue" in c]
    assert "Caution: Kernel B31 \\fü: sharp." in said


def test_what_was_noticed_of_one_of_several_inputs_says_of_which(tmp_path: Path) -> None:
    current, mask = a_phantom_case(tmp_path / "current")
    prior, _ = a_phantom_case(tmp_path / "prior", seed="prior")
    spec = InputSpec(modality=("CT",), unit="[hnsf'U]")
    job = a_job(card=a_card(inputs={"current": spec, "prior": spec}))
    volumes = {"current": current, "prior": replace(prior, notes=("1 localizer left out",))}
    (tmp_path / "out").mkdir()
    result = encode(job, findings_of(current, [mask], [LEFT_LUNG]), volumes, tmp_path / "out")
    assert result.notes == ("Images of input 'prior': 1 localizer left out.",)


def test_a_source_without_frame_of_reference_gets_none_invented(tmp_path: Path) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    volume = replace(volume, frame_of_reference_uid="")
    result = encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    assert "FrameOfReferenceUID" not in pydicom.dcmread(result.objects[0].path)
    assert all(dciodvfy_errors(o.path) == [] for o in result.objects)
    (decoded,) = dcmqi_decode(result.objects[0].path, tmp_path / "dcmqi")
    assert int((decoded.labels > 0).sum()) == int(mask.sum())


def test_a_source_without_identity_is_refused(tmp_path: Path) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    nameless = replace(volume, slices=tuple(replace(s, sop_instance_uid="") for s in volume.slices))
    with pytest.raises(EncodeError, match="SOP Instance UID"):
        encoded(nameless, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    doubled = replace(volume, slices=(volume.slices[0], *volume.slices[:-1]))
    with pytest.raises(EncodeError, match="same source plane"):
        encoded(doubled, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
