"""Frames as a viewer shows them at first sight: what the header says of grey values and colours.

The pieces are those that `load_planes` is made of; here they serve one frame at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.assemble.colour import eight_bits
from node.assemble.look import Look, Window, look_of
from node.assemble.pixels import PixelFormat, pixel_format, read_frames
from node.assemble.reason import Reason, refused
from node.assemble.table import Table, palette_of
from node.header import Parsed
from node.header.value import integer_of, items_of


def groups_of(ds: Dataset, frames: int) -> list[tuple[Dataset, ...]]:
    """Return the functional groups of every frame, or once for all where frames have none of their own."""
    shared = items_of(ds, "SharedFunctionalGroupsSequence")[:1]
    own = items_of(ds, "PerFrameFunctionalGroupsSequence")
    return [(one, *shared) for one in own] if len(own) == frames else [tuple(shared)]


def looks_of(
    ds: Dataset, format_: PixelFormat, groups: Sequence[Sequence[Dataset]]
) -> tuple[tuple[Look, ...], list[str]]:
    """Return the looks of grey frames, () of those in colour; and notes on what cannot be used."""
    if format_.is_colour:
        return (), []
    looks, notes = [], []
    for group in groups:
        look, said = look_of(ds, format_, group)
        looks.append(look)
        notes += said
    if any(look.voi is None for look in looks):
        notes.append("No window is given: the darkest and the brightest pixel became black and white")
    return tuple(looks), notes


def palette_for(parsed: Parsed, format_: PixelFormat) -> Table | None:
    """Return the palette of an image that has one.

    Raises
    ------
    InputRefused
        ``colour-unknown``: it is missing or broken.
    """
    if format_.photometric != "PALETTE COLOR":
        return None
    ds = parsed.dataset
    palette = palette_of(ds, signed=format_.signed, little=ds.original_encoding[1] is not False)
    if palette is None:
        raise refused(Reason.COLOUR_UNKNOWN, "The palette of the images is missing or broken.")
    return palette


def shown_frame(parsed: Parsed, path: Path, index: int, window: Window | None = None) -> NDArray[np.uint8]:
    """Return one frame as a viewer shows it.

    Parameters
    ----------
    index
        Of the frame, from 0.
    window
        In place of what the header says; of no use for colours.

    Returns
    -------
    array
        (rows, columns) uint8, 0 black and 255 white; in colour (rows, columns, 3) uint8 RGB.

    Raises
    ------
    InputRefused
        It is no image, or cannot be decoded or shown.
    """
    ds = parsed.dataset
    if integer_of(ds, "BitsAllocated") == 1:
        return _mask(parsed, path, index)
    format_ = pixel_format(parsed, path, for_display=True)
    _check_frame(index, format_.frames)
    ((_, stored),) = read_frames(path, format_, [index])
    if format_.is_colour:
        palette, bits = palette_for(parsed, format_), format_.bits_stored
        if palette is not None:
            stored, bits = palette.of(stored), palette.bits
        return eight_bits(stored, bits)
    groups = groups_of(ds, format_.frames)
    look, _ = look_of(ds, format_, groups[min(index, len(groups) - 1)])
    if window is not None:
        look = Look(padding=look.padding, modality=look.modality, voi=window, inverted=look.inverted)
    values = np.empty(stored.shape, dtype=np.float32)
    look.measured(stored, values)
    image = values[~np.isnan(values)]
    low, high = (float(image.min()), float(image.max())) if image.size else (inf, -inf)
    look.display(values, (low, high))
    grey: NDArray[np.uint8] = np.rint(values * np.float32(255.0)).astype(np.uint8)
    return grey


def _check_frame(index: int, frames: int) -> None:
    if not 0 <= index < frames:
        raise refused(Reason.NOT_DECODABLE, f"There is no frame {index + 1}: the image has {frames}.")


def _mask(parsed: Parsed, path: Path, index: int) -> NDArray[np.uint8]:
    """Return a frame of one bit per pixel: frames follow each other without any gap (PS3.5 8.1.1)."""
    ds, element = parsed.dataset, parsed.pixels
    rows, columns = integer_of(ds, "Rows") or 0, integer_of(ds, "Columns") or 0
    _check_frame(index, integer_of(ds, "NumberOfFrames") or 1)
    begin = index * rows * columns
    end = begin + rows * columns
    if element is None or element.length is None or element.deflated_at is not None or begin == end:
        raise refused(Reason.NOT_DECODABLE, "These masks are compressed, which this node does not decode.")
    with path.open("rb") as file:
        file.seek(element.offset + begin // 8)
        data = file.read((end + 7) // 8 - begin // 8)
    bits: NDArray[Any] = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    bits = bits[begin % 8 : begin % 8 + rows * columns]
    if bits.size != rows * columns:
        raise refused(Reason.NOT_DECODABLE, "The pixel data end too early.")
    return (bits.reshape(rows, columns) * np.uint8(255)).astype(np.uint8)
