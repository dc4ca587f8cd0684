"""Who gets an association: a port, a waiting room, and a bounded number of places.

pynetdicom's own server starts two threads and copies every presentation context as soon as
somebody connects, and counts connections that have said nothing as associations. Here a
connection sits in the waiting room, without threads, until its A-ASSOCIATE-RQ is whole. There
is a deadline, a number of seats, and who has waited longest makes room; so those who only
connect cannot keep out those who have something to say. With TLS the handshake is made in the
waiting room too, under the same deadline, so that nobody waits for a slow or silent one.
"""

from __future__ import annotations

import selectors
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from node.accept.connection import A_ABORT, GuardedSocket, Limits, hang_up, say
from node.accept.guard import GuardedAssociation, OpenSpool
from node.accept.waiting import MAX_REQUEST_BYTES, Heard, Waiting
from node.log import describe, get_log
from node.peer.tls import fingerprint
from node.port import listen_on

log = get_log("accept")

#: Seats of the waiting room.
_MAX_WAITING = 200
#: When all associations are taken, one that is silent for this long makes room ...
_SHED_AFTER_S = 10.0
#: ... and sooner in the middle of a message, or when its peer holds more than half of all.
_SHED_SOON_S = 1.0
_TRY_LATER = struct.pack(">BBLBBBB", 0x03, 0, 4, 0, 2, 3, 2)  #: PS3.8 9.3.4, local-limit-exceeded


