"""File meta information (PS3.10 7.1): what that of a file says, where its data set begins, and our own."""

from __future__ import annotations

import struct

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.accept.header import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, plain_uid
from node.errors import NotDicom
from node.uid import is_harmless

META_SOP_CLASS, META_SOP_INSTANCE, META_TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010  #: of group 2
MAX_META_BYTES = 1 << 20
PREAMBLE_BYTES = 132  #: with its prefix

_DICOMDIR = "1.2.840.10008.1.3.10"  #: Media Storage Directory Storage, PS3.3 F


def read_meta(head: bytes, at: int) -> tuple[dict[int, str], int]:
    """Return the UIDs of the file meta information by element number, and where it ends.

    When that is not within ``head``, or is its very end, more of the file may be needed.
    """
    found: dict[int, str] = {}
    while head[at : at + 2] == b"\x02\x00" and at + 8 <= len(head):
        number, vr, length = struct.unpack_from("<H2sH", head, at + 2)
        at += 8
        if vr in (b"OB", b"UN"):
            if at + 4 > len(head):
                return found, len(head) + 1
            length = int.from_bytes(head[at : at + 4], "little")
            at += 4
        if vr == b"UI":
            found[number] = plain_uid(head[at : at + length])
        at += length
    if head[at : at + 2] == b"\x02\x00":
        return found, len(head) + 1
    return found, at


def begin(head: bytes) -> tuple[str, int, dict[int, str]]:
    """Return the transfer syntax of a file, where its data set begins, and its meta information.

    Preamble and meta information may be absent if the file is plainly a data set all the same.

    Parameters
    ----------
    head
        The file, or so much of it that its meta information lies within.

    Raises
    ------
    NotDicom
        Empty, text, a DICOMDIR, cut off, without a Transfer Syntax UID that is one, or anything else.
    """
    if not head:
        raise NotDicom("The file is empty.")
    if head[128:PREAMBLE_BYTES] == b"DICM":
        start = PREAMBLE_BYTES
    elif head[:2] == b"\x02\x00":
        start = 0  # the preamble is missing, the meta is there
    else:
        return guess(head), 0, {}
    meta, offset = read_meta(head, start)
    if offset > len(head):
        raise NotDicom("The file ends in the middle of its meta information.")
    if meta.get(META_SOP_CLASS) == _DICOMDIR:
        raise NotDicom("This is a DICOMDIR, a list of other files.")
    syntax = meta.get(META_TRANSFER_SYNTAX) or guess(head[offset:])
    if not is_harmless(syntax):  # it is written down, so it must be what it says
        raise NotDicom("The Transfer Syntax UID of the file is malformed.")
    return syntax, offset, meta


def guess(head: bytes) -> str:
    """Recognise a data set without meta information by its first element, which is of group 8.

    Raises
    ------
    NotDicom
        It is none.
    """
    group, number, length = struct.unpack("<HHI", head[:8].ljust(8, b"\0"))
    vr = head[4:6]
    if group == 0x0008 and vr.isalpha() and vr.isupper():
        return EXPLICIT_LITTLE
    if group == 0x0008 and number <= 0x0018 and length <= 128:
        return IMPLICIT_LITTLE
    if head[:2] == b"\x00\x08" and vr.isalpha() and vr.isupper():
        return EXPLICIT_BIG
    raise NotDicom("This is no DICOM file.")


def part10_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return zero preamble, prefix and file meta information (PS3.10 7.1), all our own."""

    def element(number: int, vr: bytes, value: bytes) -> bytes:
        value += (b" " if vr == b"SH" else b"\0") * (len(value) % 2)
        return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value

    def uid(text: str) -> bytes:
        return text.encode("ascii", "replace")[:64]

    version = struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01"
    meta = version + b"".join(
        element(number, vr, value)
        for number, vr, value in (
            (META_SOP_CLASS, b"UI", uid(sop_class_uid)),
            (META_SOP_INSTANCE, b"UI", uid(sop_instance_uid)),
            (META_TRANSFER_SYNTAX, b"UI", uid(transfer_syntax_uid)),
            (0x0012, b"UI", uid(IMPLEMENTATION_CLASS_UID)),
            (0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
        )
    )
    return bytes(128) + b"DICM" + element(0x0000, b"UL", struct.pack("<I", len(meta))) + meta
