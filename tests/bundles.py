"""Tiny MONAI bundles with known answers, made where a test needs them."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.bundle import BundlePipeline
from pipelines.contract import Card, Case, Code, Image, read_card
from tests.phantoms import Phantom, asymmetric_phantom, make_affine

HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
LOAD = [{"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"}]
SAVE = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"}
RAS = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
INVERT = {
    "_target_": "Invertd",
    "keys": "pred",
    "transform": "@preprocessing",
    "orig_keys": "image",
    "nearest_interp": True,
}
#: The [bundle] table of the plainest card.
PLAIN = 'output = "labels"\n'
ABOVE_200 = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 200.0}


def threshold_config() -> dict[str, Any]:
    """Return the configuration of the identity bundle: the mask is where the image is above 200."""
    return copy.deepcopy(
        {
            "imports": ["$import glob"],
            "bundle_root": "/nowhere",
            "device": "$torch.device('cuda:7')",
            "output_dir": "$@bundle_root + '/eval'",
            "dataset_dir": "/nowhere/data",
            "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))",
            "network_def": {"_target_": "torch.nn.Identity"},
            "network": "$@network_def.to(@device)",
            "preprocessing": {"_target_": "Compose", "transforms": [*LOAD, RAS]},
            "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
            "inferer": {"_target_": "SimpleInferer"},
            "postprocessing": {"_target_": "Compose", "transforms": [INVERT, ABOVE_200, SAVE]},
            "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network", "amp": True},
            "run": ["$@evaluator.run()"],
        }
    )


def threshold_metadata() -> dict[str, Any]:
    """Return the metadata of the identity bundle."""
    image = {"type": "image", "format": "hounsfield", "modality": "CT", "num_channels": 1}
    return {
        "version": "1.0.0",
        "required_packages_version": {},
        "network_data_format": {
            "inputs": {"image": image},
            "outputs": {"pred": {"num_channels": 1, "channel_def": {"0": "background", "1": "bright"}}},
        },
    }


def write_bundle(
    folder: Path,
    config: dict[str, Any] | None = None,
    *,
    metadata: dict[str, Any] | None = None,
    network: torch.nn.Module | None = None,
    labels: tuple[str, ...] = ("Bright",),
    roles: tuple[str, ...] = ("ct",),
    bundle: str = 'output = "labels"',
    measure: tuple[str, ...] = ("volume", "mean"),
) -> Card:
    """Write a bundle and its card, and return the card.

    Parameters
    ----------
    network
        Its state is saved as models/model.pt and pinned; None writes no weights.
    bundle
        TOML lines of the [bundle] table.
    """
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("inference.json", config or threshold_config()),
        ("metadata.json", metadata or threshold_metadata()),
    ):
        (folder / "configs" / name).write_text(json.dumps(content))
    if network is not None:
        path = folder / "models" / "model.pt"
        path.parent.mkdir(exist_ok=True)
        torch.save(network.state_dict(), path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        bundle = f'weights = "models/model.pt"\nweights_sha256 = "{sha256}"\n{bundle}'
    lines = [
        'name = "tiny"',
        'version = "1.0.0"',
        'title = "Tiny bundle"',
        'maker = "tests"',
        'intended_use = "Tests."',
        'use = "pipelines.bundle:BundlePipeline"',
        f"measure = {list(measure)}",
        *(f'[inputs.{role}]\nmodality = ["CT"]\nunit = "[hnsf\'U]"' for role in roles),
        "[bundle]",
        bundle,
    ]
    for number, label in enumerate(labels, start=1):
        lines += [
            f'[[segments]]\nnumber = {number}\nlabel = "{label}"',
            'category = { value = "260787004", scheme = "SCT", meaning = "Physical object" }',
            'kind = { value = "122485", scheme = "DCM", meaning = "Sphere" }',
        ]
    (folder / "card.toml").write_text("\n".join(lines))
    return read_card(folder / "card.toml")


def loaded(card: Card) -> BundlePipeline:
    """Return the bundle of a card, ready to analyse on the CPU."""
    pipeline = BundlePipeline(card)
    pipeline.load("cpu")
    return pipeline


def with_steps(before: Any, after: Any) -> dict[str, Any]:
    """Return the identity bundle's configuration with other transforms before and after the network."""
    config = threshold_config()
    config["preprocessing"]["transforms"] = copy.deepcopy(before)
    config["postprocessing"]["transforms"] = copy.deepcopy(after)
    return config


def change(config: Any, place: str, value: Any) -> None:
    """Set what stands at a place of a configuration, written as keys between slashes."""
    *path, last = place.split("/")
    for step in path:
        config = config[int(step) if isinstance(config, list) else step]
    config[last] = value


def image_of(array: Any, affine: Any = None) -> Image:
    """Return an array (slices, rows, columns) of Hounsfield units as an image; axial by default."""
    affine = make_affine() if affine is None else affine
    return Image(array=np.asarray(array, np.float32), affine=affine, unit=HU, modality="CT")


def phantom_case(
    orientation: str = "axial", shape: tuple[int, int, int] = (9, 24, 20), reverse: bool = False
) -> tuple[Case, Any, Phantom]:
    """Return a case of role "ct", where it is above 200 HU (slices, rows, columns), and the phantom.

    Parameters
    ----------
    reverse
        The same patient, slices listed from the other end.
    """
    affine = make_affine(orientation)
    phantom = asymmetric_phantom(shape, affine)
    array, mask = phantom.array_hu, phantom.mask
    if reverse:
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = shape[0] - 1
        array, mask, affine = array[::-1], mask[::-1], affine @ flip
    return {"ct": image_of(array, affine)}, mask, phantom


def follows(folder: Path, config: dict[str, Any], *, orientation: str = "oblique", **options: Any) -> bool:
    """Say whether a bundle's mask is the threshold of the image, voxel for voxel."""
    case, mask, _ = phantom_case(orientation)
    labelmap = loaded(write_bundle(folder, config, **options)).analyze(case).labelmap
    return np.array_equal(labelmap == 1, mask)


def write_scripts(folder: Path, **modules: str) -> None:
    """Give a bundle Python modules of its own: scripts.<name>."""
    (folder / "scripts").mkdir(parents=True, exist_ok=True)
    for name, source in {"__init__": "", **modules}.items():
        (folder / "scripts" / f"{name}.py").write_text(source)
