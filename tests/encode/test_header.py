"""The source's header, from clean to hopeless."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import JPEGBaseline8Bit

from node.encode.header import Lossy, read_header, repair_header
from node.errors import EncodeError
from tests.encode.helpers import LEFT_LUNG, encoded, findings_of, single_frame_volume
from tests.encode.judges import dciodvfy_errors, needs_dciodvfy
from tests.paths import SHARED, needs_shared
from tests.phantoms import asymmetric_phantom, make_affine, write_ct_series

SHAPE = (6, 16, 16)
CHARSET_FILES = sorted((SHARED / "odd_charsets_minipacs" / "charset_files").glob("*.dcm"))
TYPE_2 = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"]
TYPE_2 += ["AccessionNumber", "ReferringPhysicianName", "StudyID"]


def source(**values: Any) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Test^Name", "P-1", "19600101", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20260102", "101010", "S1"
    ds.AccessionNumber, ds.ReferringPhysicianName, ds.Modality = "A-1", "", "CT"
    for keyword, value in values.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def code(value: str, meaning: str) -> Dataset:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, "99X", meaning
    return ds


def test_a_clean_header_is_copied_without_a_word() -> None:
    header = repair_header(source(), "1.2.3")
    assert header.notes == ()
    assert header.dataset.PatientName == "Test^Name"
    assert header.dataset.StudyInstanceUID == "1.2.3"
    assert header.dataset.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("keyword", TYPE_2)
def test_a_missing_mandatory_attribute_is_added_empty_and_told(keyword: str) -> None:
    header = repair_header(source(**{keyword: None}), "1.2.3")
    assert header.dataset[keyword].is_empty
    assert header.notes == (f"Missing from the source and written empty: {keyword}.",)


@pytest.mark.parametrize(
    ("keyword", "value", "written", "word"),
    [
        ("PatientSex", "U", "", "left out"),
        ("StudyTime", "10:20:30", "102030", "rewritten"),
        ("StudyDate", "2020-01-02", "20200102", "rewritten"),
        ("PatientBirthDate", "1980", "", "left out"),
        ("AccessionNumber", "1" * 20, "", "left out"),
        ("PatientID", "9" * 80, "", "left out"),
        ("PatientName", "X" * 80, "X" * 64, "rewritten"),
    ],
)
def test_an_illegal_value_is_repaired_and_the_note_does_not_tell_it(
    keyword: str, value: str, written: str, word: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = repair_header(source(**{keyword: value}), "1.2.3")
    assert str(header.dataset[keyword].value or "") == written
    (note,) = header.notes
    assert keyword in note and word in note and value not in note


def test_issuers_other_ids_procedures_and_requests_go_along() -> None:
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = "HOSPITAL"
    other = Dataset()
    other.PatientID, other.TypeOfPatientID, other.IssuerOfPatientID = "Q-2", "TEXT", "ELSEWHERE"
    request = Dataset()
    request.RequestedProcedureID, request.AccessionNumber = "RP1", "A-1"
    request.RequestedProcedureCodeSequence = [code("CTCH", "CT chest")]
    header = repair_header(
        source(
            IssuerOfPatientID="HOSPITAL",
            IssuerOfAccessionNumberSequence=[issuer],
            OtherPatientIDsSequence=[other],
            ProcedureCodeSequence=[code("CTCH", "CT chest"), code("", "nothing")],
            RequestAttributesSequence=[request],
            OtherPatientNames=["A^B", "C^D"],
        ),
        "1.2.3",
    )
    clean = header.dataset
    assert clean.IssuerOfPatientID == "HOSPITAL"
    assert clean.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "HOSPITAL"
    assert clean.OtherPatientIDsSequence[0].PatientID == "Q-2"
    assert [c.CodeValue for c in clean.ProcedureCodeSequence] == ["CTCH"]
    assert [str(n) for n in clean.OtherPatientNames] == ["A^B", "C^D"]
    assert header.requests[0].RequestedProcedureID == "RP1"
    assert any("ProcedureCodeSequence" in note for note in header.notes)


def test_clinical_trial_attributes_go_whole_or_not_at_all() -> None:
    whole = source(ClinicalTrialSponsorName="S", ClinicalTrialProtocolID="P", ClinicalTrialSubjectID="7")
    assert repair_header(whole, "1.2.3").dataset.ClinicalTrialSubjectID == "7"
    part = repair_header(source(ClinicalTrialSponsorName="S"), "1.2.3")
    assert "ClinicalTrialSponsorName" not in part.dataset
    assert "clinical trial" in part.notes[0]


@pytest.mark.parametrize(
    ("offset", "written", "hour"),
    [("+0900", "+0900", "14"), ("-0330", "-0330", "01"), ("nonsense", "", "05"), (None, "", "05")],
)
def test_times_are_told_in_the_offset_of_the_source(offset: str | None, written: str, hour: str) -> None:
    given = source(TimezoneOffsetFromUTC=offset) if offset else source()
    header = repair_header(given, "1.2.3")
    moment = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
    assert header.utc_offset == written
    assert header.local(moment) == moment
    assert header.local(moment).strftime("%H") == hour


def test_one_lossy_source_makes_the_result_lossy(tmp_path: Path) -> None:
    affine = make_affine()
    phantom = asymmetric_phantom(SHAPE, affine)

    def edit(index: int, ds: Dataset) -> None:
        if index == 4:
            ds.LossyImageCompression = "01"
            ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = "10.5", "ISO_15444_1"

    paths = write_ct_series(tmp_path, phantom.array_hu, affine, edit=edit)
    assert read_header(paths[0], "1.2.3", paths).lossy == Lossy(True, "ISO_15444_1", "10.5")
    assert read_header(paths[0], "1.2.3", paths[:3]).lossy == Lossy()


def test_a_lossy_transfer_syntax_is_lossy_even_if_the_header_forgot(tmp_path: Path) -> None:
    affine = make_affine()
    (path, *_) = write_ct_series(tmp_path, asymmetric_phantom(SHAPE, affine).array_hu, affine)
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    del ds.PixelData
    ds.save_as(path)
    assert read_header(path, "1.2.3", [path]).lossy == Lossy(True, "ISO_10918_1", "")


def test_a_file_that_is_no_dicom_is_an_error_without_a_traceback_of_names(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"Surname^Secret")
    with pytest.raises(EncodeError) as caught:
        read_header(path, "1.2.3", [path])
    assert "Secret" not in str(caught.value)


@needs_shared
@needs_dciodvfy
@pytest.mark.parametrize("path", CHARSET_FILES, ids=lambda p: p.stem)
def test_names_in_every_character_set_come_back_equal(tmp_path: Path, path: Path) -> None:
    affine = make_affine()
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    with_header = replace(volume, slices=(replace(volume.slices[0], path=path), *volume.slices[1:]))
    findings = findings_of(volume, [phantom.mask], [LEFT_LUNG])
    result = encoded(with_header, findings, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = pydicom.dcmread(path, stop_before_pixels=True)
        for made in result.objects:
            ds = pydicom.dcmread(made.path)
            assert ds.SpecificCharacterSet == "ISO_IR 192"
            assert str(ds.PatientName or "") == str(given.get("PatientName") or "")
            assert dciodvfy_errors(made.path) == []


HOSTILE = [
    b"",
    b"\0",
    b"\xff\xfe\xfa",
    b"\x1b$B\x3b\x33",
    b"A\\B\\C",
    b"x" * 300,
    b"=" * 9 + b"^" * 9,
    b"10:20:30",
    b"2020-01-02",
    b"\xf0\x9f\x92\x80",
    b"..",
    b"-1",
]
CHARSETS = [
    None,
    "",
    "ISO_IR 6",
    "ISO IR 100",
    "ISO 2022 IR 149",
    "NONSENSE",
    ["", "ISO 2022 IR 87"],
    "GB18030",
]


@needs_dciodvfy
@pytest.mark.parametrize("seed", range(6))
def test_no_header_however_broken_stops_a_result_or_breaks_it(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    affine = make_affine()
    phantom = asymmetric_phantom(SHAPE, affine)
    volume = single_frame_volume(tmp_path / "in", phantom.array_hu, affine)
    ds = pydicom.dcmread(volume.slices[0].path)
    charset = CHARSETS[seed % len(CHARSETS)]
    extra = ["StudyDescription", "PatientAge", "PatientWeight", "IssuerOfPatientID", "PatientComments"]
    extra += ["BodyPartExamined", "TimezoneOffsetFromUTC", "LossyImageCompression", "OtherPatientNames"]
    for keyword in [*TYPE_2, *extra]:
        tag = Tag(keyword)
        if chance.random() < 0.3:
            ds.pop(tag, None)
        else:
            value = chance.choice(HOSTILE)
            vr = pydicom.datadict.dictionary_VR(tag)
            ds._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    ds._dict.pop(Tag("SpecificCharacterSet"), None)
    if charset is not None:
        raw = "\\".join(charset if isinstance(charset, list) else [charset]).encode()
        tag = Tag("SpecificCharacterSet")
        ds._dict[tag] = RawDataElement(tag, "CS", len(raw), raw, 0, False, True)
    path = tmp_path / "hostile.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(path)
    broken = replace(volume, slices=(replace(volume.slices[0], path=path), *volume.slices[1:]))
    result = encoded(broken, findings_of(volume, [phantom.mask], [LEFT_LUNG]), tmp_path / "out")
    assert result.notes
    for made in result.objects:
        assert dciodvfy_errors(made.path) == [], made.kind
