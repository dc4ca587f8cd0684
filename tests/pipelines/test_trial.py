"""A simulated case fits the card that it was made for, whatever the card asks for."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.check import refuse_unfit
from pipelines.contract import InputRefused, read_card
from pipelines.trial import COLOURED, simulated_case
from tests.bundle_zoo import ZOO, Bundle, load, role, write, write_zoo


def card_of(folder, *inputs):
    return write(folder, Bundle(inputs=inputs, terms='output = "labels"', before=load(), after=[]))


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_of_input_is_simulated_as_its_card_accepts_it(tmp_path, name):
    card = write_zoo(tmp_path, name)
    case = simulated_case(card)
    refuse_unfit(card, case)
    assert list(case) == list(card.inputs)
    assert all(image.array.dtype == np.float32 and np.ptp(image.array) > 0 for image in case.values())


def test_the_same_card_gives_the_same_case(tmp_path):
    card = write_zoo(tmp_path, "labels")
    one, two, other = (simulated_case(card, seed)["ct"].array for seed in (0, 0, 1))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_limits_of_the_card_are_kept(tmp_path):
    narrow = "spacing_mm = { slice = [0.5, 1.25], row = [0.4, 0.8], column = [0.9, 1.0] }"
    card = card_of(tmp_path, role("ct", slices_min=200) + "\n" + narrow)
    image = simulated_case(card)["ct"]
    refuse_unfit(card, {"ct": image})
    assert image.spacing_mm == pytest.approx((1.25, 0.8, 1.0))
    assert image.slices >= 200


def test_series_of_one_grid_obey_the_limits_of_all(tmp_path):
    card = card_of(
        tmp_path,
        role("t1", "MR", "1") + "\nspacing_mm = { slice = [1.0, 6.0] }",
        role("t2", "MR", "1") + "\nspacing_mm = { slice = [0.5, 2.0] }",
    )
    case = simulated_case(card)
    refuse_unfit(card, case)
    assert np.array_equal(case["t1"].affine, case["t2"].affine)


def test_limits_that_exclude_each_other_are_told(tmp_path):
    card = card_of(
        tmp_path,
        role("t1", "MR", "1") + "\nspacing_mm = { slice = [3.0, 6.0] }",
        role("t2", "MR", "1") + "\nspacing_mm = { slice = [0.5, 2.0] }",
    )
    with pytest.raises(ValueError, match="slice spacing"):
        simulated_case(card)


def test_a_ct_looks_like_a_body_in_air_to_a_pipeline_of_ours(tmp_path):
    from node.compute.catalogue import OURS
    from pipelines.lung_density.pipeline import LungDensity

    card = read_card(OURS / "lung_density" / "card.toml")
    pipeline = LungDensity(card)
    pipeline.load("cpu")
    case = simulated_case(card)
    pipeline.check(case)
    findings = pipeline.analyze(case)
    assert all(findings.mask(segment.number).sum() > 1000 for segment in findings.segments[:2])


def test_what_expects_something_else_refuses_it_in_its_own_words():
    from node.compute.catalogue import OURS
    from pipelines.bundle import BundlePipeline

    card = read_card(OURS / "phantom_inserts" / "card.toml")
    with pytest.raises(InputRefused, match="phantom"):
        BundlePipeline(card).check(simulated_case(card))


def test_only_pictures_of_light_are_coloured(tmp_path):
    endoscopy = simulated_case(write_zoo(tmp_path / "a", "tools"))["video"]
    mammogram = simulated_case(write_zoo(tmp_path / "b", "density"))["view"]
    assert endoscopy.modality in COLOURED
    assert endoscopy.colour.shape == (*endoscopy.array.shape, 3)
    assert mammogram.colour is None


def test_the_heart_beats_and_the_electrocardiogram_has_leads(tmp_path):
    cine = simulated_case(write_zoo(tmp_path / "a", "ventricle"))["cine"]
    blood = (cine.array.reshape(cine.phases, -1) > 800).sum(1)
    assert blood.argmax() == 0
    assert blood.argmin() == cine.phases // 2
    ecg = simulated_case(write_zoo(tmp_path / "b", "rhythm"))["ecg"]
    assert ecg.array.shape == (12, 1, 5000)
    assert 500 < ecg.array.max() < 2000, "microvolts, as the card wants"


def test_no_more_slices_are_simulated_than_a_card_takes(tmp_path):
    case = simulated_case(write_zoo(tmp_path, "valves"))
    assert case["cine"].slices == 1
    assert case["cine"].phases > 1
