"""One bundle of the Model Zoo tried with random weights, with its card or without one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from node.compute.findings import validate
from pipelines.bundle.analysis import analyze
from pipelines.bundle.files import Files, find_files
from pipelines.bundle.load import load
from pipelines.bundle.run import BundleFailed, Loaded, run
from pipelines.bundle.terms import Terms, read_terms
from pipelines.contract import Card, CardError, Case, Findings, InputSpec, read_card
from pipelines.zoo import zoo_cards
from tests.pipelines.bundle import zoo_cases

CPU = torch.device("cpu")


def roi(edge: int) -> Mapping[str, Any]:
    """Return the override of a sliding window's size."""
    return {"inferer::roi_size": [edge, edge, edge]}


@dataclass(frozen=True, kw_only=True)
class Carded:
    """How a bundle with a card is tried."""

    case: Callable[[], Case]
    smaller: Mapping[str, Any] = field(default_factory=dict)  #: overrides for the sake of a quick try
    needs: str = ""  #: a package that is no dependency of the node; without it, its name is told
    architecture: str = ""  #: where the bundle keeps the architecture of its network, if apart


@dataclass(frozen=True, kw_only=True)
class Bare:
    """How a bundle without a card is tried: what goes in, what comes out or is told."""

    why: str  #: it has no card
    shape: tuple[int, ...] = (24, 24, 16)  #: of the image, in the author's order of axes
    channels: int = 1
    keys: tuple[str, ...] = ("image",)  #: of the images
    overrides: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""
    is_searched: bool = False  #: the network's architecture is in a file of its own
    gives: tuple[int, ...] | tuple[str, ...] = ()  #: shape of the answer, or its keys
    refused: str = ""  #: the reason, a regular expression


def with_card(root: Path, dry: Carded, folder: Path) -> Findings | str:
    """Return what a bundle with its card and random weights says of a case, or why it is refused.

    Findings that the node would not take are an error.
    """
    card = put_card(root, folder, dry.architecture)
    try:
        terms, bundle = untrained(card, dry.smaller)
        case = dry.case()
        findings = analyze(bundle, card, terms, case)
    except (CardError, BundleFailed) as error:
        return str(error).removeprefix(f"{card.name}: ")
    assert validate(findings, card, case) == []
    return findings


def put_card(root: Path, folder: Path, searched: str = "") -> Card:
    """Copy a bundle without weights, put its card beside it, and return the card."""
    copy = folder / root.name
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("docs", "sample_data", "models"))
    shutil.copyfile(zoo_cards()[root.name], copy / "card.toml")
    if searched:
        (copy / searched).parent.mkdir()
        architecture(copy / searched)
    return read_card(copy / "card.toml")


def untrained(card: Card, smaller: Mapping[str, Any] = {}, *, cured: bool = True) -> tuple[Terms, Loaded]:
    """Return a bundle with random weights.

    Parameters
    ----------
    cured
        False: without what the card changes in the configuration.
    """
    said = read_terms(card)
    pins = {name: pin for name, pin in said.pins.items() if not name.startswith("models/")}
    terms = replace(said, weights="", pins=pins, overrides={**said.overrides, **smaller})
    if not cured:
        terms = replace(terms, overrides=dict(smaller), remove=())
    return terms, load(card, terms, find_files(card, terms), CPU, is_untrained=True)


def without_card(root: Path, dry: Bare, folder: Path) -> tuple[int, ...] | tuple[str, ...] | str:
    """Return what came out of a bundle, as a shape or as keys; or the sentence that refused it."""
    config = next(
        p for p in (root / "configs/inference.json", root / "configs/inference.yaml") if p.is_file()
    )
    searched = architecture(folder / "arch.pt") if dry.is_searched else {}
    terms = Terms(output="labels", overrides={**dry.overrides, **searched})
    card = Card(
        name=root.name,
        version="1",
        title=root.name,
        maker="tests",
        intended_use="Tests.",
        use="pipelines.bundle:BundlePipeline",
        inputs={"ct": InputSpec(modality=("CT",), unit="[hnsf'U]")},
        folder=root,
    )
    files = Files(root=root, metadata=root / "configs/metadata.json", configs=(config,), weights=None)
    try:
        bundle = load(card, terms, files, CPU, is_untrained=True)
        answer = run(bundle, {key: image_like(dry) for key in dry.keys}).pred
    except (CardError, BundleFailed) as error:
        return str(error).removeprefix(f"{card.name}: ")
    return tuple(sorted(answer)) if isinstance(answer, Mapping) else tuple(answer.shape)


def image_like(dry: Bare) -> MetaTensor:
    """Return noise in the shape of an image."""
    generator = torch.Generator().manual_seed(7)
    array = torch.rand((dry.channels, *dry.shape), generator=generator) * 800 - 400
    meta = {"original_channel_dim": 0, "filename_or_obj": "image", "spatial_shape": np.array(dry.shape)}
    return MetaTensor(array, affine=torch.diag(torch.tensor([1.5, 1.5, 1.5, 1.0])), meta=meta)


def architecture(path: Path) -> Mapping[str, str]:
    """Write what a search of an architecture leaves: numpy arrays, every path taken."""
    arrays = {"node_a": np.ones((13, 4)), "arch_code_a": np.ones((12, 10)), "arch_code_c": np.ones((12, 10))}
    torch.save({key: array.astype(np.int64) for key, array in arrays.items()}, path)
    return {"arch_ckpt_path": str(path)}


def magnetic(role: str) -> Case:
    """Return the phantom as an MR image of one role."""
    image = zoo_cases.volume()["ct"]
    return {role: zoo_cases.magnetic(image.array + 1024.0, image.affine)}


def said(found: Findings | str) -> str:
    """Return in words what was found."""
    if isinstance(found, str):
        return f"refused: {found}"
    parts = [
        f"{count} {what}{'' if count == 1 else 's'}"
        for what, count in (
            ("outline", len(found.segments)),
            ("detection", len(found.detections)),
            ("answer", len(found.evaluations)),
            ("measurement", len(found.measurements)),
            ("map", len(found.maps)),
        )
        if count
    ]
    return f"works: {', '.join(parts) or 'nothing found'}"
