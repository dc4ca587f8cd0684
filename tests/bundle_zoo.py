"""Small bundles with the structure of the zoo's, one for every kind of input and output, known answers.

Each network has no weights: what it gives is a simple function of what it sees, so a test can say what
must come out. `ZOO` names them; `write` makes one with its card.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.contract import Card, read_card

HU, DISPLAY = "[hnsf'U]", "1"
SPHERE = 'kind = { value = "122485", scheme = "DCM", meaning = "Sphere" }'
OBJECT = 'category = { value = "260787004", scheme = "SCT", meaning = "Physical object" }'
FINDING = '{ value = "49755003", scheme = "SCT", meaning = "Morphologically Abnormal Structure" }'


def code(value: str, meaning: str, scheme: str = "99TEST") -> str:
    """Return a code as cards write it."""
    return f'{{ value = "{value}", scheme = "{scheme}", meaning = "{meaning}" }}'


def role(
    name: str, modality: str = "CT", unit: str = HU, kind: str = "volume", **more: str | int | bool
) -> str:
    """Return an input as cards write it."""
    lines = [f"[inputs.{name}]", f'modality = ["{modality}"]', f'unit = "{unit}"', f'kind = "{kind}"']
    return "\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in more.items())])


def find(table: str, label: str, *, category: bool = False) -> str:
    """Return an answer or a find as cards write it."""
    more = f"\ncategory = {FINDING}" if category else ""
    return f'[[bundle.{table}]]\nlabel = "{label}"\ncode = {code(label.upper()[:16], label)}{more}'


def load(key: str | list[str] = "image", **ensure: Any) -> list[dict[str, Any]]:
    """Return the two steps with which bundles begin."""
    return [
        {"_target_": "LoadImaged", "keys": key},
        {"_target_": "EnsureChannelFirstd", "keys": key, **ensure},
    ]


def invert(nearest: bool = True, key: str = "pred") -> dict[str, Any]:
    """Return the author's way back to the source grid."""
    return {
        "_target_": "Invertd",
        "keys": key,
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": nearest,
    }


def step(target: str, key: str | list[str] = "pred", /, **options: Any) -> dict[str, Any]:
    """Return one transform on dictionaries."""
    return {"_target_": target, "keys": key, **options}


def func(expression: str, key: str = "pred") -> dict[str, Any]:
    """Return a step that is an expression of x."""
    return step("Lambdad", key, func=f"$lambda x: {expression}")


SAVE = step("SaveImaged", output_dir="@output_dir")
RAS = step("Orientationd", "image", axcodes="RAS")
SPACING = step("Spacingd", "image", pixdim=[1.0, 1.0, 1.0], mode="bilinear")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What is written for one bundle."""

    inputs: Sequence[str]
    terms: str  #: TOML of [bundle]
    before: Any
    after: Any
    network: str = "x"  #: an expression of x, (batch, channels, ...), which the network returns
    segments: Sequence[str] = ()  #: labels
    detects: Sequence[str] = ()  #: labels
    measure: Sequence[str] = ("volume",)
    more: dict[str, Any] = field(default_factory=dict)  #: further parts of the configuration
    scripts: str = ""  #: further lines of scripts/net.py


def write(folder: Path, bundle: Bundle, name: str = "tiny") -> Card:
    """Write a bundle and its card, and return the card."""
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "scripts").mkdir(exist_ok=True)
    (folder / "scripts" / "__init__.py").write_text("")
    (folder / "scripts" / "net.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n"
        f"        return {bundle.network}\n{bundle.scripts}"
    )
    config = {
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0')",
        "network_def": {"_target_": "scripts.net.Net"},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": bundle.before},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {"_target_": "Compose", "transforms": bundle.after},
        "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network"},
        "evaluating": ["$@evaluator.run()"],
        **bundle.more,
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(config, indent=1))
    (folder / "configs" / "metadata.json").write_text('{"version": "1.0.0"}')
    lines = [
        f'name = "{name}"',
        'version = "1.0.0"',
        f'title = "Bundle {name}"',
        'maker = "tests"',
        'intended_use = "Tests."',
        'warning = "Made for tests."',
        'use = "pipelines.bundle:BundlePipeline"',
        f"measure = {json.dumps(list(bundle.measure))}",
        *bundle.inputs,
        "[bundle]",
        bundle.terms,
        *(
            f'[[segments]]\nnumber = {number}\nlabel = "{label}"\n{OBJECT}\n{SPHERE}'
            for number, label in enumerate(bundle.segments, start=1)
        ),
        *(
            f'[[detects]]\nvalue = "{label.upper()[:16]}"\nscheme = "99TEST"\nmeaning = "{label}"'
            for label in bundle.detects
        ),
    ]
    (folder / "card.toml").write_text("\n".join(lines) + "\n")
    return read_card(folder / "card.toml")


def _finds(*labels: str) -> str:
    return "\n".join(find("finds", label, category=True) for label in labels)


def _answers(*labels: str) -> str:
    return "\n".join(find("answers", label) for label in labels)


_QUESTION = f"question = {code('TYPE', 'Type')}\n"
_BOX_OF_BRIGHT = '''

def bright_box(images):
    """Return the box around what is above 0.5, as detectors do: [low, high] in voxels of the image."""
    given = []
    for image in images:
        at = (image[0] > 0.5).nonzero().float()
        if not len(at):
            none = torch.zeros(0)
            given.append({"box": torch.zeros(0, 6), "label": none.long(), "label_scores": none})
            continue
        box = torch.cat([at.min(0).values, at.max(0).values])[None]
        far = box + 1e5
        given.append({
            "box": torch.cat([box, box, far]),
            "label": torch.zeros(3).long(),
            "label_scores": torch.tensor([0.75, 0.25, 0.9]),
        })
    return given


class Inferer:
    def __call__(self, inputs, network, *args, **kwargs):
        return bright_box(network(inputs))
'''
_CENTRES = '''

class Inferer:
    """The centre of what is bright on each image of a cine, and a point that is never found."""

    def __call__(self, inputs, network, *args, **kwargs):
        seen = network(inputs)  # (1, 1, columns, rows, phases)
        points = []
        for phase in range(seen.shape[-1]):
            at = (seen[0, 0, ..., phase] > 0.7).nonzero().float()
            points.append(torch.stack([at.mean(0), torch.full((2,), float("nan"))], dim=1))
        return torch.stack(points)[None]  # (1, phases, axes, points)
'''
_LOOKS = """

