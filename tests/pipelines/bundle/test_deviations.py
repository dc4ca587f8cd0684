"""What the authors of the zoo's bundles do differently from each other, one small bundle for each.

Each line of the table is a bundle whose answer is known: the mask is where the image is above 200.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.contract import CardError
from tests.bundles import (
    ABOVE_200,
    INVERT,
    LOAD,
    PLAIN,
    RAS,
    SAVE,
    follows,
    loaded,
    phantom_case,
    threshold_config,
    threshold_metadata,
    with_steps,
    write_bundle,
    write_scripts,
)
from tests.phantoms import to_world

# --- a table of configurations ----------------------------------------------------------------------


def _import_misspelt(config):
    config["import"] = [*config.pop("imports"), "$import math as m"]
    config["postprocessing"]["transforms"][1]["threshold"] = "$m.floor(200.5)"


def _no_run(config):
    config["evaluating"] = ["$setattr(torch.backends.cudnn, 'benchmark', True)", *config.pop("run")]


def _relative_references(config):
    config["cut"] = {"limits": {"low": 2, "high": "$@#low * 100"}, "at": "@#limits::high"}
    config["postprocessing"]["transforms"][1]["threshold"] = "@cut#at"
    config["postprocessing"]["transforms"][1]["_desc_"] = "The threshold, by an older separator"


def _callable_mode(config):
    config["above"] = {"_target_": "torch.gt", "_mode_": "callable", "other": 200}
    config["postprocessing"]["transforms"][1] = {"_target_": "Lambdad", "keys": "pred", "func": "@above"}


def _disabled_by_expression(config):
    config["is_raw"] = False
    spoil = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x * 0"}
    config["postprocessing"]["transforms"].insert(1, {**spoil, "_disabled_": "$not @is_raw"})
    config["preprocessing"]["transforms"].insert(0, {**LOAD[0], "_disabled_": "@is_raw"})
    del config["preprocessing"]["transforms"][1]


def _requires(config):
    config["limits"] = {"_target_": "collections.OrderedDict"}
    config["fill"] = ["$@limits.update(at=200.0)"]
    cut = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: (x > @limits['at']).float()"}
    config["postprocessing"]["transforms"][1] = {**cut, "_requires_": "@fill"}


def _set_up(config):
    """As a detector's thresholds are set: by what the evaluator requires."""
    config["limits"] = {"_target_": "collections.OrderedDict"}
    config["limit_ops"] = ["$@limits.update(at=200.0)"]
    cut = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: (x > @limits['at']).float()"}
    config["postprocessing"]["transforms"][1] = cut
    config["evaluator"]["_requires_"] = "@limit_ops"


def _initialize(config):
    _set_up(config)
    del config["evaluator"]["_requires_"]
    config["checkpointloader"] = {
        "_target_": "CheckpointLoader",
        "load_path": "$@bundle_root + '/models/model.pt'",
        "load_dict": {"model": "@network"},
    }
    config["initialize"] = [
        "$monai.utils.set_determinism(seed=123)",
        "@limit_ops",
        "$@checkpointloader(@evaluator) if True else None",
        "$@network.load_state_dict(torch.load('/nowhere/model.pt'))",
        "$@dataset.fill()",
    ]


def _cuda_pinned(config):
    config["network"] = "$@network_def.cuda().to('cuda:0')"
    config["inferer"] = {
        "_target_": "SlidingWindowInferer",
        "roi_size": [16, 16, 16],
        "sw_device": "$torch.device('cuda')",
        "device": "cuda",
    }
    config["postprocessing"]["transforms"].insert(
        0, {"_target_": "ToDeviced", "keys": "pred", "device": "cuda:1"}
    )


def _roles_of_the_evaluator(config):
    """What the evaluator is given runs, whatever else carries the usual name."""
    config["evaluator"] |= {
        "postprocessing": config["postprocessing"],
        "inferer": {"_target_": "SimpleInferer"},
    }
    config["postprocessing"] = [{"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x * 0"}]
    config["inferer"] = "$lambda x, network: 1 / 0"


def _handler_post_processes(config):
    config["evaluator"]["val_handlers"] = [
        {"_target_": "StatsHandler", "iteration_log": False},
        {"_target_": "PostProcessing", "transform": config.pop("postprocessing")},
    ]


