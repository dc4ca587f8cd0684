"""Reads who an object is, and whether it is whole, without decoding it.

The element headers of a data set (PS3.5 7.1) are followed to the end of the file. Values are
skipped, nothing recurses, nothing is held in memory, and everything that a hostile file may
exaggerate has a limit.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from node.errors import NotDicom

#: Transfer syntaxes of data sets (PS3.5 10 and A).
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

#: The elements that say who an object is, by tag.
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
STUDY_UID = 0x0020000D
SERIES_UID = 0x0020000E
_WANTED = frozenset({SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_UID, SERIES_UID})

_PIXEL_DATA = 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
#: PS3.5 table 7.1-2: value representations with a 16-bit length. All others have 32 bits.
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_USUAL = _SHORT | _LONG
_LITTLE = struct.Struct("<HHI")

_MAX_DEPTH = 100  #: sequences within sequences; real objects stay below 20
_MAX_ELEMENTS = 5_000_000
_MAX_PADDING_BYTES = 1 << 16
_MAX_UID_BYTES = 128  #: longer ones are not read; 64 are allowed
_MAX_INFLATED_BYTES = 1 << 30
_MOST_SKIMMED_BYTES = 64 << 10  #: mostly more than all before the pixels
_MAX_RATIO = 100  #: a deflated data set may grow by this much, once past the next limit
_RATIO_FREE_BYTES = 64 << 20


class _Ended(Exception):
    """The source has fewer bytes than were asked for."""


class _Source(Protocol):
    def at_end(self) -> bool: ...
    def read(self, count: int) -> bytes: ...
    def skip(self, count: int) -> None: ...


class _Plain:
    """The rest of an open file."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._left = size_bytes

    def at_end(self) -> bool:
        return self._left == 0

    def read(self, count: int) -> bytes:
        self._spend(count)
        return self._file.read(count)

    def skip(self, count: int) -> None:
        self._spend(count)
        self._file.seek(count, 1)

    def _spend(self, count: int) -> None:
        if count > self._left:
            raise _Ended
        self._left -= count


