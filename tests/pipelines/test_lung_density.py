"""Lungs are found where they are, with their true volumes, or the series is refused with a reason."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from pipelines.contract import Image, InputRefused, read_card
from pipelines.lung_density.airways import find_airways
from pipelines.lung_density.grid import make_grid
from pipelines.lung_density.lungs import AIR_HU, around_body
from pipelines.lung_density.pipeline import LungDensity
from pipelines.measure import recompute
from simulate import axial_affine, chest
from tests.paths import REPOSITORY, SHARED, needs_shared
from tests.pipelines.chests import cropped, image_of, simulated, turned

CARD = read_card(REPOSITORY / "pipelines" / "lung_density" / "card.toml")
ALL = slice(None)


def analyze(image, **parameters):
    pipeline = LungDensity(replace(CARD, parameters={**CARD.parameters, **parameters}))
    pipeline.load("cpu")
    pipeline.check({"ct": image})
    return pipeline.analyze({"ct": image})


def volumes(findings):
    """Return left, right and both lungs in mL, as measured."""
    said = {m.segment: m.value for m in findings.measurements if m.check == "volume"}
    return said[1], said[2], said[None]


def true_volumes(made):
    return made.truth["left_ml"], made.truth["right_ml"], made.truth["both_ml"]


def refusal(image, **parameters):
    with pytest.raises(InputRefused) as refused:
        analyze(image, **parameters)
    assert refused.value.sentence.endswith(".")
    return refused.value.code


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.fixture(scope="module")
def found():
    made = simulated()
    return made, analyze(image_of(made.array_hu, made.affine))


def test_lung_volumes_are_within_one_percent_of_the_truth(found):
    made, findings = found
    assert volumes(findings) == pytest.approx(true_volumes(made), rel=0.01)


def test_the_outlines_lie_on_the_lungs(found):
    made, findings = found
    assert dice(findings.mask(1), made.left_lung) > 0.985
    assert dice(findings.mask(2), made.right_lung) > 0.985
    assert not (findings.mask(1) & findings.mask(2)).any()


def test_vessels_inside_of_the_lungs_are_taken_in(found):
    made, findings = found
    lungs = made.left_lung | made.right_lung
    vessels = lungs & (made.array_hu > -300)
    taken = findings.mask(1) | findings.mask(2)
    deep = vessels & ndimage.binary_erosion(lungs, iterations=2)
    assert np.count_nonzero(taken & deep) > 0.95 * np.count_nonzero(deep)


def test_windpipe_bronchi_and_stomach_gas_are_left_out(found):
    made, findings = found
    gas = made.array_hu < -990
    inside = np.zeros_like(gas)
    inside[:, 40:90, 30:98] = True  # within the body, away from its surface
    outside_lungs = gas & inside & ~made.left_lung & ~made.right_lung
    taken = findings.mask(1) | findings.mask(2)
    assert np.count_nonzero(outside_lungs) > 500
    assert np.count_nonzero(taken & outside_lungs) < 0.02 * np.count_nonzero(outside_lungs)


def test_the_low_attenuation_area_is_where_the_emphysema_is(found):
    made, findings = found
    low = findings.mask(3)
    assert (low == ((findings.mask(1) | findings.mask(2)) & (made.array_hu < -950))).all()
    assert np.count_nonzero(low & made.emphysema) > 0.9 * np.count_nonzero(low)
    # -950 HU is nearer to emphysema (-985) than to lung (-860): partial volume shrinks each blob.
    [volume] = [m.value for m in findings.measurements if m.segment == 3]
    assert 0.7 * made.truth["emphysema_ml"] < volume < 1.05 * made.truth["emphysema_ml"]


def test_every_number_can_be_recomputed_from_the_outlines(found):
    made, findings = found
    image = image_of(made.array_hu, made.affine)
    assert len(findings.measurements) == 13
    for said in findings.measurements:
        parts = (said.segment,) if said.segment else said.union
        mask = np.logical_or.reduce([findings.mask(number) for number in parts])
        assert said.check is not None
        assert recompute(said.check, mask, image) == said.value


def test_density_is_that_of_the_simulated_parenchyma(found):
    _, findings = found
    said = {(m.segment, m.check): m.value for m in findings.measurements}
    for lung in (1, 2, None):
        assert -840 < said[lung, "mean"] < -800  # -860 HU, denser behind, with vessels in it
        assert -900 < said[lung, "percentile-15"] < -870
    assert said[2, "laa-950"] > said[1, "laa-950"]  # more bullae on the right


@pytest.mark.parametrize(
    ("name", "order", "flips"),
    [
        ("from head to feet", (0, 1, 2), (True, False, False)),
        ("sagittal", (2, 0, 1), (False, True, False)),
        ("coronal", (1, 0, 2), (False, True, False)),
        ("turned in the plane", (0, 1, 2), (False, True, True)),
        ("mirrored array", (0, 2, 1), (False, False, True)),
    ],
)
def test_the_order_of_the_array_changes_nothing(found, name, order, flips):
    made, expected = found
    array, affine = turned(made.array_hu, made.affine, order, flips)
    findings = analyze(image_of(array, affine))
    assert volumes(findings) == pytest.approx(volumes(expected), rel=1e-6)
    for number in (1, 2, 3):
        mask, _ = turned(expected.mask(number), made.affine, order, flips)
        assert (findings.mask(number) == mask).all()


def test_an_oblique_stack_gives_the_same_lungs():
    tilt = np.deg2rad(25)
    rotation = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    shape, spacing = (95, 128, 128), (4.0, 3.4, 3.4)
    straight = axial_affine(shape, spacing)
    affine, middle = np.eye(4), (np.array(shape) - 1) / 2
    affine[:3, :3] = rotation @ straight[:3, :3]
    affine[:3, 3] = (straight @ np.array([*middle, 1]))[:3] - affine[:3, :3] @ middle
    made = chest(shape, affine=affine)
    assert volumes(analyze(image_of(made.array_hu, affine))) == pytest.approx(true_volumes(made), rel=0.01)


def test_thick_slices_and_noise_are_tolerated():
    for made in (chest((50, 128, 128)), simulated(noise_hu=60.0)):  # 6 mm slices; a sharp kernel
        findings = analyze(image_of(made.array_hu, made.affine))
        assert volumes(findings) == pytest.approx(true_volumes(made), rel=0.02)


def test_lungs_that_touch_in_front_of_the_heart_are_parted():
    made = simulated(junction_mm=1.0)
    findings = analyze(image_of(made.array_hu, made.affine))
    assert volumes(findings) == pytest.approx(true_volumes(made), rel=0.02)
    assert not (findings.mask(1) & findings.mask(2)).any()


def test_lungs_with_nothing_between_them_are_still_two():
    made = simulated(junction_mm=0.0)
    left, right, both = volumes(analyze(image_of(made.array_hu, made.affine)))
    assert both == pytest.approx(made.truth["both_ml"], rel=0.01)
    assert left == pytest.approx(made.truth["left_ml"], rel=0.15)
    assert right == pytest.approx(made.truth["right_ml"], rel=0.15)


def test_a_table_as_light_as_lung_is_not_lung(found):
    made, expected = found
    array = made.array_hu.copy()
    array[:, 118:127, 12:116] = -200  # a closed shell around foam, within the field of view
    array[:, 119:126, 13:115] = -900
    assert volumes(analyze(image_of(array, made.affine))) == pytest.approx(volumes(expected), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "part", "code"),
    [
        ("no bases", (slice(18, None), ALL, ALL), "lungs-not-whole"),
        ("no apices", (slice(None, 60), ALL, ALL), "lungs-not-whole"),
        ("upper abdomen", (slice(None, 28), ALL, ALL), "no-windpipe"),
        ("left side missing", (ALL, ALL, slice(None, 90)), "lungs-cut-off"),
        ("front missing", (ALL, slice(50, None), ALL), "lungs-cut-off"),
        ("twenty slices", (slice(30, 50), ALL, ALL), "too-few-slices"),
    ],
)
def test_a_part_of_the_chest_is_refused(name, part, code):
    made = simulated()
    assert refusal(cropped(made.array_hu, made.affine, part)) == code


def test_a_body_without_lungs_is_refused():
    made = simulated()
    array = made.array_hu.copy()
    array[made.left_lung | made.right_lung] = 30
    assert refusal(image_of(array, made.affine)) == "no-lungs"


def test_lungs_without_a_windpipe_are_refused():
    made = simulated()
    array = made.array_hu.copy()
    middle = np.zeros(array.shape, dtype=bool)
    middle[:, 40:80, 50:80] = True
    array[middle & (array < -700) & ~made.left_lung & ~made.right_lung] = 30
    assert refusal(image_of(array, made.affine)) == "no-windpipe"


def test_a_single_lung_is_refused_unless_the_card_allows_it():
    made = simulated()
    array = made.array_hu.copy()
    array[made.left_lung] = 30
    image = image_of(array, made.affine)
    assert refusal(image) == "one-lung"
    left, right, both = volumes(analyze(image, one_lung=True))
    assert (left, right) == (0.0, both)
    assert right == pytest.approx(made.truth["right_ml"], rel=0.01)
    assert any(math.isnan(m.value) for m in analyze(image, one_lung=True).measurements if m.segment == 1)


def test_a_small_chest_is_refused_unless_the_card_allows_it():
    made = simulated()
    small = image_of(made.array_hu, made.affine @ np.diag([0.55, 0.55, 0.55, 1.0]))
    assert refusal(small) == "lungs-too-small"
    assert analyze(small, volume_min_ml=500.0).segments


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("stored values", lambda a: a + 1024.0, "not-ct-values"),
        ("not a number", lambda a: np.where(a < -990, np.nan, a), "not-finite"),
        ("zeros", lambda a: a * 0.0, "not-ct-values"),
    ],
)
def test_values_that_are_no_hounsfield_units_are_refused(name, change, code):
    made = simulated()
    assert refusal(image_of(change(made.array_hu.astype(np.float64)), made.affine)) == code


def test_noise_is_refused():
    noise = np.random.default_rng(0).normal(-300.0, 400.0, (75, 128, 128))
    assert refusal(image_of(noise, simulated().affine)) in ("no-lungs", "no-windpipe", "lungs-cut-off")


def test_coarse_spacing_and_short_coverage_are_refused():
    made = simulated()
    assert refusal(image_of(made.array_hu, made.affine @ np.diag([2.0, 1.0, 1.0, 1.0]))) == "wrong-spacing"
    assert refusal(cropped(made.array_hu, made.affine, (slice(0, 24), ALL, ALL))) == "too-little-coverage"


def test_another_modality_is_refused():
    made = simulated()
    image = replace(image_of(made.array_hu, made.affine), modality="MR")
    assert refusal(image) == "wrong-modality"


def test_what_makes_numbers_hard_to_compare_is_told():
    made = simulated()
    thin = image_of(
        made.array_hu, made.affine, SliceThickness=1.0, ConvolutionKernel="Br40", PatientAgeYears=44.0
    )
    thick = image_of(made.array_hu, made.affine, SliceThickness=5.0, ContrastBolus="YES", PatientAgeYears=9.0)
    plain, told = (" ".join(analyze(image).cautions) for image in (thin, thick))
    assert "5.0 mm thick" in told and "thick" not in plain
    assert "Contrast medium was given" in told and "Contrast medium was given" not in plain
    assert "9 years" in told and "years" not in plain
    assert "Br40" in plain and "kernel is not known" in told


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_turned_image_is_the_same_grid(order):
    random = np.random.default_rng(1)
    array, affine = random.normal(size=(12, 16, 20)), axial_affine((12, 16, 20), (3.0, 1.2, 0.6))
    straight = make_grid(image_of(array, affine))
    other = make_grid(image_of(*turned(array, affine, order, (True, False, True))))
    assert straight.factors == (1, 2, 4)
    np.testing.assert_allclose(other.hu, straight.hu, rtol=1e-5)
    np.testing.assert_allclose(other.affine, straight.affine, atol=1e-9)


def test_noise_that_passes_for_low_attenuation_is_told(found):
    noisy = simulated(noise_hu=60.0)
    told = analyze(image_of(noisy.array_hu, noisy.affine)).cautions
    assert any("may be noise" in sentence for sentence in told)
    assert not any("may be noise" in sentence for sentence in found[1].cautions)


def test_the_main_bronchi_are_followed_to_both_sides():
    made = simulated()
    grid = make_grid(image_of(made.array_hu, made.affine))
    air = grid.hu < AIR_HU
    airways = find_airways(grid, air & ~around_body(air))
    x_mm = (grid.affine[:3, :3] @ np.argwhere(airways).T + grid.affine[:3, 3:])[0]
    assert x_mm.min() < -18 and x_mm.max() > 22
    volume_ml = np.count_nonzero(airways) * grid.block_ml
    assert 25 < volume_ml < 45  # windpipe of 18 mm by 105 mm, bronchi of 13 mm by 40 mm


def real_chest() -> Image:
    files = sorted((SHARED / "ct_chest_philips_5mm").rglob("*.dcm"))
    slices = sorted((pydicom.dcmread(f) for f in files), key=lambda d: float(d.ImagePositionPatient[2]))
    first, last = slices[0], slices[-1]
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[2, 0] = (last.ImagePositionPatient[2] - first.ImagePositionPatient[2]) / (len(slices) - 1)
    affine[1, 1], affine[0, 2] = (float(v) for v in first.PixelSpacing)
    affine[:3, 3] = first.ImagePositionPatient
    array = np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices])
    return image_of(array, affine, SliceThickness=5.0)


@needs_shared
def test_a_real_chest_has_plausible_lungs():
    image = real_chest()
    findings = analyze(image)
    left, right, _ = volumes(findings)
    assert 2200 < left < 2400 and 3100 < right < 3300  # seen on overlays; left holds a large tumour
    said = {(m.segment, m.check): m.value for m in findings.measurements}
    assert -860 < said[None, "mean"] < -790
    for number in (1, 2):
        mask = findings.mask(number)
        planes = np.flatnonzero(mask.any(axis=(1, 2)))
        assert (planes[-1] - planes[0]) * image.spacing_mm[0] > 230
        assert np.count_nonzero(mask & (image.array > -300)) < 0.06 * np.count_nonzero(mask)
    middle = [np.nonzero(findings.mask(number))[2].mean() for number in (1, 2)]
    assert middle[0] > middle[1]  # columns grow to the left of the patient here
    grid = make_grid(image)
    air = grid.hu < AIR_HU
    airways = find_airways(grid, air & ~around_body(air))
    assert 30 < np.count_nonzero(airways) * grid.block_ml < 80
    whole = grid.to_source(np.stack([grid.enlarge(plane, 0) for plane in airways]))  # one plane per block
    assert not (whole & (findings.mask(1) | findings.mask(2))).any()


@needs_shared
@pytest.mark.parametrize(
    ("part", "code"),
    [
        ((slice(14, None), ALL, ALL), "lungs-not-whole"),
        ((slice(None, 45), ALL, ALL), "lungs-not-whole"),
        ((ALL, ALL, slice(None, 330)), "lungs-cut-off"),
    ],
)
def test_parts_of_a_real_chest_are_refused(part, code):
    image = real_chest()
    assert refusal(cropped(image.array, image.affine, part)) == code
