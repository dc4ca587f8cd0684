"""How the node and a worker talk: JSON objects, each after its length in four bytes.

Text only, so that nothing a worker sends can run in the node. What a worker says about a failure
travels as a code and a sentence and becomes the same error class here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

from node import errors
from node.errors import ComputeError, NodeError
from node.text import clean
from pipelines.contract import InputRefused

#: A worker is hostile until proven otherwise: nothing longer than this is read.
LONGEST_MESSAGE = 8 << 20

_LENGTH = struct.Struct(">I")


class WireError(Exception):
    """The other side does not speak this language."""


def pack(message: dict[str, Any]) -> bytes:
    """Return a message as it goes over the pipe."""
    content = json.dumps(message).encode()
    if len(content) > LONGEST_MESSAGE:
        raise WireError(f"a message of {len(content)} bytes is too long")
    return _LENGTH.pack(len(content)) + content


class Unpacker:
    """Puts messages together from whatever pieces the pipe gives."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether nothing came that was not taken."""
        return not self._waiting

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """Yield every message that is whole now.

        Raises
        ------
        WireError
            Too long, or not a JSON object.
        """
        self._waiting += piece
        while len(self._waiting) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._waiting)
            if length > LONGEST_MESSAGE:
                raise WireError(f"a message of {length} bytes is too long")
            end = _LENGTH.size + length
            if len(self._waiting) < end:
                return
            content = bytes(self._waiting[_LENGTH.size : end])
            del self._waiting[:end]
            try:
                message = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise WireError("a message is not JSON") from error
            if not isinstance(message, dict):
                raise WireError("a message is not a JSON object")
            yield message


def error_to_wire(error: NodeError | InputRefused) -> dict[str, str]:
    """Return what identifies an error on the other side."""
    if isinstance(error, InputRefused):
        return {"refused": clean(error.code, 64), "sentence": clean(error.sentence)}
    return {"code": error.code, "sentence": clean(str(error))}


def error_from_wire(said: dict[str, Any]) -> NodeError | InputRefused:
    """Make the error again that a worker reported.

    Only the node itself stops, cancels or answers a sender; a worker cannot say that it did, or its
    job would wait for ever.
    """
    sentence = clean(str(said.get("sentence", "")))
    if "refused" in said:
        return InputRefused(clean(str(said["refused"]), 64), sentence)
    return _BY_CODE.get(str(said.get("code")), ComputeError)(sentence)


def _classes(root: type[NodeError]) -> Iterator[type[NodeError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


_BY_CODE = {kind.code: kind for kind in _classes(errors.NodeError) if kind.then in ("retry", "fail")}
