"""Every reason for a refusal can be provoked, with a sentence for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import MPEG2MPML

from node.assemble.image import load_volume, load_volumes
from node.assemble.reason import Reason, plain, refused, some
from pipelines.contract import Card, InputRefused, InputSpec
from tests import phantom_cine, phantoms
from tests.phantom_planes import ramp, write_plane
from tests.phantoms import instances_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

CT = InputSpec(modality=("CT",), unit="[hnsf'U]")
AFFINE = phantoms.make_affine()
ARRAY = phantoms.asymmetric_phantom((8, 32, 40), AFFINE).array_hu


def written(folder: Path, array=ARRAY, **options):
    return instances_of(phantoms.write_ct_series(folder, array, AFFINE, **options))


def with_headers(**headers):
    return lambda folder: (written(folder, headers=headers), CT)


def unreadable(folder: Path):
    instances = written(folder)
    instances[3].path.write_bytes(b"nothing")
    return instances, CT


def no_pixels(folder: Path):
    def edit(index, ds):
        del ds.PixelData

    return written(folder, edit=edit), CT


def not_decodable(folder: Path):
    instances = written(folder)
    path = instances[0].path
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", MPEG2MPML[:19].encode() + b"\0"))
    return instances, CT


def several_series(folder: Path):
    return written(folder / "a") + written(folder / "b", seed="other"), CT


def several_patients(folder: Path):
    return written(folder, edit=lambda i, ds: setattr(ds, "PatientID", f"SIMULATED-{i // 4}")), CT


def conflicting(folder: Path):
    instances = written(folder)
    return (*instances, dataclasses.replace(instances[0], sha256="0" * 64)), CT


def several_volumes(folder: Path):
    again = written(
        folder / "b", seed="b", headers={"SeriesInstanceUID": phantoms.uid_of("phantom", "series")}
    )
    return _one_frame_of_reference(written(folder / "a"), again), CT


def _one_frame_of_reference(first, second):
    """Two volumes of one series at two places of one patient, as two beds of one scan are."""
    return first + tuple(dataclasses.replace(i, series_uid=first[0].series_uid) for i in second)


def duplicate_position(folder: Path):
    def edit(index, ds):
        if seen.setdefault(index, ds.SOPInstanceUID) != ds.SOPInstanceUID:
            ds.PixelData = bytes(len(ds.PixelData))

    seen: dict[int, str] = {}
    return written(folder, duplicate=[2], edit=edit), CT


def variable_spacing(folder: Path):
    def edit(index, ds):
        ds.ImagePositionPatient[2] += 0.1 * index * index

    return written(folder, edit=edit), CT


PLANES = InputSpec(modality=("DX",), unit="1", kind="planes", slices_min=1)


def several_sizes(folder: Path):
    paths = [write_plane(folder / f"{i}.dcm", ramp(20 + i, 30), number=i) for i in range(2)]
    return instances_of(paths), PLANES


def colour_unknown(folder: Path):
    return instances_of([write_plane(folder / "a.dcm", ramp(), photometric="HSV")]), PLANES


CINE = InputSpec(modality=("MR",), unit="1", kind="cine", slices_min=1)
WAVEFORM = InputSpec(modality=("ECG",), unit="mV", kind="waveform", slices_min=1)
MR = InputSpec(modality=("MR",), unit="1")
BALL = phantom_cine.beating_ball(3, (4, 12, 12))


def cine(**options):
    return lambda folder: (
        instances_of(phantom_cine.write_cine(folder, BALL.array, BALL.affine, **options)),
        CINE,
    )


def ecg(*groups, spec=WAVEFORM):
    return lambda folder: (instances_of([phantom_cine.write_ecg(folder / "a", groups)]), spec)


def two_inputs(study: str, **headers):
    """Two series as a case whose second input is of another study, as its role may want."""

    def make(folder: Path):
        first = phantoms.write_mr_series(folder / "a", ARRAY, AFFINE, seed="a")
        second = phantoms.write_mr_series(folder / "b", ARRAY, AFFINE, seed="a", headers=headers)
        inputs = {"a": instances_of(first), "b": instances_of(second)}
        return inputs, {"a": MR, "b": dataclasses.replace(MR, study=study)}

    return make


SINES = phantom_cine.sines(2, 100)
SKEWED = [phantom_cine.channel(0), phantom_cine.channel(1, ChannelSampleSkew="2")]

CASES: dict[Reason, Callable[[Path], tuple]] = {
    Reason.INPUT_MISSING: lambda folder: ((), CT),
    Reason.UNREADABLE: unreadable,
    Reason.NO_PIXELS: no_pixels,
    Reason.NOT_GREYSCALE: with_headers(PhotometricInterpretation="MONOCHROME1"),
    Reason.COLOUR_UNKNOWN: colour_unknown,
    Reason.NOT_DECODABLE: not_decodable,
    Reason.PIXEL_BUDGET: with_headers(Rows=65535, Columns=65535),
    Reason.MODALITY_NOT_ACCEPTED: with_headers(Modality="US"),
    Reason.UNIT_UNKNOWN: with_headers(RescaleType="US"),
    Reason.UNIT_NOT_ACCEPTED: lambda folder: (written(folder), dataclasses.replace(CT, unit="g/ml")),
    Reason.SEVERAL_SERIES: several_series,
    Reason.SEVERAL_PATIENTS: several_patients,
    Reason.CONFLICTING_INSTANCES: conflicting,
    Reason.LOCALIZER_ONLY: with_headers(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    Reason.SEVERAL_VOLUMES: several_volumes,
    Reason.SEVERAL_SIZES: several_sizes,
    Reason.SEVERAL_STUDIES: two_inputs("current", StudyInstanceUID="2.25.9"),
    Reason.NO_PRIOR: two_inputs("prior"),
    Reason.SEVERAL_WAVEFORMS: ecg(phantom_cine.group(SINES), phantom_cine.group(SINES)),
    Reason.TOO_FEW_PHASES: lambda folder: (written(folder, headers={"Modality": "MR"}), CINE),
    Reason.PHASES_UNEQUAL: cine(drop=[(1, 1)]),
    Reason.PHASE_ORDER_UNKNOWN: cine(habit="none"),
    Reason.NO_WAVEFORM: ecg(),
    Reason.TOO_FEW_CHANNELS: ecg(
        phantom_cine.group(SINES), spec=dataclasses.replace(WAVEFORM, slices_min=12)
    ),
    Reason.CHANNEL_SKEW: ecg(phantom_cine.group(SINES, channels=SKEWED)),
    Reason.NO_GEOMETRY: with_headers(FrameOfReferenceUID=None),
    Reason.TOO_FEW_SLICES: lambda folder: (written(folder), dataclasses.replace(CT, slices_min=50)),
    Reason.DUPLICATE_POSITION: duplicate_position,
    Reason.SLICE_GAP: lambda folder: (written(folder, drop=[3]), CT),
    Reason.VARIABLE_SPACING: variable_spacing,
    Reason.GANTRY_TILT: lambda folder: (written(folder, tilt_deg=14.0), CT),
    Reason.SHIFTED_SLICES: lambda folder: (written(folder, jitter_mm=0.5), CT),
    Reason.SPACING_OUTSIDE_CARD: lambda folder: (
        written(folder),
        dataclasses.replace(CT, spacing_mm={"slice": (0.5, 2.0)}),
    ),
}


def test_there_is_a_case_for_every_reason():
    assert set(CASES) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_can_be_provoked_and_has_a_sentence_for_people(tmp_path, reason):
    instances, spec = CASES[reason](tmp_path)
    with pytest.raises(InputRefused) as caught:
        if isinstance(spec, dict):
            card = Card(name="", version="", title="", maker="", intended_use="", use="", inputs=spec)
            load_volumes(instances, card)
        else:
            load_volume(instances, spec)
    assert caught.value.code == reason.value
    sentence = caught.value.sentence
    assert sentence[0].isupper() and sentence.endswith(".") and len(sentence) < 400
    for technical in ("np.", "float64", "Error(", str(tmp_path), "Simulated", "SIMULATED"):
        assert technical not in sentence


@pytest.mark.parametrize(
    "headers", [{"RescaleSlope": None}, {"RescaleIntercept": None}, {"RescaleSlope": "0"}]
)
def test_a_ct_without_a_rescale_has_no_known_unit(tmp_path, headers):
    with pytest.raises(InputRefused) as caught:
        load_volume(written(tmp_path, headers=headers), CT)
    assert caught.value.code == "unit-unknown"


def test_a_unit_that_is_said_to_be_unspecified_is_told_as_that(tmp_path):
    with pytest.raises(InputRefused) as caught:
        load_volume(written(tmp_path, headers={"RescaleType": "US"}), CT)
    assert caught.value.sentence.endswith("are in an unspecified unit (Rescale Type US).")


@pytest.mark.parametrize("rescale_type", [None, "HU", "HOUNSFIELD UNITS"])
def test_a_ct_is_in_hounsfield_units_unless_it_says_otherwise(tmp_path, rescale_type):
    load_volume(written(tmp_path, headers={"RescaleType": rescale_type}), CT)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", None),
        ("ImageOrientationPatient", None),
        ("ImageOrientationPatient", [1, 0, 0, 0.5, 0.8, 0]),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("PixelSpacing", None),
        ("PixelSpacing", [0, 0.7]),
        ("ImagePositionPatient", [1e9, 0, 0]),
    ],
)
def test_geometry_that_is_missing_or_absurd_is_named(tmp_path, keyword, value):
    with pytest.raises(InputRefused) as caught:
        load_volume(written(tmp_path, headers={keyword: value}), CT)
    assert caught.value.code == "no-geometry"
    assert keyword[:5] in caught.value.sentence


def test_codes_are_kebab_case():
    assert all(reason.value == reason.name.lower().replace("_", "-") for reason in Reason)
    assert refused(Reason.SLICE_GAP, "There.").code == "slice-gap"


def test_numbers_in_sentences_are_plain():
    assert [plain(v) for v in (2.50, -0.0, 1 / 3, 100.0, 12.346)] == ["2.5", "0", "0.33", "100", "12.35"]
    assert some(1, "image") == "1 image" and some(2, "image", "left") == "2 images left"
