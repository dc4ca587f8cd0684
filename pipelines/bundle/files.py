"""The files of a bundle, held against its card: nothing missing, nothing changed, nothing contradicting.

Everything here is decided from files alone, before torch is asked for anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.bundle.terms import OUTLINES, Terms
from pipelines.codes import BACKGROUND
from pipelines.contract import Card, CardError
from pipelines.pins import differences, pin_of

#: MONAI's names for one modality, in DICOM's terms; others are not compared.
MODALITIES = {"ct": "CT", "mr": "MR", "mri": "MR", "pet": "PT", "pt": "PT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of a bundle; all of them lie within the card's folder and so under its digest."""

    root: Path
    metadata: Path
    configs: tuple[Path, ...]
    weights: Path | None


def find_files(card: Card, terms: Terms) -> Files:
    """Return the files of a card's bundle, after holding them and the metadata against the card.

    Raises
    ------
    CardError
        A file is missing or leads out of the card's folder, the weights are not the pinned ones,
        or the bundle's metadata says something else than the card.
    """
    root = _inside(card, card.folder, terms.folder)
    usual = [f"configs/inference.{suffix}" for suffix in ("json", "yaml", "yml")]
    configs = terms.config or tuple(name for name in usual if (root / name).is_file())[:1]
    if not configs:
        raise CardError(
            f"{card.name}: the bundle has no {usual[0]} or .yaml; name its files in [bundle] config"
        )
    files = Files(
        root=root,
        metadata=_inside(card, root, "configs/metadata.json"),
        configs=tuple(_inside(card, root, name) for name in configs),
        weights=_inside(card, root, terms.weights) if terms.weights else None,
    )
    for path in (files.metadata, *files.configs, *([files.weights] if files.weights else [])):
        if not path.is_file():
            raise CardError(f"{card.name}: the bundle lacks {path.relative_to(root).as_posix()}")
    if files.weights:
        found = pin_of(files.weights).removeprefix("sha256:")
        if found != terms.weights_sha256:
            raise CardError(
                f"{card.name}: {files.weights.name} has SHA-256 {found}, the card's weights_sha256 is "
                f"{terms.weights_sha256 or 'missing'}; if these are the right weights, correct the card"
            )
    # The weights stand in the card with a SHA-256 of their own, which says more than their pin.
    pins = {name: pin for name, pin in terms.pins.items() if name != terms.weights}
    if found_differences := differences(root, pins):
        raise CardError(
            f"{card.name}: the card was written for another version of the bundle, which needs a card of "
            f"its own: {' '.join(found_differences)}"
        )
    _compare_metadata(card, terms, files.metadata)
    return files


def _inside(card: Card, folder: Path, name: str) -> Path:
    """Return a path of the bundle, which may not lead out of the card's folder (and its digest)."""
    path = (folder / name).resolve()
    if not path.is_relative_to(card.folder.resolve()):
        raise CardError(f"{card.name}: {name!r} lies outside of the card's folder")
    return path


def _compare_metadata(card: Card, terms: Terms, path: Path) -> None:
    """Hold what ``metadata.json`` says of the network's input and output against the card."""
    try:
        data_format = json.loads(path.read_text(encoding="utf-8")).get("network_data_format", {})
        inputs, outputs = data_format.get("inputs", {}), data_format.get("outputs", {})
        image: dict[str, Any] = inputs.get("image") or next(iter(inputs.values()), {})
        pred: dict[str, Any] = outputs.get("pred") or next(iter(outputs.values()), {})
        modality = MODALITIES.get(str(image.get("modality", "")).lower())
        channel_count = image.get("num_channels")
        # Some bundles say label_def.
        named = pred.get("channel_def") or pred.get("label_def") or {}
        names = {int(number): str(name).lower() for number, name in named.items()}
    except (OSError, ValueError, AttributeError) as error:
        told = getattr(error, "strerror", None) or error  # without the number
        raise CardError(f"{card.name}: {path.name} cannot be read: {told}") from error
    accepted = {m for spec in card.inputs.values() for m in spec.modality}
    if modality and modality not in accepted:
        raise CardError(
            f"{card.name}: the bundle is for {modality}, the card for {', '.join(sorted(accepted))}"
        )
    expected = _channels_given(card, terms)
    if expected is not None and channel_count not in (None, expected):
        raise CardError(
            f"{card.name}: the bundle takes {channel_count} channels, the card has {len(card.inputs)} inputs "
            f"which give {expected}"
        )
    if names and terms.output in OUTLINES:
        _compare_names(card, terms, names)
    elif names and terms.output == "scores" and terms.channels:
        _compare_answers(card, terms, names)


def _channels_given(card: Card, terms: Terms) -> int | None:
    """Return how many channels the bundle's image gets; None where its metadata does not tell of one."""
    if terms.keys or next(iter(card.inputs.values())).kind == "waveform":
        return None
    return len(card.inputs) * (3 if terms.colour.startswith("rgb") else 1)


def _compare_answers(card: Card, terms: Terms, names: Mapping[int, str]) -> None:
    """Hold the order of the answers against the bundle's channel_def."""
    for number, (find, name) in enumerate(zip(terms.answers, terms.channels, strict=True)):
        if names.get(number) != name.lower():
            raise CardError(
                f"{card.name}: answer {number} ({find.label}) is {name!r} in the card, but "
                f"{names.get(number)!r} in the bundle's channel_def"
            )


def _compare_names(card: Card, terms: Terms, names: Mapping[int, str]) -> None:
    """Hold the order of the card's segments against the bundle's channel_def (number -> name).

    A bundle without names for its channels cannot disagree; one with names must agree, since a
    swapped pair of labels would look right in every other way.
    """
    _refuse_other_channels(card, terms, names)
    offset = 1 if terms.output == "labels" or terms.has_background else 0
    numbers = terms.values or tuple(range(offset, offset + len(card.segments)))
    for segment, name, number in zip(card.segments, terms.channels, numbers, strict=True):
        if names.get(number) != name.lower():
            raise CardError(
                f"{card.name}: segment {segment.number} is {name!r} in the card, but channel {number} is "
                f"{names.get(number)!r} in the bundle's channel_def; set [bundle] channels to its names"
            )
    if extra := names.keys() - set(numbers) - set(terms.unused) - {0}:
        raise CardError(
            f"{card.name}: the bundle's channel {min(extra)} {names[min(extra)]!r} is not in the card"
        )


def _refuse_other_channels(card: Card, terms: Terms, names: Mapping[int, str]) -> None:
    """Refuse an output for which no names in the card could be right, and say which output could."""
    is_nothing = names.get(0, "") in BACKGROUND
    if terms.output == "labels" and names.keys() == {0} and not is_nothing:
        raise CardError(
            f"{card.name}: the bundle's metadata names one channel, 0 {names[0]!r}, and label 0 means no "
            f"segment; set [bundle] output = 'channels' and channels = [{names[0]!r}]"
        )
    if terms.output == "channels" and is_nothing and not terms.values and names[0] not in terms.channels:
        raise CardError(
            f"{card.name}: the bundle's metadata claims {len(names)} channels, of which 0 is {names[0]!r}, "
            "which is no segment; set [bundle] output = 'labels' if one channel of 0 and 1 comes out (a "
            f"threshold), 'one-hot' if {len(names)} channels come out"
        )
