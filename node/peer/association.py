"""DICOM associations with others that end in bounded time, whatever the peer does.

pynetdicom bounds the time between PDUs, not within one, and believes the announced length of
a PDU. A peer which stops reading, drips, or announces 2 GiB would hold the caller for ever. So
would one that asks something of us while we hang up: it is served in a thread of its own, after
which nothing counts as paused any more, and a release waits for just that (pynetdicom 3.0.4).
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.errors import PeerRefused, PeerUnreachable, SendError
from node.peer.rejection import rejection_of
from node.peer.tls import reason_of

#: An answer to an association or C-STORE request has some hundred bytes; one per proposed
#: context at most. What comes by C-GET comes in PDUs of `MAX_PDU_BYTES`.
LARGEST_PDU_BYTES = 1 << 20
#: What we let a peer send in one PDU (PS3.8 D.1).
MAX_PDU_BYTES = 131072
#: What a peer may send over one association: the answers to some hundred thousand requests.
MOST_BYTES = 64 << 20
#: How long a peer that we abort may take to close the connection (ARTIM, PS3.8 9.1.5).
FAREWELL_S = 2.0

Handler = tuple[Any, Callable[[Any], Any]]  #: an event of pynetdicom, and what it calls
#: Serves a request of the peer: association, message, number of its presentation context.
Serve = Callable[[Association, Any, int], None]


def refuse_to_serve(association: Association, message: Any, context_id: int) -> None:
    """Abort an association over which a peer asks something of us, or answers what was not asked.

    What comes while we hang up is passed over (PS3.8 7.2.2.4).
    """
    del message, context_id
    if not association._sent_release:
        association.dul.event_queue.put("Evt19")  # PS3.8 table 9-10: invalid PDU; answers A-ABORT
        association.dimse.msg_queue.put((None, None))  # whoever waits for an answer gets none


@contextmanager
def associated(
    host: str,
    port: int,
    ae_title: str,
    calling_ae: str,
    contexts: Sequence[PresentationContext],
    *,
    timeout_s: float,
    tls: ssl.SSLContext | None,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[Handler] = (),
    serve: Serve = refuse_to_serve,
    most_bytes: float = MOST_BYTES,
    name: str = "",
) -> Iterator[Association]:
    """Hold an association for as long as the block runs; release it, or abort it on an error.

    Nothing in it stands still for longer than ``timeout_s``, and no PDU takes longer than twice that;
    a request that has to be over within a time of its own calls `finish_within` first.

    Parameters
    ----------
    ae_title, calling_ae
        The peer's and ours.
    tls
        From `node.peer.tls.client_context`; the peer's certificate must name ``host``. None: no TLS.
    roles
        E.g. ``build_role(uid, scp_role=True)`` for what C-GET brings (PS3.7 D.3.3.4).
    handlers
        For pynetdicom's events; they are called in the association's own thread.
    serve
        What is done with a request of the peer, in another thread; what C-GET brings is none.
    most_bytes
        That the peer may send, for pynetdicom keeps a message whole in memory; then it is hung up on.
    name
        Of the peer in the configuration; it begins the sentences of errors.

    Raises
    ------
    PeerUnreachable
        No connection, no answer, TLS came to nothing, or a rejection that may pass.
    PeerRefused
        It will not have us, or nothing of what we propose.
    """
    place = f"{ae_title} at {host}:{port}"
    who = f"{name} ({place})" if name else place
    ae = GuardedAE(ae_title=calling_ae)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = timeout_s
    ae.network_timeout = None  # it counts only what is received, so it would cut a long object off
    failures: list[OSError] = []
    ae.failed = failures.append
    ae.serve, ae.most_bytes = serve, most_bytes
    try:
        association = ae.associate(
            host,
            port,
            contexts=list(contexts),
            ae_title=ae_title,
            max_pdu=MAX_PDU_BYTES,
            ext_neg=list(roles),
            tls_args=None if tls is None else (tls, host),
            evt_handlers=list(handlers),
        )
    except OSError as error:  # the name cannot be resolved
        raise PeerUnreachable(f"{who} cannot be reached: {error.strerror}.") from error
    if not association.is_established:
        raise _why_not(association, who, failures)
    try:
        finish_within(association, float("inf"), stall_s=timeout_s)
        yield association
        finish_within(association, 2 * timeout_s, stall_s=timeout_s)
        association.release()
    finally:
        if association.is_established:
            association.abort()


def _why_not(association: Association, who: str, failures: Sequence[OSError]) -> SendError:
    answer = association.acceptor.primitive
    if answer is not None and association.is_rejected:
        said = rejection_of(answer.result or 0, answer.result_source or 0, answer.diagnostic or 0)
        sentence = f"{who} rejected the association: {said.sentence}. {said.remedy}".strip()
        return PeerUnreachable(sentence) if said.passing else PeerRefused(sentence)
    if answer is not None and answer.result == 0 and answer.presentation_context_definition_results_list:
        asked = dict.fromkeys(cx.abstract_syntax for cx in association.requestor.requested_contexts)
        names = [uid.name for uid in asked if uid is not None]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return PeerRefused(
            f"{who} takes none of the SOP Classes that it was asked for ({', '.join(names[:3])}{more})."
        )
    if isinstance(association.dul.socket, GuardedSocket) and association.dul.socket.tls_args:
        unclear = "it does not answer; does it speak TLS there, and does it accept our certificate?"
        told = next((f"{told}." for error in failures if (told := reason_of(error))), unclear)
        return PeerUnreachable(f"{who} cannot be reached by TLS: {told}")
    return PeerUnreachable(f"{who} cannot be reached, or did not answer as a DICOM service does.")


class GuardedSocket(AssociationSocket):
    """What `GuardedAE` speaks through."""

    _deadline = float("inf")
    _stall_s = float("inf")
    _pdu_deadline = float("inf")

    def __init__(
        self, *arguments: Any, failed: Callable[[OSError], None], most_bytes: float, **more: Any
    ) -> None:
        super().__init__(*arguments, **more)
        self._failed = failed
        self._bytes_left = most_bytes
        self._ahead = b""  #: what came with TLS and was not asked for yet

    def finish_within(self, limit_s: float, *, stall_s: float) -> None:
        """Let what is sent and received from now on be over in time.

        Parameters
        ----------
        limit_s
            For all of it.
        stall_s
            For any standstill on the way; twice this for any part of a PDU that is waited for.
        """
        self._deadline = time.monotonic() + limit_s
        self._stall_s = stall_s

    def connect(self, primitive: Any) -> None:
        """Connect and shake hands, with the time limits of the association negotiation from here on."""
        limit_s = self.assoc.acse_timeout or FAREWELL_S
        self.finish_within(2 * limit_s, stall_s=limit_s)
        try:
            self._socket.settimeout(self.assoc.connection_timeout)
            self._socket.connect(primitive.address_info.as_tuple)
            if self.tls_args:
                context, host = self.tls_args
                self.socket = context.wrap_socket(self._socket, server_hostname=host)
            self.assoc.requestor.address_info = AddressInformation.from_tuple(self._socket.getsockname())
            self._is_connected = True
            evt.trigger(self.assoc, evt.EVT_CONN_OPEN, {"address": primitive.address_info.as_tuple})
            primitive.result = "Evt2"  # PS3.8 table 9-10: transport connection confirmed
        except OSError as error:
            self._failed(error)
            self._shutdown_socket()
            self.socket = None
            primitive.result = "Evt17"  # closed
        finally:
            self.provider_queue.put(primitive)
            self._ready.set()

    def close(self) -> None:
        """Close the connection, but remember that there was one.

        A peer may reject and be gone before the requestor's thread has looked; it would then
        take "not connected any more" for "never connected", and the reason would be lost.
        """
        was_connected = self._is_connected
        super().close()
        self._is_connected = was_connected

    @property
    def ready(self) -> bool:
        """Whether there is something to read.

        Under TLS it is read here: what has come may be no data of the peer's, and to wait for such
        would keep us from sending.
        """
        if self._ahead:
            return True
        if self.socket is None or not self._is_connected:
            return False
        try:
            if isinstance(self.socket, ssl.SSLSocket):
                self.socket.setblocking(False)
                self._ahead = self.socket.recv(1)
                return True  # b"": it was closed, which the next reading will tell
            poll = select.poll()  # select() fails above descriptor 1023
            poll.register(self.socket, select.POLLIN)
            return bool(poll.poll(0))
        except ssl.SSLWantReadError:
            return False
        except (OSError, ValueError) as error:
            self._failed(error if isinstance(error, OSError) else OSError())
            self.event_queue.put("Evt17")  # PS3.8 table 9-10: transport connection closed
            return False

    def _patience_s(self) -> float:
        left_s = min(self._deadline, self._pdu_deadline) - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the peer took too long")
        return min(left_s, self._stall_s)

    def recv(self, nr_bytes: int) -> bytearray:
        """Return this many bytes, or fewer when the peer closes the connection.

        Raises
        ------
        OSError
            More than any honest answer has, or than all of them may have; or the time is up.
        """
        if nr_bytes > LARGEST_PDU_BYTES:
            raise OSError(f"the peer announces a PDU of {nr_bytes} bytes")
        self._bytes_left -= nr_bytes
        if self._bytes_left < 0:
            raise OSError("the peer does not come to an end")
        self._pdu_deadline = time.monotonic() + 2 * self._stall_s
        received = bytearray(self._ahead[:nr_bytes])
        self._ahead = self._ahead[nr_bytes:]
        try:
            while len(received) < nr_bytes:
                self._socket.settimeout(self._patience_s())
                some = self._socket.recv(nr_bytes - len(received))
                if not some:
                    break
                received += some
        except OSError as error:
            self._failed(error)
            raise
        return received

    def send(self, bytestream: bytes) -> None:
        """Send all of it; a peer that does not read until the time is up counts as gone."""
        rest = memoryview(bytestream)
        self._pdu_deadline = float("inf")
        try:
            while rest:
                self._socket.settimeout(self._patience_s())
                rest = rest[self._socket.send(rest) :]
        except OSError as error:
            self._failed(error)
            self.event_queue.put("Evt17")  # PS3.8 9.2.3: transport connection closed

    @property
    def _socket(self) -> socket.socket:
        if self.socket is None:
            raise OSError("the connection is closed")
        connection: socket.socket = self.socket
        return connection


class GuardedAE(AE):
    """An application entity whose requests go through a `GuardedSocket`."""

    failed: Callable[[OSError], None] = staticmethod(lambda error: None)
    serve: Serve = staticmethod(refuse_to_serve)
    most_bytes: float = MOST_BYTES

    def _create_socket(self, assoc: Any, address: Any, tls_args: Any) -> GuardedSocket:
        assoc._serve_request = partial(self.serve, assoc)
        guarded = GuardedSocket(assoc, address=address, failed=self.failed, most_bytes=self.most_bytes)
        guarded.tls_args = tls_args
        assoc.dul.artim_timer.timeout = FAREWELL_S
        assoc.dul.daemon = True  # a silent peer must not hold up the end of the process
        return guarded


def finish_within(association: Association, limit_s: float, *, stall_s: float) -> None:
    """Set the limits of `GuardedSocket.finish_within` for an association of a `GuardedAE`."""
    guarded = association.dul.socket
    if isinstance(guarded, GuardedSocket):  # None: closed meanwhile
        guarded.finish_within(limit_s, stall_s=stall_s)
