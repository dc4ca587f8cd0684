"""An electrocardiogram comes out in millivolts, channel by channel, or is refused with a reason."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.waveforms import multiplex_array

from node.assemble.image import load_volume
from pipelines.contract import InputRefused, InputSpec
from tests.paths import SHARED, needs_shared
from tests.phantom_cine import LEADS, channel, group, sines, write_ecg
from tests.phantoms import instances_of

ECG = InputSpec(modality=("ECG",), unit="mV", kind="waveform", slices_min=1)


def loaded(tmp_path, *groups, spec=ECG, **headers):
    return load_volume(instances_of([write_ecg(tmp_path / "ecg.dcm", groups, **headers)]), spec)


def refusal(tmp_path, *groups, spec=ECG, **headers):
    with pytest.raises(InputRefused) as caught:
        loaded(tmp_path, *groups, spec=spec, **headers)
    return caught.value


def test_a_known_sine_comes_back_in_millivolts(tmp_path):
    volume = loaded(tmp_path, group(sines()))
    image = volume.image
    assert image.array.shape == (12, 1, 5000) and image.array.dtype == np.float32
    time_s = np.arange(5000) / 500.0
    for number, one in enumerate(image.array[:, 0]):
        assert np.allclose(one, np.sin(2 * np.pi * (number + 1) * time_s), atol=0.5 * 2.5e-3)
    assert image.unit.value == "mV" and image.modality == "ECG"
    assert not image.is_spatial and not image.is_calibrated and image.is_waveform
    assert image.facts["sampling_hz"] == 500.0
    assert image.facts["channels"] == ",".join(LEADS)
    assert len(volume.slices) == 12 and len({s.sop_instance_uid for s in volume.slices}) == 1


def test_sensitivity_correction_and_baseline_are_applied(tmp_path):
    definition = channel(
        0, ChannelSensitivity="5", ChannelSensitivityCorrectionFactor="1.1", ChannelBaseline="-200"
    )
    stored = np.array([[0, 100, -100]], dtype=np.int16)
    image = loaded(tmp_path, group(stored, channels=[definition])).image
    assert image.array[0, 0] == pytest.approx([-0.2, 0.35, -0.75])


@pytest.mark.parametrize(
    ("dtype", "interpretation"),
    [("i1", "SB"), ("u1", "UB"), ("<i2", "SS"), ("<u2", "US"), ("<i4", "SL"), ("<u4", "UL")],
)
def test_samples_of_every_width_and_sign_are_read(tmp_path, dtype, interpretation):
    info = np.iinfo(dtype)
    stored = np.array([[info.min, 0, info.max], [1, 2, 3]], dtype=dtype)
    definitions = [channel(n, ChannelSensitivity="1") for n in range(2)]
    image = loaded(tmp_path, group(stored, channels=definitions, interpretation=interpretation)).image
    assert np.allclose(image.array[:, 0], stored.astype(np.float64) / 1000, rtol=1e-6)


@pytest.mark.parametrize(("interpretation", "word"), [("MB", "mu-law"), ("AB", "A-law")])
def test_companded_samples_are_refused_by_name(tmp_path, interpretation, word):
    found = refusal(tmp_path, group(np.zeros((1, 4), np.uint8), interpretation=interpretation))
    assert found.code == "not-decodable" and word in found.sentence


def test_the_rhythm_is_taken_and_not_the_median_beat(tmp_path):
    beat = group(sines(samples=6000), WaveformOriginality="DERIVED")
    volume = loaded(tmp_path, beat, group(sines()))
    assert volume.image.array.shape[2] == 5000
    assert volume.image.facts["multiplex_group"] == 2.0
    assert any("2 groups" in note for note in volume.notes)


def test_several_groups_that_are_equally_fit_are_refused(tmp_path):
    found = refusal(tmp_path, group(sines(3)), group(sines(3)))
    assert found.code == "several-waveforms" and "3 channels of 10 s" in found.sentence


def test_two_recordings_in_one_series_are_refused(tmp_path):
    paths = [write_ecg(tmp_path / name, [group(sines())]) for name in ("a", "b")]
    with pytest.raises(InputRefused) as caught:
        load_volume(instances_of(paths), ECG)
    assert caught.value.code == "several-waveforms"


def test_channels_in_other_units_are_left_out_and_told(tmp_path):
    pressure = channel(3)
    pressure.ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"
    definitions = [channel(0), pressure, channel(2)]
    volume = loaded(tmp_path, group(sines(3), channels=definitions))
    assert volume.image.facts["channels"] == "I,III"
    assert np.allclose(volume.image.array[1, 0], sines(3)[2] * 2.5e-3)
    assert any("1 channel in other units" in note for note in volume.notes)
    wanted = InputSpec(modality=("ECG",), unit="mm[Hg]", kind="waveform", slices_min=1)
    other = loaded(tmp_path, group(sines(3), channels=definitions), spec=wanted)
    assert other.image.unit.value == "mm[Hg]" and other.image.array.shape[0] == 1


def test_a_card_that_needs_twelve_leads_refuses_three(tmp_path):
    twelve = InputSpec(modality=("ECG",), unit="mV", kind="waveform", slices_min=12)
    assert refusal(tmp_path, group(sines(3)), spec=twelve).code == "too-few-channels"


def test_a_waveform_without_sensitivity_is_in_no_known_unit(tmp_path):
    definition = channel(0)
    del definition.ChannelSensitivity
    assert refusal(tmp_path, group(sines(1), channels=[definition])).code == "unit-not-accepted"


def test_channels_sampled_at_other_moments_are_refused(tmp_path):
    definitions = [channel(0), channel(1, ChannelSampleSkew="1")]
    assert refusal(tmp_path, group(sines(2), channels=definitions)).code == "channel-skew"
    definitions = [channel(0), channel(1, ChannelSampleSkew="0.25")]
    volume = loaded(tmp_path, group(sines(2), channels=definitions))
    assert any("half a sample" in note for note in volume.notes)


def test_samples_that_are_padding_stand_as_nothing_and_are_told(tmp_path):
    stored = sines(2)
    stored[1, 10:20] = -32768
    one = group(stored)
    one.add_new("WaveformPaddingValue", "OW", np.int16(-32768).tobytes())
    volume = loaded(tmp_path, one)
    assert not volume.image.array[1, 0, 10:20].any()
    assert any("10 samples" in note for note in volume.notes)


@pytest.mark.parametrize(
    "edit",
    [
        {"NumberOfWaveformSamples": 4_000_000_000},
        {"NumberOfWaveformChannels": 11},
        {"SamplingFrequency": "0"},
        {"WaveformBitsAllocated": 24},
        {"WaveformSampleInterpretation": ""},
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, edit):
    assert refusal(tmp_path, group(sines(), **edit)).code == "not-decodable"


def test_an_absurd_sensitivity_is_refused_and_not_infinite(tmp_path):
    definition = channel(0, ChannelSensitivity="1e300", ChannelSensitivityCorrectionFactor="1e300")
    assert refusal(tmp_path, group(sines(1), channels=[definition])).code == "not-decodable"


def test_a_report_in_the_series_is_left_out_and_alone_refused(tmp_path):
    assert refusal(tmp_path).code == "no-waveform"
    paths = [write_ecg(tmp_path / "a", [group(sines())]), write_ecg(tmp_path / "b", [])]
    assert "1 object without a waveform left out" in load_volume(instances_of(paths), ECG).notes


def test_another_modality_is_refused(tmp_path):
    assert refusal(tmp_path, group(sines()), Modality="HD").code == "modality-not-accepted"


def test_a_channel_that_a_person_named_is_told_by_its_number(tmp_path):
    definition = channel(0, ChannelLabel="Smith^John")
    definition.ChannelSourceSequence[0].CodingSchemeDesignator = "99LOCAL"
    definition.ChannelSourceSequence[0].CodeMeaning = "Smith^John"
    facts = loaded(tmp_path, group(sines(1), channels=[definition])).image.facts
    assert facts["channels"] == "channel 1" and "Smith" not in str(facts)


@needs_shared
def test_a_real_electrocardiogram_is_as_pydicom_decodes_it():
    path = SHARED / "ecg" / "waveform_ecg.dcm"
    image = load_volume(instances_of([path]), ECG).image
    meant = multiplex_array(pydicom.dcmread(path), 0, as_raw=False).T / 1000
    assert np.allclose(image.array[:, 0], meant, atol=1e-6)
    assert image.facts["channels"] == ",".join(LEADS) and image.facts["sampling_hz"] == 1000.0
    # Einthoven: II = I + III, whatever the heart does
    assert np.allclose(image.array[1], image.array[0] + image.array[2], atol=0.01)
