"""The same slices over time: whatever maker wrote them, phases come out in order, at their place."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread

from node.assemble.image import load_volume
from pipelines.contract import InputRefused, InputSpec
from tests import phantoms
from tests.phantom_cine import BLOOD, PHASE_MS, beating_ball, write_cine, write_enhanced_cine
from tests.phantoms import instances_of, to_world

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

CINE = InputSpec(modality=("MR",), unit="1", kind="cine", slices_min=1)


@pytest.fixture(scope="module")
def heart():
    return beating_ball()


def times_of(volume):
    return [float(t) for t in str(volume.image.facts["phase_times_ms"]).split(",")]


def refusal(instances, spec=CINE):
    with pytest.raises(InputRefused) as caught:
        load_volume(instances, spec)
    return caught.value


@pytest.mark.parametrize("habit", ["siemens", "ge", "philips"])
def test_single_frames_of_each_maker_become_phases_of_the_same_slices(tmp_path, heart, habit):
    volume = load_volume(instances_of(write_cine(tmp_path, heart.array, heart.affine, habit=habit)), CINE)
    image = volume.image
    phases, slices = heart.array.shape[:2]
    assert (image.phases, image.slices) == (phases, slices)
    assert np.array_equal(image.array.reshape(heart.array.shape), heart.array)
    assert np.allclose(image.affine, heart.affine, atol=1e-4)
    assert times_of(volume) == pytest.approx([p * PHASE_MS for p in range(phases)], abs=PHASE_MS / 4)
    assert np.all(np.diff(times_of(volume)) > 0)


@pytest.mark.parametrize("times", ["index", "delay", "both"])
def test_an_enhanced_object_says_the_same(tmp_path, heart, times):
    path = write_enhanced_cine(tmp_path / "cine.dcm", heart.array, heart.affine, times=times)
    volume = load_volume(instances_of([path]), CINE)
    assert volume.image.phases == len(heart.array)
    assert np.array_equal(volume.image.array.reshape(heart.array.shape), heart.array)
    assert np.allclose(volume.image.affine, heart.affine, atol=1e-4)
    assert ("phase_times_ms" in volume.image.facts) == (times != "index")
    assert len({plane.frame for plane in volume.slices}) == heart.array[..., 0, 0].size


def test_the_ball_beats_where_it_is_and_as_much_as_it_does(tmp_path, heart):
    """End-diastolic and end-systolic volume and the centre, in world millimetres."""
    image = load_volume(instances_of(write_cine(tmp_path, heart.array, heart.affine)), CINE).image
    blood = (image.array == BLOOD).reshape(image.phases, image.slices, *image.array.shape[1:])
    for mask, volume_ml in zip(blood, heart.volumes_ml, strict=True):
        assert mask.sum() * image.voxel_ml == pytest.approx(volume_ml, rel=0.04)
        centre_mm = to_world(image.affine, np.argwhere(mask).mean(axis=0))
        assert np.allclose(centre_mm, heart.centre_mm, atol=0.2)
    fraction = 1 - blood.sum(axis=(1, 2, 3)).min() / blood.sum(axis=(1, 2, 3)).max()
    assert fraction == pytest.approx(1 - (16 / 24) ** 3, abs=0.02)


def test_each_slice_names_the_file_that_its_pixels_are_from(tmp_path, heart):
    volume = load_volume(instances_of(write_cine(tmp_path, heart.array, heart.affine)), CINE)
    for plane, pixels in zip(volume.slices, volume.image.array, strict=True):
        assert np.array_equal(dcmread(plane.path).pixel_array, pixels)
    positions = [plane.position_mm for plane in volume.slices]
    assert positions[: volume.image.slices] * volume.image.phases == positions


def test_a_single_slice_is_as_thick_as_it_says(tmp_path, heart):
    paths = write_cine(tmp_path, heart.array[:, 4:5], heart.affine, headers={"SliceThickness": "8"})
    image = load_volume(instances_of(paths), CINE).image
    assert (image.phases, image.slices) == (len(heart.array), 1)
    assert image.spacing_mm == pytest.approx((8.0, 1.5, 1.4))
    normal = image.affine[:3, 0] / 8.0
    assert np.allclose(normal, heart.affine[:3, 0] / 6.0, atol=1e-6)


def test_a_single_slice_without_thickness_is_refused(tmp_path, heart):
    paths = write_cine(tmp_path, heart.array[:, 4:5], heart.affine, headers={"SliceThickness": None})
    assert refusal(instances_of(paths)).code == "no-geometry"


def test_a_dynamic_series_follows_the_clock(tmp_path, heart):
    def scan(phase, place, ds):
        ds.AcquisitionNumber = phase + 1

    paths = write_cine(tmp_path, heart.array, heart.affine, habit="clock", edit=scan)
    volume = load_volume(instances_of(paths), CINE)
    assert volume.image.facts["phase_order"] == "acquisition"
    assert times_of(volume) == pytest.approx([4000.0 * phase for phase in range(len(heart.array))])
    assert np.array_equal(volume.image.array.reshape(heart.array.shape), heart.array)


def test_a_cine_is_no_volume_and_a_volume_no_cine(tmp_path, heart):
    cine = instances_of(write_cine(tmp_path / "cine", heart.array, heart.affine))
    assert refusal(cine, InputSpec(modality=("MR",), unit="1")).code == "several-volumes"
    still = instances_of(phantoms.write_mr_series(tmp_path / "still", heart.array[0], heart.affine))
    assert refusal(still).code == "too-few-phases"


def test_unequal_numbers_of_phases_are_refused_and_told_where(tmp_path, heart):
    found = refusal(instances_of(write_cine(tmp_path, heart.array, heart.affine, drop=[(2, 5)])))
    assert found.code == "phases-unequal"
    assert "6 phases" in found.sentence and "has 5" in found.sentence


def test_slices_with_as_many_phases_but_other_ones_are_refused(tmp_path, heart):
    gaps = [(place % 2, place) for place in range(heart.array.shape[1])]
    paths = write_cine(tmp_path, heart.array, heart.affine, habit="philips", drop=gaps)
    assert refusal(instances_of(paths)).code == "phases-unequal"


def test_phases_without_a_time_are_refused(tmp_path, heart):
    none = instances_of(write_cine(tmp_path / "none", heart.array, heart.affine, habit="none"))
    assert refusal(none).code == "phase-order-unknown"

    def lost(phase, place, ds):
        if (phase, place) == (3, 3):
            del ds.TriggerTime

    some = instances_of(write_cine(tmp_path / "some", heart.array, heart.affine, edit=lost))
    assert refusal(some).code == "phase-order-unknown"


def test_a_missing_slice_of_all_phases_is_a_gap(tmp_path, heart):
    gone = [(phase, 4) for phase in range(len(heart.array))]
    assert (
        refusal(instances_of(write_cine(tmp_path, heart.array, heart.affine, drop=gone))).code == "slice-gap"
    )


def test_slices_that_move_from_phase_to_phase_are_refused(tmp_path, heart):
    along = heart.affine[:3, 2] / np.linalg.norm(heart.affine[:3, 2])

    def move(phase, place, ds):
        if phase == 3:
            ds.ImagePositionPatient = [f"{v:.6f}" for v in to_world(heart.affine, (place, 0, 0)) + along]

    found = refusal(instances_of(write_cine(tmp_path, heart.array, heart.affine, edit=move)))
    assert found.code == "shifted-slices"


def test_long_and_short_axes_in_one_series_are_several_cines(tmp_path, heart):
    other = phantoms.make_affine("sagittal", (6.0, 1.5, 1.4))
    short = write_cine(tmp_path / "short", heart.array, heart.affine)
    long = write_cine(
        tmp_path / "long",
        heart.array,
        other,
        edit=lambda p, s, ds: setattr(ds, "SOPInstanceUID", f"2.25.{p}{s}9"),
    )
    assert refusal(instances_of([*short, *long])).code == "several-volumes"


def test_nothing_that_identifies_is_among_the_facts(tmp_path, heart):
    volume = load_volume(instances_of(write_cine(tmp_path, heart.array, heart.affine)), CINE)
    told = str(volume.image.facts)
    assert "SIMULATED" not in told and "Phantom" not in told and "2.25." not in told
