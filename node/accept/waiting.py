"""A connection that has not yet said what it wants: it shakes hands, then asks for an association.

Nothing here waits: `Waiting.hear` takes what has come, and says whether there is more to hope for.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from enum import Enum, auto
from typing import Any

from node.accept.connection import Limits
from node.peer.tls import reason_of

#: PS3.8 9.3.1: an A-ASSOCIATE-RQ; 128 contexts with 20 transfer syntaxes each make about 80 KiB.
_REQUEST_PDU = 0x01
MAX_REQUEST_BYTES = 256 << 10


class Heard(Enum):
    """What has come so far."""

    PART = auto()
    ALL = auto()  #: a whole request
    WRONG = auto()  #: something else, or too much
    END = auto()  #: it is gone, or not to be let in; see `Waiting.reason`


class Waiting:
    """Someone in the waiting room.

    Parameters
    ----------
    connection
        Just accepted.
    deadline
        Monotonic.
    tls
        None: no TLS at this door.

    Raises
    ------
    OSError
        It is gone already.
    """

    def __init__(
        self,
        connection: socket.socket,
        address: tuple[Any, ...],
        deadline: float,
        limits: Limits,
        tls: ssl.SSLContext | None,
    ) -> None:
        _prepare(connection, limits)
        self.is_shaking = tls is not None
        if tls is not None:
            connection = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.connection = connection
        self.address = address
        self.deadline = deadline
        self.heard = bytearray()
        self.wants = selectors.EVENT_READ  #: what it waits for
        self.reason = ""  #: why TLS came to nothing

    @property
    def peer(self) -> str:
        """Its address."""
        return str(self.address[0])

    @property
    def announced_bytes(self) -> int:
        """How long its first PDU is to be."""
        return len(self.heard) + self._missing()

    def hear(self) -> Heard:
        """Take what is there of the first PDU, and no more than that PDU; never raises."""
        self.wants = selectors.EVENT_READ
        try:
            if self.is_shaking and isinstance(self.connection, ssl.SSLSocket):
                self.connection.do_handshake()
                self.is_shaking = False
            while missing := self._missing():
                data = self.connection.recv(missing)
                if not data:
                    return Heard.END
                self.heard += data
                if len(self.heard) >= 6 and (
                    self.heard[0] != _REQUEST_PDU or self.announced_bytes > MAX_REQUEST_BYTES
                ):
                    return Heard.WRONG
            return Heard.ALL
        except (BlockingIOError, ssl.SSLWantReadError):
            return Heard.PART
        except ssl.SSLWantWriteError:
            self.wants = selectors.EVENT_WRITE
            return Heard.PART
        except OSError as error:
            self.reason = reason_of(error)
            return Heard.END

    def _missing(self) -> int:
        """Return how many bytes of the first PDU are to come (PS3.8 9.3.1: 6 bytes, then the length)."""
        if len(self.heard) < 6:
            return 6 - len(self.heard)
        return max(0, 6 + int.from_bytes(self.heard[2:6], "big") - len(self.heard))


def _prepare(connection: socket.socket, limits: Limits) -> None:
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A peer that lost power is noticed: unanswered data, or unanswered probes while silent.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.idle_timeout_s * 1000))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(limits.idle_timeout_s / 4)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(limits.idle_timeout_s / 8)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
