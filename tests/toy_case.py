"""Toy pipelines of several series, and the small series that they take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipelines.contract import folder_digest
from tests import phantoms

ROLES = ("t1", "t1c", "t2", "flair")
#: What the scanner calls them; "T1 post C" fits what is asked of t1 as well.
DESCRIPTIONS = {"t1": "T1 ax", "t1c": "T1 post C", "t2": "T2 ax", "flair": "FLAIR ax"}
NUMBERS = {"t1": 3, "t1c": 7, "t2": 4, "flair": 5}

_HEAD = """\
name = "{name}"
version = "1.0.0"
title = "Toy for tests: how many voxels of each input are bright"
maker = "radnode tests"
intended_use = "Tests of the node. Not for any patient."
use = "{folder}.pipeline:Count"
warning = "A toy for tests."
"""

TUMOUR = _HEAD.format(name="toy-tumour", folder="toy_tumour") + "".join(
    f"""
[inputs.{role}]
modality = ["MR"]
unit = "1"
slices_min = 1
grid = "any"
[inputs.{role}.select]
SeriesDescription = "{pattern}"
"""
    for role, pattern in {"t1": "T1*", "t1c": "T1*C", "t2": "T2*", "flair": "*FLAIR*"}.items()
)

CHANGE = (
    _HEAD.format(name="toy-change", folder="toy_change")
    + """
[inputs.current]
modality = ["CT"]
kind = "planes"
unit = "1"
grid = "any"
select = { ImageType = { has = "ORIGINAL" } }

[inputs.prior]
modality = ["CT"]
kind = "planes"
unit = "1"
study = "prior"
grid = "any"
select = { ImageType = { has = "ORIGINAL" } }
"""
)

CODE = '''\
"""How many voxels of each input are above 100."""

from pipelines.contract import Code, Findings, Measurement


class Count:
    def __init__(self, card):
        self.card = card

    def load(self, device):
        pass

    def check(self, case):
        pass

    def analyze(self, case):
        count = Code("1", "UCUM", "no units")
        return Findings(
            measurements=tuple(
                Measurement(
                    name=Code(f"99{number}", "99RADNODE", f"Bright in {role}"),
                    value=float((case[role].array > 100).sum()),
                    unit=count,
                )
                for number, role in enumerate(self.card.inputs)
            )
        )
'''


def install(folder: Path, card: str) -> str:
    """Write a toy pipeline; return the ``[pipelines.<name>]`` table that approves it."""
    name = card.split('"')[1]
    place = folder / name.replace("-", "_")
    place.mkdir(parents=True)
    (place / "card.toml").write_text(card, encoding="utf-8")
    (place / "pipeline.py").write_text(CODE, encoding="utf-8")
    return f'[pipelines.{name}]\nfolder = "{place.name}"\nsha256 = "{folder_digest(place)}"\n'


def write_mr(folder: Path, role: str, *, study: str = "study", slices: int = 3, **more: object) -> list[Path]:
    """Write one of the series of a study; as many bright voxels as its Series Number."""
    headers = {
        "StudyInstanceUID": phantoms.uid_of(study),
        "SeriesDescription": DESCRIPTIONS[role],
        "SeriesNumber": NUMBERS[role],
        "FrameOfReferenceUID": phantoms.uid_of(study, "frame of reference"),
        **more,
    }
    array = np.zeros((slices, 8, 8), dtype=np.int16)
    array[0].flat[: NUMBERS[role]] = 500
    seed = f"{study} {role} {more.get('SeriesNumber', '')}"
    return phantoms.write_mr_series(folder, array, phantoms.make_affine(), seed=seed, headers=headers)


def write_ct(folder: Path, date: str | None, *, number: int = 2, **more: object) -> list[Path]:
    """Write the only series of a study of that day."""
    headers: Mapping[str, object] = {"StudyDate": date, "SeriesNumber": number, **more}
    array = np.full((2, 8, 8), -1000, dtype=np.int16)
    array[0].flat[:number] = 500
    seed = f"{date} {number} {sorted(more.items())}"
    return phantoms.write_ct_series(folder, array, phantoms.make_affine(), seed=seed, headers=headers)
