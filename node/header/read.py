"""Read a data set up to its pixel data, whatever a sender may have written, at bounded cost.

pydicom inflates deflated data sets without any limit and believes every length; here the bytes
given to it are bounded first. About one millisecond for a CT slice.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from node.header.value import PARSE_ERRORS
from node.model import Instance
from pipelines.contract import InputRefused

#: Code of the refusal of what cannot be read.
UNREADABLE: Final = "unreadable"
#: A header is read in this many bytes where it fits, which it mostly does; else in `MORE` times as many.
PEEK_BYTES: Final = 16 * 1024
MORE: Final = 8
#: No header may be larger; 10 000 frames of functional groups take about a third of it.
MAX_HEADER_BYTES: Final = 64 << 20
#: Top-level elements; real objects have some hundreds.
MAX_ELEMENTS: Final = 20_000
#: Items of sequences, nested ones included. Eight bytes of file become two kilobytes of pydicom's
#: records; 10 000 frames that say all that a scanner can say have 380 000.
MAX_ITEMS: Final = 400_000
#: A deflated data set may always grow to this size, and beyond it by `MAX_INFLATE_RATIO` at most.
FREE_INFLATE_BYTES: Final = 16 << 20
MAX_INFLATE_RATIO: Final = 200

_PIXEL_TAGS: Final = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}

_FUNCTIONAL_GROUPS: Final = (
    BaseTag(0x52009229),  # Shared Functional Groups Sequence
    BaseTag(0x52009230),  # Per-Frame Functional Groups Sequence
)

#: Explicit VRs of pixel data whose length takes four bytes (PS3.5 7.1.2).
_LONG_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelElement:
    """Where the pixel data of a file lie."""

    keyword: str  #: "PixelData", "FloatPixelData" or "DoubleFloatPixelData"
    vr: str  #: "OB" or "OW"; "" where the encoding does not tell
    offset: int  #: of the value: in the file, or in the inflated stream when ``deflated_at`` is set
    length: int | None  #: in bytes; None: undefined (encapsulated)
    deflated_at: int | None  #: where in the file the deflated stream begins; None: not deflated


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A header and the place of the pixel data after it."""

    dataset: FileDataset
    pixels: PixelElement | None


def read_header(path: Path) -> FileDataset:
    """Return everything of a Part 10 file before its pixel data.

    Raises
    ------
    InputRefused
        ``unreadable``: not DICOM, cut off, or larger than any honest header.
    """
    return parse(path).dataset


