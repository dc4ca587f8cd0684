"""The configuration of a bundle, parsed by MONAI, with the node's stand-ins in place.

It stays as its author wrote it, save that images are handed over where it would load them from files,
that the result is caught where it would save it, and that it runs on the device which the node chose.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import merge_kv

from pipelines.bundle.device import said_for
from pipelines.bundle.files import Files
from pipelines.bundle.handover import Catch, HandOver
from pipelines.bundle.terms import PLACES, Terms
from pipelines.contract import Card, CardError

#: Classes that load or save, by their names: MONAI's, and those of a bundle's own which take keys.
_LOADS = re.compile(r"LoadImage(d|D|Dict)?")
_OWN_LOADS = re.compile(r"Load[A-Z]\w*")
_SAVES = re.compile(r"Save[A-Z]\w*|\w+Saverd?")
_OPEN_PICKLE = re.compile(r"weights_only\s*=\s*False")


def parse(card: Card, terms: Terms, files: Files, device: torch.device) -> ConfigParser:
    """Return the parsed configuration: overrides and removals first, then macros, then stand-ins.

    Raises
    ------
    CardError
        Something in it cannot be followed.
    """
    parser = ConfigParser()
    parser.read_config([str(path) for path in files.configs])
    parser.read_meta(str(files.metadata))
    for key, value in {"bundle_root": str(files.root), "device": device, **terms.overrides}.items():
        _refuse_astray(parser, key, card)
        if key.startswith("+"):
            merge_kv(parser, key, value)
        else:
            parser.set(value, key)
    for place in terms.remove:
        _remove(parser, place, card)
    meta = parser.config.pop(parser.meta_key)  # texts for people; nothing in them is configuration
    parser.config = _each_text(parser.config, lambda text: _macro_inside(text, card, files.root))
    parser.resolve_macro_and_relative_ids()
    parser.config = _each_text(
        parser.config, lambda text: _OPEN_PICKLE.sub("weights_only=True", said_for(text, device))
    )
    _substitute(parser.config, card)
    parser.config[parser.meta_key] = meta
    _refuse_evaluator(parser, card)
    return parser


def role_of(parser: ConfigParser, terms: Terms, role: str) -> Any:
    """Return what plays a role in the bundle, built; None when nothing does."""
    places = (terms.roles[role],) if role in terms.roles else PLACES[role]
    for place in places:
        if place in parser and (built := parser.get_parsed_content(place)) is not None:
            return built
    if role in terms.roles:
        raise KeyError(f"[bundle.roles] {role} = {places[0]!r} is not in the configuration")
    return None


def find_components(config: Any, pattern: str, place: str = "") -> list[str]:
    """Return the ids of all parts of a configuration whose class has a name that matches, in order."""
    found: list[str] = []
    if isinstance(config, dict) and re.fullmatch(pattern, _class_name(config)):
        found.append(place)
    if isinstance(config, dict | list):
        for _, inner, part in ReferenceResolver.iter_subconfigs(place, config):
            found += find_components(part, pattern, inner)
    return found


def _class_name(config: dict[str, Any]) -> str:
    return str(config.get("_target_", "")).rsplit(".", 1)[-1]


def _remove(parser: ConfigParser, place: str, card: Card) -> None:
    if place not in parser:
        raise CardError(f"{card.name}: [bundle] remove names {place!r}, which is not in the configuration")
    parent, last = ReferenceResolver.split_id(place, last=True)
    holder = parser[parent]
    del holder[last if isinstance(holder, dict) else int(last)]


def _refuse_astray(parser: ConfigParser, key: str, card: Card) -> None:
    """Refuse an override that meets nothing: MONAI would make it a place of its own, which nobody reads."""
    place = key.removeprefix("+")
    parent = ReferenceResolver.split_id(place, last=True)[0]
    inside = parser[parent] if parent and parent in parser else None
    is_new = not parent or isinstance(inside, dict)  # a value of its own, or one more argument
    if place in parser or (is_new and not key.startswith("+")):
        return
    lost = parent if parent and parent not in parser else place
    raise CardError(f"{card.name}: [bundle.overrides] {key!r}: {lost!r} is not in the configuration")


def _each_text(config: Any, change: Any) -> Any:
    """Return a configuration with every string in it changed."""
    if isinstance(config, dict):
        return {key: _each_text(part, change) for key, part in config.items()}
    if isinstance(config, list):
        return [_each_text(part, change) for part in config]
    return change(config) if isinstance(config, str) else config


def _macro_inside(text: str, card: Card, root: Path) -> str:
    """Return a macro with the path of its file made absolute; it may not lead out of the bundle."""
    if not text.startswith("%"):
        return text
    name, place = ConfigParser.split_path_id(text[1:])
    if not name:
        return text
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise CardError(f"{card.name}: the configuration's macro {text!r} leads out of the bundle's folder")
    if not path.is_file():
        raise CardError(f"{card.name}: the bundle lacks {name}, which its configuration names")
    return f"%{path}::{place}" if place else f"%{path}"


def _substitute(config: Any, card: Card) -> None:
    """Put the stand-ins where the configuration loads and saves images, in place."""
    children = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    for child in children:
        _substitute(child, card)
    if isinstance(config, dict):
        if config.get("_mode_") == "debug":
            raise CardError(f"{card.name}: the bundle's configuration asks for the debugger (_mode_)")
        name = _class_name(config)
        if _LOADS.fullmatch(name) or (_OWN_LOADS.fullmatch(name) and "keys" in config):
            config["_target_"] = f"{HandOver.__module__}.{HandOver.__name__}"
        elif _SAVES.fullmatch(name):
            config["_target_"] = f"{Catch.__module__}.{Catch.__name__}"


def _refuse_evaluator(parser: ConfigParser, card: Card) -> None:
    """Refuse an evaluator whose iteration cannot be known without running it."""
    evaluator = parser.get("evaluator")
    evaluator = evaluator if isinstance(evaluator, dict) else {}
    name = _class_name(evaluator) or "SupervisedEvaluator"
    if name == "EnsembleEvaluator":
        raise CardError(
            f"{card.name}: the bundle's evaluator is EnsembleEvaluator, which joins the answers of several "
            "networks; a card has the weights of one"
        )
    if evaluator.get("iteration_update") is not None:
        name = f"{name} with its own iteration_update"
    if str(evaluator.get("mode", "eval")) not in ("eval", "$None"):
        name = f"{name} in the mode of training"
    if name != "SupervisedEvaluator":
        raise CardError(
            f"{card.name}: the bundle's evaluator is {name}, whose iteration is not known. If it does no "
            "more than prepare the batch, call the inferer and post-process, say so in the card: "
            "[bundle.overrides] 'evaluator::_target_' = 'SupervisedEvaluator', and what else it does as "
            "roles (prepare_batch, item), or remove what is not needed"
        )
