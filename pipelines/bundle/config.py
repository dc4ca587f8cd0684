"""The configuration of a bundle, parsed by MONAI, with the node's stand-ins in place.

It stays as its author wrote it, save that images are handed over where it would load them from files,
and that the result is caught where it would save it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, MapTransform

from pipelines.bundle.files import Files
from pipelines.bundle.handover import STAND_INS, Catch
from pipelines.bundle.terms import PLACES, Terms
from pipelines.contract import Card, CardError


def parse(card: Card, terms: Terms, files: Files, device: torch.device) -> ConfigParser:
    """Return the parsed configuration, with the stand-ins and overrides in place."""
    parser = ConfigParser()
    parser.read_config([str(path) for path in files.configs])
    parser.read_meta(str(files.metadata))
    known = {"bundle_root": str(files.root), "device": device}
    for key, value in {**known, **terms.overrides}.items():
        parser.set(value, key)
    with contextlib.chdir(files.root):  # macros may name files relative to the bundle
        parser.resolve_macro_and_relative_ids()
    _substitute(parser.get(), card)
    evaluator = parser.get("evaluator")
    evaluator = evaluator if isinstance(evaluator, dict) else {}
    name = str(evaluator.get("_target_", "SupervisedEvaluator")).rsplit(".", 1)[-1]
    own = [key for key in ("prepare_batch", "iteration_update") if evaluator.get(key) is not None]
    if name != "SupervisedEvaluator" or own:
        raise CardError(
            f"{card.name}: the bundle's evaluator is {name}{' with its own ' if own else ''}"
            f"{', '.join(own)}; only a plain SupervisedEvaluator can be followed"
        )
    return parser


def role_of(parser: ConfigParser, terms: Terms, role: str) -> Any:
    """Return what plays a role in the bundle, built; None when nothing does."""
    places = (terms.roles[role],) if role in terms.roles else PLACES[role]
    for place in places:
        if place in parser:
            return parser.get_parsed_content(place)
    if role in terms.roles:
        raise KeyError(f"[bundle.roles] {role} = {places[0]!r} is not in the configuration")
    return None


def compose_of(steps: Any) -> Compose:
    """Return one flat Compose of whatever the configuration gave: a Compose, a list, one, none."""
    if isinstance(steps, Compose):
        return steps.flatten()
    if steps is None:
        return Compose([])
    return Compose([s for s in steps if s is not None] if isinstance(steps, Sequence) else [steps]).flatten()


def until_caught(compose: Compose, image_key: str) -> tuple[Compose, str]:
    """Return the steps before the result would have been saved, and the key it has there."""
    for index, step in enumerate(compose.transforms):
        if isinstance(step, Catch) and step.keys != (image_key,):
            return Compose(compose.transforms[:index], lazy=compose.lazy, overrides=compose.overrides), (
                step.keys[0] if step.keys else "pred"
            )
    return compose, "pred"


def is_keyed(compose: Compose) -> bool:
    """Say whether these transforms work on a dictionary."""
    return any(isinstance(t, MapTransform) or getattr(t, "keys", ()) for t in compose.transforms)


def _substitute(config: Any, card: Card) -> None:
    """Put the stand-ins where the configuration loads and saves images, in place."""
    children = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    for child in children:
        _substitute(child, card)
    if isinstance(config, dict):
        if config.get("_mode_") == "debug":
            raise CardError(f"{card.name}: the bundle's configuration asks for the debugger (_mode_)")
        stand_in = STAND_INS.get(str(config.get("_target_", "")).rsplit(".", 1)[-1])
        if stand_in is not None:
            config["_target_"] = f"{stand_in.__module__}.{stand_in.__name__}"
