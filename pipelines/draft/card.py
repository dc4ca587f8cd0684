"""The text of a draft."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pipelines.codes import BACKGROUND
from pipelines.draft.guess import (
    Guess,
    box_mode_of,
    frame_of,
    is_colour,
    kind_of,
    modalities_of,
    modality_of,
    output_of,
    unit_of,
)
from pipelines.draft.names import match, slug
from pipelines.draft.said import Said, Tensor, one_line

OUTLINES = ("labels", "one-hot", "channels", "probabilities")
_EXAMPLE = '{ SeriesDescription = "*T1*" }'
_NO_CODE = '{ value = "", scheme = "SCT", meaning = "" }'
_WORDS = (
    "Draft of a card for the bundle {name!r}, written by radnode from what the bundle says of itself.",
    "Fill in what is MISSING, look at what is to CONFIRM, and take the words that say so away, up to the",
    "end of the line. A draft with any of them left is not used. pipelines/contract.py (Card) and",
    "pipelines/bundle/terms.py (Terms) explain every key.",
)


def draft_card(said: Said) -> str:
    """Return a card in TOML for a bundle, with a mark in every line that needs a person."""
    output = output_of(said)
    lines = [f"# {line.format(name=one_line(said.name))}" for line in _WORDS]
    lines += ["", *_head(said, output.word), "", *_inputs(said), *_bundle(said, output)]
    return "\n".join(lines) + "\n"


def card_name(name: str) -> str:
    """Return the name of a pipeline: lower case, words joined by ``-``."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    return "-".join(words)[:63].strip("-") or "bundle"


def _line(key: str, value: object, note: str = "") -> str:
    said = json.dumps(value, ensure_ascii=False)
    return f"{key} = {said}{'  # ' + one_line(note, 300) if note else ''}"


def _head(said: Said, output: str) -> Iterator[str]:
    texts = said.texts
    first = said.inputs[0] if said.inputs else Tensor(name="image")
    flat = modality_of(first).word in ("MG", "DX", "CR") or is_colour(first)
    yield _line("name", card_name(said.name))
    yield _line("version", texts.get("version", ""), "" if "version" in texts else "MISSING: of the bundle")
    yield _line("title", one_line(texts.get("name") or texts.get("task") or said.name, 80))
    maker = texts.get("authors") or texts.get("copyright", "")
    yield _line("maker", one_line(maker, 64), "" if maker else "MISSING: who answers for the algorithm")
    use = texts.get("intended_use", "")
    asked = "CONFIRM: the bundle's own words" if use else "MISSING: for which images and question it is meant"
    yield _line("intended_use", use, asked)
    yield _line("use", "pipelines.bundle:BundlePipeline")
    yield _line("warning", "Trained elsewhere and not validated at this site. Research only.")
    yield _line("measure", (["area"] if flat else ["volume"]) if output in OUTLINES else [])


def _inputs(said: Said) -> Iterator[str]:
    image = said.inputs[0] if said.inputs else Tensor(name="image")
    kind = kind_of(image, modality_of(image).word, said.config_text)
    # The leads of a waveform and the colours of a picture are of one series.
    is_one = kind.word == "waveform" or _colour(image, kind.word).word
    count = 1 if is_one else (image.channels or 1)
    modalities = modalities_of(image, count)
    several = len({one.word for one in modalities}) > 1
    roles: list[str] = []
    named = count > 1 and len(image.names) == count
    for channel, modality in enumerate(modalities):
        if named:
            called = image.names.get(channel, "")
        else:
            called = modality.word if count == 1 or several else f"series {channel + 1}"
        role = slug(called, {*roles})
        roles.append(role)
        yield f"[inputs.{role}]"
        yield _line("modality", [modality.word], modality.note)
        unit = unit_of(modality.word)
        yield _line("unit", unit.word, unit.note)
        yield _line("kind", kind.word, kind.note)
        if kind.word == "waveform" and image.channels:
            yield _line("slices_min", image.channels, "CONFIRM: the leads that a recording must have")
        if several and channel:
            yield _line("grid", "resample", f"CONFIRM: taken to the grid of {roles[0]!r}, and told")
        if count > 1:
            what = f"channel {channel}" + (
                f" ({image.names[channel]})" if named else ", of which nothing is said"
            )
            yield f"select = {{}}  # MISSING: which series of a study, e.g. {_EXAMPLE}: {what}"
        elif kind.word == "volume":
            yield "# spacing_mm = { slice = [0.5, 5.0] }  (row, column; what it was trained for)"
        yield ""
    if len(said.inputs) > 1:
        names = ", ".join(one.name for one in said.inputs[1:])
        yield f"# MISSING: a role, and a key in [bundle.keys], for each further input ({one_line(names)})"
        yield ""


def _colour(image: Tensor, kind: str) -> Guess:
    if kind != "planes":
        return Guess("")
    if is_colour(image):
        return Guess("rgb255", "CONFIRM: coloured pictures, as bytes; 'rgb1' for 0 to 1")
    if image.channels == 3:
        return Guess("rgb255", "CONFIRM: three channels of one picture, as bytes; 'rgb1' for 0 to 1")
    return Guess("")


