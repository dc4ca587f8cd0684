"""The upper layer of one association (PS3.8), fast: it waits instead of looking, and copies nothing.

pynetdicom 3.0.4 looks every millisecond whether something has come, in two threads per association,
and takes every P-DATA-TF PDU through five objects and as many copies. Here a thread sleeps until its
socket or another thread has something for it, reads what has come at once, and the fragments of a
P-DATA-TF go from that buffer straight to where they belong. A request is served where it was received:
handing it to another thread and its answer back costs more than either, and while it is served nothing
more is read, so a peer that does not wait for answers is held back by TCP. Everything else, the state
machine above all, is pynetdicom's own.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import struct
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
_LOOK_EVERY_S = 0.25
_P_DATA_TF = 0x04  #: PS3.8 9.3.5
_PDU_HEAD_BYTES = 6  #: PS3.8 9.3.1: type, reserved, and four bytes of length
_P_DATA_HEAD = struct.Struct(">BBIIB")  #: PS3.8 9.3.5: of a P-DATA-TF and its only value, to the context
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

    @property
    def has_request(self) -> bool:
        """Whether a request is whole."""

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

    def send_data(self, context_id: int, fragment: bytes) -> bool:
        """Send a fragment with its control header at once, if that is what would happen next.

        PS3.8 table 9-10: in Sta6 a P-DATA request (Evt9) is sent and the state stays (DT-1). False if
        another thread asks, or if something else comes first: then it has to wait for its turn.
        """
        if (
            threading.get_ident() != self.ident
            or self.state_machine.current_state != _ESTABLISHED
            or self._is_wanted
        ):
            return False
        length = len(fragment) + 1
        self.connection.send(_P_DATA_HEAD.pack(_P_DATA_TF, 0, length + 4, length, context_id) + fragment)
        return True

    def _is_transport_event(self) -> bool:
        """Wait until something has come or is to be sent; take data where it is."""
        if self.event_queue.queue:
            return False  # first what has happened already: nothing else may ever come
        state = self.state_machine.current_state
        if state == _ESTABLISHED:
            return self._transfer() or self._process_recv_primitive()
        if state != _CLOSING and not self.connection.has_heard:
            self._wait(_LOOK_EVERY_S)
        return self._process_recv_primitive() or super()._is_transport_event()

    def _transfer(self) -> bool:
        """Take data until the state machine is wanted, or nothing comes; return whether it has an event."""
        connection = self.connection
        try:
            while not self._kill_thread:
                self._take_pdus()
                if self._is_wanted:
                    break
                left_s = connection.left_s
                if self._wait(_LOOK_EVERY_S if left_s is None else min(_LOOK_EVERY_S, max(0.0, left_s))):
                    if not connection.fill():
                        raise OSError("the peer has closed")
                elif left_s is None or left_s > 0:
                    break
                if left_s is not None and left_s <= 0 and connection.pdu() is None:
                    connection.give_up()
                    raise TimeoutError("the PDU did not come in time")
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # PS3.8 table 9-10: transport connection closed
        return bool(self.event_queue.queue)

    def _take_pdus(self) -> None:
        """Take what is whole, and serve what it asks for."""
        connection, messages = self.connection, self._messages
        while (pdu := connection.pdu()) is not None:
            if pdu[0] != _P_DATA_TF:
                self._read_pdu_data()
                return
            connection.taken(len(pdu))
            messages.take(pdu[_PDU_HEAD_BYTES:])
            if messages.has_request:
                self._idle_timer.stop()  # nobody is idle while he waits for our answer
                messages.serve()
                connection.begin_pdu()
            self._idle_timer.restart()
            if self._is_wanted:
                break

    @property
    def _is_wanted(self) -> bool:
        """Whether the state machine has an event, or somebody something to send."""
        return bool(self.event_queue.queue or self.to_provider_queue.queue)

    def _wait(self, within_s: float) -> bool:
        """Return whether the socket has something, once it has or another thread rings."""
        connection = self.connection.socket
        if connection is None or self.connection.is_pending:
            return True
        poll = select.poll()  # select() fails above descriptor 1023
        try:
            poll.register(connection, select.POLLIN)
            poll.register(self._bell.fd, select.POLLIN)
            seen = {fd for fd, _ in poll.poll(within_s * 1000)}
        except (OSError, ValueError):
            return True  # closed meanwhile: reading it will tell
        if self._bell.fd in seen:
            self._bell.hush()
        return bool(seen - {self._bell.fd})
