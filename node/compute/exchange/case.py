"""The case: what a model is given, and beside it where that came from.

Both are written by a worker of ours and stay out of reach of a pipeline's hands, so they are read
without suspicion.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from node.compute.exchange.arrays import map_array, write_array
from node.compute.exchange.typed import plain, record_of
from node.model import Volume, Volumes
from pipelines.contract import Case, Image

CASE: Final = "case"
_SOURCE: Final = "source.json"
_CONTENT: Final = "case.json"
_ARRAYS: Final = ("array", "colour")


def write_case(volumes: Volumes, folder: Path) -> None:
    """Write ``case/`` and ``source.json`` into a folder, which is empty or made."""
    (folder / CASE).mkdir(parents=True)
    words: dict[str, str] = {"": ""}
    content: list[dict[str, Any]] = []
    for number, (role, volume) in enumerate(volumes.items(), start=1):
        # A Frame of Reference UID leads to a patient; the model is told only which images share one.
        frame = volume.image.frame_of_reference
        image = replace(volume.image, frame_of_reference=words.setdefault(frame, str(len(words))))
        arrays = {name: getattr(image, name) for name in _ARRAYS if getattr(image, name) is not None}
        for name, array in arrays.items():
            write_array(folder / CASE / f"{name}-{number}.npy", array)
        content.append({"role": role, "image": plain(image, without=_ARRAYS), "arrays": sorted(arrays)})
    source = {role: plain(volume, without=("image",)) for role, volume in volumes.items()}
    (folder / CASE / _CONTENT).write_text(json.dumps(content), encoding="utf-8")
    (folder / _SOURCE).write_text(json.dumps(source), encoding="utf-8")


def read_case(folder: Path) -> Case:
    """Return the images in a ``case/``; their voxels are mapped and cannot be written."""
    case: dict[str, Image] = {}
    content = json.loads((folder / _CONTENT).read_text(encoding="utf-8"))
    for number, entry in enumerate(content, start=1):
        arrays = {
            name: map_array(folder / f"{name}-{number}.npy") if name in entry["arrays"] else None
            for name in _ARRAYS
        }
        case[entry["role"]] = record_of(Image, entry["image"], given=arrays)
    return case


def read_volumes(folder: Path) -> Volumes:
    """Return the volumes that `write_case` was given."""
    case = read_case(folder / CASE)
    source = json.loads((folder / _SOURCE).read_text(encoding="utf-8"))
    return {role: record_of(Volume, source[role], given={"image": image}) for role, image in case.items()}
