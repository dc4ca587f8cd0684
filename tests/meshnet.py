"""Bundles around real trained networks: brainchop's MeshNets (MIT), whose weights lie beside the checkout.

A MeshNet is a chain of dilated convolutions that never leaves its grid, for a head at 1 mm in the order
left, inferior, anterior. Only weights and their meaning are taken; network, configuration and card are
written here, as an author of the Model Zoo would.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.contract import Card, read_card
from pipelines.structures import structure
from tests.paths import SHARED

WEIGHTS = SHARED / "weights" / "brainchop"

NETWORK = '''\
"""MeshNet: convolutions of growing and shrinking dilation; nothing is pooled."""

from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}


class MeshNet(nn.Module):
    """As it was trained: a plain chain, or blocks with a normalisation."""

    def __init__(self, channels, classes, dilations, activation, is_normed):
        super().__init__()
        layers = []
        for number, dilation in enumerate(dilations):
            before = channels if number else 1
            spread = {"padding": dilation, "dilation": dilation, "bias": not is_normed}
            block = [nn.Conv3d(before, channels, 3, **spread)]
            if is_normed:
                block.append(nn.GroupNorm(channels, channels, affine=False))
            block.append(ACTIVATIONS[activation]())
            layers += [nn.Sequential(*block)] if is_normed else block
        layers.append(nn.Conv3d(channels, classes, 1))
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x)
'''


@dataclass(frozen=True, kw_only=True)
class Net:
    """What one network is, and what its label values mean."""

    folder: str  #: of `WEIGHTS`
    channels: int
    classes: int
    #: Label value -> name of a row of `pipelines.structures`; all other values are not outlined. With
    #: ``is_sided`` False the network does not tell left from right, and neither does the card.
    means: Mapping[int, str]
    is_sided: bool = True
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 8, 4, 2, 1)
    activation: str = "elu"
    is_normed: bool = False
    #: What the network sees of the head at 1 mm, around its middle: left, inferior, anterior.
    size: tuple[int, int, int] = (144, 176, 176)


NETS = {
    "brain-tissue": Net(
        folder="model5_gw_ae",
        channels=5,
        classes=3,
        activation="relu",
        means={1: "white_matter", 2: "gray_matter"},
        size=(176, 224, 224),  # where the skull is cut, its edge is taken for grey matter
    ),
    "brain-structures": Net(
        folder="subcortical",
        channels=30,
        classes=18,
        is_sided=False,
        means=dict(
            enumerate(
                (
                    "cerebral_white_matter_left",
                    "cerebral_cortex_left",
                    "lateral_ventricle_left",
                    "inferior_lateral_ventricle_left",
                    "cerebellar_white_matter_left",
                    "cerebellar_cortex_left",
                    "thalamus_left",
                    "caudate_left",
                    "putamen_left",
                    "pallidum_left",
                    "third_ventricle",
                    "fourth_ventricle",
                    "brain_stem",
                    "hippocampus_left",
                    "amygdala_left",
                    "accumbens_left",
                    "ventral_diencephalon_left",
                ),
                start=1,
            )
        ),
    ),
    "brain-sides": Net(  # 34 gyri of each side are not outlined here
        folder="model21_104class",
        channels=21,
        classes=104,
        activation="relu",
        dilations=(1, 2, 2, 4, 4, 8, 8, 16),
        means={
            69: "thalamus_left",
            70: "thalamus_right",
            71: "caudate_left",
            72: "caudate_right",
            73: "putamen_left",
            74: "putamen_right",
            77: "hippocampus_left",
            78: "hippocampus_right",
            85: "cerebral_white_matter_left",
            86: "cerebral_white_matter_right",
            87: "lateral_ventricle_left",
            89: "lateral_ventricle_right",
            94: "brain_stem",
            97: "cerebellar_cortex_left",
            98: "cerebellar_cortex_right",
        },
    ),
    "brain-mask": Net(
        folder="mindgrab",
        channels=15,
        classes=2,
        activation="gelu",
        dilations=(16, 8, 4, 2, 1) * 5,
        is_normed=True,
        means={1: "brain"},
        size=(176, 224, 224),
    ),
}


def write_net(folder: Path, name: str) -> Card:
    """Write the bundle of one of `NETS` with its card into a folder, and return the card."""
    net = NETS[name]
    for part in ("configs", "models", "scripts"):
        (folder / part).mkdir(parents=True)
    (folder / "scripts" / "__init__.py").write_text("")
    (folder / "scripts" / "meshnet.py").write_text(NETWORK)
    weights = folder / "models" / "model.pth"
    shutil.copyfile(WEIGHTS / net.folder / "model.pth", weights)
    (folder / "configs" / "inference.json").write_text(json.dumps(_config(net), indent=1))
    (folder / "configs" / "metadata.json").write_text(json.dumps(_metadata(net), indent=1))
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "card.toml").write_text(_card(name, net, sha256))
    return read_card(folder / "card.toml")


def _config(net: Net) -> dict[str, object]:
    keys = {"keys": "image"}
    before = [
        {"_target_": "LoadImaged", **keys},
        {"_target_": "EnsureChannelFirstd", **keys},
        {"_target_": "Orientationd", **keys, "axcodes": "LIA"},
        {"_target_": "Spacingd", **keys, "pixdim": [1.0, 1.0, 1.0], "mode": "bilinear"},
        {"_target_": "ResizeWithPadOrCropd", **keys, "spatial_size": [256, 256, 256]},
        {
            "_target_": "ScaleIntensityRangePercentilesd",
            **keys,
            "lower": 0,
            "upper": 99.9,
            "b_min": 0.0,
            "b_max": 1.0,
            "clip": True,
        },
        {"_target_": "CenterSpatialCropd", **keys, "roi_size": list(net.size)},
    ]
    after = [
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": True,
            "to_tensor": True,
        },
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
    ]
    return {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "dataset_dir": "/head",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": "scripts.meshnet.MeshNet",
            "channels": net.channels,
            "classes": net.classes,
            "dilations": list(net.dilations),
            "activation": net.activation,
            "is_normed": net.is_normed,
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": before},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i} for i in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {"_target_": "Compose", "transforms": after},
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pth'",
                "load_dict": {"model": "@network"},
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": True,
        },
        "run": ["$@evaluator.run()"],
    }


def _metadata(net: Net) -> dict[str, object]:
    image = {"type": "image", "format": "magnitude", "modality": "MR", "num_channels": 1}
    return {
        "version": "1.0.0",
        "network_data_format": {
            "inputs": {"image": image},
            "outputs": {"pred": {"type": "image", "format": "segmentation", "num_channels": net.classes}},
        },
    }


def _card(name: str, net: Net, sha256: str) -> str:
    nothing = sorted(set(range(1, net.classes)) - net.means.keys())
    lines = [
        f'name = "{name}"',
        'version = "1.0.0"',
        f'title = "MeshNet of brainchop: {name}"',
        'maker = "neuroneural"',
        'intended_use = "Research on T1-weighted MR of the head"',
        'warning = "Trained on adults."',
        'use = "pipelines.bundle:BundlePipeline"',
        'measure = ["volume"]',
        '[inputs.t1]\nmodality = ["MR"]\nunit = "1"\nslices_min = 100',
        "spacing_mm = { slice = [0.5, 1.5], row = [0.5, 1.5], column = [0.5, 1.5] }",
        '[bundle]\noutput = "labels"\nweights = "models/model.pth"',
        f'weights_sha256 = "{sha256}"\nvalues = {list(net.means)}\nnothing = {nothing}',
    ]
    for number, row in enumerate(net.means.values(), start=1):
        lines.append(f"[[segments]]\nnumber = {number}\n{_meaning(row, net.is_sided)}")
    return "\n".join(lines) + "\n"


def _meaning(row: str, is_sided: bool) -> str:
    known = structure(row)
    if is_sided or known.laterality is None:
        return f'structure = "{row}"'
    label = known.label.removeprefix("Left ").capitalize()
    category, kind = (
        f'{{ value = "{code.value}", scheme = "{code.scheme}", meaning = "{code.meaning}" }}'
        for code in (known.category, known.kind)
    )
    colour = f"colour_rgb = {list(known.colour_rgb)}"
    return f'label = "{label}"\ncategory = {category}\nkind = {kind}\n{colour}'
