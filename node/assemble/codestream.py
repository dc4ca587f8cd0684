"""The size of a compressed frame as its codestream says it, before any decoder sees it.

A kilobyte of JPEG 2000 can ask for a gigabyte. What the codestream announces is compared with the
header first, so no decoder allocates more than the header was allowed to. Every loop here moves
forward by at least one byte.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_JP2_SIGNATURE: Final = b"\x00\x00\x00\x0cjP  "
_SOC_SIZ: Final = b"\xff\x4f\xff\x51"
#: Start-of-frame markers of JPEG and JPEG-LS (ITU-T T.81 table B.1, T.87).
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


class FrameSize(NamedTuple):
    """What a codestream will decode to."""

    rows: int
    columns: int
    samples: int
    bits: int


def strip_jp2(data: bytes) -> bytes:
    """Return the bare JPEG 2000 codestream of a frame that may be wrapped as a JP2 file.

    DICOM wants it bare (PS3.5 A.4.4); some senders wrap it, and pydicom's own search for it does
    not end when a box has length zero.

    Raises
    ------
    ValueError
        There is no codestream in the boxes.
    """
    if not data.startswith(_JP2_SIGNATURE):
        return data
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        start = at + 8
        if length == 1:  # an extended length follows
            length = int.from_bytes(data[at + 8 : at + 16], "big")
            start = at + 16
        if data[at + 4 : at + 8] == b"jp2c":
            return data[start:]
        if length < start - at:  # 0 means "to the end", and this was not the codestream
            break
        at += length
    raise ValueError("the JP2 wrapper holds no codestream")


def size_j2k(data: bytes) -> FrameSize:
    """Return the size of a bare JPEG 2000 or HTJ2K codestream (ISO/IEC 15444-1 A.5.1).

    Raises
    ------
    ValueError
        It does not begin with SOC and SIZ, or is cut off.
    """
    if not data.startswith(_SOC_SIZ) or len(data) < 43:
        raise ValueError("no JPEG 2000 codestream")
    width, height, left, top = (int.from_bytes(data[i : i + 4], "big") for i in (8, 12, 16, 20))
    samples = int.from_bytes(data[40:42], "big")
    return FrameSize(height - top, width - left, samples, (data[42] & 0x7F) + 1)


def size_jpeg(data: bytes) -> FrameSize:
    """Return the size of a JPEG or JPEG-LS codestream.

    Raises
    ------
    ValueError
        No start of frame is found, or it is cut off.
    """
    if not data.startswith(b"\xff\xd8"):
        raise ValueError("no JPEG codestream")
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ValueError("no marker where a JPEG marker must be")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _START_OF_FRAME:
            if at + 10 > len(data):
                break
            rows, columns = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            return FrameSize(rows, columns, data[at + 9], data[at + 4])
        if marker == 0xDA:  # start of scan before any frame
            break
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    raise ValueError("no start of frame in the JPEG codestream")


def check_jpeg_end(data: bytes) -> None:
    """Check that a codestream of JPEG or JPEG-LS has its end-of-image marker.

    Of a stream that was cut off, CharLS searches the rest for many seconds, and libjpeg makes one up.

    Raises
    ------
    ValueError
        It ends without the marker; padding bytes after it are allowed.
    """
    if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise ValueError("the codestream is cut off")


def check_rle(data: bytes) -> None:
    """Check the segment table of an RLE frame (PS3.5 G.5).

    Raises
    ------
    ValueError
        Segments are out of order or out of the frame.
    """
    if len(data) < 64:
        raise ValueError("an RLE frame has a header of 64 bytes")
    table = [int.from_bytes(data[i : i + 4], "little") for i in range(0, 64, 4)]
    offsets = table[1 : 1 + table[0]]
    if not 1 <= table[0] <= 15 or offsets[0] != 64 or offsets != sorted(set(offsets)):
        raise ValueError("the RLE segment table is broken")
    if offsets[-1] >= len(data):
        raise ValueError("an RLE segment lies outside its frame")
