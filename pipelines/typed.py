"""Tables of a card as records, held against the records' own annotations.

TOML knows texts, numbers, lists and tables; what a record wants of each key is declared there, once.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


def made_of(kind: type[Record], table: Any, name: str) -> Record:
    """Make a record from a table.

    Parameters
    ----------
    kind
        A dataclass, or a named tuple.
    table
        Key -> what TOML gave, or a value that is already what the record wants.
    name
        What the table is, for the sentence, e.g. "[bundle]"; "" is the card itself.

    Raises
    ------
    ValueError
        A key is missing or unknown, or its value is of another type than declared. The sentence names
        it and what it should be.
    """
    if isinstance(table, kind):
        return table
    if not isinstance(table, Mapping):
        raise ValueError(f"{name} is {_said(table)}, not a table")
    hints, needed = _keys(kind)  # type: ignore[arg-type]  # a class can be hashed
    if unknown := sorted(map(str, table.keys() - hints.keys())):
        raise ValueError(f"{name or 'the card'} has no {unknown[0]!r}; it knows {', '.join(hints)}")
    if missing := [key for key in needed if key not in table]:
        raise ValueError(f"{name or 'the card'} lacks the key {missing[0]!r}")
    return kind(**{key: _value(hints[key], value, f"{name} {key}".strip()) for key, value in table.items()})


@functools.cache
def _keys(kind: type) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return key -> its annotation, and the keys without a default."""
    hints = get_type_hints(kind)
    if not is_dataclass(kind):
        return hints, tuple(hints)
    own = fields(kind)
    bare = tuple(f.name for f in own if f.default is MISSING and f.default_factory is MISSING)
    return {f.name: hints[f.name] for f in own}, bare


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):  # only ever "or nothing", and TOML has no word for nothing
        return None if value is None else _value(parts[0], value, name)
    if origin is Literal:
        if value not in parts:
            raise ValueError(f"{name} is one of {', '.join(parts)}, not {value!r}")
        return value
    if origin is tuple:
        return _tuple(parts, value, name)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is {_said(value)}, not a table")
        return {_value(parts[0], k, name): _value(parts[1], one, f"{name} {k!r}") for k, one in value.items()}
    if is_dataclass(hint) or issubclass(hint, tuple):
        return made_of(hint, value, name)
    if hint is float and type(value) is int:
        if abs(value) > 2**53:
            raise ValueError(f"{name} is too large a number")
        return float(value)
    if not (isinstance(value, Path) if hint is Path else type(value) is hint):  # true is no number here
        raise ValueError(f"{name} is {_said(value)}, not {_NAMES[hint]}")
    return value


def _tuple(parts: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} is {_said(value)}, not a list")
    kinds = parts[:1] * len(value) if parts[1:] == (...,) else parts
    if len(kinds) != len(value):
        raise ValueError(f"{name} has {len(value)} entries, not {len(kinds)}")
    return tuple(_value(kind, one, f"an entry of {name}") for kind, one in zip(kinds, value, strict=True))


_NAMES: Mapping[Any, str] = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
    Path: "a path",
}


def _said(value: Any) -> str:
    """Return what was given, as a person would call it."""
    called = _NAMES.get(type(value), f"a {type(value).__name__}")
    return f"the text {value[:40]!r}" if isinstance(value, str) else called
