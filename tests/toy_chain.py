"""Toy pipelines that use each other's results: bright things, what is in them, what is in that."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipelines.contract import folder_digest

_CARD = """\
name = "{name}"
version = "{version}"
title = "Toy for tests: voxels above {above} HU{inside}"
maker = "radnode tests"
intended_use = "Tests of the node. Not for any patient."
use = "{folder}.pipeline:Above"
warning = "A toy for tests."

[parameters]
above = {above}
refuse_below = {refuse_below}

[inputs.ct]
modality = ["CT"]
unit = "[hnsf'U]"
slices_min = 2
{needs}
[[segments]]
number = 1
label = "Left half"
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
kind = {{ value = "85756007", scheme = "SCT", meaning = "Tissue" }}
laterality = {{ value = "7771000", scheme = "SCT", meaning = "Left" }}

[[segments]]
number = 2
label = "Right half"
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
kind = {{ value = "85756007", scheme = "SCT", meaning = "Tissue" }}
laterality = {{ value = "24028007", scheme = "SCT", meaning = "Right" }}
"""

_NEEDS = """
[inputs.inside]
result = "{result}"
segments = {segments}
"""

CODE = '''\
"""Voxels above a threshold and, where that is an input, inside of what another pipeline outlined."""

import numpy as np

from pipelines.contract import Code, Findings, InputRefused, Measurement


class Above:
    def __init__(self, card):
        self.card = card

    def load(self, device):
        pass

    def check(self, case):
        if case["ct"].array.shape[0] < self.card.parameters["refuse_below"]:
            raise InputRefused("too-little", "There is too little to see.")

    def analyze(self, case):
        image = case["ct"]
        found = image.array > self.card.parameters["above"]
        if "inside" in case:
            inside = case["inside"]
            assert (inside.modality, inside.unit.value, inside.array.dtype) == ("SEG", "1", np.float32)
            found &= inside.array > 0
        half = found.shape[2] // 2
        labelmap = found.astype(np.uint8)
        labelmap[:, :, :half][found[:, :, :half]] = 2
        told = [
            Measurement(
                name=Code("118565006", "SCT", "Volume"),
                value=float((labelmap == number).sum()) * image.voxel_ml,
                unit=Code("mL", "UCUM", "milliliter"),
                segment=number,
                check="volume",
            )
            for number in (1, 2)
        ]
        if "inside" in case:
            told += [
                Measurement(
                    name=Code(f"99{value}", "99RADNODE", f"Voxels given as {value}"),
                    value=float((case["inside"].array == value).sum()),
                    unit=Code("1", "UCUM", "no units"),
                )
                for value in (1, 2)
            ]
        return Findings(
            labelmap=labelmap, affine=image.affine, segments=self.card.segments, measurements=tuple(told)
        )
'''


def card(
    name: str,
    needs: str = "",
    *,
    above: int = 0,
    segments: Iterable[str] = (),
    version: str = "1.0.0",
    refuse_below: int = 0,
) -> str:
    """Return a card; ``needs`` is the pipeline whose result it takes."""
    return _CARD.format(
        name=name,
        version=version,
        above=above,
        refuse_below=refuse_below,
        folder=name.replace("-", "_"),
        inside=f", inside of {needs}" if needs else "",
        needs=_NEEDS.format(result=needs, segments=list(segments)) if needs else "",
    )


def install(folder: Path, *cards: str) -> str:
    """Write toy pipelines, in place of those of the same name; return the tables that approve them."""
    tables = ""
    for one in cards:
        name = one.split('"')[1]
        place = folder / name.replace("-", "_")
        place.mkdir(parents=True, exist_ok=True)
        (place / "card.toml").write_text(one, encoding="utf-8")
        (place / "pipeline.py").write_text(CODE, encoding="utf-8")
        tables += f'[pipelines.{name}]\nfolder = "{place.name}"\nsha256 = "{folder_digest(place)}"\n'
    return tables


def rule(pipeline: str, *send_to: str, name: str = "", more: str = "") -> str:
    """Return a rule that gives every original CT to a pipeline."""
    return (
        f'[[rules]]\nname = "{name or pipeline}"\npipeline = "{pipeline}"\nsend_to = {list(send_to)}\n'
        f'[rules.match]\nModality = "CT"\nImageType = {{ has = "ORIGINAL" }}\n{more}\n'
    )
