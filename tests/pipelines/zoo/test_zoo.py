"""MONAI's Model Zoo: every published bundle works as its card says, or is refused with a reason.

Networks have random weights, so this says nothing of results; it says that the runner understands
what real authors write, and that what comes out is what the node takes. Run it with
``RADNODE_ZOO=<checkout of Project-MONAI/model-zoo> pytest -m zoo``; the table is ``deploy/zoo.md``.
"""

from __future__ import annotations

import gc
import json
import os
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.bundle.analysis import analyze
from pipelines.bundle.run import BundleFailed
from pipelines.contract import CardError, Findings
from pipelines.zoo import unlike_card, zoo_cards
from tests.paths import REPOSITORY
from tests.pipelines.bundle import zoo_cases
from tests.pipelines.zoo.dry import (
    Bare,
    Carded,
    magnetic,
    put_card,
    roi,
    said,
    untrained,
    with_card,
    without_card,
)

ZOO = Path(os.environ.get("RADNODE_ZOO", "")) / "models"
pytestmark = [
    pytest.mark.zoo,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (os.environ.get("RADNODE_ZOO") and ZOO.is_dir()),
        reason="RADNODE_ZOO names no checkout of Project-MONAI/model-zoo",
    ),
]
COMMITTED = REPOSITORY / "deploy" / "zoo.md"
MEASURED = REPOSITORY / "test-artefacts" / "zoo.md"

CT = zoo_cases.volume
CARDED = {
    "spleen_ct_segmentation": Carded(case=CT, smaller=roi(32)),
    "wholeBody_ct_segmentation": Carded(case=CT, smaller=roi(32)),
    "swin_unetr_btcv_segmentation": Carded(case=CT, smaller=roi(64)),
    "pancreas_ct_dints_segmentation": Carded(
        case=CT, smaller=roi(32), architecture="models/search_code_18590.pt"
    ),
    "pediatric_abdominal_ct_segmentation": Carded(case=CT, smaller=roi(32)),
    "renalStructures_UNEST_segmentation": Carded(case=CT),
    "wholeBrainSeg_Large_UNEST_segmentation": Carded(case=lambda: magnetic("t1")),
    "brats_mri_segmentation": Carded(case=zoo_cases.brain, smaller=roi(32)),
    "prostate_mri_anatomy": Carded(case=lambda: magnetic("t2"), smaller=roi(64)),
    "ventricular_short_axis_3label": Carded(case=zoo_cases.heart),
    "valve_landmarks": Carded(case=zoo_cases.long_axis),
    "vista3d": Carded(case=CT, smaller={"patch_size": [32, 32, 32]}),
    "lung_nodule_ct_detection": Carded(case=CT, needs="torchvision"),
    "breast_density_classification": Carded(
        case=lambda: {"view": zoo_cases.picture(rows=200, columns=160)}, needs="torchvision"
    ),
    "endoscopic_inbody_classification": Carded(case=lambda: {"video": zoo_cases.colour()}),
    "endoscopic_tool_segmentation": Carded(case=lambda: {"video": zoo_cases.colour()}),
}
VOLUME = (1, 24, 24, 16)
NOT_PRETRAINED = {"network_def::pretrained": False}
TILES = "whole-slide images are not what a node is given"
MAKES = "it makes images, a node analyses them"
FIXTURE = "a template for authors"
BARE = {
    "multi_organ_segmentation": Bare(
        why="its weights may not be passed on", overrides=roi(32), is_searched=True, gives=VOLUME
    ),
    "renalStructures_CECT_segmentation": Bare(
        why="needs three phases of contrast, registered to each other",
        keys=("artery", "vein", "excret"),
        overrides=roi(32),
        gives=VOLUME,
    ),
    "spleen_deepedit_annotation": Bare(why="made for clicks; without any, the plain spleen", gives=VOLUME),
    "segmentation_template": Bare(why=FIXTURE, gives=VOLUME),
    "classification_template": Bare(why=FIXTURE, shape=(64, 64), gives=(4,)),
    "pathology_tumor_detection": Bare(
        why=TILES,
        shape=(224, 224),
        channels=3,
        overrides=NOT_PRETRAINED,
        needs="torchvision",
        gives=(1, 1, 1, 1),
    ),
    "pathology_nuclei_classification": Bare(
        why=TILES, shape=(64, 64), channels=3, needs="sklearn", refused="label"
    ),
    "pathology_nuclei_segmentation_classification": Bare(
        why=TILES, shape=(256, 256), channels=3, needs="tqdm", gives=("instance_map", "type_map")
    ),
    "pathology_nuclick_annotation": Bare(why=TILES, shape=(128, 128), channels=3, refused="click points"),
    "vista2d": Bare(why="for microscopy", shape=(64, 64), channels=3, refused="SAM is not installed"),
    "brats_mri_generative_diffusion": Bare(why=MAKES, refused="takes a latent or noise"),
    "brats_mri_axial_slices_generative_diffusion": Bare(why=MAKES, refused="takes a latent or noise"),
    "maisi_ct_generative": Bare(why=MAKES, refused="has no network"),
    "mednist_gan": Bare(why=MAKES, refused="takes a latent or noise"),
    "mednist_reg": Bare(
        why="a demonstration; its data set, which a node never builds, joins two images",
        shape=(64, 64),
        refused="network failed.*to have 2 channels",
    ),
}
#: Bundle -> what was found and whether a package was missing, for the table.
FOUND: dict[str, tuple[str, bool]] = {}


