"""Key Object Selections, read by DCMTK, highdicom and dicom3tools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.encode.extras import Judged, of_kind, only, real_volume, result_of, rich_case, stored
from tests.encode.helpers import LEFT_LUNG, RIGHT_LUNG, findings_of
from tests.encode.judges import dciodvfy_errors, dsrdump, needs_dciodvfy, needs_dsrdump
from tests.paths import SHARED, needs_shared

SHAPE = (8, 21, 17)


def two_segments() -> list[np.ndarray]:
    """Two bodies, largest on slice 3 and on slice 6 (counted from 0)."""
    masks = np.zeros((2, *SHAPE), bool)
    masks[0, 2:5, 3:6, 3:6] = masks[0, 3, 3:9, 3:6] = True
    masks[1, 5:8, 12:15, 10:12] = masks[1, 6, 12:18, 10:12] = True
    return list(masks)


@needs_dciodvfy
@needs_dsrdump
@pytest.mark.parametrize("source", ["single", "enhanced"])
def test_dciodvfy_and_dcmtk_have_nothing_against_it(tmp_path: Path, source: str) -> None:
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), "oblique", source)
    findings = findings_of(volume, two_segments(), [LEFT_LUNG, RIGHT_LUNG])
    path = only(result_of(volume, findings, tmp_path / "out", "key-objects"), "key-objects")
    assert dciodvfy_errors(path) == []
    printed, complaints = dsrdump(path)
    assert [c for c in complaints if "template constraints not yet supported" not in c] == []
    assert printed.startswith("Key Object Selection Document")
    assert '"Of Interest"' in printed


def test_highdicom_resolves_the_images_that_show_most_and_the_objects_about_them(tmp_path: Path) -> None:
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), "axial", "single")
    findings = findings_of(volume, two_segments(), [LEFT_LUNG, RIGHT_LUNG])
    result = result_of(volume, findings, tmp_path / "out", "key-objects")
    document = hd.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(only(result, "key-objects")))
    named = [item.referenced_sop_instance_uid for item in document.content.get_references()]
    seg, report = (of_kind(result, kind)[0] for kind in ("seg", "sr-measurements"))
    assert named == [
        volume.slices[3].sop_instance_uid,
        volume.slices[6].sop_instance_uid,
        seg.sop_instance_uid,
        report.sop_instance_uid,
    ]
    study, series, _ = document.resolve_reference(volume.slices[3].sop_instance_uid)
    assert (study, series) == (volume.study_uid, volume.series_uid)
    assert document.resolve_reference(report.sop_instance_uid)[1] == report.series_uid


def test_frames_of_a_multi_frame_source_are_named_in_one_reference(tmp_path: Path) -> None:
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), "oblique", "enhanced reversed")
    findings = findings_of(volume, two_segments(), [LEFT_LUNG, RIGHT_LUNG])
    ds = pydicom.dcmread(only(result_of(volume, findings, tmp_path / "out", "key-objects"), "key-objects"))
    references = [
        item.ReferencedSOPSequence[0]
        for item in ds.ContentSequence
        if item.ValueType == "IMAGE"
        and item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == volume.slices[0].sop_instance_uid
    ]
    (reference,) = references
    assert list(reference.ReferencedFrameNumber) == sorted(volume.slices[i].frame for i in (3, 6))


def test_it_says_in_words_what_each_image_shows_and_that_it_is_research(tmp_path: Path) -> None:
    case = rich_case(tmp_path / "in")
    ds = pydicom.dcmread(
        only(result_of(case.volume, case.findings, tmp_path / "out", "key-objects"), "key-objects")
    )
    (text,) = [
        item.TextValue for item in ds.ContentSequence if item.ValueType == "TEXT" and "only" in item.TextValue
    ]
    assert text.startswith("Research use only. Not for diagnosis.")
    assert "Left lung, Right lung: image 3." in text
    assert "Nodule point, Nodule line, Nodule box, Nodule contour: image 6." in text


def test_where_nothing_was_found_no_image_stands_out(tmp_path: Path) -> None:
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), "axial", "single")
    findings = findings_of(volume, [np.zeros(SHAPE, bool)], [LEFT_LUNG])
    result = result_of(volume, findings, tmp_path / "out", "key-objects")
    assert of_kind(result, "key-objects") == []
    assert any("no image shows a finding" in note for note in result.notes)


def test_images_without_a_place_in_the_patient_can_be_key_images(tmp_path: Path) -> None:
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), "axial", "single")
    findings = findings_of(volume, two_segments(), [LEFT_LUNG, RIGHT_LUNG])
    nowhere = replace(volume, frame_of_reference_uid="")
    assert only(result_of(nowhere, findings, tmp_path / "out", "key-objects"), "key-objects").is_file()


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    case = rich_case(tmp_path / "in")
    one, two = (
        only(result_of(case.volume, case.findings, tmp_path / name, "key-objects"), "key-objects")
        for name in ("one", "two")
    )
    assert one.read_bytes() == two.read_bytes()


@needs_shared
@needs_dciodvfy
def test_a_real_series_gives_its_brightest_image(tmp_path: Path) -> None:
    volume = real_volume(SHARED / "mr_prostate_adc_ge", "MR")
    bright = volume.image.array > np.percentile(volume.image.array, 99)
    findings = findings_of(volume, [bright], [LEFT_LUNG])
    path = only(result_of(volume, findings, tmp_path / "out", "key-objects"), "key-objects")
    assert dciodvfy_errors(path) == []
    first = next(i for i in pydicom.dcmread(path).ContentSequence if i.ValueType == "IMAGE")
    largest = int(bright.sum(axis=(1, 2)).argmax())
    named = first.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == volume.slices[largest].sop_instance_uid


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("keys")
    made = rich_case(folder / "in")
    result = result_of(made.volume, made.findings, folder / "out", "key-objects")
    return Judged(made.volume, made.findings, result)


def test_an_undamaged_selection_has_no_fault(case: Judged) -> None:
    assert case.faults(*of_kind(case.result, "key-objects")) == []


def contents(ds: Dataset, kind: str) -> list[Dataset]:
    return [
        item for item in ds.ContentSequence if item.ValueType == kind and item.RelationshipType == "CONTAINS"
    ]


def drop_content(kind: str) -> Callable[[Dataset], None]:
    return lambda ds: ds.ContentSequence.remove(contents(ds, kind)[0])


def drop_evidence(ds: Dataset) -> None:
    del ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[-1]


DAMAGES: list[tuple[str, Callable[[Dataset], None], str]] = [
    ("modality", lambda ds: setattr(ds, "Modality", "SR"), "modality is not Key Object"),
    (
        "title",
        lambda ds: setattr(ds.ConceptNameCodeSequence[0], "CodeValue", "113001"),
        "title is not",
    ),
    (
        "template",
        lambda ds: setattr(ds.ContentTemplateSequence[0], "TemplateIdentifier", "1500"),
        "template 2010",
    ),
    ("number", lambda ds: setattr(contents(ds, "TEXT")[0], "ValueType", "NUM"), "may not hold"),
    ("silent", lambda ds: setattr(contents(ds, "TEXT")[0], "TextValue", "See"), "research only"),
    (
        "observer",
        lambda ds: setattr(next(i for i in ds.ContentSequence if i.ValueType == "UIDREF"), "UID", "1.2.3"),
        "device observer",
    ),
    ("image", drop_content("IMAGE"), "images are not those"),
    ("report", drop_content("COMPOSITE"), "not each referred to once"),
    (
        "kind",
        lambda ds: setattr(contents(ds, "COMPOSITE")[0], "ValueType", "IMAGE"),
        "something else than it is",
    ),
    ("evidence", drop_evidence, "evidence is not what"),
    (
        "study",
        lambda ds: setattr(ds.CurrentRequestedProcedureEvidenceSequence[0], "StudyInstanceUID", "1.2.3"),
        "evidence is of another study",
    ),
]


@pytest.mark.parametrize(("damage", "sentence"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_a_damaged_selection_is_caught(
    case: Judged, damage: Callable[[Dataset], None], sentence: str, tmp_path: Path
) -> None:
    found = case.damaged("key-objects", damage, tmp_path)
    assert any(sentence in fault for fault in found), found
