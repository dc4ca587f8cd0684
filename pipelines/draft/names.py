"""What a bundle calls a structure, and its name in ``structures.csv``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from pipelines.structures import structures

#: How alike the letters have to be for a name to be suggested.
LEAST_ALIKE: Final = 0.84
_SIDES: Final = frozenset({"left", "right"})
#: Abbreviations that label lists are full of. What they stand for is still to be confirmed.
_SHORT: Final = {
    "ivc": "inferior vena cava",
    "svc": "superior vena cava",
    "lv": "left ventricle",
    "rv": "right ventricle",
    "la": "left atrium",
    "ra": "right atrium",
    "tumour": "tumor",
}


def match(name: str) -> tuple[str, bool] | None:
    """Return the structure that a name means and whether that is certain; None where none is like it.

    Certain: the same words, in whatever order. A side is never guessed: a name with "left" only fits a
    structure with "left".
    """
    words = _words(name)
    if not words:
        return None
    table = _table()
    if exact := table.get(_key(words)):
        return exact, True
    if exact := table.get(_key([one.removesuffix("s") for one in words])):
        return exact, False
    longer = [word for one in words for word in _SHORT.get(one, one).split()]
    if exact := table.get(_key(longer)):
        return exact, False
    sides = _SIDES & {*longer}
    candidates = [key for key in table if _SIDES & {*key.split()} == sides]
    near = difflib.get_close_matches(_key(longer), candidates, n=1, cutoff=LEAST_ALIKE)
    return (table[near[0]], False) if near else None


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def _key(words: list[str]) -> str:
    return " ".join(sorted(words))


@cache
def _table() -> Mapping[str, str]:
    """Return the words of each structure's name, and of its label, in order of the alphabet -> its name."""
    found: dict[str, str] = {}
    for name, row in structures().items():
        found.setdefault(_key(_words(row.label)), name)
    return {**found, **{_key(_words(name)): name for name in structures()}}


def slug(name: str, taken: frozenset[str] | set[str] = frozenset()) -> str:
    """Return a name as a role of a card: lower case, words joined by ``_``, not one of those taken."""
    made = "_".join(_words(name))[:32] or "image"
    made = f"input_{made}" if made[0].isdecimal() else made
    number = 2
    chosen = made
    while chosen in taken:
        chosen, number = f"{made}_{number}", number + 1
    return chosen
