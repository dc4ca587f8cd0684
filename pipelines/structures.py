"""Organs and lesions by name, with their codes: what a card says as ``structure = "kidney_left"``.

The table is ``structures.csv``. Codes are those of PS3.16, mostly of CID 7151; a test looks every
one up in pydicom's copy of the standard. Which side a paired organ lies on is a modifier
(CID 244), never part of the kind, unless the standard itself knows only the sided concept (Left
atrium). What PS3.16 has no concept for bears a code of our own scheme, 99RADNODE. Names that are
common in published models are kept, so that a label list can be copied into a card.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipelines.codes import ANATOMICAL_STRUCTURE, LEFT, MORPHOLOGICALLY_ABNORMAL, RIGHT
from pipelines.concept import Code

#: CID 7150
CATEGORIES = {
    "anatomy": ANATOMICAL_STRUCTURE,
    "abnormal": MORPHOLOGICALLY_ABNORMAL,
    "tissue": Code("85756007", "SCT", "Tissue"),
    "substance": Code("91720002", "SCT", "Body Substance"),
    "object": Code("260787004", "SCT", "Physical object"),
}
SIDES = {"left": LEFT, "right": RIGHT, "": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One row of the table, in the words of `pipelines.contract.Segment`."""

    name: str
    label: str
    category: Code
    kind: Code
    laterality: Code | None
    anatomic_region: Code | None  #: where a lesion lies, if its name says so
    colour_rgb: tuple[int, int, int]


def structure(name: str) -> Structure:
    """Return a structure by its name.

    Raises
    ------
    ValueError
        There is none of this name; the sentence suggests similar ones.
    """
    known = structures()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"there is no structure {name!r} in the table{hint}")
    return known[name]


@cache
def structures() -> Mapping[str, Structure]:
    """Return the whole table, by name."""
    with Path(__file__).with_name("structures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kinds = {row["name"]: Code(row["code"], row["scheme"], row["meaning"]) for row in rows}
    # A lesion of a paired organ lies in the organ; on which side, its card or its finding says.
    organs = {name.removesuffix("_left").removesuffix("_right"): kind for name, kind in kinds.items()}
    return {
        row["name"]: Structure(
            name=row["name"],
            label=row["label"],
            category=CATEGORIES[row["category"]],
            kind=kinds[row["name"]],
            laterality=SIDES[row["laterality"]],
            anatomic_region=organs[row["region"]] if row["region"] else None,
            colour_rgb=(
                int(row["colour"][1:3], 16),
                int(row["colour"][3:5], 16),
                int(row["colour"][5:7], 16),
            ),
        )
        for row in rows
    }
