"""What a bundle does before it runs, as far as a node needs it.

``initialize`` and the evaluator's ``_requires_`` set things up (a detector's thresholds, a seed), but
they also load weights and build data sets. An entry is evaluated when nothing of the latter kind can
be reached from it.
"""

from __future__ import annotations

import re
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from pipelines.bundle.config import role_of
from pipelines.bundle.terms import PLACES, Terms

#: Classes which the node itself stands for.
_REPLACED = re.compile(r"(CheckpointLoader|Dataset|DataLoader|Evaluator|Trainer|Handler|Saver)$")
_LOADS = re.compile(r"torch\.load|load_state_dict|CheckpointLoader|\.run\(")


def set_up(parser: ConfigParser, terms: Terms) -> None:
    """Evaluate what sets the bundle up; all of it where the card names the place."""
    if "setup" in terms.roles:
        role_of(parser, terms, "setup")
        return
    for place in PLACES["setup"]:
        for entry in _entries(parser, place):
            if not _reaches_replaced(parser, entry, set()):
                parser.get_parsed_content(entry)


def _entries(parser: ConfigParser, place: str) -> list[str]:
    """Return the ids of the expressions that stand, or are referred to, in one place."""
    config = parser.get(place)
    if isinstance(config, list):
        return [entry for index in range(len(config)) for entry in _entries(parser, f"{place}::{index}")]
    if isinstance(config, str) and config.startswith("@"):
        return _entries(parser, ReferenceResolver.normalize_id(config[1:]))
    return [place] if config is not None else []


def _reaches_replaced(parser: ConfigParser, place: str, seen: set[str]) -> bool:
    if place in seen:
        return False
    seen.add(place)
    config: Any = parser.get(place)
    if isinstance(config, str) and _LOADS.search(config):
        return True
    if isinstance(config, dict) and _REPLACED.search(str(config.get("_target_", ""))):
        return True
    refs = ReferenceResolver.find_refs_in_config(config, place)
    return any(_reaches_replaced(parser, ref, seen) for ref in refs)
