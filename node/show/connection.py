"""One HTTP connection with deadlines, which uvicorn has none of.

A request's head must be whole in time; its body must come at a minimum rate; what is answered must be
read at one. Only the caller's time counts: while we are at work, or have told him to wait, no clock runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from node.peer.tls import fingerprint

Phase = Literal["head", "body", "answer", "reading"]

#: Slower than this, over a whole `Limits.idle_timeout_s`, counts as standing still.
LEAST_BYTES_PER_S = 256
_LINGER_S = 2.0  #: for the last words, before the connection is cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of our time strangers may take."""

    max_connections: int
    head_timeout_s: float  #: to the whole head, from connecting, from the last answer; and for TLS
    idle_timeout_s: float  #: within which a body must move


def is_too_slow(phase: Phase, waited_s: float, moved_bytes: int, limits: Limits) -> bool:
    """Say whether a connection has had its time, for what came in it."""
    if phase == "head":
        return waited_s >= limits.head_timeout_s
    if phase == "answer":
        return False
    return waited_s >= limits.idle_timeout_s and moved_bytes < LEAST_BYTES_PER_S * limits.idle_timeout_s


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 of uvicorn, of which `look` is asked now and then whether it has gone on too long.

    Parameters
    ----------
    limits
        What is too long.
    """

    def __init__(self, config: Config, state: ServerState, limits: Limits) -> None:
        super().__init__(config, state, {})
        self._limits = limits
        self._since = self.loop.time()
        self._moved = 0  #: bytes that came since then, or that were read by the caller
        self._unread = 0  #: bytes that wait for the caller to read
        self._phase: Phase = "head"
        self.once_made: Callable[[], None] | None = None  #: called when the connection stands

    @property
    def is_waiting(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def peer(self) -> str:
        """The address of the other side."""
        return self.client[0] if self.client else ""

    @property
    def since(self) -> float:
        """When what it is doing began, by the clock of the loop."""
        return self._since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is, for those who answer."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if self.once_made is not None:
            self.once_made()
        tls: Any = transport.get_extra_info("ssl_object")
        self.app_state = {"certificate": fingerprint(tls) if tls is not None else ""}

    def data_received(self, data: bytes) -> None:
        """Count what comes; the first byte of a head begins its time."""
        self._enter(self._now_in())
        if self._moved == 0 and self.is_waiting:
            self._since = self.loop.time()
        self._moved += len(data)
        super().data_received(data)
        self._enter(self._now_in())

    def pause_writing(self) -> None:
        """Begin the time in which the caller must read what waits for him."""
        super().pause_writing()
        self._enter(self._now_in())

    def resume_writing(self) -> None:
        """End that time: he has read enough that more may be written."""
        super().resume_writing()
        self._enter(self._now_in())

    def look(self) -> None:
        """End the connection if it is too slow; called about once a second."""
        self._enter(self._now_in())
        now, unread = self.loop.time(), self.transport.get_write_buffer_size()
        if self._phase == "reading":
            self._moved += max(0, self._unread - unread)
        self._unread = unread
        if is_too_slow(self._phase, now - self._since, self._moved, self._limits):
            self.end(408)
        elif self._phase != "head" and now - self._since >= self._limits.idle_timeout_s:
            self._since, self._moved = now, 0

    def end(self, status: int) -> None:
        """Close, with a last word if no answer was begun; whoever works on the request is told."""
        if self._phase == "reading" or self.transport.is_closing():
            self.transport.abort()  # he does not read what is there already
            return
        is_new = self.conn.our_state is h11.IDLE and self.conn.their_state is h11.IDLE
        if (is_new and self._moved) or not (self.is_waiting or self.cycle.response_started):
            self.transport.write(last_word(status))
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self.loop.call_later(_LINGER_S, self.transport.abort)

    def leave(self) -> None:
        """Close after the answer that is under way, or now."""
        if self.is_waiting:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _now_in(self) -> Phase:
        if self.flow.write_paused or (self.is_waiting and self.transport.get_write_buffer_size()):
            return "reading"
        if self.is_waiting:
            return "head"
        if self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused:
            return "body"
        return "answer"

    def _enter(self, phase: Phase) -> None:
        if phase != self._phase:
            self._phase, self._since, self._moved = phase, self.loop.time(), 0


def last_word(status: int) -> bytes:
    """Return a whole answer to somebody who is sent away before he was heard."""
    phrase = {408: "Request Timeout", 503: "Service Unavailable"}[status]
    return f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode("ascii")
