from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pydicom
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless

from node.assemble import load_volumes
from node.assemble.image import load_volume
from node.assemble.voxels import PADDING_HU
from pipelines.contract import Card, InputRefused, InputSpec
from tests import phantoms
from tests.phantoms import instances_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

CT = InputSpec(modality=("CT",), unit="[hnsf'U]")
MR = InputSpec(modality=("MR",), unit="1")
SHAPE = (12, 40, 48)


def load(paths, spec=CT):
    return load_volume(instances_of(paths if isinstance(paths, list) else [paths]), spec)


def code_of(paths, spec=CT) -> tuple[str, str]:
    with pytest.raises(InputRefused) as caught:
        load(paths, spec)
    return caught.value.code, caught.value.sentence


def centroid_mm(volume) -> np.ndarray:
    index = np.argwhere(volume.image.array > 200).mean(axis=0)
    return volume.image.affine[:3, :3] @ index + volume.image.affine[:3, 3]


@pytest.fixture
def axial():
    affine = phantoms.make_affine()
    return affine, phantoms.asymmetric_phantom(SHAPE, affine)


@pytest.mark.parametrize("orientation", phantoms.ORIENTATIONS)
@pytest.mark.parametrize("reversed_slices", [False, True])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_every_voxel_is_where_it_was_in_the_patient(tmp_path, orientation, reversed_slices, kind):
    affine = phantoms.make_affine(orientation, reversed_slices=reversed_slices)
    phantom = phantoms.asymmetric_phantom(SHAPE, affine)
    if kind == "single":
        paths = phantoms.write_ct_series(
            tmp_path, phantom.array_hu, affine, order="shuffled", numbering="shuffled"
        )
    else:
        paths = [phantoms.write_enhanced_ct(tmp_path / "x", phantom.array_hu, affine, order="shuffled")]
    volume = load(paths)
    flipped = phantom.array_hu[::-1] if reversed_slices else phantom.array_hu
    np.testing.assert_array_equal(volume.image.array, flipped)
    np.testing.assert_allclose(centroid_mm(volume), phantom.centroid_mm, atol=1e-6)
    assert volume.image.array.dtype == np.float32 and volume.image.array.flags.c_contiguous
    assert volume.image.affine.dtype == np.float64


def test_slices_tell_their_instance_frame_and_position_in_array_order(tmp_path, axial):
    affine, phantom = axial
    volume = load(phantoms.write_ct_series(tmp_path / "s", phantom.array_hu, affine, order="reversed"))
    for index, one in enumerate(volume.slices):
        assert one.frame is None
        np.testing.assert_allclose(one.position_mm, phantoms.to_world(affine, (index, 0, 0)), atol=1e-9)
        assert pydicom.dcmread(one.path).SOPInstanceUID == one.sop_instance_uid
    path = phantoms.write_enhanced_ct(tmp_path / "m", phantom.array_hu, affine, order="reversed")
    assert [one.frame for one in load(path).slices] == list(range(SHAPE[0], 0, -1))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_multi_frame_objects_give_the_same_volume(tmp_path, axial, syntax):
    affine, phantom = axial
    path = phantoms.write_enhanced_ct(
        tmp_path / "x", phantom.array_hu, affine, order="shuffled", transfer_syntax=syntax
    )
    np.testing.assert_array_equal(load(path).image.array, phantom.array_hu)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_each_slice_is_rescaled_with_its_own_numbers(tmp_path, axial, kind):
    affine, phantom = axial
    pairs = [(0.5 * (1 + i % 3), -1024.0 - i) for i in range(SHAPE[0])]
    if kind == "single":
        paths = phantoms.write_ct_series(tmp_path, phantom.array_hu, affine, signed=False, rescale=pairs)
    else:
        paths = phantoms.write_enhanced_ct(
            tmp_path / "x", phantom.array_hu, affine, signed=False, rescale=pairs
        )
    assert np.abs(load(paths).image.array - phantom.array_hu).max() <= 0.75


def test_pet_slices_with_different_slopes_are_in_becquerels(tmp_path, axial):
    affine, phantom = axial
    pairs = [(0.1 + 0.37 * i, 0.0) for i in range(SHAPE[0])]
    activity = phantom.array_hu + 1000.0
    paths = phantoms.write_pet_series(tmp_path, activity, affine, signed=False, rescale=pairs)
    volume = load(paths, InputSpec(modality=("PT",), unit="Bq/ml"))
    assert np.abs(volume.image.array - activity).max() <= 0.5 * (0.1 + 0.37 * SHAPE[0])
    code, sentence = code_of(paths, InputSpec(modality=("PT",), unit="g/ml"))
    assert code == "unit-not-accepted"
    assert "(Bq/ml); this pipeline needs g/ml." in sentence, "both are told as a card writes them"


