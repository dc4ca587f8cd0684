"""The weights are the ones that run, and they are read as data."""

from __future__ import annotations

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from safetensors.torch import save_file

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
    write_scripts,
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


# --- other forms of weights ------------------------------------------------------------------------


def expected_of(network, case):
    """Return what the network outlines on the axial case, by hand: (slices, rows, columns)."""
    with torch.inference_mode():
        image = torch.from_numpy(case["ct"].array.transpose(2, 1, 0).copy())[None, None]
        return network.eval()(image)[0].argmax(0).numpy().transpose(2, 1, 0)


def plain_unet_config():
    config = unet_config()
    config["preprocessing"]["transforms"] = LOAD
    config["postprocessing"]["transforms"] = [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]
    return config


def put(folder, name, config=None, **options):
    """Write a bundle around weights that lie at ``models/<name>`` already; return its card."""
    sha256 = hashlib.sha256((folder / "models" / name).read_bytes()).hexdigest()
    bundle = f'output = "labels"\nweights = "models/{name}"\nweights_sha256 = "{sha256}"'
    return write_bundle(folder, config or plain_unet_config(), bundle=bundle, **options)


FORMS = {
    "a state dict": ("model.pt", lambda state: state),
    "a checkpoint": ("model.pt", lambda state: {"model": state, "epoch": 7}),
    "a checkpoint with numpy in it": (
        "model.pt",
        lambda state: {"state_dict": state, "best": np.float64(0.9), "arch": np.arange(4)},
    ),
    "a checkpoint by the key of the bundle's loader": ("model.pt", lambda state: {"student": state}),
    "names of a wrapper": (
        "model.pth",
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    ),
    "safetensors": ("model.safetensors", None),
    "safetensors by another name": ("model.pth", None),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_weights_gives_the_same_network(tmp_path, form):
    name, wrapped = FORMS[form]
    network = unet()
    (tmp_path / "models").mkdir()
    if wrapped is None:
        save_file(network.state_dict(), tmp_path / "models" / name)
    else:
        torch.save(wrapped(network.state_dict()), tmp_path / "models" / name)
    config = plain_unet_config()
    loader = {"_target_": "CheckpointLoader", "load_path": "x", "load_dict": {"student": "@network"}}
    config["handlers"] = [loader]
    case, _, _ = phantom_case(shape=(8, 24, 16))
    found = loaded(put(tmp_path, name, config)).analyze(case).labelmap
    expected = expected_of(network, case)
    assert 0 < expected.mean() < 1
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("has_definition", [True, False], ids=["with network_def", "without"])
def test_a_torchscript_archive_brings_its_network(tmp_path, has_definition):
    network = unet()
    (tmp_path / "models").mkdir()
    torch.jit.script(network.eval()).save(str(tmp_path / "models" / "model.ts"))
    config = plain_unet_config()
    if not has_definition:
        for key in ("network_def", "network", "evaluator", "inferer", "dataset", "run"):
            del config[key]
    case, _, _ = phantom_case(shape=(8, 24, 16))
    found = loaded(put(tmp_path, "model.ts", config)).analyze(case).labelmap
    assert np.array_equal(found, expected_of(network, case))


def test_weights_go_where_the_bundles_own_loader_would_put_them(tmp_path):
    """A detector holds its network; its own weights have the names of the network alone."""
    (tmp_path / "models").mkdir()
    network = unet()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    write_scripts(
        tmp_path,
        detector="import torch\n"
        "class Detector(torch.nn.Module):\n"
        "    def __init__(self, network):\n"
        "        super().__init__()\n"
        "        self.network = network\n"
        "    def forward(self, x):\n"
        "        return self.network(x)\n",
    )
    config = plain_unet_config()
    config["detector"] = {"_target_": "scripts.detector.Detector", "network": "@network"}
    config["evaluator"]["network"] = "@detector"
    config["checkpointloader"] = {
        "_target_": "CheckpointLoader",
        "load_path": "x",
        "load_dict": {"model": "$@detector.network"},
    }
    case, _, _ = phantom_case(shape=(8, 24, 16))
    found = loaded(put(tmp_path, "model.pt", config)).analyze(case).labelmap
    assert np.array_equal(found, expected_of(network, case))


def test_a_whole_pickled_network_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "models").mkdir()
    torch.save(unet(), tmp_path / "models" / "model.pt")
    with pytest.raises(CardError, match=r"whole pickled network.*save its state_dict\(\)"):
        loaded(put(tmp_path, "model.pt"))


def test_files_that_are_no_weights_are_refused(tmp_path):
    (tmp_path / "models").mkdir()
    for name, content in (
        ("empty.pt", b""),
        ("text.pt", b"no weights"),
        ("broken.safetensors", b"\x20\x00\x00\x00\x00\x00\x00\x00{" + b"x" * 64),
    ):
        (tmp_path / "models" / name).write_bytes(content)
        with pytest.raises(CardError, match="cannot be loaded"):
            loaded(put(tmp_path, name))


def test_an_expression_that_asks_for_an_open_pickle_is_given_data_only(tmp_path):
    (tmp_path / "models").mkdir()
    torch.save({"size": torch.ones(2), "array": np.ones(2)}, tmp_path / "models" / "good.pt")
    torch.save(Boom(tmp_path / "boom"), tmp_path / "models" / "bad.pt")
    config = plain_unet_config()
    load = "$torch.load(@bundle_root + '/models/{}', map_location=torch.device('cuda'), weights_only=False)"
    config["arch"] = load.format("good.pt")
    config["network_def"]["out_channels"] = "$int(@arch['array'].sum())"
    network = unet()
    case, _, _ = phantom_case(shape=(8, 24, 16))
    found = loaded(write_bundle(tmp_path, config, network=network)).analyze(case).labelmap
    assert np.array_equal(found, expected_of(network, case))
    config["arch"] = load.format("bad.pt")
    with pytest.raises(CardError, match="cannot be used"):
        loaded(write_bundle(tmp_path, config, network=network))
    assert not (tmp_path / "boom").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
