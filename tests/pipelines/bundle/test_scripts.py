"""A bundle's own Python, several images under its own keys, and what is said when a part of it fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.bundle.run import BundleFailed
from pipelines.contract import CardError
from tests.bundles import (
    ABOVE_200,
    INVERT,
    LOAD,
    PLAIN,
    RAS,
    SAVE,
    follows,
    image_of,
    loaded,
    phantom_case,
    threshold_config,
    threshold_metadata,
    with_steps,
    write_bundle,
    write_scripts,
)

SAVER = """
from pathlib import Path
class TinySaverd:
    def __init__(self, keys, output_dir):
        self.keys, self.output_dir = keys, output_dir
    def __call__(self, item):
        Path(self.output_dir).mkdir()
        return item
class LoadTinyd:
    def __init__(self, keys):
        self.keys = keys
    def __call__(self, item):
        raise OSError(f"no file {item[self.keys]}")
"""
META = """
class NeedsMeta:
    keys = ("image",)
    def __call__(self, item):
        assert item["image_meta_dict"]["original_affine"].shape == (4, 4)
        return item
"""
CUT = """
class Cut:
    def __call__(self, item):
        from scripts import limit
        return {**item, "pred": (item["pred"] > limit.ABOVE).float()}
"""
CUDA = """
import torch
class Net(torch.nn.Module):
    def forward(self, x):
        plus = torch.zeros(1, device="cuda") + torch.ones(1).cuda() - torch.ones(1).to("cuda:0")
        assert plus.device.type == x.device.type
        return x + plus
"""


def test_savers_and_loaders_of_a_bundles_own_are_replaced_by_their_names(tmp_path):
    write_scripts(tmp_path, files=SAVER)
    config = threshold_config()
    config["preprocessing"]["transforms"][0] = {"_target_": "scripts.files.LoadTinyd", "keys": "image"}
    saver = {"_target_": "scripts.files.TinySaverd", "keys": "pred", "output_dir": "@output_dir"}
    config["postprocessing"]["transforms"][2] = saver
    assert follows(tmp_path, config)
    assert not (tmp_path / "eval").exists()


def test_the_meta_data_beside_the_image_is_there_for_those_who_ask_for_it(tmp_path):
    write_scripts(tmp_path, meta=META)
    load = {**LOAD[0], "image_only": False}
    steps = [load, LOAD[1], {"_target_": "scripts.meta.NeedsMeta"}, RAS]
    assert follows(tmp_path, with_steps(steps, [INVERT, ABOVE_200, SAVE]))


def test_a_script_that_asks_for_cuda_runs_on_the_nodes_device(tmp_path):
    write_scripts(tmp_path, net=CUDA)
    config = threshold_config()
    config["network_def"] = {"_target_": "scripts.net.Net"}
    assert follows(tmp_path, config)


def test_two_bundles_with_scripts_of_the_same_name_do_not_see_each_others(tmp_path):
    case, mask, _ = phantom_case()
    pipelines = []
    for name, above in (("a", 200), ("b", -500)):
        source = (
            "class Cut:\n    def __call__(self, item):\n        from scripts import limit\n        return "
        )
        write_scripts(
            tmp_path / name,
            cut=source + "{**item, 'pred': (item['pred'] > limit.ABOVE).float()}\n",
            limit=f"ABOVE = {above}\n",
        )
        steps = [{"_target_": "scripts.cut.Cut"}, {**ABOVE_200, "threshold": 0.5}, SAVE]
        pipelines.append(loaded(write_bundle(tmp_path / name, with_steps(LOAD, steps))))
    for pipeline, expected in zip([*pipelines, *pipelines], [mask, case["ct"].array > -500] * 2, strict=True):
        assert np.array_equal(pipeline.analyze(case).labelmap == 1, expected)
    assert not list(tmp_path.rglob("*.pyc"))


def test_a_bundle_that_fails_says_in_which_part_and_why(tmp_path):
    case, _, _ = phantom_case()
    wrong = {"_target_": "Lambdad", "keys": "{}", "func": "$lambda x: x.nothing"}
    for part, before, after in (
        ("preprocessing", [*LOAD, {**wrong, "keys": "image"}], [ABOVE_200]),
        ("postprocessing", LOAD, [{**wrong, "keys": "pred"}]),
    ):
        with pytest.raises(BundleFailed, match=f"bundle's {part} failed: AttributeError: .*nothing"):
            loaded(write_bundle(tmp_path / part, with_steps(before, after))).analyze(case)
    config = threshold_config()
    config["inferer"] = "$lambda x, network: [][1]"
    with pytest.raises(BundleFailed, match="bundle's network failed: IndexError"):
        loaded(write_bundle(tmp_path / "network", config)).analyze(case)


def test_a_bundle_that_lacks_a_package_names_it(tmp_path):
    write_scripts(tmp_path, net="import no_such_package\n")
    config = threshold_config()
    config["network_def"] = {"_target_": "scripts.net.Net"}
    metadata = threshold_metadata() | {"required_packages_version": {"no-such-package": "1.2.0"}}
    with pytest.raises(CardError, match=r"no_such_package.*names the package no-such-package 1\.2\.0"):
        loaded(write_bundle(tmp_path, config, metadata=metadata))


def test_several_images_under_keys_of_the_bundles_own_are_joined_by_its_own_steps(tmp_path):
    """As a bundle with three phases of one examination, of which each is loaded and turned by itself."""
    keys = ["early", "late"]
    steps = [
        {"_target_": "LoadImaged", "keys": "early"},
        {"_target_": "LoadImaged", "keys": ["late", "label"], "image_only": False},
        {"_target_": "EnsureChannelFirstd", "keys": keys},
        {"_target_": "Orientationd", "keys": [*keys, "label"], "axcodes": "RAS"},
        {"_target_": "ConcatItemsd", "keys": keys, "name": "image"},
    ]
    second = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[1:]"}
    after = [{**INVERT, "orig_keys": "early"}, second, ABOVE_200, SAVE]
    metadata = threshold_metadata()
    metadata["network_data_format"]["inputs"]["image"]["num_channels"] = 2
    card = write_bundle(
        tmp_path,
        with_steps(steps, after),
        metadata=metadata,
        roles=("before", "after"),
        bundle=PLAIN + '[bundle.keys]\nbefore = "early"\nafter = "late"',
    )
    case, mask, _ = phantom_case("sagittal")
    dark = image_of(case["ct"].array * 0, case["ct"].affine)
    assert np.array_equal(loaded(card).analyze({"before": dark, "after": case["ct"]}).labelmap == 1, mask)


def test_no_path_of_a_bundle_is_left_in_the_interpreter(tmp_path):
    import sys

    write_scripts(tmp_path, net=CUDA)
    config = threshold_config()
    config["network_def"] = {"_target_": "scripts.net.Net"}
    loaded(write_bundle(tmp_path, config))
    assert not [path for path in sys.path if Path(path).is_relative_to(tmp_path)]
    assert "scripts" not in sys.modules
