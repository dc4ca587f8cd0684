"""Numbers from masks have known answers, whatever the grid."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines import codes
from pipelines.contract import Code, Image
from pipelines.measure import MEASURES, measure_segment, recompute
from tests.phantoms import make_affine, world_grid

HU = codes.HOUNSFIELD_UNIT


def image_of(array, affine=None, modality="CT", unit=HU):
    affine = np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine
    return Image(array=np.asarray(array, dtype=np.float32), affine=affine, unit=unit, modality=modality)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "prone", "oblique"])
@pytest.mark.parametrize("reversed_slices", [False, True])
def test_a_sphere_of_20_mm_radius_has_33_5_ml_in_every_orientation(orientation, reversed_slices):
    spacing = (2.5, 0.8, 0.7)
    shape = (24, 70, 80)
    affine = make_affine(orientation, spacing, reversed_slices=reversed_slices)
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    mask = np.linalg.norm(world_grid(shape, affine) - middle, axis=-1) < 20.0
    volume = recompute("volume", mask, image_of(np.zeros(shape), affine))
    assert volume == pytest.approx(4 / 3 * math.pi * 20**3 / 1000, rel=0.005)


def test_a_sheared_grid_has_the_volume_of_its_determinant():
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    affine[1, 0] = 5.0  # each plane is moved sideways: same volume, longer edge
    mask = np.ones((10, 10, 10), dtype=bool)
    assert recompute("volume", mask, image_of(np.zeros((10, 10, 10)), affine)) == pytest.approx(2.0)


def test_statistics_of_known_values():
    image = image_of(np.arange(101.0).reshape(1, 1, 101))
    mask = np.ones((1, 1, 101), dtype=bool)
    known = {
        "mean": 50.0,
        "median": 50.0,
        "minimum": 0.0,
        "maximum": 100.0,
        "percentile-15": 15.0,
        "stddev": math.sqrt((101**2 - 1) / 12),
        "volume": 0.101,
    }
    for check, value in known.items():
        assert recompute(check, mask, image) == pytest.approx(value)


def test_laa_950_counts_what_is_strictly_below():
    image = image_of([[[-951.0, -950.0, -949.0, -1000.0]]])
    assert recompute("laa-950", np.ones((1, 1, 4), dtype=bool), image) == 50.0


def test_only_the_mask_counts():
    image = image_of([[[10.0, 1000.0]]])
    assert recompute("mean", np.array([[[True, False]]]), image) == 10.0


def test_an_empty_mask_has_no_extent_and_no_other_number():
    image = image_of(np.zeros((2, 2, 2)))
    empty = np.zeros((2, 2, 2), dtype=bool)
    assert recompute("volume", empty, image) == recompute("area", empty, image) == 0.0
    for check in MEASURES.keys() - {"volume", "area"}:
        assert math.isnan(recompute(check, empty, image))


def test_a_mean_over_many_voxels_does_not_drift():
    image = image_of(np.full((64, 256, 256), -850.3))
    mask = np.ones(image.array.shape, dtype=bool)
    assert recompute("mean", mask, image) == pytest.approx(-850.3, abs=1e-3)


def test_every_measurement_can_be_recomputed_from_its_check():
    random = np.random.default_rng(0)
    image = image_of(random.normal(-850, 80, (6, 7, 8)))
    mask = random.random((6, 7, 8)) > 0.5
    one_slice = mask.copy()
    one_slice[1:] = False
    for outline in (mask, one_slice):
        for found in measure_segment(MEASURES, outline, image, segment=1):
            assert found.check is not None
            np.testing.assert_equal(recompute(found.check, outline, image), found.value)


def test_ct_values_are_attenuation_and_others_intensity():
    mask = np.ones((1, 1, 1), dtype=bool)
    [ct] = measure_segment(["mean"], mask, image_of([[[1.0]]]), segment=2)
    unit = Code("1", "UCUM", "no units")
    [mr] = measure_segment(["mean"], mask, image_of([[[1.0]]], modality="MR", unit=unit), segment=2)
    assert (ct.name, ct.unit, ct.derivation, ct.segment) == (codes.ATTENUATION, HU, codes.MEAN, 2)
    assert (mr.name, mr.unit) == (codes.INTENSITY, unit)


def planes_of(array, spacing=(0.5, 0.2), **changes):
    plain = {"modality": "DX", "unit": Code("1", "UCUM", "no units"), "is_spatial": False}
    affine = np.diag([1.0, *spacing, 1.0])
    return Image(array=np.asarray(array, dtype=np.float32), affine=affine, **plain | changes)


def test_an_area_is_pixels_times_the_area_of_one():
    mask = np.zeros((3, 10, 10), dtype=bool)
    mask[1, 2:5, 1:9] = True
    [area] = measure_segment(["area"], mask, planes_of(np.zeros(mask.shape)), segment=1)
    assert (area.name, area.unit, area.check) == (codes.AREA, codes.SQUARE_MILLIMETRE, "area")
    assert area.value == pytest.approx(24 * 0.1)
    assert recompute("area", np.zeros_like(mask), planes_of(np.zeros(mask.shape))) == 0.0
    oblique = image_of(np.zeros(mask.shape), make_affine("oblique", (2.5, 0.5, 0.2)))
    assert recompute("area", mask, oblique) == pytest.approx(24 * 0.1)


def test_an_area_is_of_one_image_and_needs_a_known_distance():
    mask = np.ones((2, 4, 4), dtype=bool)
    assert math.isnan(recompute("area", mask, planes_of(np.zeros(mask.shape))))
    unknown = planes_of(np.zeros((1, 4, 4)), (1.0, 1.0), is_calibrated=False)
    assert math.isnan(recompute("area", mask[:1], unknown))


def test_a_radiograph_has_neither_a_volume_nor_hounsfield_units():
    mask = np.ones((1, 4, 4), dtype=bool)
    image = planes_of(np.full(mask.shape, 0.25), modality="CT")
    volume, mean, low = measure_segment(["volume", "mean", "laa-950"], mask, image, segment=1)
    assert math.isnan(volume.value) and math.isnan(low.value)
    assert (mean.name, mean.value, mean.unit.value) == (codes.INTENSITY, 0.25, "1")


def test_a_union_is_recorded():
    mask = np.ones((1, 1, 1), dtype=bool)
    [both] = measure_segment(["volume"], mask, image_of([[[1.0]]]), union=(1, 2))
    assert (both.segment, both.union, both.check) == (None, (1, 2), "volume")


def test_an_unknown_measure_names_the_known_ones():
    with pytest.raises(KeyError, match=r"volumne.*known are.*volume"):
        measure_segment(["volumne"], np.ones((1, 1, 1), dtype=bool), image_of([[[0.0]]]))


def beating(volumes_voxels, slices=2):
    """Return an image of 0.5 mL voxels over several phases, and a mask of so many voxels in each."""
    mask = np.zeros((len(volumes_voxels), slices, 4, 5), dtype=bool)
    for phase, count in zip(mask, volumes_voxels, strict=True):
        phase.reshape(-1)[:count] = True
    mask = mask.reshape(-1, 4, 5)
    affine = np.diag([5.0, 10.0, 10.0, 1.0])
    image = Image(
        array=np.zeros(mask.shape, np.float32),
        affine=affine,
        unit=Code("1", "UCUM", "no units"),
        modality="MR",
        phases=len(volumes_voxels),
    )
    return mask, image


def test_a_heart_has_a_largest_and_a_smallest_volume_and_no_volume_over_all_phases():
    mask, image = beating([30, 12, 20])
    names = ["lv-edv", "lv-esv", "stroke-volume", "ejection-fraction", "volume-largest", "volume-smallest"]
    found = measure_segment([*names, "volume"], mask, image, segment=1)
    assert [one.value for one in found[:6]] == pytest.approx([15.0, 6.0, 9.0, 60.0, 15.0, 6.0])
    assert math.isnan(found[6].value)
    assert [one.name for one in found[:4]] == [
        codes.LEFT_ED_VOLUME,
        codes.LEFT_ES_VOLUME,
        codes.STROKE_VOLUME,
        codes.EJECTION_FRACTION,
    ]
    assert found[3].unit == codes.PERCENT
    assert (found[4].name, found[4].derivation) == (codes.VOLUME, codes.MAXIMUM)
    assert (found[5].name, found[5].derivation) == (codes.VOLUME, codes.MINIMUM)


def test_a_phase_without_an_outline_is_no_empty_heart():
    mask, image = beating([30, 0, 20])
    for name in ("lv-esv", "ejection-fraction", "stroke-volume"):
        assert math.isnan(recompute(name, mask, image))
    assert recompute("lv-edv", mask, image) == pytest.approx(15.0)


def test_one_phase_has_no_ejection_fraction():
    mask, image = beating([30])
    assert recompute("volume", mask, image) == pytest.approx(15.0)
    for name in ("lv-edv", "rv-esv", "ejection-fraction"):
        assert math.isnan(recompute(name, mask, image))
