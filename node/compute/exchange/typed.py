"""Records as JSON and back, strictly: every key, every type, nothing else.

The declaration of a record is the description of its file, so a field that is added there needs no
word here.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

Record = TypeVar("Record")


class Untyped(ValueError):
    """What was read is not what was declared; the sentence names the field."""


def plain(value: Any, without: Collection[str] = ()) -> Any:
    """Return a record as JSON would have it, leaving out some of its own fields."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.name not in without}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def record_of(
    kind: type[Record], content: Any, given: Mapping[str, Any] | None = None, name: str = ""
) -> Record:
    """Make a record from what JSON gave.

    Parameters
    ----------
    given
        Fields that come from elsewhere, and may not stand in ``content``.
    name
        Of the thing, for the sentence.

    Raises
    ------
    Untyped
        A key is missing or unknown, or a value is of another type than declared.
    """
    given, name = given or {}, name or kind.__name__
    if not isinstance(content, dict):
        raise Untyped(f"{name} is {_called(content)}, not a mapping")
    hints = _hints(kind)  # type: ignore[arg-type]  # a class can be hashed
    wanted = hints.keys() - given.keys()
    if odd := sorted(wanted ^ content.keys()):
        raise Untyped(f"{name} {'has no' if odd[0] in wanted else 'may have no'} {odd[0][:64]!r}")
    made = {key: _value(hints[key], content[key], f"{key} of {name}") for key in wanted}
    return kind(**made, **given)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(parts, value, name)
    if origin is Literal:
        if not any(value == part and type(value) is type(part) for part in parts):
            raise Untyped(f"{name} is none of {', '.join(map(str, parts))}")
        return value
    if origin is tuple:
        return _tuple(parts, value, name)
    if origin is np.ndarray:
        return _array(value, name)
    if origin is not None and issubclass(origin, Mapping):
        _check(dict, value, name)
        return {key: _value(parts[1], entry, f"an entry of {name}") for key, entry in value.items()}
    if isinstance(hint, type) and issubclass(hint, tuple):  # a named one: a code
        return hint(*_tuple(tuple(get_type_hints(hint).values()), value, name))
    if is_dataclass(hint):
        return record_of(hint, value, name=f"an entry of {name}")  # type: ignore[arg-type]
    return _scalar(hint, value, name)


def _scalar(hint: Any, value: Any, name: str) -> Any:
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Untyped(f"{name} is {_called(value)}, not a number")
        try:
            return float(value)
        except OverflowError:
            raise Untyped(f"{name} is too large a number") from None
    if hint in (str, int, bool, types.NoneType):
        _check(hint, value, name)
        return value
    if hint in (Path, datetime):
        _check(str, value, name)
        return Path(value) if hint is Path else datetime.fromisoformat(value)
    raise TypeError(f"{name} is declared as {hint}, which cannot be read from a file")


def _one_of(parts: tuple[Any, ...], value: Any, name: str) -> Any:
    for part in parts:
        try:
            return _value(part, value, name)
        except Untyped as error:
            last = error
    raise last


def _tuple(parts: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    _check(list, value, name)
    kinds = parts[:1] * len(value) if parts[1:] == (...,) else parts
    if len(kinds) != len(value):
        raise Untyped(f"{name} has {len(value)} parts, not {len(kinds)}")
    return tuple(_value(kind, entry, name) for kind, entry in zip(kinds, value, strict=True))


def _array(value: Any, name: str) -> Any:
    """Return a small array of numbers, such as an affine or the points of an outline: float64."""
    _check(list, value, name)
    try:
        array = np.array(value)
    except (ValueError, OverflowError) as error:
        raise Untyped(f"{name} is no array") from error
    if array.size and array.dtype.kind not in "if":
        raise Untyped(f"{name} is no array of numbers")
    return array.astype(np.float64)


def _check(kind: type, value: Any, name: str) -> None:
    if type(value) is not kind:  # a bool is no number here
        raise Untyped(f"{name} is {_called(value)}, not {_NAMES.get(kind, kind.__name__)}")


_NAMES = {str: "text", int: "a whole number", list: "a list", dict: "a mapping", types.NoneType: "nothing"}


def _called(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)