@pytest.fixture(autouse=True)
def _memory():
    yield
    gc.collect()


def is_missing(needs: str) -> bool:
    return bool(needs) and find_spec(needs) is None


@pytest.mark.parametrize("name", CARDED)
def test_the_pins_of_a_card_hold(name):
    """All but the weights, which a checkout does not have."""
    unlike = unlike_card(zoo_cards()[name], ZOO / name)
    assert [told for told in unlike if not re.fullmatch(r"models/\S+ is missing\.", told)] == []


@pytest.mark.parametrize("name", CARDED)
def test_a_bundle_with_its_card_gives_findings_that_the_node_takes(name, tmp_path):
    dry = CARDED[name]
    found = with_card(ZOO / name, dry, tmp_path)
    FOUND[name] = said(found), is_missing(dry.needs)
    if is_missing(dry.needs):
        assert isinstance(found, str) and dry.needs in found
    else:
        assert isinstance(found, Findings), found


@pytest.mark.parametrize("name", BARE)
def test_a_bundle_without_a_card_works_or_is_refused_with_a_reason(name, tmp_path):
    dry = BARE[name]
    found = without_card(ZOO / name, dry, tmp_path)
    told = f"refused: {found}" if isinstance(found, str) else f"works, gives {found}"
    FOUND[name] = told, is_missing(dry.needs)
    if is_missing(dry.needs):
        assert isinstance(found, str) and dry.needs in found
    elif dry.refused:
        assert isinstance(found, str) and re.search(dry.refused, found), found
    else:
        assert found == dry.gives


#: What goes wrong in a bundle without the cures of its card.
OPEN_TRAPS = {
    "swin_unetr_btcv_segmentation": "img_size",
    "vista3d": "Vista3dEvaluator",
    "lung_nodule_ct_detection": "DetectionEvaluator",
    "valve_landmarks": "product",
    "prostate_mri_anatomy": "fractions for labels",
    "brats_mri_segmentation": "1 channels; the card describes 3",
}