class Listener:
    """Listens, keeps the waiting room, and starts an association for a whole request.

    Parameters
    ----------
    ae
        Application entity with titles and rights; its supported contexts are not used.
    contexts
        The presentation contexts. They are shared by all associations and never written to:
        copying them for each costs tens of milliseconds and 1.7 MB.
    handlers
        For pynetdicom's events.
    open_spool
        Opens the file that one data set goes to; called with association, command set, context.
    tls
        From `node.peer.tls.server_context`; None: no TLS at this door.
    """

    def __init__(
        self,
        ae: Any,
        address: tuple[str, int],
        contexts: list[PresentationContext],
        handlers: Sequence[tuple[Any, Callable[[Any], Any]]],
        limits: Limits,
        open_spool: OpenSpool,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._ae = ae
        self._contexts = contexts
        self._handlers = handlers
        self._limits = limits
        self._open_spool = open_spool
        self._tls = tls
        self._socket = listen_on(*address)
        self._socket.setblocking(False)
        self.port = int(self._socket.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._waiting: dict[Waiting, None] = {}  # in order of arrival
        self._associations: list[GuardedAssociation] = []
        self._lock = threading.Lock()  #: over the list of associations
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="accept-dimse", daemon=True)

    def start(self) -> None:
        """Begin to take connections."""
        self._thread.start()

    def close(self) -> None:
        """Take no more connections; associations go on."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def associations(self) -> list[GuardedAssociation]:
        """Return the associations that are alive."""
        with self._lock:
            self._associations = [a for a in self._associations if a.is_alive()]
            return list(self._associations)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                for key, _ in self._selector.select(0.1):
                    if key.data is None:
                        self._admit()
                    elif key.data in self._waiting:
                        self._listen_to(key.data)
                now = time.monotonic()
                for one in [one for one in self._waiting if one.deadline <= now]:
                    if one.is_shaking:
                        log.warning("tls_refused", reason="it did not finish in time", host=one.peer)
                    self._dismiss(one)
            except Exception as error:  # noqa: BLE001 - no connection may stop the door
                log.error("listener_stumbled", error=describe(error))
                time.sleep(0.1)
        self._selector.unregister(self._socket)
        self._socket.close()
        for one in list(self._waiting):
            self._dismiss(one)
        self._selector.close()

    def _admit(self) -> None:
        """Give a new connection a seat; when there is none, who has waited longest leaves."""
        try:
            connection, address = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors: those who only wait hold some
            log.warning("connection_lost", error=describe(error))
            for one in list(self._waiting)[: max(1, len(self._waiting) // 2)]:
                self._dismiss(one)
            time.sleep(0.05)
            return
        peer = str(address[0])
        crowd = Counter(one.peer for one in self._waiting)
        associated = sum(a.requestor.address == peer for a in self.associations())
        if crowd[peer] and crowd[peer] + associated >= self._limits.max_connections_per_peer:
            self._dismiss(next(one for one in self._waiting if one.peer == peer))
        elif associated >= self._limits.max_connections_per_peer:
            hang_up(connection)
            return
        elif len(self._waiting) >= _MAX_WAITING:
            largest = crowd.most_common(1)[0][0]
            self._dismiss(next(one for one in self._waiting if one.peer == largest))
        deadline = time.monotonic() + self._limits.request_timeout_s
        try:
            one = Waiting(connection, address, deadline, self._limits, self._tls)
        except OSError:
            hang_up(connection)  # it is gone already
            return
        self._waiting[one] = None
        self._selector.register(one.connection, one.wants, one)

    def _listen_to(self, one: Waiting) -> None:
        """Take what has come of the first PDU, and see whether that is all."""
        wanted = one.wants
        match one.hear():
            case Heard.PART:
                if one.wants != wanted:
                    self._selector.modify(one.connection, one.wants, one)
            case Heard.ALL:
                self._leave(one)
                self._associate(one)
            case Heard.WRONG:
                log.warning("not_a_request", bytes=one.announced_bytes, limit=MAX_REQUEST_BYTES)
                say(one.connection, A_ABORT)
                self._dismiss(one)
            case Heard.END:
                if one.is_shaking:
                    log.warning("tls_refused", reason=one.reason or "it is gone", host=one.peer)
                self._dismiss(one)

    def _leave(self, one: Waiting) -> None:
        del self._waiting[one]
        self._selector.unregister(one.connection)

    def _dismiss(self, one: Waiting) -> None:
        self._leave(one)
        hang_up(one.connection)

    def _associate(self, one: Waiting) -> None:
        if not self._has_room():
            log.warning("association_refused", reason="all associations are taken")
            say(one.connection, _TRY_LATER)
            hang_up(one.connection)
            return
        association = GuardedAssociation(self._ae, self._limits, self._open_spool)
        if isinstance(one.connection, ssl.SSLSocket):
            association.fingerprint = fingerprint(one.connection)
        association.name = f"accept-association-{self.port}"
        association.use(GuardedSocket(association, one.connection, bytes(one.heard), self._limits))
        local = association.acceptor
        local.maximum_length = self._limits.max_pdu_bytes
        local.ae_title = self._ae.ae_title
        local.address_info = AddressInformation.from_tuple(one.connection.getsockname())
        local.implementation_class_uid = self._ae.implementation_class_uid
        local.implementation_version_name = self._ae.implementation_version_name
        local.supported_contexts = self._contexts
        association.requestor.address_info = AddressInformation.from_tuple(one.address)
        for event, handler in self._handlers:
            association.bind(event, handler)
        with self._lock:
            self._associations.append(association)
            association.start()

    def _has_room(self) -> bool:
        taken = [a for a in self.associations() if not a.is_shed]
        if len(taken) < self._limits.max_associations:
            return True
        crowd = Counter(a.requestor.address for a in taken)
        half = self._limits.max_associations / 2

        def patience_s(one: GuardedAssociation) -> float:
            is_urgent = one.is_halfway or crowd[one.requestor.address] > half
            return _SHED_SOON_S if is_urgent else _SHED_AFTER_S

        silent = [a for a in taken if a.idle_s >= patience_s(a)]
        if not silent:
            return False
        laziest = max(silent, key=lambda a: a.idle_s)
        log.warning("association_shed", seconds=round(laziest.idle_s, 1))
        laziest.is_shed = True
        laziest.abort(block=False)
        return True
