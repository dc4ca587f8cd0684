"""Codes and texts that others could not read are found before anything is sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from node.encode.items import coded, item
from node.encode.lint.codes import code_faults
from node.encode.material import Material
from pipelines.contract import Code
from tests.encode.helpers import (
    LEFT_LUNG,
    encoded,
    findings_of,
    material_of,
    single_frame_volume,
)
from tests.phantoms import make_affine

SHAPE = (5, 16, 18)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Material]:
    folder = tmp_path_factory.mktemp("codes")
    volume = single_frame_volume(folder / "in", np.zeros(SHAPE, np.int16), make_affine("axial"))
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 3:12, 3:12] = True
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    made = encoded(volume, findings, folder / "out").objects
    return [thing.path for thing in made], material_of(volume, findings, made)


def an_object(case: tuple[list[Path], Material]) -> Dataset:
    return pydicom.dcmread(case[0][0])


def with_kind(case: tuple[list[Path], Material], code: Code) -> list[str]:
    dataset = an_object(case)
    dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence = [coded(code)]
    return list(code_faults(dataset, case[1]))


def test_what_we_make_has_no_such_fault(case: tuple[list[Path], Material]) -> None:
    for path in case[0]:
        assert list(code_faults(pydicom.dcmread(path), case[1])) == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (Code("78333006", "SCT", "Liver"), ""),  # not among the codes of DICOM: nothing is known of it
        (Code("39607008", "SCT", "Lung structure"), ""),  # another wording of the same
        (Code("39607008", "SCT", "Liver"), "does not mean 'Liver'"),
        (Code("T-28000", "SRT", "Lung"), "retired scheme"),
        (Code("SOMETHING", "99OTHER", "Something"), "its scheme is not declared"),
    ],
)
def test_a_wrong_retired_or_undeclared_code_is_found(
    case: tuple[list[Path], Material], code: Code, told: str
) -> None:
    found = with_kind(case, code)
    assert [told in fault for fault in found] == [True] * bool(told)


def test_a_code_without_a_scheme_is_found(case: tuple[list[Path], Material]) -> None:
    dataset = an_object(case)
    kind = dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    kind.CodingSchemeDesignator = ""
    assert any("lacks a value" in fault for fault in code_faults(dataset, case[1]))


def test_a_code_that_the_hospital_wrote_is_not_judged(case: tuple[list[Path], Material]) -> None:
    dataset = an_object(case)
    theirs = item(CodeValue="X1", CodingSchemeDesignator="SRT", CodeMeaning="Chest")
    dataset.ProcedureCodeSequence = [theirs]
    assert any("retired" in fault for fault in code_faults(dataset, case[1]))
    case[1].header.dataset.ProcedureCodeSequence = [theirs]
    try:
        assert list(code_faults(dataset, case[1])) == []
    finally:
        del case[1].header.dataset.ProcedureCodeSequence


@pytest.mark.parametrize(
    ("keyword", "value", "told"),
    [
        ("SeriesDescription", "a\x07b", "control character"),
        ("StationName", "x" * 17, "longer"),
        ("ContentCreatorName", "Doe=" + "x" * 65, "longer"),
        ("ContentDescription", "\ud800", "UTF-8"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_text_that_cannot_be_written_is_found(
    case: tuple[list[Path], Material], keyword: str, value: str, told: str
) -> None:
    dataset = an_object(case)
    setattr(dataset, keyword, value)
    assert [told in fault for fault in code_faults(dataset, case[1])] == [True]
