"""One connection: every PDU that is read from it has a largest size and a deadline.

pynetdicom 3.0.4 believes any PDU length and waits for ever inside a PDU.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from node.log import get_log

log = get_log("accept")

#: Some peers count the PDV headers (PS3.8 9.3.5.1) outside of the agreed length.
_PDU_SLACK_BYTES = 1024
A_ABORT = struct.pack(">BBLBBBB", 0x07, 0, 4, 0, 0, 2, 0)  #: PS3.8 9.3.8, by the provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much strangers may take."""

    max_associations: int
    max_connections_per_peer: int
    max_pdu_bytes: int
    request_timeout_s: float  #: until the A-ASSOCIATE-RQ is whole
    pdu_timeout_s: float  #: from the first byte of a PDU to its last; between two of one message
    idle_timeout_s: float  #: between two messages


class GuardedSocket(AssociationSocket):
    """A connection whose PDUs have a largest size and a deadline."""

    def __init__(self, assoc: Association, connection: socket.socket, heard: bytes, limits: Limits) -> None:
        super().__init__(assoc, client_socket=connection)
        self._heard = heard  #: the request, received in the waiting room
        self._limits = limits
        self._deadline = 0.0
        self._buffer = bytearray()
        self.last_heard = time.monotonic()

    @property
    def ready(self) -> bool:
        if self.socket is None or not self._is_connected:
            return False
        if self.assoc.dul.state_machine.current_state == "Sta13":
            return False  # we have said the last word: close, however much the peer still sends
        if self._heard:
            return True
        try:
            poll = select.poll()  # select() fails above descriptor 1023
            poll.register(self.socket, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # PS3.8 table 9-10: transport connection closed
            return False

    @property
    def has_heard(self) -> bool:
        """Whether something was received that nobody has read yet."""
        return bool(self._heard)

    def unread(self, data: bytes | bytearray) -> None:
        """Put back what was read too far."""
        self._heard = bytes(data) + self._heard

    def begin_pdu(self) -> None:
        self._deadline = time.monotonic() + self._limits.pdu_timeout_s

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly so many bytes, or what came before the peer closed.

        Raises
        ------
        OSError
            Too many bytes are announced, or they do not come in time.
        """
        self._check_length(nr_bytes)
        data = bytearray(nr_bytes)
        del data[self._fill(memoryview(data)) :]
        return data

    def recv_view(self, nr_bytes: int) -> memoryview:
        """Do what `recv` does into one buffer, which the next call overwrites."""
        self._check_length(nr_bytes)
        if len(self._buffer) < nr_bytes:
            self._buffer = bytearray(nr_bytes)
        view = memoryview(self._buffer)[:nr_bytes]
        return view[: self._fill(view)]

    def _check_length(self, nr_bytes: int) -> None:
        if nr_bytes > max(self._limits.max_pdu_bytes + _PDU_SLACK_BYTES, len(self._heard)):
            log.warning("pdu_too_long", bytes=nr_bytes, limit=self._limits.max_pdu_bytes)
            self._abort()
            raise OSError("the PDU is too long")

    def _fill(self, view: memoryview) -> int:
        """Read into all of a view; return how much there was before the peer closed."""
        filled = min(len(view), len(self._heard))
        view[:filled] = self._heard[:filled]
        self._heard = self._heard[filled:]
        while filled < len(view):
            left_s = self._deadline - time.monotonic()
            try:
                if left_s <= 0:
                    raise TimeoutError("the PDU did not come in time")
                connection = self._open()
                connection.settimeout(left_s)
                count = connection.recv_into(view[filled:])
            except TimeoutError:
                log.warning("pdu_too_slow", bytes=filled, limit=self._limits.pdu_timeout_s)
                self._abort()
                raise
            if count == 0:
                break
            filled += count
            self.last_heard = time.monotonic()
        return filled

    def send(self, bytestream: bytes) -> None:
        if self.socket is not None:
            self.socket.settimeout(self._limits.pdu_timeout_s)
            super().send(bytestream)

    def _open(self) -> socket.socket:
        if self.socket is None:
            raise OSError("the connection is closed")
        return self.socket

    def cut(self) -> None:
        """Close the connection; every read and write of it ends."""
        hang_up(self.socket)

    def _shutdown_socket(self) -> None:
        self.cut()

    def _abort(self) -> None:
        say(self.socket, A_ABORT)


def say(connection: socket.socket | None, pdu: bytes) -> None:
    """Send a last short PDU if the peer can take it at once."""
    if connection is not None:
        try:
            connection.setblocking(False)
            connection.send(pdu)
        except OSError:
            return  # it is being cut off anyway


def hang_up(connection: socket.socket | None) -> None:
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # already gone
        finally:
            connection.close()