@pytest.mark.parametrize("name", OPEN_TRAPS)
def test_a_trap_is_one_without_its_cure(name, tmp_path, monkeypatch):
    monkeypatch.delattr(np, "product", raising=False)  # put there by the cure of an earlier test
    dry = CARDED[name]
    card = put_card(ZOO / name, tmp_path)
    with pytest.raises((CardError, BundleFailed, ValueError), match=OPEN_TRAPS[name]):
        terms, bundle = untrained(card, dry.smaller, cured=False)
        bundle.network = Scattered(bundle.network)
        analyze(bundle, card, terms, dry.case())


class Scattered(torch.nn.Module):
    """Whatever a network answers, with every third voxel of the second half of its channels high."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> Any:
        given = self.network(batch)
        if given.ndim == 5:
            given[:, -1, ::3, ::3, ::3] = 99.0
        return given


class Told(torch.nn.Module):
    """A network of which the answer is known."""

    def __init__(self, answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.answer(batch)


def told(name: str, folder: Path, answer: Callable[[torch.Tensor], torch.Tensor], case: Any) -> Findings:
    """Return what a bundle with its card says when its network gives what is known."""
    card = put_card(ZOO / name, folder)
    terms, bundle = untrained(card, CARDED[name].smaller)
    bundle.network = Told(answer)
    return analyze(bundle, card, terms, case)


def test_tumour_regions_lie_where_the_flair_is_bright_however_the_slices_lie(tmp_path):
    case = zoo_cases.brain()

    def bright(batch: torch.Tensor) -> torch.Tensor:
        whole = torch.where(batch[:, 3:] > 1.0, 9.0, -9.0)
        return torch.cat([-9.0 + 0 * whole, whole, -9.0 + 0 * whole], 1)

    found = told("brats_mri_segmentation", tmp_path, bright, case)
    assert np.array_equal(found.mask(2), case["flair"].array > 900)
    assert found.mask(2).any()
    assert not found.mask(1).any() and not found.mask(3).any()


def test_prostate_zones_keep_their_values_and_only_the_middle_is_looked_at(tmp_path):
    array = np.zeros((8, 250, 250), np.float32)
    array[2:6, 100:150, 100:150] = 500.0
    array[2:6, 10:30, 10:30] = 500.0  # outside of the middle 108 mm
    affine = np.array([[0, 0, 0.72, 0], [0, 0.72, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1.0]])  # axial
    case = {"t2": zoo_cases.magnetic(array, affine)}

    def zone(batch: torch.Tensor) -> torch.Tensor:
        inside = torch.where(batch > 1.0, 9.0, -9.0)
        return torch.cat([-inside, -9.0 + 0 * inside, inside], 1)

    labelmap = told("prostate_mri_anatomy", tmp_path, zone, case).labelmap
    assert set(np.unique(labelmap)) == {0, 2}
    assert not labelmap[:, :40, :40].any()
    core = labelmap[3:5, 102:148, 102:148]
    assert (core == 2).all()
    assert np.count_nonzero(labelmap) == pytest.approx(4 * 50 * 50, rel=0.1)


def test_valve_points_come_back_from_the_framed_slice(tmp_path):
    case = zoo_cases.long_axis()

    def brightest(batch: torch.Tensor) -> torch.Tensor:
        flat = batch.flatten(1).argmax(1)
        place = torch.stack([flat // batch.shape[-1], flat % batch.shape[-1]], 1).float()
        points = torch.zeros(len(batch), 2, 10)
        points[:, :, 4] = place  # all others are not in view
        return points

    found = told("valve_landmarks", tmp_path, brightest, case)
    assert {one.label for one in found.detections} == {"Mitral valve, septal, four chambers"}
    places = np.array([one.points[0] for one in found.detections])
    np.testing.assert_allclose(places, [[phase, 8 + phase, 20] for phase in range(5)], atol=1e-6)
    assert sum(caution.startswith("Not found") for caution in found.cautions) == 9


def test_a_nodules_box_lies_around_what_is_bright(tmp_path):
    name = "lung_nodule_ct_detection"
    card = put_card(ZOO / name, tmp_path)
    nothing = {"_target_": "torch.nn.Identity"}  # in the place of what needs torchvision
    without = {"network_def": nothing, "detector_ops": [], "inferer": {"_target_": "SimpleInferer"}}
    terms, bundle = untrained(card, without)
    case = CT()

    def inferer(batch: torch.Tensor, *_: Any) -> list[dict[str, torch.Tensor]]:
        at = torch.argwhere(batch[0, 0] > 0.97).float()
        box = torch.cat([at.amin(0), at.amax(0)])[None]
        return [{"box": box, "label": torch.tensor([0]), "label_scores": torch.tensor([0.9])}]

    bundle.inferer = inferer
    (found,) = analyze(bundle, card, terms, case).detections
    bright = np.argwhere(case["ct"].array > 290)
    low, high = found.points.min(0), found.points.max(0)
    # The network saw it at 0.70 x 0.70 x 1.25 mm, where half a voxel more or less is a matter of rounding.
    rounding = 1.0 + np.array([1.25, 0.70, 0.70]) / np.array(case["ct"].spacing_mm) / 2
    np.testing.assert_array_less(np.abs(low - bright.min(0)), rounding)
    np.testing.assert_array_less(np.abs(high - bright.max(0)), rounding)


def test_every_bundle_of_the_checkout_stands_in_the_table():
    names = sorted((folder.name for folder in ZOO.iterdir() if folder.is_dir()), key=str.lower)
    assert sorted(names) == sorted((*CARDED, *BARE))
    assert CARDED.keys() == zoo_cards().keys()
    if FOUND.keys() != set(names):
        pytest.skip("not every bundle was tried in this run")
    MEASURED.parent.mkdir(exist_ok=True)
    MEASURED.write_text(page(names), encoding="utf-8")
    committed = rows(COMMITTED.read_text(encoding="utf-8")) if COMMITTED.is_file() else {}
    measured = rows(MEASURED.read_text(encoding="utf-8"))
    both = {name for name in names if not FOUND[name][1]}  # what lacks a package says nothing
    assert {n: committed.get(n) for n in both} == {n: measured[n] for n in both}, (
        f"the bundles do otherwise than {COMMITTED.relative_to(REPOSITORY)} says; if that is right: "
        f"cp {MEASURED.relative_to(REPOSITORY)} {COMMITTED.relative_to(REPOSITORY)}"
    )


HEAD = """# MONAI's Model Zoo on this node