@pytest.mark.parametrize("written_as", ["as it is", "as the other sign"])
def test_padding_becomes_air_whatever_sign_it_was_written_with(tmp_path, axial, written_as):
    affine, phantom = axial
    outside = np.ones(SHAPE[1:], bool)
    outside[5:-5, 5:-5] = False

    def other_sign(index, ds):
        ds.add_new("PixelPaddingValue", "US", 65536 - 2000)

    paths = phantoms.write_ct_series(
        tmp_path,
        phantom.array_hu,
        affine,
        padding=-2000,
        padding_mask=outside,
        edit=other_sign if written_as != "as it is" else None,
    )
    array = load(paths).image.array
    assert (array[:, outside] == PADDING_HU).all()
    np.testing.assert_array_equal(array[:, ~outside], phantom.array_hu[:, ~outside])


def test_a_padding_range_is_padding_from_end_to_end(tmp_path, axial):
    affine, phantom = axial

    def limit(index, ds):
        ds.add_new("PixelPaddingRangeLimit", "SS", -900)

    paths = phantoms.write_ct_series(
        tmp_path, phantom.array_hu, affine, padding=-3000, padding_mask=np.zeros(SHAPE[1:], bool), edit=limit
    )
    array = load(paths).image.array
    assert (array[phantom.array_hu <= -900] == PADDING_HU).all()
    np.testing.assert_array_equal(array[phantom.array_hu > -900], phantom.array_hu[phantom.array_hu > -900])


def test_a_localizer_in_the_series_is_left_out_and_told(tmp_path, axial):
    affine, phantom = axial
    volume = load(phantoms.write_ct_series(tmp_path, phantom.array_hu, affine, localizer=True))
    assert volume.image.array.shape == SHAPE
    assert "1 localizer left out" in volume.notes


def test_a_slice_sent_twice_under_two_uids_is_used_once(tmp_path, axial):
    affine, phantom = axial
    volume = load(phantoms.write_ct_series(tmp_path, phantom.array_hu, affine, duplicate=[3, 7]))
    np.testing.assert_array_equal(volume.image.array, phantom.array_hu)
    assert any("2 images sent twice" in note for note in volume.notes)


def test_numbers_that_begin_late_are_noted(tmp_path, axial):
    affine, phantom = axial
    volume = load(phantoms.write_ct_series(tmp_path, phantom.array_hu, affine, drop=[0, 1]))
    assert any("images at the ends may be missing" in note for note in volume.notes)
    assert load(phantoms.write_ct_series(tmp_path / "whole", phantom.array_hu, affine)).notes == ()


def test_one_of_two_stacks_that_fits_the_card_is_taken(tmp_path, axial):
    affine, phantom = axial
    short = phantoms.make_affine("coronal")
    paths = phantoms.write_ct_series(tmp_path / "a", phantom.array_hu, affine)
    paths += phantoms.write_ct_series(
        tmp_path / "b",
        phantom.array_hu[:3],
        short,
        edit=lambda i, ds: setattr(ds, "SOPInstanceUID", phantoms.uid_of("coronal", i)),
    )
    volume = load(paths, dataclasses.replace(CT, slices_min=5))
    assert volume.image.array.shape == SHAPE
    assert any("3 images" in note for note in volume.notes)
    assert code_of(paths)[0] == "several-volumes"


def test_two_echoes_are_two_volumes_and_are_named(tmp_path, axial):
    affine, phantom = axial
    path = phantoms.write_enhanced_mr(tmp_path / "x", phantom.array_hu, affine, echo_times_ms=(2.5, 4.9))
    code, sentence = code_of(path, MR)
    assert code == "several-volumes" and "echo time 2.5" in sentence and "echo time 4.9" in sentence


def test_a_single_echo_enhanced_mr_is_a_volume_in_arbitrary_units(tmp_path, axial):
    affine, phantom = axial
    path = phantoms.write_enhanced_mr(tmp_path / "x", phantom.array_hu, affine, order="shuffled")
    volume = load(path, MR)
    np.testing.assert_array_equal(volume.image.array, phantom.array_hu)
    assert volume.image.unit.value == "1" and volume.image.modality == "MR"


