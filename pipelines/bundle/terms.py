"""What a card says about a MONAI bundle, and whether the bundle's files agree.

Everything here is decided from files alone, before torch is asked for anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from pipelines.bundle.expect import Expectation, read_expectation
from pipelines.concept import Code
from pipelines.contract import Card, CardError

#: What comes out after post-processing:
#:
#: "labels"         one channel of label values
#: "one-hot"        one exclusive channel per class, 0 or 1 everywhere
#: "channels"       one channel per segment, 0 or 1 everywhere; they may overlap
#: "probabilities"  one channel per segment, 0..1: a map each, and an outline above ``threshold``
#: "scores"         one number per answer: a class, or several where each has its own question
#: "boxes"          boxes with labels and scores
#: "points"         landmarks, in a fixed order
#: "image"          a generated or restored image: one map
Output = Literal["labels", "one-hot", "channels", "probabilities", "scores", "boxes", "points", "image"]
#: In which coordinates a bundle says boxes and points: millimetres of the patient, or indices of the
#: axes (column, row, slice) of the source or of the prepared image that the network saw.
Frame = Literal["ras-mm", "lps-mm", "source", "network"]
Explain = Literal["occlusion", "gradient", "gradcam"]

#: Where a bundle may keep each role, by the ids of `monai.bundle.properties.InferProperties`: first
#: the id itself, then the place that refers to it.
PLACES: dict[str, tuple[str, ...]] = {
    "preprocessing": ("preprocessing", "dataset::transform"),
    "network_def": ("network_def", "network", "evaluator::network"),
    "inferer": ("inferer", "evaluator::inferer"),
    "postprocessing": ("postprocessing", "evaluator::postprocessing"),
}
#: MONAI's names for one modality, in DICOM's terms; others are not compared.
MODALITIES = {"ct": "CT", "mr": "MR", "mri": "MR", "pet": "PT", "pt": "PT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """What one answer, point, label of a box or map means."""

    label: str  #: for people
    code: Code  #: an answer's value or, where several answers may hold, its question; else what it is
    category: Code | None = None  #: boxes and points: CID 7150
    anatomic_region: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The ``[bundle]`` table of a card: what the bundle itself cannot say, or must not decide."""

    output: Output
    folder: str = "."  #: of the bundle, relative to the card
    config: tuple[str, ...] = ()  #: files merged in this order; default configs/inference.json, .yaml
    weights: str = ""  #: e.g. "models/model.pt"; empty only for a network without parameters
    weights_sha256: str = ""
    channels: tuple[str, ...] = ()  #: the segments' names in the bundle's channel_def; default: labels
    values: tuple[int, ...] = ()  #: "labels": the value that means each segment; default 1, 2, 3 ...
    background: bool = True  #: "one-hot": channel 0 is what is not outlined
    roles: Mapping[str, str] = field(default_factory=dict)  #: a key of `PLACES` -> id in the configuration
    overrides: Mapping[str, Any] = field(default_factory=dict)  #: id in the configuration -> value
    expects: tuple[Expectation, ...] = ()
    #: role -> the key by which the bundle loads it; roles of one key become its channels, in the
    #: card's order. Default: all roles are channels of the bundle's image.
    keys: Mapping[str, str] = field(default_factory=dict)
    #: File of the bundle -> its SHA-256: what a card that was not written for this very folder expects.
    pins: Mapping[str, str] = field(default_factory=dict)
    threshold: float = 0.5  #: from which on a probability or score counts
    question: Code | None = None  #: "scores" of one class: what is asked; the answers are `answers`
    answers: tuple[Find, ...] = ()  #: "scores": the meaning of each channel, in their order
    finds: tuple[Find, ...] = ()  #: "boxes": the meaning of label 0, 1 ...; "points": of each point
    frame: Frame = "source"  #: of boxes and points
    box_mode: str = "xyzxyz"  #: how a box is written, as MONAI names it (`monai.data.box_utils`)
    #: "boxes": the keys of boxes, labels and scores in the caught result.
    box_keys: tuple[str, str, str] = ("box", "label", "label_scores")
    map: Find | None = None  #: "image": what the values are
    unit: Code | None = None  #: "image": their unit, UCUM
    explain: Explain | None = None  #: a map of what an answer rests on


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of a bundle; all of them lie within the card's folder and so under its digest."""

    root: Path
    metadata: Path
    configs: tuple[Path, ...]
    weights: Path | None


