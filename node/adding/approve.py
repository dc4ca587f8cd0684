"""``[pipelines.<name>]`` of a configuration: added, put right, taken out; nothing else changed."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from node.durable import write_whole
from node.errors import ConfigError


def table(name: str, folder: Path, sha256: str, config: Path | None) -> str:
    """Return the table that approves a pipeline; its folder is relative to the file where it lies below."""
    base = config.resolve().parent if config else None
    place = folder.relative_to(base) if base and folder.is_relative_to(base) else folder
    return f'[pipelines.{name}]\nfolder = {json.dumps(str(place), ensure_ascii=False)}\nsha256 = "{sha256}"\n'


def with_table(text: str, name: str, wanted: str) -> str:
    """Return a configuration with this table, in place of an earlier one of the same name or at the end.

    Raises
    ------
    ConfigError
        It is written in a way that cannot be changed without risk.
    """
    before = tomllib.loads(text)
    if (found := _span(text, name)) is not None:
        made = f"{text[: found[0]]}{wanted}{text[found[1] :]}"
    else:
        made = f"{text.rstrip()}\n\n{wanted}" if text.strip() else wanted
    expected = {**before, "pipelines": {**before.get("pipelines", {}), **tomllib.loads(wanted)["pipelines"]}}
    return _checked(made, expected, name)


def without_table(text: str, name: str) -> str:
    """Return a configuration without the table of a pipeline.

    Raises
    ------
    ConfigError
        It is written in a way that cannot be changed without risk.
    """
    before = tomllib.loads(text)
    if name not in before.get("pipelines", {}):
        return text
    rest = {other: entry for other, entry in before["pipelines"].items() if other != name}
    expected = {key: value for key, value in before.items() if key != "pipelines"}
    found = _span(text, name)
    made = text if found is None else text[: found[0]] + text[found[1] :]
    return _checked(made, {**expected, **({"pipelines": rest} if rest else {})}, name)


def _span(text: str, name: str) -> tuple[int, int] | None:
    """Return where the lines of a table begin and end."""
    header = re.search(
        rf"(?m)^\[pipelines\.(?:{re.escape(name)}|\"{re.escape(name)}\")\][ \t]*(?:#.*)?\n", text
    )
    if header is None:
        return None
    keys = re.compile(r"(?:[ \t]*(?:folder|sha256)[ \t]*=.*(?:\n|\Z))*").match(text, header.end())
    return header.start(), keys.end() if keys else header.end()


def _checked(text: str, expected: dict[str, Any], name: str) -> str:
    """Return a changed configuration, if it now says what it should and nothing else."""
    try:
        if tomllib.loads(text) == expected:
            return text
    except tomllib.TOMLDecodeError:
        pass
    raise ConfigError(f"[pipelines.{name}] cannot be changed in this configuration; change it by hand.")


def rewrite(path: Path, text: str) -> None:
    """Put a new content in the place of a configuration, at once and with the same mode.

    Raises
    ------
    ConfigError
        It cannot be written.
    """
    try:
        write_whole(path.resolve(), text, mode=path.stat().st_mode & 0o777)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
