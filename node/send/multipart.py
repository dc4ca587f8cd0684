"""The body of a store request: Part 10 files, one after the other, from disk (PS3.18 8.7.1, 10.5.1)."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import IO

from pydicom.uid import ExplicitVRLittleEndian

from node.errors import SendError
from node.model import ResultObject
from node.send.syntax import unpacked

CHUNK_BYTES = 1 << 16
#: What surrounds a file costs less than this.
FRAME_BYTES = 256


class Multipart:
    """A multipart/related body (RFC 2387) that is read from files while it is sent.

    Parameters
    ----------
    unpack
        Transfer Syntax UIDs that are not to be sent; such objects go in Explicit VR Little Endian.
    """

    def __init__(self, things: Sequence[ResultObject], unpack: frozenset[str]) -> None:
        self._things, self._unpack = things, unpack
        self._boundary = secrets.token_hex(16)
        self._files = ExitStack()

    def __enter__(self) -> Multipart:
        with ExitStack() as opened:
            parts = [opened.enter_context(self._opened(thing)) for thing in self._things]
            self._parts = [(part, part.seek(0, 2)) for part in parts]
            self._files = opened.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._files.close()

    @property
    def headers(self) -> dict[str, str]:
        """Content-Type, and the length: some servers and proxies take no chunks.

        The boundary has no quotation marks; there are servers that would take them for a part of it.
        """
        length = sum(len(self._head) + size + 2 for _, size in self._parts) + len(self._end)
        kind = f'multipart/related; type="application/dicom"; boundary={self._boundary}'
        return {"Content-Type": kind, "Content-Length": str(length)}

    def __iter__(self) -> Iterator[bytes]:
        for part, size in self._parts:
            yield self._head
            part.seek(0)
            left = size
            while left:
                chunk = part.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise SendError("A file became shorter while it was sent.")
                left -= len(chunk)
                yield chunk
            yield b"\r\n"
        yield self._end

    @property
    def _head(self) -> bytes:
        return f"--{self._boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()

    @property
    def _end(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()

    def _opened(self, thing: ResultObject) -> IO[bytes]:
        if thing.transfer_syntax_uid not in self._unpack:
            return thing.path.open("rb")
        dataset = unpacked(thing)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        with ExitStack() as opened:
            copy = opened.enter_context(tempfile.TemporaryFile())
            dataset.save_as(copy, enforce_file_format=True)
            opened.pop_all()
            return copy
