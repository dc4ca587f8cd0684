"""A bundle folder and a card are enough, if they agree."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from pipelines.bundle import BundlePipeline
from pipelines.contract import CardError, InputRefused
from tests.bundles import (
    ABOVE_200,
    INVERT,
    LOAD,
    RAS,
    SAVE,
    image_of,
    loaded,
    phantom_case,
    threshold_metadata,
    with_steps,
    write_bundle,
)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"bundle": 'output = "mask"'}, "output must be"),
        ({"bundle": 'output = "labels"\noutptu = 1'}, "no 'outptu'; it knows output"),
        (
            {"bundle": 'output = "labels"\nchannels = ["dark"]'},
            "'dark' in the card, but .* is 'bright'",
        ),
        ({"labels": ("Bright", "Dark")}, "segment 2 is 'dark'"),
        ({"bundle": 'output = "labels"\nvalues = [1, 2]'}, "values must name each"),
        ({"bundle": 'output = "labels"\nconfig = "configs/none.json"'}, "lacks configs/none.json"),
        ({"bundle": 'output = "labels"\nconfig = "../../inference.json"'}, "outside"),
        ({"bundle": 'output = "labels"\nfolder = ".."'}, "outside"),
        ({"bundle": 'output = "labels"\n[bundle.roles]\nnet = "x"'}, "no 'net'; it knows preprocessing"),
        ({"roles": ("ct", "second")}, "takes 1 channels, the card has 2"),
        ({"labels": ()}, "no segments"),
        ({"bundle": 'output = "labels"\n[[bundle.expects]]\ncode = "x"'}, "expects"),
    ],
)
def test_a_card_that_cannot_be_right_is_told_so_before_anything_runs(tmp_path, options, complaint):
    with pytest.raises(CardError, match=complaint):
        BundlePipeline(write_bundle(tmp_path, **options))


def test_metadata_that_disagrees_or_cannot_be_read_is_told(tmp_path):
    metadata = threshold_metadata()
    metadata["network_data_format"]["inputs"]["image"]["modality"] = "MRI"
    with pytest.raises(CardError, match="for MR, the card for CT"):
        BundlePipeline(write_bundle(tmp_path / "a", metadata=metadata))
    metadata = threshold_metadata()
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] = "other"
    with pytest.raises(CardError, match="channel 2 'other' is not in the card"):
        BundlePipeline(write_bundle(tmp_path / "b", metadata=metadata))
    card = write_bundle(tmp_path / "c")
    (tmp_path / "c" / "configs" / "metadata.json").write_text("{")
    with pytest.raises(CardError, match=r"metadata\.json cannot be read"):
        BundlePipeline(card)
    (tmp_path / "c" / "configs" / "metadata.json").unlink()
    with pytest.raises(CardError, match=r"lacks configs/metadata\.json"):
        BundlePipeline(card)


def test_inputs_become_channels_in_the_order_of_the_card(tmp_path):
    metadata = threshold_metadata()
    metadata["network_data_format"]["inputs"]["image"]["num_channels"] = 2
    second = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[1:]"}
    card = write_bundle(
        tmp_path,
        with_steps([*LOAD, RAS], [INVERT, second, ABOVE_200, SAVE]),
        metadata=metadata,
        roles=("b", "a"),
    )
    case, mask, _ = phantom_case("oblique")
    dark = image_of(np.zeros_like(case["ct"].array), case["ct"].affine)
    pipeline = loaded(card)
    both = {"a": case["ct"], "b": dark}
    pipeline.check(both)
    assert np.array_equal(pipeline.analyze(both).labelmap == 1, mask)
    moved = image_of(dark.array, dark.affine + np.eye(4, k=3) * 2)
    with pytest.raises(InputRefused) as refusal:
        pipeline.check({"a": case["ct"], "b": moved})
    assert refusal.value.code == "different-grids"
    with pytest.raises(InputRefused) as refusal:
        pipeline.check({"a": case["ct"]})
    assert refusal.value.code == "missing-input"


def test_what_the_card_expects_is_held_and_the_refusal_tells_what_was_seen(tmp_path):
    expects = """output = "labels"
[[bundle.expects]]
code = "too-dark"
sentence = "The phantom is too dark."
object = [-500.0, 5000.0]
volume_ml = [0.1, 1000.0]
percentiles = { 50 = [0.0, 200.0], "99.9" = [250.0, 350.0] }"""
    pipeline = loaded(write_bundle(tmp_path, bundle=expects))
    case, _, _ = phantom_case()
    pipeline.check(case)
    image = case["ct"]
    for array in (image.array - 300, np.full_like(image.array, -1000)):
        with pytest.raises(InputRefused, match="too dark") as refusal:
            pipeline.check({"ct": image_of(array, image.affine)})
        assert refusal.value.code == "too-dark"
        assert "expected is" in refusal.value.sentence


def test_yaml_is_as_good_as_json(tmp_path):

    card = write_bundle(tmp_path)
    path = tmp_path / "configs" / "inference.json"
    path.with_suffix(".yaml").write_text(yaml.safe_dump(json.loads(path.read_text())))
    path.unlink()
    case, mask, _ = phantom_case()
    assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask)
