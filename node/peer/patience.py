"""A connection that waits for its peer for as long as what has been moved is worth, and no longer.

The libraries bound the time of each reading and writing, not that of an exchange: who sends a byte
now and then would hold us for ever.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

#: A peer that moves less than this is as good as gone.
SLOWEST_BYTES_PER_S = 50_000
#: What a peer was sent it may digest at this rate, beyond the time limit, before it answers.
DIGESTED_BYTES_PER_S = 1_000_000
CHUNK_BYTES = 1 << 16

_Count = TypeVar("_Count", int, "int | None")


class Patience:
    """What an HTTP connection speaks through instead of its socket.

    Time that we need ourselves between two pieces does not count.
    """

    def __init__(self, connected: Any, timeout_s: float) -> None:
        self._socket: socket.socket = connected
        self._timeout_s = self._stall_s = timeout_s
        self._left_s = 2 * timeout_s
        self._is_listening = False

    def sendall(self, data: bytes) -> None:
        """Send all of it, or raise ``OSError``."""
        rest = memoryview(data)
        while rest:
            count = self._waiting(partial(self._socket.send, rest))
            self._left_s += count / SLOWEST_BYTES_PER_S
            self._stall_s += count / DIGESTED_BYTES_PER_S
            rest = rest[count:]

    def makefile(self, _mode: str, *_more: Any) -> io.BufferedReader:
        """Return what the answer is read from."""
        raw = _Incoming(self._socket.makefile("rb", buffering=0), self._received)
        return io.BufferedReader(raw, CHUNK_BYTES)

    def _received(self, into: Callable[[], int | None]) -> int | None:
        """Read some. What comes after the first of it is as urgent as ever."""
        if not self._is_listening:
            self._is_listening, self._left_s = True, self._stall_s + self._timeout_s
        count = self._waiting(into)
        self._stall_s = self._timeout_s
        return count

    def moved(self, count: int) -> None:
        """Give time for content that came; for headers without end there is none."""
        self._left_s = min(self._left_s + count / SLOWEST_BYTES_PER_S, 2 * self._timeout_s)

    def _waiting(self, act: Callable[[], _Count]) -> _Count:
        if self._left_s <= 0:
            raise TimeoutError("the peer is too slow")
        self._socket.settimeout(min(self._stall_s, self._left_s))
        begun = time.monotonic()
        try:
            return act()
        finally:
            self._left_s -= time.monotonic() - begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class _Incoming(io.RawIOBase):
    """What comes in over a `Patience`."""

    def __init__(self, raw: Any, received: Callable[[Callable[[], int | None]], int | None]) -> None:
        self._raw, self._received = raw, received

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        return self._received(lambda: self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()