class _Inflating:
    """The rest of an open file as a deflate stream (PS3.5 A.5), a little at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._ready = b""
        self._taken = 0
        self._given = 0

    def at_end(self) -> bool:
        self._fill()
        return not self._ready

    def read(self, count: int) -> bytes:
        parts = []
        while count:
            self._fill()
            if not self._ready:
                raise _Ended
            part, self._ready = self._ready[:count], self._ready[count:]
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        while count:
            count -= len(self.read(min(count, 1 << 16)))

    def _fill(self) -> None:
        while not self._ready and not self._stream.eof:
            data = self._stream.unconsumed_tail
            if not data:
                data = self._file.read(1 << 16)
                self._taken += len(data)
                if not data:
                    raise NotDicom("The deflated data set is cut off.")
            try:
                self._ready = self._stream.decompress(data, 1 << 16)
            except zlib.error as error:
                raise NotDicom("The data set is not a deflate stream.") from error
            self._given += len(self._ready)
            if self._given > _MAX_INFLATED_BYTES or (
                self._given > _RATIO_FREE_BYTES and self._given > _MAX_RATIO * self._taken
            ):
                raise NotDicom("The deflated data set grows beyond all measure.")


@dataclass(frozen=True, slots=True)
class _Level:
    """What is being read: the elements of a data set or item, or the items of a sequence."""

    holds: str  #: "elements", "items" or "fragments"
    implicit: bool
    tag: int  #: of the sequence


def read_uids(
    path: Path | str,
    transfer_syntax_uid: str,
    offset: int,
    beginning: bytes | memoryview = b"",
    size_bytes: int | None = None,
) -> dict[int, str]:
    """Follow a data set to its end and return the UIDs that identify it.

    Parameters
    ----------
    path
        The file; from ``offset`` on it holds one data set.
    transfer_syntax_uid
        Tells byte order and deflation; whether the VRs are explicit is looked at.
    beginning
        The first bytes of the data set, where they are at hand: mostly they tell everything, and where
        they are all of it they do: the file is not opened.
    size_bytes
        Of the data set, where it is known.

    Returns
    -------
    dict
        Tag -> UID without padding, for those of SOP Class, SOP Instance, Study and Series
        Instance UID that are there. Their syntax is not judged.

    Raises
    ------
    NotDicom
        The data set is cut off, nested too deep, ambiguous, or no data set at all.
    """
    is_plain = transfer_syntax_uid not in (DEFLATED, EXPLICIT_BIG)
    if size_bytes is None:
        size_bytes = max(0, Path(path).stat().st_size - offset)
    skimmed = _skim(bytes(beginning[:_MOST_SKIMMED_BYTES]) if is_plain else b"", size_bytes)
    if 0 < size_bytes == skimmed.at:
        return skimmed.found
    is_all = len(beginning) == size_bytes
    with BytesIO(beginning) if is_all else Path(path).open("rb") as file:
        file.seek(skimmed.at if is_all else offset + skimmed.at)
        source: _Source = (
            _Inflating(file) if transfer_syntax_uid == DEFLATED else _Plain(file, size_bytes - skimmed.at)
        )
        return _Walk(source, skimmed, little=transfer_syntax_uid != EXPLICIT_BIG).uids()


@dataclass(frozen=True, slots=True)
class _Skimmed:
    """How far a data set was followed: to the beginning of an element at its top."""

    at: int
    tag: int  #: of the last one
    implicit: bool
    found: dict[int, str]


def _skim(data: bytes, size_bytes: int) -> _Skimmed:
    """Follow the first elements of a little endian data set, as long as there is nothing special about them.

    Whatever has no length, is cut off, comes twice or is no usual element is left to `_Walk`, which goes
    on there.
    """
    at, last, found = 0, 0, {}
    implicit = data[4:6] not in _USUAL
    here = len(data)
    while at + 12 <= here:
        group, number, length = _LITTLE.unpack_from(data, at)
        tag, value_at = group << 16 | number, at + 8
        if not implicit:
            vr = data[at + 4 : at + 6]
            if vr in _SHORT:
                length >>= 16
            elif vr in _LONG:
                length, value_at = int.from_bytes(data[at + 8 : at + 12], "little"), at + 12
            else:
                break
        end = value_at + length
        if group in (0, 0xFFFE) or length == _UNDEFINED or end > size_bytes:
            break
        if tag in _WANTED:
            if tag in found or length > _MAX_UID_BYTES or end > here:
                break
            found[tag] = plain_uid(data[value_at:end])
        at, last = end, tag
    return _Skimmed(at, last, implicit, found)


class _Walk:
    def __init__(self, source: _Source, skimmed: _Skimmed, *, little: bool) -> None:
        self._source = source
        self._skimmed = skimmed
        self._order = "<" if little else ">"
        self._at = skimmed.tag  #: of the element being read, for the complaint
        self._found = dict(skimmed.found)

    def uids(self) -> dict[int, str]:
        if self._source.at_end():
            raise NotDicom("The data set is empty.")
        try:
            self._follow()
        except _Ended:
            group, number = divmod(self._at, 1 << 16)
            raise NotDicom(
                f"The data set ends in the middle of ({group:04X},{number:04X}).", tags=(self._at,)
            ) from None
        return self._found

    def _follow(self) -> None:
        raw = self._source.read(8)
        # Senders get this wrong, so the first element is asked and not the transfer syntax.
        implicit = self._skimmed.implicit if self._skimmed.at else raw[4:6] not in _USUAL
        levels = [_Level("elements", implicit, 0)]
        for _ in range(_MAX_ELEMENTS):
            level = levels[-1]
            if level.holds == "elements":
                deeper = self._element(raw, level, top=len(levels) == 1)
            else:
                deeper = self._item(raw, level)
            if deeper is _END:
                if len(levels) > 1:
                    levels.pop()
            elif deeper is not None:
                levels.append(deeper)
                if len(levels) > _MAX_DEPTH:
                    raise NotDicom(f"The data set is nested deeper than {_MAX_DEPTH} levels.")
            if len(levels) == 1 and self._source.at_end():
                return
            raw = self._source.read(8)
        raise NotDicom(f"The data set has more than {_MAX_ELEMENTS} elements.")

    def _element(self, raw: bytes, level: _Level, *, top: bool) -> _Level | None:
        group, number, length = struct.unpack(self._order + "HHI", raw)
        tag = group << 16 | number
        vr = raw[4:6]
        if tag in (_ITEM_END, _SEQUENCE_END):
            if not top and tag != _ITEM_END:
                raise NotDicom("A sequence of the data set is broken.", tags=(level.tag,))
            return _END  # some writers leave a stray one at the top; it says nothing
        if top and tag == 0:
            self._padding(raw)
            return None
        self._at = tag
        implicit = level.implicit or not vr.isalpha() or not vr.isupper()
        if not implicit:
            if vr in _SHORT:
                length = struct.unpack(self._order + "H", raw[6:8])[0]
            else:
                length = struct.unpack(self._order + "I", self._source.read(4))[0]
        if length == _UNDEFINED:
            # Encapsulated pixel data (PS3.5 A.4), or a sequence; of unknown VR: implicit within (6.2.2)
            if tag == _PIXEL_DATA or (not implicit and vr in (b"OB", b"OW")):
                return _Level("fragments", implicit, tag)
            return _Level("items", implicit or vr == b"UN", tag)
        if top and tag in _WANTED:
            self._keep(tag, length)
        else:
            self._source.skip(length)
        return None

    def _item(self, raw: bytes, level: _Level) -> _Level | None:
        self._at = level.tag
        group, number, length = struct.unpack(self._order + "HHI", raw)
        tag = group << 16 | number
        if tag == _SEQUENCE_END:
            return _END
        if tag != _ITEM or (length == _UNDEFINED and level.holds == "fragments"):
            raise NotDicom("A sequence of the data set is broken.", tags=(level.tag,))
        if length == _UNDEFINED:
            return _Level("elements", level.implicit, level.tag)
        self._source.skip(length)
        return None

    def _keep(self, tag: int, length: int) -> None:
        if tag in self._found or length > _MAX_UID_BYTES:
            raise NotDicom("The data set does not say clearly who it is.", tags=(tag,))
        self._found[tag] = plain_uid(self._source.read(length))

    def _padding(self, raw: bytes) -> None:
        """Accept zeros at the end of a file, and nothing else of group 0."""
        for _ in range(_MAX_PADDING_BYTES):
            if any(raw):
                break
            if self._source.at_end():
                return
            raw = self._source.read(1)
        raise NotDicom("The data set holds something that is no data element.")


_END = _Level("end", False, 0)


def plain_uid(value: bytes) -> str:
    """Return a UI value without its padding (PS3.5 9.1: a NUL; spaces are seen as well)."""
    return value.decode("ascii", "replace").strip(" \0")