def test_b_values_are_separate_volumes(tmp_path, axial):
    affine, phantom = axial
    path = phantoms.write_enhanced_mr(tmp_path / "x", phantom.array_hu, affine, b_values=(0.0, 1000.0))
    assert "b-value 1000" in code_of(path, MR)[1]


def test_a_concatenation_is_put_together_again(tmp_path, axial):
    """Frames of one volume in two multi-frame instances (PS3.3 C.7.6.16.2.2.4)."""
    affine, phantom = axial
    lower = phantoms.make_affine()
    upper = affine.copy()
    upper[:3, 3] = phantoms.to_world(affine, (6, 0, 0))

    def part(number):
        def edit(ds):
            ds.ConcatenationUID = phantoms.uid_of("concatenation")
            ds.InConcatenationNumber = number
            ds.SOPInstanceUID = phantoms.uid_of("part", number)

        return edit

    paths = [
        phantoms.write_enhanced_ct(tmp_path / "2", phantom.array_hu[6:], upper, edit=part(2)),
        phantoms.write_enhanced_ct(tmp_path / "1", phantom.array_hu[:6], lower, edit=part(1)),
    ]
    volume = load(paths)
    np.testing.assert_array_equal(volume.image.array, phantom.array_hu)
    assert [one.frame for one in volume.slices] == [1, 2, 3, 4, 5, 6] * 2


def test_facts_are_of_the_acquisition_and_never_of_the_person(tmp_path, axial):
    affine, phantom = axial
    paths = phantoms.write_ct_series(
        tmp_path,
        phantom.array_hu,
        affine,
        patient_name="Canary^Secret",
        headers={
            "PatientID": "CANARY-7",
            "SeriesDescription": "Canary thorax",
            "ContrastBolusAgent": "given by Canary",
            "LossyImageCompression": "01",
            "PatientAge": "018M",
        },
    )
    volume = load(paths)
    facts = volume.image.facts
    assert facts["KVP"] == 120.0 and facts["ConvolutionKernel"] == "B" and facts["SliceThickness"] == 2.5
    assert facts["ContrastBolus"] == "YES" and facts["PatientAgeYears"] == 1.5
    assert facts["LossyImageCompression"] == "01" and "The images were compressed with loss" in volume.notes
    assert "canary" not in f"{facts} {volume.notes}".lower()
    enhanced = phantoms.write_enhanced_ct(tmp_path / "x", phantom.array_hu, affine)
    assert load(enhanced).image.facts["KVP"] == 120.0


def test_inputs_are_loaded_by_role_and_a_refusal_names_it(tmp_path, axial):
    affine, phantom = axial
    ct = instances_of(phantoms.write_ct_series(tmp_path / "ct", phantom.array_hu, affine))
    study = {"StudyInstanceUID": ct[0].study_uid, "PatientID": dcmread(ct[0].path).PatientID}
    mr = instances_of(
        phantoms.write_mr_series(tmp_path / "mr", phantom.array_hu, affine, seed="mr", headers=study)
    )
    card = Card(
        name="x", version="1", title="", maker="", intended_use="", use="a:B", inputs={"ct": CT, "mr": MR}
    )
    volumes = load_volumes({"ct": ct, "mr": mr}, card)
    assert volumes["ct"].image.modality == "CT" and volumes["mr"].image.modality == "MR"
    with pytest.raises(InputRefused, match="Input 'mr'") as caught:
        load_volumes({"ct": ct}, card)
    assert caught.value.code == "input-missing"


@pytest.mark.parametrize("kind", ["single", "multi", "multi compressed"])
def test_loading_takes_at_most_three_times_the_memory_of_the_volume(tmp_path, kind):
    affine = phantoms.make_affine()
    array = np.random.default_rng(0).integers(-1000, 1000, (40, 256, 256), dtype=np.int16)
    if kind == "single":
        instances = instances_of(phantoms.write_ct_series(tmp_path, array, affine))
    else:
        syntax = {"transfer_syntax": RLELossless} if "compressed" in kind else {}
        instances = instances_of([phantoms.write_enhanced_ct(tmp_path / "x", array, affine, **syntax)])
    tracemalloc.start()
    volume = load_volume(instances, CT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * volume.image.array.nbytes
