"""Parametric Maps, read by dcmqi, highdicom and dicom3tools."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from node.model import Volume
from node.profile import Presentation
from pipelines.contract import Code, Findings, Map
from tests.encode.extras import (
    SOURCES,
    Judged,
    dcmdump,
    of_kind,
    only,
    real_volume,
    result_of,
    rich_case,
    stored,
)
from tests.encode.helpers import LEFT_LUNG, findings_of
from tests.encode.judges import dciodvfy_errors, needs, needs_dciodvfy
from tests.paths import SHARED, needs_shared
from tests.phantoms import to_world

SHAPE = (8, 21, 17)
SALIENCY = Code("130404", "DCM", "Saliency")
ADC = Code("113041", "DCM", "Apparent Diffusion Coefficient")
NO_UNITS = Code("1", "UCUM", "no units")
DIFFUSION = Code("um2/s", "UCUM", "um2/s")


def a_map(array: np.ndarray, **changes: object) -> Map:
    values = {"label": "Attention", "quantity": SALIENCY, "unit": NO_UNITS, "array": array}
    return Map(**{**values, **changes})  # type: ignore[arg-type]


def findings_with(volume: Volume, *maps: Map) -> Findings:
    none = np.zeros(volume.image.array.shape, bool)
    none[1, 3:5, 3:5] = True
    return findings_of(volume, [none], [LEFT_LUNG], maps=maps)


def paramap(path: Path, folder: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    """Return the values, affine and meta-information that dcmqi reads of a parametric map."""
    folder.mkdir()
    program = str(Path(sys.executable).parent / "paramap2itkimage")
    run = subprocess.run(
        [program, "--inputDICOM", str(path), "--outputDirectory", str(folder), "--outputType", "nrrd"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    header, _, data = (folder / "pmap.nrrd").read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line)
    assert (fields["type"], fields["encoding"]) == ("float", "gzip")
    sizes = [int(n) for n in fields["sizes"].split()]
    affine = np.eye(4)
    for axis, vector in zip((2, 1, 0), fields["space directions"].split(), strict=True):
        affine[:3, axis] = [float(v) for v in vector.strip("()").split(",")]
    affine[:3, 3] = [float(v) for v in fields["space origin"].strip("()").split(",")]
    array = np.frombuffer(gzip.decompress(data), "<f4").reshape(sizes[::-1])
    return array, affine, json.loads((folder / "meta.json").read_text())


def by_place(array: np.ndarray, affine: np.ndarray) -> dict[tuple[float, ...], float]:
    """Return LPS position -> value of all values but 0, so that readers may order slices as they like."""
    places = np.argwhere(array != 0)
    values = array[tuple(places.T)]
    return {
        tuple(np.round(p, 2) + 0.0): float(v) for p, v in zip(to_world(affine, places), values, strict=True)
    }


@pytest.mark.parametrize(("orientation", "source"), SOURCES)
def test_dcmqi_and_highdicom_find_every_value_where_it_is_in_the_patient(
    tmp_path: Path, orientation: str, source: str
) -> None:
    rng = np.random.default_rng(4)
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), orientation, source)
    values = np.zeros(SHAPE, np.float32)
    values[2:6, 3:12, 2:9] = rng.normal(0, 1e-3, (4, 9, 7))
    values[3, 5, 5] = 123456.789
    path = only(
        result_of(volume, findings_with(volume, a_map(values)), tmp_path / "out", "parametric-map"),
        "parametric-map",
    )
    expected = by_place(values, volume.image.affine)
    array, affine, meta = paramap(path, tmp_path / "dcmqi")
    assert by_place(array, affine) == expected
    assert meta["QuantityValueCode"]["CodeMeaning"] == "Saliency"
    read = hd.imread(path).get_volume(dtype=np.float32, apply_real_world_transform=True)
    assert by_place(read.array, read.affine) == expected


@needs_dciodvfy
@needs("dcmdump", "dcmtk")
@pytest.mark.parametrize("source", ["single", "enhanced"])
def test_dciodvfy_and_dcmtk_have_nothing_against_it(tmp_path: Path, source: str) -> None:
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), "oblique", source)
    values = np.random.default_rng(1).random(SHAPE, np.float32)
    maps = (a_map(values), a_map(values * 1500, label="ADC", quantity=ADC, unit=DIFFUSION))
    result = result_of(volume, findings_with(volume, *maps), tmp_path / "out", "parametric-map")
    assert len(of_kind(result, "parametric-map")) == 2
    for thing in of_kind(result, "parametric-map"):
        assert dciodvfy_errors(thing.path) == []
        assert "ParametricMapStorage" in dcmdump(thing.path)


def test_a_map_says_what_it_is_of_in_which_unit_and_that_it_is_research(tmp_path: Path) -> None:
    case = rich_case(tmp_path / "in")
    result = result_of(case.volume, case.findings, tmp_path / "out", "parametric-map")
    first, second = (pydicom.dcmread(o.path) for o in of_kind(result, "parametric-map"))
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.SeriesNumber != second.SeriesNumber
    assert (first.ContentDescription, second.ContentDescription) == ("Attention", "Nodule")
    assert first.ContentQualification == "RESEARCH"
    shared = second.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    said = {
        a.ConceptNameCodeSequence[0].CodeMeaning: a.ConceptCodeSequence[0].CodeMeaning
        for a in mapping.QuantityDefinitionSequence
    }
    assert said == {"Quantity": "Probability", "Finding": "Nodule"}
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == 1.0
    anatomy = shared.FrameAnatomySequence[0]
    assert (anatomy.FrameLaterality, anatomy.AnatomicRegionSequence[0].CodeMeaning) == ("R", "Lung")


def test_only_the_slab_with_values_is_written_and_no_slice_within_it_is_left_out(tmp_path: Path) -> None:
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), "oblique", "single")
    values = np.zeros(SHAPE, np.float32)
    values[2, 3, 4], values[5, 6, 7] = 0.5, -0.25
    findings = findings_with(volume, a_map(values))
    ds = pydicom.dcmread(
        only(result_of(volume, findings, tmp_path / "out", "parametric-map"), "parametric-map")
    )
    assert ds.NumberOfFrames == 4
    sources = [
        g.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for g in ds.PerFrameFunctionalGroupsSequence
    ]
    assert sources == [s.sop_instance_uid for s in volume.slices[2:6]]
    window = ds.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert (float(window.WindowCenter), float(window.WindowWidth)) == (0.125, 0.75)


def test_maps_of_nothing_and_maps_too_large_are_told_and_the_others_are_made(tmp_path: Path) -> None:
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), "axial", "single")
    nothing = a_map(np.zeros(SHAPE, np.float32), label="Nothing")
    whole = a_map(np.ones(SHAPE, np.float32), label="All")
    slab = np.zeros(SHAPE, np.float32)
    slab[3] = 1
    findings = findings_with(volume, nothing, whole, a_map(slab))
    small = Presentation(max_object_mb=4 * slab[0].size * 2 / 1e6)
    result = result_of(volume, findings, tmp_path / "out", "parametric-map", presentation=small)
    assert pydicom.dcmread(only(result, "parametric-map")).ContentDescription == "Attention"
    (note,) = [note for note in result.notes if "Parametric Map" in note]
    assert "1 hold nothing but 0, 1 need more" in note


def test_without_maps_or_a_frame_of_reference_there_is_a_reason_instead(tmp_path: Path) -> None:
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), "axial", "single")
    result = result_of(volume, findings_with(volume), tmp_path / "none", "parametric-map")
    assert any("gives no maps" in note for note in result.notes)
    nowhere = replace(volume, frame_of_reference_uid="")
    findings = findings_with(volume, a_map(np.ones(SHAPE, np.float32)))
    result = result_of(nowhere, findings, tmp_path / "nowhere", "parametric-map")
    assert any("no frame of reference" in note for note in result.notes)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [(np.full(SHAPE, np.inf, np.float32), "not a finite"), (np.ones((2, 3, 4), np.float32), "shape")],
)
def test_a_map_that_breaks_the_contract_is_left_out_with_a_note(
    tmp_path: Path, array: np.ndarray, sentence: str
) -> None:
    volume = stored(tmp_path / "in", np.zeros(SHAPE, np.int16), "axial", "single")
    outcome = result_of(volume, findings_with(volume, a_map(array)), tmp_path / "out", "parametric-map")
    assert of_kind(outcome, "parametric-map") == []
    assert any(sentence in note for note in outcome.notes)


def test_maps_whose_frames_are_numbered_differently_share_no_dimension_organization(tmp_path: Path) -> None:
    volume = stored(tmp_path / "in", np.zeros((7, 12, 10), np.int16), "axial", "single")
    values = np.zeros((7, 12, 10), np.float32)
    values[2:4] = 0.5
    maps = a_map(values), a_map(np.roll(values, 2, axis=0), label="Another")
    outcome = result_of(volume, findings_with(volume, *maps), tmp_path / "out", "parametric-map")
    made = [pydicom.dcmread(thing.path) for thing in of_kind(outcome, "parametric-map")]
    assert len({ds.DimensionOrganizationSequence[0].DimensionOrganizationUID for ds in made}) == 2


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    case = rich_case(tmp_path / "in")
    runs = [
        [o.path.read_bytes() for o in of_kind(result, "parametric-map")]
        for result in (
            result_of(case.volume, case.findings, tmp_path / name, "parametric-map") for name in "ab"
        )
    ]
    assert runs[0] == runs[1]


@needs_shared
def test_a_real_map_comes_back_from_dcmqi_as_it_was(tmp_path: Path) -> None:
    volume = real_volume(SHARED / "mr_prostate_adc_ge", "MR")
    findings = findings_with(volume, a_map(volume.image.array, quantity=ADC, unit=DIFFUSION))
    path = only(result_of(volume, findings, tmp_path / "out", "parametric-map"), "parametric-map")
    array, affine, _ = paramap(path, tmp_path / "dcmqi")
    np.testing.assert_array_equal(array, volume.image.array)
    np.testing.assert_allclose(affine, volume.image.affine, atol=1e-3)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("map")
    made = rich_case(folder / "in")
    result = result_of(made.volume, made.findings, folder / "out", "parametric-map")
    return Judged(made.volume, made.findings, result)


def test_undamaged_maps_have_no_fault(case: Judged) -> None:
    assert [case.faults(thing) for thing in of_kind(case.result, "parametric-map")] == [[], []]


def put(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


def mapping(change: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    return lambda ds: change(ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0])


def shared(group: str, keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds.SharedFunctionalGroupsSequence[0][group].value[0], keyword, value)


def frame(change: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    return lambda ds: change(ds.PerFrameFunctionalGroupsSequence[0])


def other_value(ds: Dataset) -> None:
    values = np.frombuffer(ds.FloatPixelData, "<f4").copy()
    values[np.argmax(values)] *= 1.001
    ds.FloatPixelData = values.tobytes()


def one_frame_less(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[-1]
    ds.NumberOfFrames -= 1
    ds.FloatPixelData = ds.FloatPixelData[: -4 * ds.Rows * ds.Columns]


DAMAGES: list[tuple[str, Callable[[Dataset], None], str]] = [
    ("class", put("SOPClassUID", "1.2.3"), "class is not Parametric Map"),
    ("pixels", lambda ds: ds.add_new("DoubleFloatPixelData", "OD", b"\0" * 8), "other pixels"),
    ("label", put("ContentDescription", "Another"), "none of the maps"),
    ("frame of reference", put("FrameOfReferenceUID", "1.2.3"), "frame of reference"),
    (
        "series",
        lambda ds: setattr(ds.ReferencedSeriesSequence[0], "SeriesInstanceUID", "1.2.3"),
        "first Referenced Series",
    ),
    (
        "instances",
        lambda ds: ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence.pop(),
        "referenced instances",
    ),
    ("rows", put("Rows", 63), "Rows and Columns"),
    ("spacing", shared("PixelMeasuresSequence", "PixelSpacing", [1, 1]), "spacing"),
    (
        "orientation",
        shared("PlaneOrientationSequence", "ImageOrientationPatient", [1, 0, 0, 0, 1, 0]),
        "orientation",
    ),
    ("slope", mapping(put("RealWorldValueSlope", 2.0)), "mapped to"),
    (
        "unit",
        mapping(lambda m: setattr(m.MeasurementUnitsCodeSequence[0], "CodeValue", "%")),
        "the unit is not",
    ),
    (
        "quantity",
        mapping(
            lambda m: setattr(m.QuantityDefinitionSequence[0].ConceptCodeSequence[0], "CodeValue", "130402")
        ),
        "the quantity is not",
    ),
    ("length", put("FloatPixelData", b"\0" * 8), "not the length"),
    (
        "source",
        frame(
            lambda g: setattr(
                g.DerivationImageSequence[0].SourceImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3"
            )
        ),
        "image that is not of the source",
    ),
    (
        "place",
        frame(lambda g: setattr(g.PlanePositionSequence[0], "ImagePositionPatient", [0, 0, 0])),
        "1 frames do not lie",
    ),
    (
        "index",
        frame(lambda g: setattr(g.FrameContentSequence[0], "DimensionIndexValues", [9])),
        "1 frames do not lie",
    ),
    ("value", other_value, "1 frames do not hold the values"),
    ("cut off", one_frame_less, "not all slices"),
]


@pytest.mark.parametrize(("damage", "sentence"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_a_damaged_map_is_caught(
    case: Judged, damage: Callable[[Dataset], None], sentence: str, tmp_path: Path
) -> None:
    found = case.damaged("parametric-map", damage, tmp_path)
    assert any(sentence in fault for fault in found), found
