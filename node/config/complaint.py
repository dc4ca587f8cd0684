"""What pydantic finds wrong with a configuration, said as a person would."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: What pydantic finds wrong -> how we say it. ``{}`` is the value, the rest pydantic's context.
_SENTENCES = {
    "missing": "this key is required",
    "int_": "must be a whole number, not {}",
    "float_": "must be a number, not {}",
    "finite_number": "must be a finite number, not {}",
    "bool_": "must be true or false, not {}",
    "string_type": "must be a text in quotes, not {}",
    "path_type": "must be a text in quotes, not {}",
    "tuple_type": "must be a list like [...], not {}",
    "dict_type": "must be a table, not {}",
    "model_": "must be a table, not {}",
    "greater_than_equal": "must be at least {ge:g}, not {}",
    "greater_than": "must be more than {gt:g}, not {}",
    "less_than_equal": "must be at most {le:.12g}, not {}",
    "literal_error": "must be {expected}, not {}",
    "union_tag_invalid": "must be {transports}, not '{tag}'",
    "union_tag_not_found": "this key is required: {transports}",
    "string_pattern_mismatch": "must be 1 or more printable characters, not {}",
    "host": "must be the name or address of a machine, not {}",
    "url": "must be the address of a DICOMweb service, as in 'https://pacs.example/dicom-web', not {}",
    "origin": "must be where web pages come from, as in 'https://viewer.example', not {}",
    "digest": "must be a SHA-256, 64 hexadecimal digits, not {}",
    "ip_": "must be an address or a network, as in '10.0.0.0/24', not {}",
    "ae_title": "must be an AE title, 1 to 16 characters without backslash (PS3.5 6.2), not {}",
}


#: Tables whose tables are of several kinds -> the transports by which these are told apart.
BY_TRANSPORT = {"destinations": ("dimse", "stow", "folder"), "sources": ("dimse", "web")}


def complaint(detail: Any, raw: Mapping[str, Any], known_keys: Callable[[list[Any], str], list[str]]) -> str:
    """Turn one pydantic error into a sentence that names table and key.

    Parameters
    ----------
    detail
        As `pydantic.ValidationError.errors` gives it.
    raw
        The file as it was read.
    known_keys
        (names of the tables, transport of a destination) -> the keys that the table may have.
    """
    kind, loc = str(detail["type"]), [part for part in detail["loc"] if part != "[key]"]
    if not loc:  # how tables go together, in our own words
        return str(detail["msg"]).removeprefix("Value error, ")
    if loc[0] in BY_TRANSPORT and len(loc) > 2:
        del loc[2]  # the transport, by which pydantic told the kinds of them apart
    if kind.startswith("union_tag"):
        loc.append("transport")
    place = _place(loc, raw)
    if kind == "extra_forbidden":
        chosen = detail["loc"][2] if loc[0] in BY_TRANSPORT else ""
        if owners := _owners(loc, known_keys):
            return f"{place}: only for transport = {owners}"
        near = difflib.get_close_matches(str(loc[-1]), known_keys(loc[:-1], chosen), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{place}: unknown {'table' if isinstance(detail['input'], dict) else 'key'}{hint}"
    if kind in ("string_pattern_mismatch", "string_too_short") and {
        "ae_title",
        "callers",
        "calling",
        "called",
    } & set(loc):
        kind = "ae_title"
    if kind == "string_pattern_mismatch" and loc[-1] in ("host", "url"):
        kind = str(loc[-1])
    elif kind == "string_pattern_mismatch" and "origins" in loc:
        kind = "origin"
    elif kind == "string_pattern_mismatch" and {"certificates", "tokens"} & set(loc):
        kind = "digest"
    if kind == "value_error":  # a sentence of our own
        return f"{place}: {str(detail['msg']).removeprefix('Value error, ')}"
    sentence = next((said for start, said in _SENTENCES.items() if kind.startswith(start)), detail["msg"])
    if loc == ["rules"] and kind == "tuple_type":
        sentence = "must be a list of tables, each begun by [[rules]]"
    value = repr(detail["input"])
    value = value if len(value) <= 60 else f"{value[:60]}..."
    transports = _either(map(repr, BY_TRANSPORT.get(loc[0], ())))
    return f"{place}: {sentence.format(value, transports=transports, **detail.get('ctx', {}))}"


def _owners(loc: list[Any], known_keys: Callable[[list[Any], str], list[str]]) -> str:
    """Return the transports that have a key which the chosen one does not; "" where none has."""
    if loc[0] not in BY_TRANSPORT or len(loc) != 3:
        return ""
    return _either(f'"{one}"' for one in BY_TRANSPORT[loc[0]] if loc[2] in known_keys(loc[:2], one))


def _either(words: Iterable[str]) -> str:
    """Return e.g. ``"a, b or c"``."""
    *others, last = [*words] or [""]
    return f"{', '.join(others)} or {last}" if others else last


def _place(loc: list[Any], raw: Mapping[str, Any]) -> str:
    """Return e.g. ``"[accept.dimse] port"``; rules are counted from one and named."""
    if loc[0] == "rules" and len(loc) > 1:
        entry = raw["rules"][loc[1]]
        name = entry.get("name") if isinstance(entry, dict) else None
        table = f"[[rules]] number {loc[1] + 1}" + (f" ({name!r})" if isinstance(name, str) else "")
        return " ".join([table, *(str(part) for part in loc[2:3])])
    if isinstance(loc[-1], int):  # an element of a list
        return f"{_place(loc[:-1], raw)}, entry {loc[-1] + 1}"
    *tables, key = (str(part) for part in loc)
    return f"[{'.'.join(tables)}] {key}" if tables else f"[{key}]"
