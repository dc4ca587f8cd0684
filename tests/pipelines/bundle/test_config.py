"""Every word of the configuration language is understood, or refused in a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.bundle import BundlePipeline
from pipelines.contract import CardError
from tests.bundles import (
    ABOVE_200,
    INVERT,
    LOAD,
    RAS,
    SAVE,
    change,
    loaded,
    phantom_case,
    threshold_config,
    with_steps,
    write_bundle,
)


def test_the_loader_gives_the_shape_which_the_author_was_used_to(tmp_path):
    loads = {
        "channel asked of the loader": [
            {"_target_": "monai.transforms.LoadImaged", "keys": ["image"], "ensure_channel_first": True}
        ],
        "no channel, said by hand": [
            {"_target_": "LoadImageD", "keys": ["image"], "image_only": True, "reader": "ITKReader"},
            {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": "no_channel"},
        ],
        "channel added by an expression": [
            {"_target_": "LoadImageDict", "keys": "image"},
            {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x.unsqueeze(0)"},
        ],
        "loader disabled": [{"_target_": "LoadImaged", "keys": "image", "_disabled_": True}],
    }
    case, mask, _ = phantom_case("sagittal")
    for name, load in loads.items():
        card = write_bundle(
            tmp_path / name.replace(" ", "-"), with_steps([*load, RAS], [INVERT, ABOVE_200, SAVE])
        )
        assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask), name


def test_transforms_on_arrays_work_as_those_on_dictionaries(tmp_path):
    config = with_steps(
        [{"_target_": "LoadImage", "image_only": True}, {"_target_": "EnsureChannelFirst"}],
        [
            {"_target_": "AsDiscrete", "threshold": 200.0},
            {"_target_": "SaveImage", "output_dir": "@output_dir"},
        ],
    )
    case, mask, _ = phantom_case("coronal")
    assert np.array_equal(loaded(write_bundle(tmp_path, config)).analyze(case).labelmap == 1, mask)


def test_lists_macros_references_expressions_and_several_files_are_understood(tmp_path):
    config = threshold_config()
    config |= {
        "limit": 100,
        "load": LOAD,
        "turn": [RAS],
        "preprocessing": {"_target_": "Compose", "transforms": "$@load + @turn"},
        "postprocessing": [INVERT, "%steps::cut", SAVE],
        "steps": {"cut": {"_target_": "AsDiscreted", "keys": "pred", "threshold": "$2.0 * @limit"}},
    }
    del config["inferer"]
    config["evaluator"]["inferer"] = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]}
    card = write_bundle(
        tmp_path, config, bundle='output = "labels"\nconfig = ["configs/inference.json", "configs/site.yaml"]'
    )
    (tmp_path / "configs" / "site.yaml").write_text("limit: 1\n'steps::cut::threshold': '$200 * @limit'\n")
    case, mask, _ = phantom_case()
    assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask)


def test_roles_are_found_where_the_bundle_keeps_them(tmp_path):
    config = threshold_config()
    config["dataset"]["transform"] = config.pop("preprocessing")
    config["evaluator"]["postprocessing"] = config.pop("postprocessing")
    config["evaluator"]["postprocessing"]["transforms"][0]["transform"] = "@dataset::transform"
    config["my_net"] = config.pop("network_def")
    config["network"] = "@my_net"
    card = write_bundle(tmp_path, config, bundle='output = "labels"\n[bundle.roles]\nnetwork_def = "my_net"')
    case, mask, _ = phantom_case()
    assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask)


def test_overrides_of_the_card_win(tmp_path):
    card = write_bundle(
        tmp_path,
        bundle='output = "labels"\n[bundle.overrides]\n"postprocessing::transforms::1::threshold" = 1e6',
    )
    case, _, _ = phantom_case()
    assert not loaded(card).analyze(case).labelmap.any()


@pytest.mark.parametrize(
    ("override", "lost"),
    [
        ('"postprocesing::transforms::1::threshold" = 1e6', "'postprocesing::transforms::1'"),
        ('"postprocessing::transforms::7::threshold" = 1e6', "'postprocessing::transforms::7'"),
        ('"postprocessing::transforms::7" = 1', "'postprocessing::transforms::7'"),
        ('"device_of_mine::name" = "x"', "'device_of_mine'"),
        ('"+postprocesing::transforms" = []', "'postprocesing'"),
        ('"+transforms" = []', "'transforms'"),
    ],
)
def test_an_override_that_meets_nothing_is_refused(tmp_path, override, lost):
    """So that a cure which is misspelt is not taken for a cure."""
    card = write_bundle(tmp_path, bundle=f'output = "labels"\n[bundle.overrides]\n{override}')
    with pytest.raises(CardError, match=f"{lost} is not in the configuration"):
        loaded(card)


def test_an_override_may_be_new_at_the_top_or_one_more_argument(tmp_path):
    card = write_bundle(
        tmp_path,
        bundle='output = "labels"\n[bundle.overrides]\nlimit = { value = 1e6 }\n"limit::more" = 1\n'
        '"postprocessing::transforms::1::allow_missing_keys" = true',
    )
    loaded(card)


def test_scripts_of_the_bundle_are_found(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("")
    (tmp_path / "scripts" / "cut.py").write_text(
        "class Cut:\n"
        "    def __call__(self, item):\n"
        "        return {**item, 'pred': (item['pred'] > 200).float()}\n"
    )
    config = with_steps([*LOAD], [{"_target_": "scripts.cut.Cut"}, {**ABOVE_200, "threshold": 0.5}, SAVE])
    case, mask, _ = phantom_case()
    assert np.array_equal(loaded(write_bundle(tmp_path, config)).analyze(case).labelmap == 1, mask)


def test_what_follows_the_saving_does_not_change_the_result(tmp_path):
    spoil = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x * 0 + 1"}
    case, mask, _ = phantom_case()
    card = write_bundle(tmp_path, with_steps([*LOAD, RAS], [INVERT, ABOVE_200, SAVE, spoil]))
    assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask)


def test_in_place_transforms_never_reach_the_source_image(tmp_path):
    clamp = {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x.clamp_(0, 1)"}
    case, _, _ = phantom_case()
    before = case["ct"].array.copy()
    loaded(write_bundle(tmp_path, with_steps([*LOAD, clamp], [ABOVE_200, SAVE]))).analyze(case)
    assert np.array_equal(case["ct"].array, before)


def test_random_transforms_give_the_same_answer_twice(tmp_path):
    noise = {"_target_": "RandGaussianNoised", "keys": "image", "prob": 1.0, "std": 5000.0}
    case, mask, _ = phantom_case()
    pipeline = loaded(write_bundle(tmp_path, with_steps([*LOAD, noise], [ABOVE_200, SAVE])))
    first, second = pipeline.analyze(case), pipeline.analyze(case)
    assert np.array_equal(first.labelmap, second.labelmap)
    assert not np.array_equal(first.labelmap == 1, mask)  # the noise was there


def test_nothing_is_written_by_the_bundle(tmp_path):
    card = write_bundle(tmp_path)
    files = sorted(tmp_path.rglob("*"))
    case, _, _ = phantom_case()
    loaded(card).analyze(case)
    assert sorted(tmp_path.rglob("*")) == files


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("network_def/_target_", "monai.networks.nets.NoSuchNet", "cannot be used"),
        ("network", {"_target_": "Dataset", "data": []}, "no torch module"),
        ("preprocessing", "@nothing", "cannot be used"),
        ("postprocessing/_mode_", "debug", "debugger"),
        ("evaluator/_target_", "EnsembleEvaluator", "EnsembleEvaluator"),
        ("evaluator/prepare_batch", "$lambda x: x", "prepare_batch"),
    ],
)
def test_a_configuration_that_cannot_be_followed_is_told_at_load(tmp_path, key, value, complaint):
    config = threshold_config()
    change(config, key, value)
    with pytest.raises(CardError, match=complaint):
        loaded(write_bundle(tmp_path, config))


def test_analysing_before_loading_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="load"):
        BundlePipeline(write_bundle(tmp_path)).analyze(phantom_case()[0])


def test_loaders_and_savers_made_inside_expressions_are_replaced_as_well(tmp_path):
    config = with_steps(
        "$[monai.transforms.LoadImaged(keys='image'), monai.transforms.EnsureChannelFirstd(keys='image')]",
        [ABOVE_200, "$monai.transforms.SaveImaged(keys='pred', output_dir=@output_dir)"],
    )
    case, mask, _ = phantom_case()
    assert np.array_equal(loaded(write_bundle(tmp_path, config)).analyze(case).labelmap == 1, mask)
    assert not (tmp_path / "eval").exists()