What becomes of each bundle of the [Model Zoo](https://github.com/Project-MONAI/model-zoo). Every line
was measured by `tests/pipelines/zoo/test_zoo.py`, which fails when a bundle does otherwise than this page
says, and then names the command that renews it.

The networks had random weights: "works" means that the bundle's own preprocessing, network,
inferer and postprocessing ran on a small phantom and that the node takes what came out. It says nothing
of how good a model is. Where an architecture was searched and lies beside the weights, every path of the
search was taken. With a card: `radnode pipelines add` puts the card of this version beside the
bundle (`pipelines/zoo/`). Without one: the bundle was tried as it is, and the reason is named.

| bundle | version | card | result |
|---|---|---|---|
"""


def page(names: list[str]) -> str:
    return HEAD + "".join(f"{line(name)}\n" for name in names)


def line(name: str) -> str:
    version = json.loads((ZOO / name / "configs/metadata.json").read_text(encoding="utf-8"))["version"]
    card = "yes" if name in CARDED else f"no: {BARE[name].why}"
    found, lacks = FOUND[name]
    needs = {**CARDED, **BARE}[name].needs
    if lacks:
        found = f"not tried: {needs} is not installed"
    elif needs:
        found += f" (with {needs})"
    found = " ".join(found.split()).replace("|", "\\|").replace(str(ZOO), "")
    return f"| {name} | {version} | {card} | {found} |"


def rows(text: str) -> Mapping[str, str]:
    """Return bundle -> its line."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return {line.split("|")[1].strip(): line for line in lines}
