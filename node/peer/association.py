"""A requestor's connection that ends in bounded time, whatever the peer does.

pynetdicom bounds the time between PDUs, not within one, and believes the announced length of
a PDU. A peer which stops reading, drips, or announces 2 GiB would hold the sender for ever.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

#: An answer to an association or C-STORE request has some hundred bytes; one per proposed
#: context at most.
LARGEST_PDU_BYTES = 1 << 20
#: How long a peer that we abort may take to close the connection (ARTIM, PS3.8 9.1.5).
FAREWELL_S = 2.0


class GuardedSocket(AssociationSocket):
    """What `GuardedAE` speaks through."""

    _deadline = float("inf")
    _stall_s = float("inf")

    def finish_within(self, limit_s: float, *, stall_s: float) -> None:
        """Let what is sent and received from now on be over in time.

        Parameters
        ----------
        limit_s
            For all of it.
        stall_s
            For any standstill on the way.
        """
        self._deadline = time.monotonic() + limit_s
        self._stall_s = stall_s

    def connect(self, primitive: Any) -> None:
        """Connect, with the time limits of the association negotiation from here on."""
        limit_s = self.assoc.acse_timeout or FAREWELL_S
        self.finish_within(2 * limit_s, stall_s=limit_s)
        super().connect(primitive)

    def close(self) -> None:
        """Close the connection, but remember that there was one.

        A peer may reject and be gone before the requestor's thread has looked; it would then
        take "not connected any more" for "never connected", and the reason would be lost.
        """
        was_connected = self._is_connected
        super().close()
        self._is_connected = was_connected

    def _patience_s(self) -> float:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the peer took too long")
        return min(left_s, self._stall_s)

    def recv(self, nr_bytes: int) -> bytearray:
        """Return this many bytes, or fewer when the peer closes the connection.

        Raises
        ------
        OSError
            More than any honest answer has, or the time is up.
        """
        if nr_bytes > LARGEST_PDU_BYTES:
            raise OSError(f"the peer announces a PDU of {nr_bytes} bytes")
        received = bytearray()
        while len(received) < nr_bytes:
            self._socket.settimeout(self._patience_s())
            some = self._socket.recv(nr_bytes - len(received))
            if not some:
                break
            received += some
        return received

    def send(self, bytestream: bytes) -> None:
        """Send all of it; a peer that does not read until the time is up counts as gone."""
        rest = memoryview(bytestream)
        try:
            while rest:
                self._socket.settimeout(self._patience_s())
                rest = rest[self._socket.send(rest) :]
        except OSError:
            self.event_queue.put("Evt17")  # PS3.8 9.2.3: transport connection closed

    @property
    def _socket(self) -> socket.socket:
        if self.socket is None:
            raise OSError("the connection is closed")
        connection: socket.socket = self.socket
        return connection


class GuardedAE(AE):
    """An application entity whose requests go through a `GuardedSocket`."""

    def _create_socket(self, assoc: Any, address: Any, tls_args: Any) -> GuardedSocket:
        guarded = GuardedSocket(assoc, address=address)
        guarded.tls_args = tls_args
        assoc.dul.artim_timer.timeout = FAREWELL_S
        assoc.dul.daemon = True  # a silent peer must not hold up the end of the process
        return guarded


def finish_within(association: Association, limit_s: float, *, stall_s: float) -> None:
    """Set the limits of `GuardedSocket.finish_within` for an association of a `GuardedAE`."""
    guarded = association.dul.socket
    if isinstance(guarded, GuardedSocket):  # None: closed meanwhile
        guarded.finish_within(limit_s, stall_s=stall_s)
