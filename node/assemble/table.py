"""Look-up tables of a header: modality, VOI (PS3.3 C.11.1, C.11.2) and palette (C.7.6.3.1.5, C.7.9).

What a table says of its own length is checked against what it holds. A segmented palette writes
its table by itself; it stops at the length that the descriptor announces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.header.value import numbers_of, value_of

#: Opcodes of a segmented palette (PS3.3 C.7.9.2).
_DISCRETE, _LINEAR = 0, 1
_MOST_ENTRIES: Final = 1 << 16
_COLOURS: Final = ("Red", "Green", "Blue")


@dataclass(frozen=True, slots=True)
class Table:
    """Values for input ``first``, ``first + 1`` ...; what lies outside takes the nearest."""

    first: int
    bits: int  #: of an entry
    entries: NDArray[np.uint16]  #: (entries,) uint16, or (entries, 3) of a palette

    def of(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Return the entries of values; not a number takes the first."""
        index = np.nan_to_num(np.rint(values.astype(np.float32)) - np.float32(self.first))
        found: NDArray[np.uint16] = self.entries[np.clip(index, 0, len(self.entries) - 1).astype(np.intp)]
        return found

    @property
    def highest(self) -> int:
        """The largest value that an entry of these bits can have."""
        return (1 << self.bits) - 1


def table_of(holder: Dataset, *, signed: bool, little: bool) -> Table | None:
    """Return the table in an item of a Modality or VOI LUT Sequence; None if it cannot be used.

    Parameters
    ----------
    signed
        Whether input values may be below zero, which the first mapped value is written for.
    little
        Byte order of the data set.
    """
    said = _descriptor(holder, "LUTDescriptor", signed=signed)
    if said is None:
        return None
    count, first, bits = said
    entries = _words(value_of(holder, "LUTData"), bits, count, little=little)
    return None if entries is None else Table(first, max(bits, int(entries.max()).bit_length()), entries)


def palette_of(ds: Dataset, *, signed: bool, little: bool) -> Table | None:
    """Return the palette of an image: entries are (entries, 3), RGB; None if it cannot be used."""
    channels: list[NDArray[np.uint16]] = []
    first, bits = None, 0
    for colour in _COLOURS:
        name = f"{colour}PaletteColorLookupTable"
        said = _descriptor(ds, f"{name}Descriptor", signed=signed)
        if said is None or (first is not None and said[1] != first):
            return None
        count, first, bits = said
        entries = _words(value_of(ds, f"{name}Data"), bits, count, little=little)
        if entries is None:
            entries = _segmented(value_of(ds, f"Segmented{name}Data"), bits, count, little=little)
        if entries is None or (channels and len(entries) != len(channels[0])):
            return None
        channels.append(entries)
    whole = np.stack(channels, axis=-1)
    if bits == 16 and whole.max() <= 255:  # eight bits written as sixteen, which would be all black
        bits = 8
    return Table(first or 0, max(bits, int(whole.max()).bit_length()), whole)


def _descriptor(ds: Dataset, keyword: str, *, signed: bool) -> tuple[int, int, int] | None:
    """Return the number of entries, the first value mapped, and the bits of an entry."""
    said = numbers_of(ds, keyword, 3)
    if said is None or not all(v == int(v) for v in said):
        return None
    count, first, bits = (int(v) for v in said)
    count = (count & 0xFFFF) or _MOST_ENTRIES  # 0 means 65536; some write it as a signed number
    if not 8 <= bits <= 16 or not -(1 << 15) <= first < 1 << 16:
        return None
    if signed and first >= 1 << 15:  # PS3.3 C.11.2.1.1: its sign is that of the input
        first -= 1 << 16
    elif not signed and first < 0:
        first += 1 << 16
    return count, first, bits


def _words(data: Any, bits: int, count: int | None, *, little: bool) -> NDArray[np.uint16] | None:
    """Return entries as uint16; None when there are fewer than announced."""
    if isinstance(data, bytes):
        packed = bits == 8 and count is not None and len(data) in (count, count + 1)
        if packed and not little:  # two entries a word, the first in its low byte
            data = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype("<u2").tobytes()
        kind = "u1" if packed else f"{'<' if little else '>'}u2"
        words = np.frombuffer(data[: len(data) - len(data) % np.dtype(kind).itemsize], kind)
    elif isinstance(data, Iterable) and not isinstance(data, str):
        whole = [v for v in data if isinstance(v, int)]
        words = np.array(whole, dtype=np.int64) & 0xFFFF
    elif isinstance(data, int):
        words = np.array([data & 0xFFFF])
    else:
        return None
    if count is not None:
        if len(words) < count:
            return None
        words = words[:count]
    return words.astype(np.uint16)


def _segmented(data: Any, bits: int, count: int, *, little: bool) -> NDArray[np.uint16] | None:
    """Return the table that a segmented palette writes (PS3.3 C.7.9.2), or None for nonsense.

    Discrete and linear segments; the indirect ones, which repeat others, are not known.
    """
    stream = _words(data, 16, None, little=little)
    if stream is None:
        return None
    if bits == 8:  # the stream is of bytes, two in a word
        stream = stream.astype("<u2").view(np.uint8).astype(np.uint16)
    out = np.zeros(count, dtype=np.uint16)
    at = done = 0
    while done < count and at + 2 < len(stream):
        opcode, length = int(stream[at]), min(int(stream[at + 1]), count - done)
        if opcode == _DISCRETE:
            piece = stream[at + 2 : at + 2 + length]
            out[done : done + len(piece)] = piece
            at, done = at + 2 + int(stream[at + 1]), done + len(piece)
        elif opcode == _LINEAR and done:
            steps = np.linspace(float(out[done - 1]), float(stream[at + 2]), length + 1)[1:]
            out[done : done + length] = np.rint(steps)
            at, done = at + 3, done + length
        else:
            return None
    return out if done == count else None
