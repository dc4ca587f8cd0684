"""Where a file's data set begins, and what it is written in."""

from __future__ import annotations

import struct

import pytest

from node.accept.part10 import begin
from node.errors import NotDicom


def file_in(syntax: bytes) -> bytes:
    """Return the beginning of a file whose meta information has this Transfer Syntax UID alone."""
    syntax += b"\0" * (len(syntax) % 2)
    return bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax + bytes(8)


def test_a_file_says_what_it_is_written_in():
    syntax, offset, _ = begin(file_in(b"1.2.840.10008.1.2.1"))
    assert (syntax, offset) == ("1.2.840.10008.1.2.1", 160)


@pytest.mark.parametrize("text", [b"DOE^JANE", b"../../etc/passwd", b"1." * 40 + b"1", b"1.2\n3"])
def test_what_is_no_uid_is_no_transfer_syntax_and_is_not_repeated(text: bytes):
    with pytest.raises(NotDicom) as caught:
        begin(file_in(text))
    assert text.decode() not in str(caught.value)
