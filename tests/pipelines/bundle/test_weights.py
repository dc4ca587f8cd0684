"""The weights are the ones that run, and they are read as data."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from pipelines.bundle import BundlePipeline
from pipelines.contract import CardError
from tests.bundles import (
    INVERT,
    LOAD,
    RAS,
    SAVE,
    loaded,
    phantom_case,
    with_steps,
    write_bundle,
)


def unet():
    torch.manual_seed(1)
    return UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(2, 4), strides=(2,), norm="BATCH")


def unet_config():
    config = with_steps(
        [*LOAD, RAS], [INVERT, {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}, SAVE]
    )
    config["network_def"] = {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "channels": [2, 4],
        "strides": [2],
        "norm": "BATCH",
    }
    return config


def test_the_weights_are_the_ones_that_run(tmp_path):
    network = unet()
    case, _, _ = phantom_case(shape=(8, 24, 16))
    findings = loaded(write_bundle(tmp_path, unet_config(), network=network)).analyze(case)
    from monai.transforms import Orientation

    from pipelines.geometry import from_metatensor, to_metatensor  # the same by hand

    turn = Orientation(axcodes="RAS")
    ready = turn(to_metatensor(case["ct"], copy=True))
    with torch.inference_mode():
        answer = network.eval()(ready.as_tensor()[None])[0].argmax(0, keepdim=True)
    pred = ready.clone()
    pred.set_(answer.float())
    expected = from_metatensor(turn.inverse(pred), case["ct"])
    assert 0 < expected.mean() < 1
    assert np.array_equal(findings.labelmap, expected)


def test_weights_that_are_missing_changed_pickled_or_of_another_network_are_refused(tmp_path):
    card = write_bundle(tmp_path / "changed", unet_config(), network=unet())
    with (tmp_path / "changed" / "models" / "model.pt").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CardError, match="weights_sha256"):
        BundlePipeline(card)
    (tmp_path / "changed" / "models" / "model.pt").unlink()
    with pytest.raises(CardError, match=r"lacks models/model\.pt"):
        BundlePipeline(card)
    with pytest.raises(CardError, match="names no weights"):
        loaded(write_bundle(tmp_path / "none", unet_config()))
    other = UNet(spatial_dims=3, in_channels=1, out_channels=3, channels=(2, 4), strides=(2,))
    with pytest.raises(CardError, match="cannot be loaded"):
        loaded(write_bundle(tmp_path / "other", unet_config(), network=other))

    class Payload(torch.nn.Module):
        def state_dict(self):
            return {"weight": Boom(tmp_path / "boom")}

    card = write_bundle(tmp_path / "pickle", unet_config(), network=Payload())
    with pytest.raises(CardError, match="cannot be loaded"):
        loaded(card)
    assert not (tmp_path / "boom").exists()


class Boom:
    """A pickle that would make a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_the_payload_of_that_test_would_really_have_worked(tmp_path):
    pickle.loads(pickle.dumps(Boom(tmp_path / "boom"))).close()  # noqa: S301
    assert (tmp_path / "boom").exists()
