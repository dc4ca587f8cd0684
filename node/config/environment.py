"""Configuration from the environment: ``RADNODE_<TABLE>__<KEY>``.

A variable of ours that names no key is an error: what an operator sets must not be ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from node.errors import ConfigError

PREFIX = "RADNODE"
#: Variables of ours that are no configuration: `node.failpoint` and `node.compute.process` use them.
OTHERS = frozenset({"RADNODE_FAILPOINTS", "RADNODE_FAILPOINTS_ONCE", "RADNODE_WORKER"})


def apply_environment(
    raw: dict[str, Any], environ: Mapping[str, str], model: type[BaseModel]
) -> dict[tuple[str, ...], str]:
    """Set in a raw configuration what the environment says; return which variable set which key.

    Raises
    ------
    ConfigError
        A variable names no table and key.
    """
    overridden = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(f"{PREFIX}_") or name in OTHERS:
            continue
        if "__" not in name:
            meant = {known.replace("__", "_"): known for known in _variables(model)}
            hint = meant.get(name, f"{PREFIX}_<TABLE>__<KEY>")
            raise ConfigError(f"The environment variable {name} is unknown; use double underscores: {hint}.")
        place = tuple(name.removeprefix(f"{PREFIX}_").lower().split("__"))
        target: Any = raw
        for table in place[:-1]:
            target = target.setdefault(table, {}) if isinstance(target, dict) else None
        if not isinstance(target, dict) or not all(place):
            raise ConfigError(f"The environment variable {name} names no key; use {PREFIX}_<TABLE>__<KEY>.")
        try:
            target[place[-1]] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            target[place[-1]] = text  # a bare word is a string
        overridden[place] = name
    return overridden


def source(loc: tuple[int | str, ...], overridden: Mapping[tuple[str, ...], str]) -> str:
    """Say so if a complaint is about what the environment set."""
    place = tuple(str(part) for part in loc)
    for known, name in overridden.items():
        if place and place == known[: len(place)]:
            return f" (set by {name})"
    return ""


def _variables(model: type[BaseModel], before: str = f"{PREFIX}_") -> Iterator[str]:
    """Yield the variable of every key of a table and of the tables in it."""
    for name, field in model.model_fields.items():
        variable, kind = f"{before}{name.upper()}", field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _variables(kind, f"{variable}__")
        else:
            yield variable
