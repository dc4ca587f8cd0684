"""Takes multipart bodies apart (RFC 2046 5.1) as they come, without ever holding one.

Fed with whatever arrived, `Reader` gives events: a part begins, some of its octets, it ends. Only as much
is held back as could be the beginning of a boundary, and heads of parts, which have a largest size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

#: RFC 2046 5.1.1, without the space, which may not stand last: here nowhere. It allows 70 characters, and
#: Orthanc's STOW-RS client has 73.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=?]{1,200}")
_MAX_HEAD_BYTES = 8192
_MAX_PREAMBLE_BYTES = 8192
_MAX_PADDING_BYTES = 256  #: white space behind a boundary


class MultipartError(ValueError):
    """The body is not the multipart that it was said to be."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A part begins."""

    headers: Mapping[str, str]  #: by name in lower case; of several, the first


@dataclass(frozen=True, slots=True)
class Ended:
    """The part that began last is whole."""


#: What `Reader.feed` gives; octets belong to the part that began last.
Event = Begun | bytes | Ended

_State = Literal["preamble", "boundary", "head", "body", "epilogue"]


class Reader:
    """Reads one multipart body.

    Parameters
    ----------
    boundary
        As the ``boundary`` parameter of Content-Type has it, without quotes.

    Raises
    ------
    MultipartError
        The boundary is none.
    """

    def __init__(self, boundary: str) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise MultipartError("The boundary is missing, too long, or holds what no boundary may hold.")
        self._mark = b"\r\n--" + boundary.encode("ascii")
        self._held = bytearray(b"\r\n")  # so that a boundary at the very beginning stands on a line too
        self._state: _State = "preamble"
        self._is_fresh = False  #: the line end between head and body is still there

    @property
    def is_whole(self) -> bool:
        """Whether the closing boundary has come."""
        return self._state == "epilogue"

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield what these octets bring; exhaust it before the next call.

        Raises
        ------
        MultipartError
            Something stands where a boundary or a head must stand, or is larger than it may be.
        """
        if self.is_whole:  # an epilogue says nothing
            return
        self._held += data
        while (event := self._next()) is not None:
            yield from event

    def _next(self) -> list[Event] | None:
        """Take one step; None: more must come."""
        if self._state == "preamble":
            return self._seek([], _MAX_PREAMBLE_BYTES)
        if self._state == "boundary":
            return self._after_boundary()
        if self._state == "head":
            return self._head()
        if self._state == "body":
            return self._body()
        return None

    def _seek(self, at_end: list[Event], limit: int) -> list[Event] | None:
        at = self._held.find(self._mark)
        if at < 0:
            if len(self._held) > limit:
                raise MultipartError("The body does not begin with the boundary that Content-Type names.")
            return None
        del self._held[: at + len(self._mark)]
        self._state = "boundary"
        return at_end

    def _body(self) -> list[Event] | None:
        if self._is_fresh:
            if not self._held.startswith(self._mark):  # it is a part without a body otherwise
                if self._mark.startswith(self._held):
                    return None
                del self._held[:2]
            self._is_fresh = False
        at = self._held.find(self._mark)
        # A boundary may have come in part; so much is held back.
        ready = at if at >= 0 else len(self._held) - len(self._mark) + 1
        events: list[Event] = []
        if ready > 0:
            with memoryview(self._held) as view:
                events.append(bytes(view[:ready]))
            del self._held[:ready]
        if at >= 0:
            del self._held[: len(self._mark)]
            self._state = "boundary"
            events.append(Ended())
        return events or None

    def _after_boundary(self) -> list[Event] | None:
        """Tell the end of the whole from the begin of a part."""
        if self._held[:2] == b"--":
            self._state = "epilogue"
            self._held.clear()
            return None
        end = self._held.find(b"\r\n")
        if end < 0 and len(self._held) <= _MAX_PADDING_BYTES:
            return None
        if end < 0 or self._held[:end].strip(b" \t"):
            raise MultipartError("Something else stands behind a boundary.")
        del self._held[:end]  # the line end stays: an empty head is a line end alone
        self._state = "head"
        return []

    def _head(self) -> list[Event] | None:
        end = self._held.find(b"\r\n\r\n")
        if end > _MAX_HEAD_BYTES or (end < 0 and len(self._held) > _MAX_HEAD_BYTES):
            raise MultipartError(f"The head of a part is longer than {_MAX_HEAD_BYTES} bytes.")
        if end < 0:
            return None
        text = bytes(self._held[:end]).decode("latin-1")
        del self._held[: end + 2]  # the line end stays: a boundary may follow upon it at once
        self._state, self._is_fresh = "body", True
        headers: dict[str, str] = {}
        for line in re.sub(r"\r\n[ \t]+", " ", text).split("\r\n"):  # folded lines (RFC 5322 2.2.3)
            name, colon, value = line.partition(":")
            if line and not (colon and name.strip()):
                raise MultipartError("The head of a part has a line that is no header.")
            if line:
                headers.setdefault(name.strip().lower(), value.strip())
        return [Begun(headers)]
