"""What a pipeline outlined, kept beside the results for pipelines that take it as an input.

One zip: ``grid.json`` says what the grid is of and what the segments are called, ``labelmap.npy`` or
``mask-1.npy``, ``mask-2.npy`` ... (eight voxels in each byte, in C order) hold the voxels. They are as
they were judged and encoded, and the manifest vouches for the file, so it is read without suspicion.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from node.durable import sync_file
from node.errors import FindingsInvalid
from node.model import Made, Volume
from pipelines.contract import Findings, InputRefused

OUTLINES: Final = "outlines.zip"
_GRID: Final = "grid.json"
AFFINE_MM: Final = 1e-4  #: how far two affines of one grid may be apart


def write_outlines(findings: Findings, volume: Volume, folder: Path) -> str:
    """Write the outlines of findings that were judged; return the SHA-256 of the file.

    Parameters
    ----------
    volume
        Whose grid they are on.
    """
    grid = {
        "shape": volume.image.array.shape,  # (slices, rows, columns)
        "affine": volume.image.affine.tolist(),
        "slices": _slices(volume),
        "labels": [segment.label for segment in findings.segments],
    }
    path = folder / OUTLINES
    with path.open("xb") as kept:
        _write_all(kept, grid, findings)
        sync_file(kept)
    with path.open("rb") as kept:
        return hashlib.file_digest(kept, "sha256").hexdigest()


def _write_all(kept: IO[bytes], grid: Any, findings: Findings) -> None:
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr(_GRID, json.dumps(grid))
        if findings.labelmap is not None:
            _write(file, "labelmap.npy", findings.labelmap)
        for number, mask in enumerate(findings.masks if findings.masks is not None else (), start=1):
            _write(file, f"mask-{number}.npy", np.packbits(mask))


def read_outlines(made: Made, segments: Sequence[str], role: str, like: Volume) -> NDArray[np.float32]:
    """Return outlines as an input: (slices, rows, columns), 0 outside, 1, 2, 3 ... in each segment.

    Parameters
    ----------
    segments
        Labels of what is wanted, in this order; none: all there are. One that was not found is
        nowhere.
    role
        Of the input, for the sentences.
    like
        On whose grid they have to be.

    Raises
    ------
    FindingsInvalid
        The file is gone, or not what was kept.
    InputRefused
        ``other-grid``: they are on another one.
    """
    try:
        with made.path.open("rb") as kept:
            if hashlib.file_digest(kept, "sha256").hexdigest() != made.sha256:
                raise FindingsInvalid(f"What {made.pipeline} outlined is no longer what was kept of it.")
            kept.seek(0)
            with zipfile.ZipFile(kept) as file:
                grid = json.loads(file.read(_GRID))
                if not _is_same(grid, like):
                    raise InputRefused(
                        "other-grid",
                        f"Input {role!r}: {made.pipeline} reads this series in another way, so that its "
                        "outlines do not lie on the images that this pipeline sees.",
                    )
                return _painted(file, grid["labels"], segments, like.image.array.shape)
    except OSError as error:
        raise FindingsInvalid(
            f"What {made.pipeline} outlined cannot be read: {error.strerror or type(error).__name__}."
        ) from error


def _painted(
    file: zipfile.ZipFile, labels: Sequence[str], segments: Sequence[str], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    image = np.zeros(shape, np.float32)
    labelmap = _read(file, "labelmap.npy") if "labelmap.npy" in file.namelist() else None
    for value, label in enumerate(segments, start=1):
        for number in (number for number, one in enumerate(labels, start=1) if one == label):
            image[_mask(file, labelmap, number, shape)] = value
    if not segments:
        for number in range(1, len(labels) + 1):
            image[_mask(file, labelmap, number, shape)] = number
    return image


def _mask(
    file: zipfile.ZipFile, labelmap: NDArray[Any] | None, number: int, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    if labelmap is not None:
        equal: NDArray[np.bool_] = labelmap == number
        return equal
    bits = np.unpackbits(_read(file, f"mask-{number}.npy"), count=int(np.prod(shape)))
    return bits.view(np.bool_).reshape(shape)


def _slices(volume: Volume) -> list[list[Any]]:
    return [[plane.sop_instance_uid, plane.frame] for plane in volume.slices]


def _is_same(grid: Any, like: Volume) -> bool:
    return (
        tuple(grid["shape"]) == like.image.array.shape
        and grid["slices"] == _slices(like)
        and bool(np.allclose(grid["affine"], like.image.affine, rtol=0, atol=AFFINE_MM))
    )


def _write(file: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with file.open(name, "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, array, allow_pickle=False)


def _read(file: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with file.open(name) as entry:
        return np.lib.format.read_array(entry, allow_pickle=False)
