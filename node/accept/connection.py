"""One connection: every PDU that is read from it has a largest size and a deadline.

pynetdicom 3.0.4 believes any PDU length, waits for ever inside a PDU, and reads 4 KiB at a time.
Here whatever has come is read at once into one buffer, without waiting, and PDUs are taken from it.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from node.log import get_log

log = get_log("accept")

#: Some peers count the PDV headers (PS3.8 9.3.5.1) outside of the agreed length.
_PDU_SLACK_BYTES = 1024
_PDU_HEAD_BYTES = 6  #: PS3.8 9.3.1: type, reserved, and four bytes of length
#: What is read at once, where the largest PDU is not larger.
_BUFFER_BYTES = 512 << 10
A_ABORT = struct.pack(">BBLBBBB", 0x07, 0, 4, 0, 0, 2, 0)  #: PS3.8 9.3.8, by the provider
#: What a socket that does not wait raises when there is nothing to do just now.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


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
    """A connection whose PDUs have a largest size and a deadline.

    Parameters
    ----------
    connection
        A connected socket, or one of TLS whose handshake is done.
    heard
        The request, which was received in the waiting room.
    """

    def __init__(self, assoc: Association, connection: socket.socket, heard: bytes, limits: Limits) -> None:
        super().__init__(assoc, client_socket=connection)
        connection.setblocking(False)
        self._tls = connection if isinstance(connection, ssl.SSLSocket) else None
        self._limits = limits
        self._most_bytes = limits.max_pdu_bytes + _PDU_SLACK_BYTES
        self._buffer = memoryview(
            bytearray(max(_BUFFER_BYTES, self._most_bytes + _PDU_HEAD_BYTES, len(heard)))
        )
        self._buffer[: len(heard)] = heard
        self._request_bytes = len(heard)  # it has been measured
        self._begin, self._end = 0, len(heard)  #: what was received and not yet taken
        self.last_heard = self._since = time.monotonic()

    @property
    def ready(self) -> bool:
        if self.socket is None or not self._is_connected:
            return False
        if self.assoc.dul.state_machine.current_state == "Sta13":
            return False  # we have said the last word: close, however much the peer still sends
        if self.has_heard:
            return True
        try:
            return self._poll(select.POLLIN, 0)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # PS3.8 table 9-10: transport connection closed
            return False

    @property
    def has_heard(self) -> bool:
        """Whether something was received that nobody has taken yet, be it half a PDU."""
        return self._begin < self._end or self.is_pending

    @property
    def is_pending(self) -> bool:
        """Whether TLS holds something that the socket no longer shows."""
        return self._tls is not None and self._tls.pending() > 0

    @property
    def left_s(self) -> float | None:
        """How long the PDU that has begun may still take; None when none has."""
        if self._begin == self._end:
            return None
        return self._since + self._limits.pdu_timeout_s - time.monotonic()

    def begin_pdu(self) -> None:
        """Start the time in which the next PDU must be whole: nobody's runs while we were busy."""
        self._since = time.monotonic()

    def fill(self) -> bool:
        """Read what has come, as far as there is room, without waiting; False if the peer has closed.

        Raises
        ------
        OSError
            The connection is broken.
        """
        if self._begin:
            left = self._end - self._begin
            self._buffer[:left] = self._buffer[self._begin : self._end]
            self._begin, self._end = 0, left
        before = self._end
        while self._end < len(self._buffer):
            try:
                count = self._open().recv_into(self._buffer[self._end :])
            except _NOT_NOW:
                break
            if count == 0:
                if self._end == before:
                    return False
                break  # first what came before
            self._end += count
            if self._tls is None:  # it gives one record at a time
                break
        if self._end > before:
            self.last_heard = time.monotonic()
            if not before:
                self._since = self.last_heard
        return True

    def pdu(self) -> memoryview | None:
        """Return the next PDU with its header, if all of it is here; it lasts until `fill`.

        Raises
        ------
        OSError
            It is announced to be too long; the peer has been told.
        """
        if self._end - self._begin < _PDU_HEAD_BYTES:
            return None
        head_end = self._begin + _PDU_HEAD_BYTES
        length = int.from_bytes(self._buffer[head_end - 4 : head_end], "big")
        self._check_length(length, self._most_bytes)
        return self._buffer[self._begin : head_end + length] if head_end + length <= self._end else None

    def taken(self, count: int) -> None:
        """Say that so many bytes were taken."""
        self._begin += count

    def give_up(self) -> None:
        """Tell the peer that its PDU did not come in time."""
        log.warning("pdu_too_slow", bytes=self._end - self._begin, limit=self._limits.pdu_timeout_s)
        self._abort()

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly so many bytes, or what came before the peer closed.

        Raises
        ------
        OSError
            Too many bytes are announced, or they do not come in time.
        """
        self._check_length(nr_bytes, max(self._most_bytes, self._request_bytes))
        until = self._since + self._limits.pdu_timeout_s
        while self._end - self._begin < nr_bytes:
            left_s = until - time.monotonic()
            if left_s <= 0 or not (self.is_pending or self._poll(select.POLLIN, left_s)):
                self.give_up()
                raise TimeoutError("the PDU did not come in time")
            if not self.fill():
                break
        data = bytearray(self._buffer[self._begin : min(self._end, self._begin + nr_bytes)])
        self.taken(len(data))
        return data

    def send(self, bytestream: bytes) -> None:
        """Send all of it; what fails is told to the state machine."""
        until = time.monotonic() + self._limits.pdu_timeout_s
        left = memoryview(bytestream)
        try:
            while left:
                try:
                    left = left[self._open().send(left) :]
                except _NOT_NOW as error:
                    wanted = select.POLLIN if isinstance(error, ssl.SSLWantReadError) else select.POLLOUT
                    if not self._poll(wanted, max(0.0, until - time.monotonic())):
                        raise TimeoutError("the peer does not listen") from None
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # PS3.8 table 9-10: transport connection closed

    def cut(self) -> None:
        """Close the connection; every read and write of it ends."""
        hang_up(self.socket)

    def _check_length(self, nr_bytes: int, most_bytes: int) -> None:
        if nr_bytes > most_bytes:
            log.warning("pdu_too_long", bytes=nr_bytes, limit=self._limits.max_pdu_bytes)
            self._abort()
            raise OSError("the PDU is too long")

    def _open(self) -> socket.socket:
        if self.socket is None:
            raise OSError("the connection is closed")
        return self.socket

    def _poll(self, wanted: int, within_s: float) -> bool:
        poll = select.poll()  # select() fails above descriptor 1023
        poll.register(self._open(), wanted)
        return bool(poll.poll(within_s * 1000))

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
            # As of any socket: that of TLS would let go of its keys under who reads it just now.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        except OSError:
            pass  # already gone
        finally:
            connection.close()
