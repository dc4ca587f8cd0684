"""MONAI's Model Zoo: every published inference configuration works, or is refused with a reason.

Networks have random weights, so this says nothing of results; it says that the runner understands
what real authors write. Run it with ``RADNODE_ZOO=<checkout of Project-MONAI/model-zoo> pytest -m zoo``.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from pipelines.bundle.files import Files
from pipelines.bundle.load import load
from pipelines.bundle.run import BundleFailed, run
from pipelines.bundle.terms import Terms
from pipelines.contract import Card, CardError, InputSpec

ZOO = Path(os.environ.get("RADNODE_ZOO", "")) / "models"
pytestmark = [
    pytest.mark.zoo,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (os.environ.get("RADNODE_ZOO") and ZOO.is_dir()),
        reason="RADNODE_ZOO names no checkout of Project-MONAI/model-zoo",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Dry:
    """How one bundle is tried: what goes in, what its card must say, what comes out or is told."""

    shape: tuple[int, ...] = (24, 24, 16)  #: of the image, in the author's order of axes
    channels: int = 1
    keys: tuple[str, ...] = ("image",)  #: of the images
    card: Mapping[str, Any] = field(default_factory=dict)  #: what the card must say for it to run at all
    smaller: Mapping[str, Any] = field(default_factory=dict)  #: overrides for the sake of a quick try
    needs: str = ""  #: a package that is no dependency of the node; without it, its name is told
    is_searched: bool = False  #: the network's architecture is in a file of its own
    gives: tuple[int, ...] | tuple[str, ...] = ()  #: shape of the answer, or its keys
    refused: str = ""  #: the reason, a regular expression


def roi(edge):
    return {"inferer::roi_size": [edge, edge, edge]}


PLAIN = {"evaluator::_target_": "SupervisedEvaluator"}
NOT_PRETRAINED = {"overrides": {"network_def::pretrained": False}}
PROMPTS = (
    "$lambda batch, device, _: (batch['image'].to(device), None, (), {'point_coords': None, "
    "'point_labels': None, 'class_vector': torch.tensor(@everything_labels, device=device)[:, None]})"
)
VOLUME = (1, 24, 24, 16)
COLOUR = {"shape": (300, 280), "channels": 3}
TRIES = {
    "spleen_ct_segmentation": Dry(smaller=roi(32), gives=VOLUME),
    "wholeBody_ct_segmentation": Dry(smaller=roi(32), gives=VOLUME),
    "swin_unetr_btcv_segmentation": Dry(
        card={"remove": ("network_def::img_size",)}, smaller=roi(64), gives=VOLUME
    ),
    "multi_organ_segmentation": Dry(smaller=roi(32), is_searched=True, gives=VOLUME),
    "pancreas_ct_dints_segmentation": Dry(smaller=roi(32), is_searched=True, gives=VOLUME),
    "pediatric_abdominal_ct_segmentation": Dry(smaller=roi(32), gives=VOLUME),
    "renalStructures_CECT_segmentation": Dry(
        keys=("artery", "vein", "excret"), smaller=roi(32), gives=VOLUME
    ),
    "renalStructures_UNEST_segmentation": Dry(gives=VOLUME),
    "wholeBrainSeg_Large_UNEST_segmentation": Dry(gives=VOLUME),
    "brats_mri_segmentation": Dry(channels=4, smaller=roi(32), gives=VOLUME),
    "prostate_mri_anatomy": Dry(
        card={"overrides": {"postprocessing::transforms::2::nearest_interp": True}},
        smaller=roi(32),
        gives=VOLUME,
    ),
    "ventricular_short_axis_3label": Dry(shape=(64, 64, 3), gives=(1, 64, 64, 3)),
    "segmentation_template": Dry(gives=VOLUME),
    "classification_template": Dry(shape=(64, 64), gives=(4,)),
    "spleen_deepedit_annotation": Dry(gives=VOLUME),  # without a click
    "vista3d": Dry(
        card={"overrides": {**PLAIN, "evaluator::prepare_batch": PROMPTS}},
        smaller={"patch_size": [64, 64, 64], "everything_labels": [1, 3]},
        gives=VOLUME,
    ),
    "lung_nodule_ct_detection": Dry(
        shape=(64, 64, 32),
        card={"overrides": PLAIN},
        needs="torchvision",
        gives=("box", "label", "label_scores"),
    ),
    "breast_density_classification": Dry(**COLOUR, card=NOT_PRETRAINED, needs="torchvision", gives=(4,)),
    "endoscopic_inbody_classification": Dry(**COLOUR, gives=(2,)),
    "endoscopic_tool_segmentation": Dry(**COLOUR, gives=(1, 300, 280)),
    "valve_landmarks": Dry(
        shape=(256, 256, 1, 2),
        card={"overrides": {"network_def::_requires_": "$setattr(np, 'product', np.prod)"}},
        gives=(2, 2, 10),
    ),
    # Whole-slide images are outside of what a node is given.
    "pathology_tumor_detection": Dry(
        shape=(224, 224), channels=3, card=NOT_PRETRAINED, needs="torchvision", gives=(1, 1, 1, 1)
    ),
    "pathology_nuclei_classification": Dry(shape=(64, 64), channels=3, needs="sklearn", refused="label"),
    "pathology_nuclei_segmentation_classification": Dry(
        shape=(256, 256), channels=3, needs="tqdm", gives=("instance_map", "type_map")
    ),
    "pathology_nuclick_annotation": Dry(shape=(128, 128), channels=3, refused="click points"),
    "vista2d": Dry(shape=(64, 64), channels=3, refused="SAM is not installed"),
    # They make images.
    "brats_mri_generative_diffusion": Dry(refused="takes a latent or noise"),
    "brats_mri_axial_slices_generative_diffusion": Dry(refused="takes a latent or noise"),
    "maisi_ct_generative": Dry(refused="has no network"),
    "mednist_gan": Dry(refused="takes a latent or noise"),
    # Its data set, which a node never builds, joins two images.
    "mednist_reg": Dry(shape=(64, 64), refused="network failed.*to have 2 channels"),
}
TABLE: dict[str, str] = {}


def image_like(dry):
    generator = torch.Generator().manual_seed(7)
    array = torch.rand((dry.channels, *dry.shape), generator=generator) * 800 - 400
    meta = {"original_channel_dim": 0, "filename_or_obj": "image", "spatial_shape": np.array(dry.shape)}
    return MetaTensor(array, affine=torch.diag(torch.tensor([1.5, 1.5, 1.5, 1.0])), meta=meta)


def architecture(path):
    """Write what a search of an architecture leaves: numpy arrays, every path taken."""
    arrays = {"node_a": np.ones((13, 4)), "arch_code_a": np.ones((12, 10)), "arch_code_c": np.ones((12, 10))}
    torch.save({key: array.astype(np.int64) for key, array in arrays.items()}, path)
    return {"arch_ckpt_path": str(path)}


def outcome(name, folder):
    """Return what came out of one bundle, as a shape or as keys; or the sentence that refused it."""
    dry = TRIES[name]
    root = ZOO / name
    config = next(
        p for p in (root / "configs/inference.json", root / "configs/inference.yaml") if p.is_file()
    )
    searched = architecture(folder / "arch.pt") if dry.is_searched else {}
    overrides = {**dry.card.get("overrides", {}), **dry.smaller, **searched}
    terms = Terms(output="labels", remove=dry.card.get("remove", ()), overrides=overrides)
    spec = InputSpec(modality=("CT",), unit="[hnsf'U]")
    card = Card(
        name=name,
        version="1",
        title=name,
        maker="tests",
        intended_use="Tests.",
        use="pipelines.bundle:BundlePipeline",
        inputs={"ct": spec},
        folder=root,
    )
    files = Files(root=root, metadata=root / "configs/metadata.json", configs=(config,), weights=None)
    try:
        bundle = load(card, terms, files, torch.device("cpu"), is_untrained=True)
        answer = run(bundle, {key: image_like(dry) for key in dry.keys}).pred
    except (CardError, BundleFailed) as error:
        return str(error).removeprefix(f"{name}: ")
    return tuple(sorted(answer)) if isinstance(answer, Mapping) else tuple(answer.shape)


@pytest.mark.parametrize("name", TRIES)
def test_a_bundle_of_the_zoo_works_or_is_refused_with_a_reason(name, tmp_path):
    dry = TRIES[name]
    found = outcome(name, tmp_path)
    gc.collect()
    TABLE[name] = f"refused: {found}" if isinstance(found, str) else f"works: {found}"
    if dry.needs and find_spec(dry.needs) is None:
        assert isinstance(found, str) and dry.needs in found
    elif dry.refused:
        assert isinstance(found, str) and re.search(dry.refused, found), found
    else:
        assert found == dry.gives


def test_every_bundle_of_the_checkout_was_tried(capsys):
    with capsys.disabled():
        print()
        for name, told in TABLE.items():
            print(f"{name:<48} {told[:220]}")
    assert {folder.name for folder in ZOO.iterdir() if folder.is_dir()} == TRIES.keys()