def _several_are_saved(config):
    config["postprocessing"]["transforms"][2:] = [
        SAVE,
        {"_target_": "CopyItemsd", "keys": "pred", "names": "heat"},
        {"_target_": "SaveImaged", "keys": ["heat", "image", "label"], "output_dir": "@output_dir"},
        {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x * 0"},
    ]


def _truth_is_loaded(config):
    steps = config["preprocessing"]["transforms"]
    for step in steps[:2]:
        step["keys"] = ["image", "label"]
    config["postprocessing"]["transforms"][1] |= {"keys": ["pred", "label"], "threshold": [200.0, 1.0]}


def _batch_is_prepared(config):
    config["evaluator"]["prepare_batch"] = (
        "$lambda batch, device, *_: (batch['image'].to(device) + @plus, ())"
    )
    config["plus"] = 100
    config["postprocessing"]["transforms"][1]["threshold"] = 300.0


def _arguments_of_the_inferer(config):
    config["inferer"] = "$lambda inputs, network, plus, *, times: network(inputs) * times + plus"
    config["evaluator"]["prepare_batch"] = "$lambda batch, *_: (batch['image'], None, (100,), {'times': 1})"
    config["postprocessing"]["transforms"][1]["threshold"] = 300.0


def _not_decollated(config):
    config["evaluator"]["decollate"] = False
    config["preprocessing"]["transforms"] = LOAD
    config["postprocessing"]["transforms"] = [
        {"_target_": "SqueezeDimd", "keys": "pred", "dim": 0},
        ABOVE_200,
    ]


def _inverted_by_a_copy(config):
    config["imports"].append("$import copy")
    config["postprocessing"]["transforms"][0] = {**INVERT, "transform": "$copy.deepcopy(@preprocessing)"}


def _pixels_as_a_table(config):
    """Networks answer with a table of parts, of which one is outlined."""
    config["inferer"] = "$lambda inputs, network: {'a': network(inputs), 'b': network(inputs) * 0}"
    flat = {"_target_": "FlattenSubKeysd", "keys": "pred", "sub_keys": ["a", "b"], "delete_keys": True}
    rename = {"_target_": "CopyItemsd", "keys": "a", "names": "pred"}
    config["evaluator"]["postprocessing"] = "@postprocessing"
    config["postprocessing"]["transforms"][:0] = [flat, rename]


def _deep_supervision(config):
    config["inferer"] = "$lambda inputs, network: (network(inputs), network(inputs)[:, :, ::2])"
    first = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[0]"}
    config["postprocessing"]["transforms"].insert(0, first)


TABLE = {
    "import instead of imports": _import_misspelt,
    "no run": _no_run,
    "relative references and the older separator": _relative_references,
    "_mode_ callable": _callable_mode,
    "_disabled_ is an expression": _disabled_by_expression,
    "_requires_": _requires,
    "the evaluator requires what sets the bundle up": _set_up,
    "initialize sets up, loads weights and touches data": _initialize,
    "CUDA pinned in expressions and values": _cuda_pinned,
    "the evaluator's own parts win": _roles_of_the_evaluator,
    "post-processing by a handler": _handler_post_processes,
    "several results are saved": _several_are_saved,
    "the truth is loaded and post-processed": _truth_is_loaded,
    "prepare_batch": _batch_is_prepared,
    "prepare_batch gives arguments": _arguments_of_the_inferer,
    "decollate is false": _not_decollated,
    "a copy of the preprocessing inverts": _inverted_by_a_copy,
    "the network answers with a table": _pixels_as_a_table,
    "the network answers with a tuple": _deep_supervision,
}


@pytest.mark.parametrize("deviation", TABLE)
def test_a_deviation_of_the_zoo_is_followed(tmp_path, deviation):
    config = threshold_config()
    TABLE[deviation](config)
    orientation = "axial" if deviation == "decollate is false" else "oblique"
    assert follows(tmp_path, config, orientation=orientation)


# --- what a card cures --------------------------------------------------------------------------------


def _old_argument(config):
    config["network_def"] = {"_target_": "torch.nn.Flatten", "start_dim": 1, "end_dim": 1, "img_size": 96}


def _linear_labels(config):
    """As one bundle of the zoo: labels first, then back to the grid with linear interpolation."""
    pixdim = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.3, 1.3, 1.3], "mode": "bilinear"}
    config["preprocessing"]["transforms"].append(pixdim)
    config["postprocessing"]["transforms"] = [ABOVE_200, {**INVERT, "nearest_interp": False}, SAVE]


def _own_evaluator(config):
    config["evaluator"]["_target_"] = "scripts.evaluator.TinyEvaluator"


def _own_iteration(config):
    config["evaluator"]["iteration_update"] = "$lambda engine, batch: {}"


def _training_mode(config):
    config["evaluator"]["mode"] = "train"


def _pretrained(config):
    config["network_def"] = {"_target_": "scripts.net.net", "pretrained": True}


def _inferer_with_prompts(config):
    config["inferer"] = "$lambda inputs, network, prompts: network(inputs) + prompts"


CURES = {
    "an argument that is no more": (
        _old_argument,
        r"remove = \['network_def::img_size'\]",
        'remove = ["network_def::img_size"]',
    ),
    "an evaluator of the bundle's own": (
        _own_evaluator,
        "TinyEvaluator, whose iteration is not known",
        '[bundle.overrides]\n"evaluator::_target_" = "SupervisedEvaluator"',
    ),
    "an iteration of the bundle's own": (
        _own_iteration,
        "with its own iteration_update",
        'remove = ["evaluator::iteration_update"]',
    ),
    "an evaluator that trains": (_training_mode, "mode of training", 'remove = ["evaluator::mode"]'),
    "weights from the internet": (
        _pretrained,
        "'network_def::pretrained' = false",
        '[bundle.overrides]\n"network_def::pretrained" = false',
    ),
    "an inferer that wants more": (
        _inferer_with_prompts,
        "missing a required argument: 'prompts'; give it what it needs with the role prepare_batch",
        '[bundle.overrides]\n"evaluator::prepare_batch" = '
        "\"$lambda batch, device, _: (batch['image'], None, (), {'prompts': 0})\"",
    ),
}
NET = """
from urllib.error import URLError
import torch
def net(pretrained):
    if pretrained:
        raise URLError("Name or service not known")
    return torch.nn.Identity()
"""