def _bundle(said: Said, output: Guess) -> Iterator[str]:
    yield "[bundle]"
    yield _line("output", output.word, output.note)
    if not said.config:
        yield _line("config", [], "MISSING: the bundle has no configs/inference.json or .yaml")
    elif not said.config.startswith("configs/inference."):
        yield _line("config", [said.config], "CONFIRM: the configuration for inference")
    yield from _weights(said)
    image = said.inputs[0] if said.inputs else Tensor(name="image")
    kind = kind_of(image, modality_of(image).word, said.config_text).word
    if (colour := _colour(image, kind)).word:
        yield _line("colour", colour.word, colour.note)
    names = dict(said.outputs[0].names) if said.outputs else {}
    if output.word in OUTLINES:
        yield from _segments(names, output.word)
    elif output.word == "scores":
        yield from _answers(names, said.config_text)
    elif output.word in ("boxes", "points", "instances"):
        yield from _place(said, output.word)
        yield from _finds(output.word)
    elif output.word == "image":
        yield f"unit = {_NO_CODE}  # MISSING: the unit of the values (UCUM)"
        yield f'map = {{ label = "", code = {_NO_CODE} }}  # MISSING: what the image shows'


def _weights(said: Said) -> Iterator[str]:
    if said.weights:
        note = f"CONFIRM: not {', '.join(said.other_weights[:5])}" if said.other_weights else ""
        yield _line("weights", said.weights, note)
        yield _line("weights_sha256", said.weights_sha256)
    elif said.is_elsewhere:
        yield _line(
            "weights", "", "MISSING: large_files.yml says where the weights are; fetch them into models/"
        )
    else:
        yield _line(
            "weights", "", "CONFIRM: the bundle has no models/; right only for a network without parameters"
        )


def _segments(names: dict[int, str], output: str) -> Iterator[str]:
    labels = {n: name for n, name in names.items() if name.lower() not in BACKGROUND}
    if output in ("one-hot", "probabilities"):
        called = names.get(0, "")
        has_background = called.lower() in BACKGROUND if called else output == "one-hot"
        said = f"the bundle calls it {called!r}" if called else "the bundle does not name it"
        asked = "CONFIRM: whether channel 0 is what is not outlined"
        yield _line("background", has_background, f"{asked}; {said}")
    elif output == "labels":
        labels.pop(0, None)
    if labels:
        yield _line("channels", [name.lower() for name in labels.values()])
    if output == "labels" and [*labels] != [*range(1, 1 + len(labels))]:
        yield _line("values", [*labels], "CONFIRM: the values that mean each segment")
    if not labels:
        yield "# MISSING: the bundle does not say what it outlines; a [[segments]] table for each"
    for number, name in enumerate(labels.values(), start=1):
        yield ""
        yield "[[segments]]"
        yield f"number = {number}"
        found = match(name)
        if found:
            sure = "" if found[1] else f"CONFIRM: the bundle says {name!r}"
            yield _line("structure", found[0], sure)
        else:
            yield _line("label", one_line(name, 64))
            asked = f"{one_line(name)!r} by its name in pipelines/structures.csv, or category and kind"
            yield _line("structure", "", f"MISSING: {asked}")


def _answers(names: dict[int, str], config: str) -> Iterator[str]:
    exclusive = "oftmax" in config or _several(names)
    if exclusive:
        asked = "what is asked, where one answer holds; take it out where each answer is a question"
        yield f"question = {_NO_CODE}  # MISSING: {asked}"
    if names:
        yield _line("channels", [name.lower() for name in names.values()])
    for name in names.values() or [""]:
        yield ""
        yield "[[bundle.answers]]"
        yield _line(
            "label", one_line(name, 64), "" if name else "MISSING: each answer, in the order of the scores"
        )
        yield f"code = {_NO_CODE}  # MISSING: a code for {one_line(name)!r}"


def _several(names: dict[int, str]) -> bool:
    return len(names) > 1


def _place(said: Said, output: str) -> Iterator[str]:
    """Ask where boxes and points lie: read otherwise, they would be told at a wrong place."""
    if output == "instances":
        return
    frame = frame_of(said.config_text)
    yield _line("frame", frame.word, frame.note)
    if output == "points":
        asked = "CONFIRM: (points, axes); false for (axes, points)"
        yield _line("points_first", True, asked)
    else:
        mode = box_mode_of(said.inputs[0] if said.inputs else Tensor(name="image"), said.config_text)
        yield _line("box_mode", mode.word, mode.note)


def _finds(output: str) -> Iterator[str]:
    what = {"boxes": "each label of a box", "points": "each point, in their order", "instances": "each type"}[
        output
    ]
    yield ""
    yield "[[bundle.finds]]"
    yield _line("label", "", f"MISSING: {what}; a table for each")
    yield f"code = {_NO_CODE}  # MISSING: what it is"
    yield (
        'category = { value = "49755003", scheme = "SCT", meaning = "Morphologically Abnormal Structure" }'
        "  # CONFIRM: of CID 7150"
    )
    yield ""
    yield "[[detects]]  # MISSING: the code of each [[bundle.finds]] again"
    yield 'value = ""'
    yield 'scheme = "SCT"'
    yield 'meaning = ""'