def none(x, axes):
    return 0 * x.mean(axes)


def dark(x, axes):
    return -x.mean(axes)


def bright(x, axes):
    return 20 * (x - 0.8).relu().mean(axes)
"""
_CELLS = '''

def cells(x):
    """Number what is bright on a picture, and say its type: 2 where there is more red than green."""
    from scipy.ndimage import label
    import numpy as np
    image = np.asarray(x)
    numbers, count = label(image.max(0) > 100)
    types = np.where(image[0] > image[1], 2, 1) * (numbers > 0)
    return torch.as_tensor(numbers[None].astype(np.float32)), torch.as_tensor(types[None].astype(np.float32))


class Tell:
    keys = ("pred",)

    def __call__(self, item):
        from monai.data import MetaTensor
        numbers, types = cells(item["pred"])
        meta = dict(item["pred"].meta)
        maps = {"instance_map": numbers, "type_map": types}
        return {**item, **{key: MetaTensor(one, meta=meta) for key, one in maps.items()}}
'''

ZOO: dict[str, Bundle] = {
    # --- outlines of a volume ---
    "labels": Bundle(  # as spleen_ct_segmentation
        inputs=[role("ct")],
        terms='output = "labels"',
        before=[*load(), RAS],
        network="torch.cat([0 * x, x - 200.0], 1)",
        after=[step("Activationsd", softmax=True), invert(False), step("AsDiscreted", argmax=True), SAVE],
        segments=["Bright"],
        measure=["volume", "mean"],
    ),
    "one-hot": Bundle(
        inputs=[role("ct")],
        terms='output = "one-hot"',
        before=[*load(), RAS],
        network="torch.cat([0 * x, x - 200.0, x + 500.0 - 1e6 * (x > 200)], 1)",
        after=[invert(), step("AsDiscreted", argmax=True, to_onehot=3), SAVE],
        segments=["Bright", "Body"],
    ),
    "channels": Bundle(  # as brats_mri_segmentation: four series are channels, outlines overlap
        inputs=[role(name, "MR", DISPLAY) for name in ("t1c", "t1", "t2", "flair")],
        terms='output = "channels"',
        before=[*load(), step("NormalizeIntensityd", "image", nonzero=True, channel_wise=True)],
        network="torch.stack([x[:, 3] - 1.0, x[:, 3] + 0.0], 1)",
        after=[step("Activationsd", sigmoid=True), invert(False), step("AsDiscreted", threshold=0.5), SAVE],
        segments=["Core", "Whole"],
    ),
    "probabilities": Bundle(
        inputs=[role("ct")],
        terms='output = "probabilities"\nthreshold = 0.6',
        before=[*load(), RAS],
        network="(x + 1000.0) / 2000.0",
        after=[invert(False), func("x.clamp(0, 1)"), SAVE],
        segments=["Dense"],
    ),
    "network-space": Bundle(  # nothing takes the labels back to the source
        inputs=[role("ct")],
        terms='output = "labels"',
        before=[*load(), RAS, SPACING],
        network="(x > 200).float()",
        after=[SAVE],
        segments=["Bright"],
    ),
    "image": Bundle(
        inputs=[role("ct")],
        terms=f'output = "image"\nunit = {code(HU, "Hounsfield unit", "UCUM")}\n'
        f'map = {{ label = "Denoised", code = {code("DENOISED", "Denoised image")} }}',
        before=[*load(), RAS],
        network="x * 0.5",
        after=[invert(False), SAVE],
    ),
    # --- several inputs ---
    "two-keys": Bundle(  # as a prostate bundle: T2 and a map of another grid
        inputs=[role("t2", "MR", DISPLAY), role("adc", "MR", DISPLAY, grid="resample")],
        terms='output = "labels"\n[bundle.keys]\nt2 = "image"\nadc = "adc"',
        before=[*load(["image", "adc"]), step("ConcatItemsd", ["image", "adc"], name="image")],
        network="x[:, 1:]",
        after=[step("AsDiscreted", threshold=400.0), SAVE],
        segments=["Bright"],
    ),
    "prior": Bundle(
        inputs=[role("current"), role("before", study="prior", grid="any")],
        terms=f'output = "scores"\n{_answers("Growth")}\n[bundle.keys]\ncurrent = "image"\nbefore = "before"',
        before=[
            *load(["image", "before"]),
            func("(x > 200).float()", "image"),
            func("(x > 200).float()", "before"),
            {"_target_": "scripts.net.Compare", "keys": ["image", "before"]},
        ],
        network="x.flatten(1).mean(1, keepdim=True)",
        after=[],
        scripts='''

class Compare:
    """Growth where the bright part has more millilitres than before."""

    def __init__(self, keys):
        self.keys = keys

    def __call__(self, item):
        voxel = [abs(torch.linalg.det(item[key].affine[:3, :3])) for key in self.keys]
        now, before = (item[key].sum() * one for key, one in zip(self.keys, voxel))
        return {**item, "image": torch.zeros_like(item["image"]) + (0.9 if now > 1.2 * before else 0.2)}
''',
    ),
    "chained": Bundle(
        inputs=[role("ct"), '[inputs.lungs]\nresult = "lung-density"\nmodality = ["SEG"]\nunit = "1"'],
        terms='output = "labels"',
        before=[*load(), RAS],
        network="(x[:, :1] > 200) * (x[:, 1:] == 1).float()",
        after=[invert(), SAVE],
        segments=["Bright in the first"],
    ),
    # --- pictures ---
    "density": Bundle(  # as breast_density_classification
        inputs=[role("view", "MG", DISPLAY, "planes")],
        terms='output = "scores"\ncolour = "rgb255"\nexplain = "occlusion"\n'
        f"{_QUESTION}{_answers('Fatty', 'Scattered', 'Heterogeneous', 'Dense')}",
        before=[
            *load(channel_dim=2),
            step("ScaleIntensityd", "image", minv=0.0, maxv=1.0),
            step("Resized", "image", spatial_size=[32, 32]),
        ],
        network="torch.stack([f(x, (1, 2, 3)) for f in (none, dark, bright, none)], 1)",
        scripts=_LOOKS,
        after=[step("Activationsd", sigmoid=True)],
    ),
    "in-body": Bundle(  # as endoscopic_inbody_classification: a decision, frame by frame
        inputs=[role("video", "ES", DISPLAY, "planes")],
        terms=f'output = "scores"\ncolour = "rgb255"\n{_QUESTION}{_answers("In body", "Out of body")}',
        before=[*load(channel_dim=-1), step("Resized", "image", spatial_size=[16, 16], mode="bilinear")],
        network="torch.stack([x[:, 0].mean((1, 2)), x[:, 1].mean((1, 2))], 1)",
        after=[step("AsDiscreted", argmax=True, to_onehot=2)],
    ),
    "tools": Bundle(  # as endoscopic_tool_segmentation
        inputs=[role("video", "ES", DISPLAY, "planes")],
        terms='output = "channels"\ncolour = "rgb255"',
        before=[
            *load(channel_dim=-1),
            step("Resized", "image", spatial_size=[48, 64], mode="nearest"),
            step("ScaleIntensityd", "image"),
        ],
        network="torch.stack([0.5 + 0 * x[:, 0], x[:, 2]], 1)",
        after=[invert(False), step("AsDiscreted", argmax=True, to_onehot=2), func("x[1:]"), SAVE],
        segments=["Tool"],
        measure=["area"],
    ),
    "cells": Bundle(  # as pathology_nuclei_segmentation_classification
        inputs=[role("tile", "ES", DISPLAY, "planes")],
        terms=f'output = "instances"\ncolour = "rgb255"\n{_finds("Green cell", "Red cell")}',
        before=load(channel_dim=-1),
        after=[
            {"_target_": "scripts.net.Tell"},
            step("SaveImaged", "instance_map", output_dir="@output_dir"),
            step("SaveImaged", "type_map", output_dir="@output_dir"),
        ],
        scripts=_CELLS,
        detects=["Green cell", "Red cell"],
    ),
    # --- time ---
    "ventricle": Bundle(  # as ventricular_short_axis_3label: each phase a volume, slice by slice
        inputs=[role("cine", "MR", DISPLAY, "cine")],
        terms='output = "labels"',
        before=[*load(), step("ScaleIntensityd", "image")],
        network="torch.cat([0.7 + 0 * x, x], 1)",
        more={"inferer": {"_target_": "SliceInferer", "roi_size": [32, 32], "spatial_dim": 2}},
        after=[invert(False), step("AsDiscreted", argmax=True), SAVE],
        segments=["Left ventricle"],
        measure=["volume", "lv-edv", "lv-esv", "ejection-fraction"],
    ),
    "valves": Bundle(  # as valve_landmarks: all phases at once, transforms on arrays
        inputs=[role("cine", "MR", DISPLAY, "cine", slices_max=1)],
        terms='output = "points"\neach = "case"\nframe = "source"\npoints_first = false\n'
        f"{_finds('Annulus', 'Never')}",
        before=[
            {"_target_": "LoadImage", "image_only": "true"},
            {"_target_": "Transpose", "indices": [2, 0, 1, 3]},
            {"_target_": "ScaleIntensity"},
        ],
        more={"inferer": {"_target_": "scripts.net.Inferer"}},
        after=[],
        scripts=_CENTRES,
        detects=["Annulus", "Never"],
    ),
    "rhythm": Bundle(  # a twelve-lead ECG, several answers at once
        inputs=[role("ecg", "ECG", "uV", "waveform")],
        terms=f'output = "scores"\n{_answers("Strong", "Weak")}',
        before=[step("EnsureTyped", "image")],
        network="torch.stack([x.abs().amax((1, 2)) - 500.0, 500.0 - x.abs().amax((1, 2))], 1) / 200.0",
        after=[step("Activationsd", sigmoid=True)],
    ),
    # --- things pointed at ---
    "nodules": Bundle(  # as lung_nodule_ct_detection: boxes in millimetres of the patient
        inputs=[role("ct")],
        terms=f'output = "boxes"\nframe = "lps-mm"\nbox_mode = "cccwhd"\n{_finds("Nodule")}',
        before=[
            *load(),
            RAS,
            step("ScaleIntensityRanged", "image", a_min=0.0, a_max=400.0, b_min=0.0, b_max=1.0, clip=True),
        ],
        more={
            "inferer": {"_target_": "scripts.net.Inferer"},
            "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network"},
        },
        after=[
            {
                "_target_": "AffineBoxToWorldCoordinated",
                "box_keys": "box",
                "box_ref_image_keys": "image",
                "affine_lps_to_ras": True,
            },
            {"_target_": "ConvertBoxModed", "box_keys": "box", "src_mode": "xyzxyz", "dst_mode": "cccwhd"},
            {"_target_": "DeleteItemsd", "keys": ["image"]},
        ],
        scripts=_BOX_OF_BRIGHT,
        detects=["Nodule"],
    ),
    "landmark": Bundle(  # one point in a volume, as voxels of what the network saw
        inputs=[role("ct")],
        terms=f'output = "points"\nframe = "network"\n{_finds("Centre")}',
        before=[*load(), RAS, SPACING],
        network="torch.stack([(one[0] > 200).nonzero().float().mean(0) for one in x])[:, None]",
        after=[],
        detects=["Centre"],
    ),
}


def write_zoo(folder: Path, name: str) -> Card:
    """Write the bundle of `ZOO` with this name into a folder, and return its card."""
    return write(folder, ZOO[name], name)
