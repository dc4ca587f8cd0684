"""Findings in files. Writing is done in a pipeline's own process, so reading believes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from node.compute.complaint import MOST_ENTRIES
from node.compute.exchange.arrays import Unreadable, opened, read_array, read_text, write_array
from node.compute.exchange.typed import Untyped, plain, record_of
from node.compute.findings import validate
from node.compute.pointed import MOST_MAPS
from node.errors import FindingsInvalid
from pipelines.contract import Card, Case, Findings, Map

FINDINGS: Final = "findings"
LONGEST_JSON: Final = 128 << 20  #: a million points take about half of it
_CONTENT: Final = "findings.json"
_LABELS: Final = ("uint8", "uint16", "uint32", "uint64")


def write_findings(findings: Findings, folder: Path) -> None:
    """Write findings that `validate` found in order into a new folder."""
    folder.mkdir()
    labelmap, masks = findings.labelmap, findings.masks
    if labelmap is not None:
        write_array(folder / "labelmap.npy", labelmap)
    if masks is not None:  # (segments, bytes): eight voxels in each, in C order
        packed = (np.packbits(mask) for mask in masks)
        write_array(folder / "masks.npy", np.stack([*packed]) if len(masks) else np.zeros((0, 0), np.uint8))
    for number, one in enumerate(findings.maps, start=1):
        write_array(folder / f"map-{number}.npy", one.array)
    content = plain(findings, without=("labelmap", "masks", "maps")) | {
        "labelmap": None if labelmap is None else labelmap.dtype.name,
        "masks": masks is not None,
        "maps": [plain(one, without=("array",)) for one in findings.maps],
    }
    (folder / _CONTENT).write_text(json.dumps(content), encoding="utf-8")


def read_findings(folder: Path, card: Card, case: Case) -> Findings:
    """Read and judge what a pipeline's process left as ``findings/`` in a folder of ours.

    Parameters
    ----------
    case
        The images as the node built them.

    Raises
    ------
    FindingsInvalid
        A file is missing or is not what it has to be, or the findings break the contract.
    """
    try:
        with opened(folder / FINDINGS) as descriptor:
            findings = _read(descriptor, card, case)
    except (Unreadable, Untyped) as error:
        raise FindingsInvalid(f"What {card.name} left cannot be used: {error}.") from error
    if complaints := validate(findings, card, case):
        raise FindingsInvalid(f"{card.name} broke its contract: {'; '.join(complaints[:5])}.")
    return findings


def _read(folder: int, card: Card, case: Case) -> Findings:
    try:
        content: Any = json.loads(read_text(folder, _CONTENT, LONGEST_JSON))
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{_CONTENT} is no JSON") from error
    if not isinstance(content, dict):
        raise Untyped(f"{_CONTENT} holds no mapping")
    arrays = {name: content.pop(name, None) for name in ("labelmap", "masks", "maps")}
    bare = record_of(Findings, content, given={"labelmap": None, "masks": None, "maps": ()}, name="findings")
    role = bare.role if bare.role is not None else next(iter(card.inputs))
    if role not in case:
        raise Untyped(f"its outlines are on the grid of {role!r}, which is no input")
    shape = case[role].array.shape  # (slices, rows, columns)
    if len(bare.segments) > MOST_ENTRIES:
        raise Untyped(f"it names {len(bare.segments)} segments")
    given = {
        "labelmap": _labelmap(folder, arrays["labelmap"], shape),
        "masks": _masks(folder, arrays["masks"], len(bare.segments), shape),
        "maps": _maps(folder, arrays["maps"], shape),
    }
    return record_of(Findings, content, given=given, name="findings")


def _labelmap(folder: int, kind: Any, shape: tuple[int, ...]) -> NDArray[np.unsignedinteger] | None:
    if kind is None:
        return None
    if kind not in _LABELS:
        raise Untyped(f"its label map is of none of the types {', '.join(_LABELS)}")
    return read_array(folder, "labelmap.npy", kind, shape)


def _masks(folder: int, is_there: Any, count: int, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if is_there is not True:
        return None
    voxels = int(np.prod(shape, dtype=object))
    packed = read_array(folder, "masks.npy", np.uint8, (count, -(-voxels // 8) if count else 0))
    masks = np.empty((count, *shape), np.bool_)
    for mask, bits in zip(masks, packed, strict=True):
        mask[...] = np.unpackbits(bits, count=voxels).view(np.bool_).reshape(shape)
    return masks


def _maps(folder: int, entries: Any, shape: tuple[int, ...]) -> tuple[Map, ...]:
    if not isinstance(entries, list) or len(entries) > MOST_MAPS:
        raise Untyped(f"its maps are not a list of at most {MOST_MAPS}")
    return tuple(
        record_of(Map, entry, given={"array": read_array(folder, f"map-{number}.npy", np.float32, shape)})
        for number, entry in enumerate(entries, start=1)
    )
