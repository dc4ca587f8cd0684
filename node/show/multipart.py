"""Writes multipart/related (RFC 2387, PS3.18 8.6), part by part; `node.multipart` reads it."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Send

from node.show.media import RELATED

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part. Its body may be long, and is asked for only when its turn comes."""

    media_type: str
    body: bytes | Iterable[bytes]
    transfer_syntax: str = ""  #: a UID; "" where none applies
    location: str = ""  #: where it is to be had alone


def related(parts: Iterable[Part], media_type: str, *, status: int = 200) -> StreamingResponse:
    """Return a multipart/related answer.

    The parts are asked for in a thread, one after another. Should one raise in the middle, the connection
    is cut: an answer that ends without its closing boundary is plainly not whole.

    Parameters
    ----------
    media_type
        Of the parts: the ``type`` of the whole.
    """
    boundary = secrets.token_hex(16)
    return Streamed(
        written(parts, boundary),
        status_code=status,
        media_type=f'{RELATED}; type="{media_type}"; boundary={boundary}',
    )


class Streamed(StreamingResponse):
    """An answer that comes piece by piece out of a generator, which is closed however it ends.

    It runs in threads, and holds a file open meanwhile; a caller who leaves must not leave that behind.
    """

    def __init__(self, pieces: Generator[bytes], **more: Any) -> None:
        self._pieces = pieces
        super().__init__(pieces, **more)

    async def stream_response(self, send: Send) -> None:
        """Send it."""
        try:
            await super().stream_response(send)
        finally:
            self._pieces.close()


def written(parts: Iterable[Part], boundary: str) -> Generator[bytes]:
    """Yield the octets of a multipart body."""
    for part in parts:
        yield _head(part, boundary)
        if isinstance(part.body, bytes):
            for at in range(0, len(part.body), _CHUNK_BYTES):
                yield part.body[at : at + _CHUNK_BYTES]
        else:
            yield from part.body
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")


def _head(part: Part, boundary: str) -> bytes:
    kind = part.media_type
    if part.transfer_syntax:
        kind += f"; transfer-syntax={part.transfer_syntax}"
    lines = [f"--{boundary}", f"Content-Type: {kind}"]
    if part.location:
        lines.append(f"Content-Location: {part.location}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")
