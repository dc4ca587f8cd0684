"""What the files of a bundle say of it, read as data and never run; all of it may be wrong or hostile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipelines.pins import pin_of

LONGEST: Final = 8 << 20  #: bytes of a configuration; longer ones say nothing
MOST_NAMES: Final = 2000
_CONFIGS: Final = tuple(f"configs/inference.{suffix}" for suffix in ("json", "yaml", "yml"))
_WEIGHTS: Final = ("models/model.pt", "models/model.safetensors", "models/model.ts")
_WEIGHTS_END: Final = (".pt", ".pth", ".ts", ".safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """What the metadata say of one input or result of the network."""

    name: str
    type: str = ""  #: lower case, as all words here
    format: str = ""
    modality: str = ""
    channels: int | None = None
    axes: int = 0  #: of space; 0 where they do not say
    names: Mapping[int, str] = field(default_factory=dict)  #: channel or value -> what it is called


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a bundle says."""

    name: str  #: of its folder
    texts: Mapping[str, str] = field(default_factory=dict)  #: version, name, task, authors ... on one line
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    config: str = ""  #: which file
    config_text: str = ""
    weights: str = ""  #: which file
    weights_sha256: str = ""
    other_weights: tuple[str, ...] = ()
    is_elsewhere: bool = False  #: large_files.yml says where the weights are to be fetched from


def read_said(root: Path, name: str) -> Said:
    """Return what the files below ``root`` say."""
    metadata = _metadata(root / "configs" / "metadata.json")
    formats = _table(metadata.get("network_data_format"))
    found = sorted(p.relative_to(root).as_posix() for p in root.glob("models/*") if p.suffix in _WEIGHTS_END)
    chosen = next((one for one in (*_WEIGHTS, *found) if one in found), "")
    other = sorted(p.relative_to(root).as_posix() for p in root.glob("configs/inference*"))
    config = next((one for one in (*_CONFIGS, *other) if (root / one).is_file()), "")
    return Said(
        name=name,
        texts={key: text for key in _TEXTS if (text := one_line(metadata.get(key)))},
        inputs=_tensors(formats.get("inputs"), "image"),
        outputs=_tensors(formats.get("outputs"), "pred"),
        config=config,
        config_text=_text(root / config) if config else "",
        weights=chosen,
        weights_sha256=pin_of(root / chosen).removeprefix("sha256:") if chosen else "",
        other_weights=tuple(one for one in found if one != chosen),
        is_elsewhere=any(root.glob("large_files.y*ml")),
    )


_TEXTS: Final = ("version", "name", "task", "description", "authors", "copyright", "intended_use")


def one_line(said: Any, longest: int = 200) -> str:
    """Return a foreign text (or list of texts) as one line that may stand in TOML, cut to a length."""
    if isinstance(said, list):
        said = ", ".join(str(one) for one in said[:20])
    if not isinstance(said, str | int | float):
        return ""
    printable = "".join(c if c.isprintable() else " " for c in str(said)[: 4 * longest])
    words = " ".join(printable.split())
    return words if len(words) <= longest else f"{words[: longest - 3]}..."


def _metadata(path: Path) -> Mapping[str, Any]:
    try:
        return _table(json.loads(_text(path)))
    except (ValueError, RecursionError):
        return {}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LONGEST:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _table(said: Any) -> Mapping[str, Any]:
    return said if isinstance(said, dict) else {}


def _tensors(said: Any, first: str) -> tuple[Tensor, ...]:
    """Return what is said of each, the usual name first."""
    table = _table(said)
    return tuple(
        _tensor(one_line(name), _table(table[name])) for name in sorted(table, key=lambda n: n != first)
    )


def _tensor(name: str, said: Mapping[str, Any]) -> Tensor:
    shape, channels = said.get("spatial_shape"), said.get("num_channels")
    names = {}
    for key, one in list(_table(said.get("channel_def") or said.get("label_def")).items())[:MOST_NAMES]:
        if str(key).isdecimal() and len(str(key)) < 6 and (text := one_line(one)):
            names[int(key)] = text
    return Tensor(
        name=name,
        type=one_line(said.get("type")).lower(),
        format=one_line(said.get("format")).lower(),
        modality=one_line(said.get("modality")).lower(),
        channels=channels if isinstance(channels, int) and 0 < channels < MOST_NAMES else None,
        axes=len(shape) if isinstance(shape, list) and len(shape) < 5 else 0,
        names=dict(sorted(names.items())),
    )
