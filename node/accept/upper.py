"""The upper layer of one association (PS3.8), fast: it waits instead of looking, and copies nothing.

pynetdicom 3.0.4 looks every millisecond whether something has come, in two threads per association,
and takes every P-DATA-TF PDU through five objects and as many copies. Here a thread sleeps until its
socket or another thread has something for it, and the fragments of a P-DATA-TF go from one buffer
straight to where they belong. A request is served where it was received: handing it to another thread
and its answer back costs more than either, and while it is served nothing more is read, so a peer
that does not wait for answers is held back by TCP. Everything else, the state machine above all, is
pynetdicom's own.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.timer import Timer

from node.accept.connection import GuardedSocket
from node.log import describe, get_log

log = get_log("accept")

#: How long nothing may happen before timers are looked at.
_LOOK_EVERY_S = 0.05
_P_DATA_TF = 0x04  #: PS3.8 9.3.5
_ESTABLISHED = "Sta6"  #: PS3.8 9.2.1.1: data transfer
_CLOSING = "Sta13"  #: PS3.8 9.2.1.1: the last word was said


class MonotonicTimer(Timer):
    """The same timer, indifferent to somebody setting the wall clock."""

    def start(self) -> None:
        self._start_time = time.monotonic()
        self._end_time = None

    def stop(self) -> None:
        self._end_time = time.monotonic()

    @property
    def remaining(self) -> float:
        if self.timeout is None:
            return 1.0
        if self._start_time is None:
            return float(self.timeout)
        until = time.monotonic() if self._end_time is None else self._end_time
        return float(self.timeout) - (until - self._start_time)


class Knocking(queue.Queue[Any]):
    """A queue that tells somebody who waits for something else as well."""

    def __init__(self, knock: Callable[[], None]) -> None:
        super().__init__()
        self._knock = knock

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._knock()


class _Bell:
    """Wakes a thread that polls; safe to ring after it is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        with self._lock:  # a closed descriptor may by now be somebody's file
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)

    def hush(self) -> None:
        with contextlib.suppress(BlockingIOError):  # nobody rang
            os.eventfd_read(self.fd)

    def close(self) -> None:
        with self._lock:
            os.close(self.fd)
            self.fd = -1


class Messages(Protocol):
    """Who takes messages apart."""

    def take(self, body: memoryview) -> None:
        """Take the presentation data values of one P-DATA-TF PDU; never raises."""

    def serve(self) -> None:
        """Serve the requests that are whole; never raises."""

    def knock(self) -> None:
        """Wake the association: there may be something for it."""


class UpperLayer(DULServiceProvider):
    """The state machine, with a deadline inside a PDU, without polling and without stack traces."""

    def __init__(self, assoc: Association, messages: Messages) -> None:
        super().__init__(assoc)
        self.daemon = True
        self.connection: GuardedSocket
        self._messages = messages
        self._idle_timer = MonotonicTimer(60)
        self.artim_timer = MonotonicTimer(30)
        self._bell = _Bell()
        self.to_provider_queue = Knocking(self._bell.ring)
        self.to_user_queue = Knocking(messages.knock)

    def kill_dul(self) -> None:
        super().kill_dul()
        self._bell.ring()

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - whatever a peer provokes ends only its association
            log.warning("association_broken", error=describe(error))
            self.connection.cut()
        finally:
            self._bell.close()
            self.to_user_queue.put(None)  # nobody need wait any longer

    def _read_pdu_data(self) -> None:
        self.connection.begin_pdu()
        super()._read_pdu_data()

    def _is_transport_event(self) -> bool:
        """Wait until something has come or is to be sent; take data where it is."""
        if not self.event_queue.empty():
            return False  # first what has happened already: nothing else may ever come
        state = self.state_machine.current_state
        if state != _ESTABLISHED or self.connection.has_heard:
            if state != _CLOSING:
                self._wait()
            return self._process_recv_primitive() or super()._is_transport_event()
        while self._wait() and not self._kill_thread:
            if not self._take_data() or not self.event_queue.empty():
                return True  # there is something for the state machine
            self._idle_timer.stop()  # nobody is idle while he waits for our answer
            self._messages.serve()
            self._idle_timer.restart()
            if not self.to_provider_queue.empty():
                break
        return self._process_recv_primitive()

    def _take_data(self) -> bool:
        """Take one P-DATA-TF PDU off the wire; False if something else came, or nothing whole."""
        self.connection.begin_pdu()
        try:
            header = self.connection.recv(6)
            if len(header) == 6 and header[0] != _P_DATA_TF:
                self.connection.unread(header)
                self._read_pdu_data()
                return False
            length = int.from_bytes(header[2:], "big")
            body = self.connection.recv_view(length)
            if len(header) < 6 or len(body) < length:
                raise OSError("the peer closed inside a PDU")
        except OSError:
            self.event_queue.put("Evt17")  # PS3.8 table 9-10: transport connection closed
            return False
        self._messages.take(body)
        return True

    def _wait(self) -> bool:
        """Return whether the socket has something, once it has or another thread rings."""
        connection = self.connection.socket
        if connection is None or self.connection.has_heard:
            return True
        poll = select.poll()  # select() fails above descriptor 1023
        try:
            poll.register(connection, select.POLLIN)
            poll.register(self._bell.fd, select.POLLIN)
            seen = {fd for fd, _ in poll.poll(_LOOK_EVERY_S * 1000)}
        except (OSError, ValueError):
            return True  # closed meanwhile: reading it will tell
        if self._bell.fd in seen:
            self._bell.hush()
        return bool(seen - {self._bell.fd})
