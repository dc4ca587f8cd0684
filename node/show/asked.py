"""What a query asks for, taken apart: PS3.18 8.3.4 and Table 10.6.1-2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from node.show.matching import Demand, Unusable, demand
from node.show.resource import Problem

#: Tags from the data set to an element: more than one leads through sequences.
Place = tuple[int, ...]

#: Rows of one answer; who wants more asks with an offset.
MOST_ROWS: Final = 5000
_MOST_PARAMETERS: Final = 200
_DEEPEST: Final = 8
_NO_ATTRIBUTES: Final = frozenset({"accept", "charset", "includefield", "limit", "offset"})
_NOT_SUPPORTED: Final = {
    "fuzzymatching": "The fuzzymatching parameter is not supported; only literal matching was performed.",
    "emptyvaluematching": "The emptyvaluematching parameter is not supported.",
    "multiplevaluematching": "The multiplevaluematching parameter is not supported.",
}
#: Levels whose attributes cannot be searched for above them.
_INSTANCE_KEYS: Final = frozenset({0x00080018, 0x00080016})


@dataclass(kw_only=True)
class Asked:
    """A query."""

    demands: dict[Place, Demand] = field(default_factory=dict)
    uids: dict[int, frozenset[str]] = field(default_factory=dict)  #: tag -> UIDs of which it is to be one
    include: list[Place] = field(default_factory=list)  #: beside those that are always told
    everything: bool = False  #: ``includefield=all``
    limit: int = MOST_ROWS
    offset: int = 0
    warnings: list[str] = field(default_factory=list)


def asked(parameters: Sequence[tuple[str, str]], level: str) -> Asked:
    """Take the parameters of a query apart.

    Parameters
    ----------
    level
        "studies", "series" or "instances": what is searched.

    Raises
    ------
    Problem
        400, with a sentence that names the parameter.
    """
    if len(parameters) > _MOST_PARAMETERS:
        raise Problem(400, f"A query has at most {_MOST_PARAMETERS} parameters.")
    told = Asked()
    seen: set[str] = set()
    for name, value in parameters:
        if name == "includefield":
            _include(told, value)
            continue
        if name in seen:
            raise Problem(400, f"{_shown(name)} is asked for more than once.")
        seen.add(name)
        if name in ("limit", "offset"):
            _page(told, name, value)
        elif name in _NOT_SUPPORTED:
            if value.lower() not in ("true", "false"):
                raise Problem(400, f"{name} is to be true or false.")
            if value.lower() == "true":
                told.warnings.append(_NOT_SUPPORTED[name])
        elif name not in _NO_ATTRIBUTES:
            _match(told, name, value, level)
    return told


def place_of(name: str) -> Place:
    """Return where an attribute stands that is named by keyword or tag, dots leading into sequences.

    Raises
    ------
    Problem
        400: there is no such attribute.
    """
    place = []
    pieces = name.split(".")
    for number, piece in enumerate(pieces):
        if re.fullmatch("[0-9a-fA-F]{8}", piece):
            tag = int(piece, 16)
        elif (found := tag_for_keyword(piece)) is not None:
            tag = int(found)
        else:
            raise Problem(400, f"{_shown(name)} is neither the keyword nor the tag of an attribute.")
        if number < len(pieces) - 1 and _vr_of(tag) != "SQ":
            raise Problem(400, f"{_shown(name)} does not lead through a sequence.")
        place.append(tag)
    if len(place) > _DEEPEST:
        raise Problem(400, f"Attributes are searched for in at most {_DEEPEST} sequences.")
    return tuple(place)


def name_of(place: Iterable[int]) -> str:
    """Return the name of an attribute for people."""
    return ".".join(keyword_for_tag(tag) or f"{tag:08X}" for tag in place)


def _match(told: Asked, name: str, value: str, level: str) -> None:
    place = place_of(name)
    vr = _vr_of(place[-1])
    if place in told.demands or place in told.include:
        raise Problem(400, f"{name_of(place)} is asked for more than once.")
    if level != "instances" and place[0] in _INSTANCE_KEYS:
        raise Problem(400, f"{name_of(place)} is of instances; search for it among these.")
    try:
        wanted = demand(value, vr)
    except Unusable as error:
        raise Problem(400, f"{name_of(place)} {error}.") from None
    told.include.append(place)  # what was searched for is told (PS3.18 10.6.3.3)
    if wanted is not None:
        told.demands[place] = wanted
        if vr == "UI" and len(place) == 1:
            told.uids[place[0]] = frozenset(one.strip() for one in re.split(r"[,\\]", value))


def _include(told: Asked, value: str) -> None:
    for name in value.split(","):
        if name.strip() == "all":
            told.everything = True
        elif name.strip():
            told.include.append(place_of(name.strip()))
    if len(told.include) > _MOST_PARAMETERS:
        raise Problem(400, f"At most {_MOST_PARAMETERS} attributes can be included.")


def _page(told: Asked, name: str, value: str) -> None:
    if not re.fullmatch("[0-9]{1,9}", value):
        raise Problem(400, f"{name} is to be a whole number from 0 up.")
    if name == "offset":
        told.offset = int(value)
    else:
        told.limit = min(int(value), MOST_ROWS)


def _vr_of(tag: int) -> str:
    try:
        return dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return ""


def _shown(name: str) -> str:
    """Return a parameter's name as it may stand in a sentence: nothing in it can be taken for markup."""
    plain = "".join(
        letter for letter in name[:64] if letter.isascii() and (letter.isalnum() or letter == ".")
    )
    return f"'{plain}'" if plain == name else "A parameter"