def parse(path: Path) -> Parsed:
    """Return header and place of the pixel data of a Part 10 file; errors as `read_header`."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(PEEK_BYTES)
            while size > len(head):
                try:
                    return _parse(path, _Peek(head), file)
                except _NeedMoreError:
                    wanted = min(MORE * len(head), MAX_HEADER_BYTES) - len(head)
                    if not (more := file.read(wanted)):
                        break
                    head += more
            parsed = _parse(path, io.BytesIO(head), file)
            if parsed.pixels is None and size > len(head):
                raise _TooLargeError(f"its header has more than {MAX_HEADER_BYTES >> 20} MiB")
            return parsed
    except OSError as error:
        raise InputRefused(UNREADABLE, f"A file of this input cannot be read: {error.strerror}.") from error
    except (_NotDicomError, _TooLargeError) as error:
        raise InputRefused(UNREADABLE, f"A file of this input cannot be used: {error}.") from error
    except PARSE_ERRORS as error:
        # Only the kind of error is told: its text may quote patient data.
        kind = type(error).__name__
        raise InputRefused(
            UNREADABLE,
            f"A file of this input is broken or cut off and cannot be read as DICOM ({kind}). Send it again.",
        ) from error


def read_headers(
    instances: Iterable[Instance], keywords: Collection[str] | None = None
) -> tuple[dict[str, Dataset], list[str]]:
    """Return the headers by SOP Instance UID, and one sentence for each that cannot be read.

    Parameters
    ----------
    keywords
        Keep these elements alone, which a series of large multi-frame headers makes worth while;
        None keeps all.
    """
    headers: dict[str, Dataset] = {}
    unreadable: list[str] = []
    for instance in instances:
        try:
            header = read_header(instance.path)
        except InputRefused as refusal:
            unreadable.append(f"{instance.sop_instance_uid}: {refusal.sentence}")
            continue
        headers[instance.sop_instance_uid] = header if keywords is None else _only(header, keywords)
    return headers, unreadable


def _only(header: Dataset, keywords: Collection[str]) -> Dataset:
    """Return a header with these elements alone: at its top, and in its functional groups.

    What cannot be taken apart is kept whole, for whoever asks to find out why.
    """
    wanted = {tag_for_keyword(keyword) for keyword in keywords}
    kept = _elements(header, wanted)
    for groups in _FUNCTIONAL_GROUPS:
        if groups not in header or groups in kept:
            continue
        try:
            items = [_macros(item, wanted) for item in header[groups].value]
            kept.add_new(groups, "SQ", items)
        except Exception:  # noqa: BLE001  # pydicom converts late, and raises anything on a bad header
            kept[groups] = header.get_item(groups)
    return kept


def _macros(item: Dataset, wanted: Collection[int | None]) -> Dataset:
    """Return an item of functional groups with its macros cut down to some elements."""
    kept = Dataset()
    for element in item:
        if element.VR == "SQ" and not element.tag.is_private:
            macros = [cut for macro in element.value if len(cut := _elements(macro, wanted))]
            if macros:
                kept.add_new(element.tag, "SQ", macros)
    return kept


def _elements(dataset: Dataset, wanted: Collection[int | None]) -> Dataset:
    """Return a data set with some elements of another, as they were read."""
    kept = Dataset()
    is_implicit_vr, is_little_endian = dataset.original_encoding
    kept.set_original_encoding(is_implicit_vr, is_little_endian, dataset.original_character_set)
    for tag in wanted:
        if tag is not None and tag in dataset:
            kept[tag] = dataset.get_item(tag)
    return kept


def inflate(file: BinaryIO, start: int, limit: int) -> bytes:
    """Return at most ``limit`` bytes of a raw deflated stream (PS3.5 A.5).

    Raises
    ------
    ValueError
        It grows more than `MAX_INFLATE_RATIO`-fold beyond `FREE_INFLATE_BYTES`.
    """
    file.seek(start)
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    out = bytearray()
    eaten = 0
    while len(out) < limit and not engine.eof:
        chunk = engine.unconsumed_tail or file.read(64 * 1024)
        if not chunk:
            break
        before = len(chunk)
        out += engine.decompress(chunk, min(1 << 20, limit - len(out)))
        eaten += before - len(engine.unconsumed_tail)
        if len(out) > max(FREE_INFLATE_BYTES, MAX_INFLATE_RATIO * eaten):
            raise _TooLargeError("its deflated data set grows beyond all measure")
    return bytes(out)


def _parse(path: Path, head: io.BytesIO, file: BinaryIO) -> Parsed:
    if head.getvalue()[128:132] != b"DICM":
        raise _NotDicomError("it is not a DICOM Part 10 file")
    head.seek(132)
    meta = read_dataset(head, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    body_at = head.tell()
    syntax = UID(str(meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)))
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    deflated = syntax == DeflatedExplicitVRLittleEndian
    if deflated:
        head = io.BytesIO(inflate(file, body_at, MAX_HEADER_BYTES))

    item = b"\xfe\xff\x00\xe0" if little else b"\xff\xfe\xe0\x00"
    if len(content := head.getvalue()) > 8 * MAX_ITEMS and content.count(item) > MAX_ITEMS:
        raise _TooLargeError(f"its sequences have more than {MAX_ITEMS} items")

    count = 0
    found: tuple[str, str, int] | None = None

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal count, found
        count += 1
        if count > MAX_ELEMENTS:
            raise _TooLargeError(f"it has more than {MAX_ELEMENTS} elements")
        if tag in _PIXEL_TAGS:
            found = (_PIXEL_TAGS[tag], vr or "", length)
            return True
        return False

    dataset = read_dataset(head, implicit, little, stop_when=at_pixels)
    pixels = None
    if found is not None:
        keyword, vr, length = found
        pixels = PixelElement(
            keyword=keyword,
            vr=vr,
            offset=head.tell() + (12 if vr in _LONG_VRS else 8),
            length=None if length == 0xFFFFFFFF else length,
            deflated_at=body_at if deflated else None,
        )
    elif not dataset:
        raise _NotDicomError("it holds no data set")
    else:
        last = dataset.get_item(list(dataset.keys())[-1])  # in the order read
        if isinstance(last.value, bytes) and getattr(last, "length", 0) not in (len(last.value), 0xFFFFFFFF):
            raise EOFError
    whole = FileDataset(str(path), dataset, b"\0" * 128, FileMetaDataset(meta), implicit, little)
    whole.set_original_encoding(implicit, little, dataset.original_character_set)
    return Parsed(dataset=whole, pixels=pixels)


class _Peek(io.BytesIO):
    """The beginning of a longer file: says so when a read goes past it."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise _NeedMoreError
        return data


class _NeedMoreError(Exception):
    pass


class _NotDicomError(Exception):
    pass


class _TooLargeError(Exception):
    pass