@pytest.mark.parametrize("deviation", CURES)
def test_what_cannot_be_followed_is_told_with_its_cure_and_the_cure_works(tmp_path, deviation):
    spoil, complaint, cure = CURES[deviation]
    config = threshold_config()
    spoil(config)
    for name in ("ill", "well"):
        write_scripts(tmp_path / name, net=NET)
    with pytest.raises(CardError, match=complaint):
        loaded(write_bundle(tmp_path / "ill", config))
    assert follows(tmp_path / "well", config, bundle=PLAIN + cure)


def test_labels_that_were_interpolated_linearly_are_refused_and_an_override_cures_them(tmp_path):
    config = threshold_config()
    _linear_labels(config)
    case, _, phantom = phantom_case(shape=(20, 60, 60))
    with pytest.raises(ValueError, match="interpolates between label values"):
        loaded(write_bundle(tmp_path / "ill", config)).analyze(case)
    cure = PLAIN + '[bundle.overrides]\n"postprocessing::transforms::1::nearest_interp" = true'
    findings = loaded(write_bundle(tmp_path / "well", config, bundle=cure)).analyze(case)
    centroid = to_world(findings.affine, np.argwhere(findings.labelmap == 1).mean(axis=0))
    assert np.linalg.norm(centroid - phantom.centroid_mm) < 1.5  # of voxels of 2.5 mm


def test_an_ensemble_a_generator_and_the_debugger_are_refused(tmp_path):
    config = threshold_config()
    config["evaluator"]["_target_"] = "monai.engines.EnsembleEvaluator"
    with pytest.raises(CardError, match="joins the answers of several networks"):
        loaded(write_bundle(tmp_path / "ensemble", config))
    metadata = threshold_metadata()
    latent = {"type": "noise", "format": "latent", "num_channels": 1}
    metadata["network_data_format"]["inputs"] = {"latent": latent}
    with pytest.raises(CardError, match="latent or noise"):
        loaded(write_bundle(tmp_path / "generator", metadata=metadata))
    config = threshold_config()
    config["inferer"]["_mode_"] = "debug"
    with pytest.raises(CardError, match="debugger"):
        loaded(write_bundle(tmp_path / "debug", config))


def test_what_a_card_removes_or_names_as_a_role_must_be_there(tmp_path):
    with pytest.raises(CardError, match="remove names 'network_def::none'"):
        loaded(write_bundle(tmp_path / "a", bundle=PLAIN + 'remove = ["network_def::none"]'))
    with pytest.raises(CardError, match="setup = 'none' is not in the configuration"):
        loaded(write_bundle(tmp_path / "b", bundle=PLAIN + '[bundle.roles]\nsetup = "none"'))


def test_a_step_of_a_list_can_be_added_and_another_removed_by_the_card(tmp_path):
    config = with_steps([*LOAD, RAS], [{**ABOVE_200, "threshold": 1e6}, INVERT])
    card = PLAIN + (
        'remove = ["postprocessing::transforms::0"]\n'
        '[bundle.overrides]\n"+postprocessing::transforms" = '
        '[{ _target_ = "AsDiscreted", keys = "pred", threshold = 200.0 }]'
    )
    assert follows(tmp_path, config, bundle=card)


# --- macros ---------------------------------------------------------------------------------------------


def test_macros_reach_other_files_of_the_bundle_and_nothing_outside(tmp_path):
    config = threshold_config()
    config["postprocessing"]["transforms"][1] = "%configs/parts.json::cut"
    bundle = tmp_path / "bundle"
    card = write_bundle(bundle, config)
    with pytest.raises(CardError, match=r"lacks configs/parts\.json"):
        loaded(card)
    (bundle / "configs" / "parts.json").write_text(json.dumps({"cut": ABOVE_200}))
    case, mask, _ = phantom_case()
    assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask)
    (tmp_path / "outside.json").write_text(json.dumps({"cut": ABOVE_200}))
    for path in ("../outside.json", str(tmp_path / "outside.json")):
        config["postprocessing"]["transforms"][1] = f"%{path}::cut"
        with pytest.raises(CardError, match="leads out of the bundle"):
            loaded(write_bundle(bundle, config))


def test_a_later_file_adds_to_a_list_with_a_plus(tmp_path):
    config = with_steps([*LOAD, RAS], [INVERT])
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "more.json").write_text(
        json.dumps({"+postprocessing::transforms": [ABOVE_200, SAVE]})
    )
    files = PLAIN + 'config = ["configs/inference.json", "configs/more.json"]'
    assert follows(tmp_path, config, bundle=files)
