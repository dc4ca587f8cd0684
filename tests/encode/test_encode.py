"""The step as a whole: files, identity, several inputs, real sources."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

import node
from node.encode import EXTRA_MAKERS, Maker, encode
from node.encode.common import named_instances
from node.encode.lint import JUDGES
from node.encode.material import Material, NotApplicable
from node.encode.render.pdf import make_pdf
from node.encode.seg.make import make_segs
from node.encode.sr.tree import walk
from node.errors import EncodeError
from node.model import Slice, Volume
from node.profile import Profile
from pipelines import codes
from pipelines.contract import Code, Image, InputSpec
from tests.encode.helpers import (
    HU,
    LEFT_LUNG,
    RIGHT_LUNG,
    a_card,
    a_job,
    encoded,
    findings_of,
    single_frame_volume,
)
from tests.encode.judges import dciodvfy_errors, dcmqi_decode, needs_dciodvfy, tid1500
from tests.paths import SHARED, needs_shared
from tests.phantoms import asymmetric_phantom, make_affine, to_world

SHAPE = (8, 24, 20)


def a_case(folder: Path, **options: object) -> tuple[Volume, np.ndarray]:
    affine = make_affine("oblique")
    phantom = asymmetric_phantom(SHAPE, affine)
    return single_frame_volume(folder, phantom.array_hu, affine, **options), phantom.mask


def test_the_same_job_gives_the_same_bytes_and_another_job_other_uids(tmp_path: Path) -> None:
    volume, mask = a_case(tmp_path / "in")
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    first, again = (encoded(volume, findings, tmp_path / name) for name in "ab")
    assert [o.sha256 for o in first.objects] == [o.sha256 for o in again.objects]
    other = encoded(volume, findings, tmp_path / "c", job_key="ee" * 32)
    assert not {o.sop_instance_uid for o in first.objects} & {o.sop_instance_uid for o in other.objects}


def test_the_files_are_what_they_are_said_to_be(tmp_path: Path) -> None:
    volume, mask = a_case(tmp_path / "in")
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
    volume, mask = a_case(tmp_path / "in", headers={"TimezoneOffsetFromUTC": "+0900"})
    result = encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    for made in result.objects:
        ds = pydicom.dcmread(made.path)
        assert ds.TimezoneOffsetFromUTC == "+0900"
        local = datetime.strptime(f"{ds.ContentDate}{ds.ContentTime}+0900", "%Y%m%d%H%M%S.%f%z")
        assert local == datetime(2026, 3, 4, 5, 6, 7, 890, tzinfo=UTC)


def test_the_algorithm_is_named_alike_in_all_four_places(tmp_path: Path) -> None:
    volume, mask = a_case(tmp_path / "in")
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
    current, mask = a_case(tmp_path / "current")
    prior, _ = a_case(tmp_path / "prior", seed="prior")
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
    volume, mask = a_case(tmp_path / "in", headers=headers)
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
    volume, mask = a_case(tmp_path / "in", headers={"ProcedureCodeSequence": [procedure]})
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
    volume, mask = a_case(tmp_path / "in")
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
    volume, mask = a_case(tmp_path / "in")
    with pytest.raises(EncodeError, match="'mr'"):
        encoded(volume, replace(findings_of(volume, [mask], [LEFT_LUNG]), role="mr"), tmp_path / "out")


def test_neither_notes_nor_errors_hold_patient_data(tmp_path: Path) -> None:
    headers = {"PatientSex": "U", "PatientBirthDate": "19801332", "PatientName": "Secret^Person" * 9}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume, mask = a_case(tmp_path / "in", headers=headers)
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    notes = " ".join(encoded(volume, findings, tmp_path / "out").notes)
    assert "PatientSex" in notes and "Secret" not in notes and "1980" not in notes


@needs_dciodvfy
def test_what_was_noticed_of_the_images_is_told_in_the_report_and_the_notes(tmp_path: Path) -> None:
    volume, mask = a_case(tmp_path / "in")
    volume = replace(volume, notes=("Slices at the ends may be missing",))
    result = encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    assert "Images: Slices at the ends may be missing." in result.notes
    said = [str(c.TextValue) for c in walk(pydicom.dcmread(result.objects[-1].path)) if "TextValue" in c]
    assert "Images: Slices at the ends may be missing." in said


def test_a_caution_with_control_characters_is_told_without_them(tmp_path: Path) -> None:
    """A pipeline may quote the name of a kernel, and a header may hold anything."""
    volume, mask = a_case(tmp_path / "in")
    findings = findings_of(volume, [mask], [LEFT_LUNG], cautions=("Kernel B31\x1b\\f\u00fc: sharp.", " "))
    result = encoded(volume, findings, tmp_path / "out")
    said = [str(c.TextValue) for c in walk(pydicom.dcmread(result.objects[-1].path)) if "TextValue" in c]
    assert "Caution: Kernel B31 \\fü: sharp." in said


def test_what_was_noticed_of_one_of_several_inputs_says_of_which(tmp_path: Path) -> None:
    current, mask = a_case(tmp_path / "current")
    prior, _ = a_case(tmp_path / "prior", seed="prior")
    spec = InputSpec(modality=("CT",), unit="[hnsf'U]")
    job = a_job(card=a_card(inputs={"current": spec, "prior": spec}))
    volumes = {"current": current, "prior": replace(prior, notes=("1 localizer left out",))}
    (tmp_path / "out").mkdir()
    result = encode(job, findings_of(current, [mask], [LEFT_LUNG]), volumes, tmp_path / "out")
    assert result.notes == ("Images of input 'prior': 1 localizer left out.",)


def test_a_source_without_frame_of_reference_gets_none_invented(tmp_path: Path) -> None:
    volume, mask = a_case(tmp_path / "in")
    volume = replace(volume, frame_of_reference_uid="")
    result = encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    assert "FrameOfReferenceUID" not in pydicom.dcmread(result.objects[0].path)
    assert all(dciodvfy_errors(o.path) == [] for o in result.objects)
    (decoded,) = dcmqi_decode(result.objects[0].path, tmp_path / "dcmqi")
    assert int((decoded.labels > 0).sum()) == int(mask.sum())


def test_a_source_without_identity_is_refused(tmp_path: Path) -> None:
    volume, mask = a_case(tmp_path / "in")
    nameless = replace(volume, slices=tuple(replace(s, sop_instance_uid="") for s in volume.slices))
    with pytest.raises(EncodeError, match="SOP Instance UID"):
        encoded(nameless, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")
    doubled = replace(volume, slices=(volume.slices[0], *volume.slices[:-1]))
    with pytest.raises(EncodeError, match="same source plane"):
        encoded(doubled, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")


def real_volume(folder: Path) -> Volume:
    """What a loader would make of a folder that holds one regular series, or one multi-frame file."""
    headers = [(p, pydicom.dcmread(p, force=True)) for p in sorted(folder.rglob("*")) if p.suffix == ".dcm"]
    images = [(p, ds) for p, ds in headers if "PixelData" in ds]
    first = images[0][1]
    planes: list[tuple[Slice, np.ndarray]] = []
    for path, ds in images:
        frames = ds.get("PerFrameFunctionalGroupsSequence")
        if frames:
            shared = ds.SharedFunctionalGroupsSequence[0]
            group = shared if "PlaneOrientationSequence" in shared else frames[0]
            orientation = group.PlaneOrientationSequence[0].ImageOrientationPatient
            measures = (shared if "PixelMeasuresSequence" in shared else frames[0]).PixelMeasuresSequence[0]
            spacing = measures.PixelSpacing
        else:
            orientation, spacing = ds.ImageOrientationPatient, ds.PixelSpacing
        positions = (
            [f.PlanePositionSequence[0].ImagePositionPatient for f in frames]
            if frames
            else [ds.ImagePositionPatient]
        )
        pixels = ds.pixel_array.reshape(len(positions), ds.Rows, ds.Columns)
        for number, position in enumerate(positions, start=1):
            plane = Slice(
                sop_class_uid=str(ds.SOPClassUID),
                sop_instance_uid=str(ds.SOPInstanceUID),
                frame=number if frames else None,
                path=path,
                position_mm=tuple(float(v) for v in position),
            )
            planes.append((plane, pixels[number - 1]))
    columns, rows = (np.array(orientation[i : i + 3], float) for i in (0, 3))
    normal = np.cross(columns, rows)
    planes.sort(key=lambda p: float(np.dot(p[0].position_mm, normal)))
    start, end = (np.array(planes[i][0].position_mm) for i in (0, -1))
    affine = np.eye(4)
    affine[:3, 0] = (end - start) / (len(planes) - 1)
    affine[:3, 1] = rows * float(spacing[0])
    affine[:3, 2] = columns * float(spacing[1])
    affine[:3, 3] = start
    return Volume(
        image=Image(
            array=np.stack([p for _, p in planes]).astype(np.float32),
            affine=affine,
            unit=HU,
            modality=str(first.Modality),
        ),
        slices=tuple(plane for plane, _ in planes),
        series_uid=str(first.SeriesInstanceUID),
        study_uid=str(first.StudyInstanceUID),
        frame_of_reference_uid=str(first.FrameOfReferenceUID),
    )


REAL = {
    "chest CT": "ct_chest_philips_5mm",
    "oblique head MR": "mr_head_t1_siemens_3d",
    "enhanced MR": "mr_head_enhanced_xa30_study",
}


@needs_shared
@needs_dciodvfy
@pytest.mark.parametrize("folder", REAL.values(), ids=REAL.keys())
def test_real_sources_give_objects_that_judges_accept_and_place_rightly(tmp_path: Path, folder: str) -> None:
    root = SHARED / folder
    if "enhanced" in folder:
        (root,) = [p.parent for p in sorted(root.rglob("*.dcm")) if multi_frame_t1(p)][:1]
    volume = real_volume(select(root, tmp_path / "in"))
    high = float(np.percentile(volume.image.array[:: max(1, volume.image.array.shape[0] // 8)], 90))
    bright = volume.image.array > high
    masks = [bright, ~bright & (volume.image.array > high / 2)]
    result = encoded(volume, findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG]), tmp_path / "out")
    for made in result.objects:
        assert dciodvfy_errors(made.path) == [], made.kind
    (decoded,) = dcmqi_decode(result.objects[0].path, tmp_path / "dcmqi")
    for number, mask in enumerate(masks, start=1):
        assert int((decoded.labels == number).sum()) == int(mask.sum())
        truth = to_world(volume.image.affine, np.argwhere(mask).mean(axis=0))
        found = to_world(decoded.affine, np.argwhere(decoded.labels == number).mean(axis=0))
        assert np.linalg.norm(truth - found) < 0.1
    read = tid1500(result.objects[1].path, tmp_path / "sr.json")
    volumes = [g["measurementItems"][0]["value"] for g in read["Measurements"] if g["measurementItems"]]
    said = [s["value"] for s in result.summary if s["name"] == "Volume"]
    assert [float(v) for v in volumes] == said


def multi_frame_t1(path: Path) -> bool:
    ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    return int(ds.get("NumberOfFrames", 1) or 1) > 90


def select(root: Path, target: Path) -> Path:
    """Link the files of the wanted series alone: the largest, or the one multi-frame T1."""
    target.mkdir()
    by_series: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            if "Rows" not in ds:
                continue
            if "PerFrameFunctionalGroupsSequence" in ds and not multi_frame_t1(path):
                continue
            if "ImagePositionPatient" in ds or "PerFrameFunctionalGroupsSequence" in ds:
                by_series.setdefault(str(ds.SeriesInstanceUID), []).append(path)
    for number, path in enumerate(max(by_series.values(), key=len)):
        (target / f"{number:04d}.dcm").symlink_to(path)
    return target


def _no_judge(*_: object) -> Iterator[str]:
    yield "it is not what it should be"


def _half_made(material: Material) -> Iterator[Dataset]:
    yield from make_pdf(material)
    raise EncodeError("the second page is missing")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EncodeError("the outlines do not fit"), "(pdf) was made: the outlines do not fit"),
        (ValueError("PATIENT^NAME"), "(pdf) was made: ValueError"),
        (NotApplicable("There is nothing to print."), "There is nothing to print."),
    ],
)
def test_an_extra_that_cannot_be_made_is_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def failing(material: Material) -> Iterator[Dataset]:
        raise error
        yield

    volume, mask = a_case(tmp_path / "in")
    monkeypatch.setitem(EXTRA_MAKERS, "pdf", failing)
    (tmp_path / "out").mkdir()
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    profiles = (Profile(also=("pdf", "rtstruct")), Profile(report="air", also=("pdf",)))
    made = encode(a_job(), findings, {"ct": volume}, tmp_path / "out", profiles)
    assert "pdf" not in {thing.kind for thing in made.objects}
    assert "rtstruct" in {thing.kind for thing in made.objects}
    assert len([note for note in made.notes if told in note]) == 1
    assert not any("PATIENT" in note for note in made.notes)


def test_an_extra_that_its_judge_refuses_is_neither_kept_nor_referred_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, mask = a_case(tmp_path / "in")
    monkeypatch.setitem(JUDGES, "rtstruct", _no_judge)
    monkeypatch.setitem(EXTRA_MAKERS, "pdf", _half_made)
    (tmp_path / "out").mkdir()
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    profiles = (Profile(also=("rtstruct", "pdf")), Profile(report="air", also=("rtstruct",)))
    made = encode(a_job(), findings, {"ct": volume}, tmp_path / "out", profiles)
    kept = {thing.sop_instance_uid for thing in made.objects}
    assert {thing.kind for thing in made.objects} == {"seg", "sr-measurements", "sr-text", "sr-air", "pdf"}
    assert {thing.path for thing in made.objects} == set((tmp_path / "out").iterdir())
    assert {uid for uids in made.profiles.values() for uid in uids} == kept
    sources = {plane.sop_instance_uid for plane in volume.slices}
    for thing in made.objects:
        assert set(thing.refers_to) <= kept
        named = named_instances(pydicom.dcmread(thing.path))
        assert named <= kept | sources, thing.kind
    assert any("left out: it is not what it should be" in note for note in made.notes)
    assert any("Not every PDF report (pdf) was made" in note for note in made.notes)


def test_a_segmentation_that_its_judge_refuses_still_fails_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, mask = a_case(tmp_path / "in")
    monkeypatch.setitem(JUDGES, "seg", _no_judge)
    with pytest.raises(EncodeError, match="not what it should be"):
        encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")


def test_a_profile_that_differs_in_coordinates_alone_shares_what_does_not_depend_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, mask = a_case(tmp_path / "in")
    times: list[str] = []

    def counted(kind: str, maker: Maker) -> Maker:
        def making(material: Material) -> Iterator[Dataset]:
            times.append(kind)
            return maker(material)

        return making

    monkeypatch.setattr("node.encode.make_segs", counted("seg", make_segs))
    monkeypatch.setitem(EXTRA_MAKERS, "rtstruct", counted("rtstruct", EXTRA_MAKERS["rtstruct"]))
    (tmp_path / "out").mkdir()
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    profiles = (Profile(also=("rtstruct",)), Profile(coordinates="patient", also=("rtstruct",)))
    encode(a_job(), findings, {"ct": volume}, tmp_path / "out", profiles)
    assert times == ["seg", "rtstruct"]