def read_terms(card: Card) -> Terms:
    """Return the ``[bundle]`` table of a card.

    Raises
    ------
    CardError
        A key is missing, unknown or contradicts the segments.
    """
    table = dict(card.bundle)
    known = [f.name for f in fields(Terms)]
    if unknown := table.keys() - set(known):
        raise CardError(f"{card.name}: [bundle] has no {sorted(unknown)[0]!r}; it knows {', '.join(known)}")
    if table.get("output") not in get_args(Output):
        raise CardError(f"{card.name}: [bundle] output must be one of {', '.join(get_args(Output))}")
    config = table.get("config", ())
    table["config"] = (config,) if isinstance(config, str) else tuple(config)
    table["channels"] = tuple(table.get("channels", ())) or tuple(s.label.lower() for s in card.segments)
    table["values"] = tuple(table.get("values", ()))
    try:
        for key in ("question", "unit"):
            if key in table:
                table[key] = Code(**table[key])
        for key in ("answers", "finds"):
            table[key] = tuple(_find(entry) for entry in table.get(key, ()))
        if "map" in table:
            table["map"] = _find(table["map"])
        if "box_keys" in table:
            table["box_keys"] = tuple(table["box_keys"])
    except (TypeError, ValueError) as error:
        raise CardError(f"{card.name}: [bundle] {error}") from error
    table["expects"] = tuple(read_expectation(expectation) for expectation in table.get("expects", ()))
    terms = Terms(**table)
    if not card.segments:
        raise CardError(f"{card.name}: the card describes no segments")
    for key, given in (("channels", terms.channels), ("values", terms.values)):
        if given and (len(given) != len(card.segments) or len(set(given)) != len(given)):
            raise CardError(
                f"{card.name}: [bundle] {key} must name each of {len(card.segments)} segments once"
            )
    if any(not isinstance(value, int) or not 0 < value < 2**16 for value in terms.values):
        raise CardError(f"{card.name}: [bundle] values must be whole numbers from 1 to 65535")
    if unknown := terms.roles.keys() - PLACES.keys():
        raise CardError(
            f"{card.name}: [bundle.roles] has no {sorted(unknown)[0]!r}; it knows {', '.join(PLACES)}"
        )
    return terms


def _find(table: Mapping[str, Any]) -> Find:
    codes = {key: Code(**table[key]) for key in ("code", "category", "anatomic_region") if key in table}
    return Find(**{**table, **codes})


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
        with files.weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != terms.weights_sha256:
            raise CardError(
                f"{card.name}: {files.weights.name} has SHA-256 {found}, the card's weights_sha256 is "
                f"{terms.weights_sha256 or 'missing'}; if these are the right weights, correct the card"
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
        channel_count = image.get("num_channels", len(card.inputs))
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
    if channel_count != len(card.inputs):
        raise CardError(
            f"{card.name}: the bundle takes {channel_count} channels, the card has {len(card.inputs)} inputs"
        )
    if names:
        _compare_names(card, terms, names)


def _compare_names(card: Card, terms: Terms, names: Mapping[int, str]) -> None:
    """Hold the order of the card's segments against the bundle's channel_def (number -> name).

    A bundle without names for its channels cannot disagree; one with names must agree, since a
    swapped pair of labels would look right in every other way.
    """
    offset = 0 if terms.output == "channels" or (terms.output == "one-hot" and not terms.background) else 1
    numbers = terms.values or tuple(range(offset, offset + len(card.segments)))
    for segment, name, number in zip(card.segments, terms.channels, numbers, strict=True):
        if names.get(number) != name.lower():
            raise CardError(
                f"{card.name}: segment {segment.number} is {name!r} in the card, but channel {number} is "
                f"{names.get(number)!r} in the bundle's channel_def; set [bundle] channels to its names"
            )
    if extra := names.keys() - set(numbers) - {0}:
        raise CardError(
            f"{card.name}: the bundle's channel {min(extra)} {names[min(extra)]!r} is not in the card"
        )
