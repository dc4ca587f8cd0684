"""What we fetch from an archive over HTTP: WADO-RS (PS3.18 10.4), as a stream of PS3.10 files."""

from __future__ import annotations

from email.message import Message
from typing import Final

from node.accept.part10 import (
    MAX_META_BYTES,
    META_SOP_CLASS,
    META_SOP_INSTANCE,
    PREAMBLE_BYTES,
    begin,
    read_meta,
)
from node.accept.retrieve import Asked, Came, Receive, check_asked
from node.accept.spool import Request, Spool
from node.accept.store import Store
from node.errors import AcceptError, NotDicom, PeerBusy, PeerRefused, PeerUnreachable
from node.log import describe, get_log
from node.multipart import Begun, Ended, MultipartError, Reader
from node.peer.web import Web

log = get_log("accept")

#: The objects as they are kept (PS3.18 8.7.3.4: a star takes any transfer syntax).
ACCEPT: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
MOST_REFUSED: Final = 100  #: parts that nobody asked for; more are not heard out
_PLACE_FOR: Final = 2  #: the answer may have so many times what the objects themselves may


def wado(
    web: Web, asked: Asked, *, sender: str, store: Store, receive: Receive, max_object_bytes: int
) -> Came:
    """Fetch a series (PS3.18 10.4.1.1.2).

    Status 206 is some of it; what is lacking is for the caller to see.

    Parameters
    ----------
    sender
        What the instances are said to come from.
    receive
        Takes custody of an instance, or raises.

    Raises
    ------
    PeerUnreachable
        No connection, or it broke off.
    PeerBusy
        Not now.
    PeerRefused
        Never, or not what was asked for.
    """
    path = f"/studies/{asked.study_uid}/series/{asked.series_uid}"
    count = len(asked.classes) if asked.classes is not None else 1000
    most = _PLACE_FOR * max(1, count) * max_object_bytes
    with web.stream("GET", path, headers={"Accept": ACCEPT}, most_bytes=most) as answer:
        if answer.status not in (200, 206):
            raise _refusal(web.place, answer.status)
        kind = Message()
        kind["Content-Type"] = answer.headers.get("content-type", "")
        if kind.get_content_type() != "multipart/related":
            raise PeerRefused(f"{web.place} gives {path} as something else than multipart/related.")
        came, part = Came(), None
        try:
            reader = Reader(str(kind.get_param("boundary", "")))
            for chunk in answer.chunks():
                for event in reader.feed(chunk):
                    if isinstance(event, Begun):
                        part = _Part(asked, sender, store)
                    elif part is not None and isinstance(event, Ended):
                        part.end(receive, came)
                        part = None
                        if came.refused > MOST_REFUSED:
                            raise PeerRefused(f"{web.place} sends what was not asked for. {came.note}")
                    elif part is not None and isinstance(event, bytes):
                        part.write(event)
        except MultipartError as error:
            raise PeerRefused(f"{web.place} sends no multipart/related: {error}") from error
        finally:
            if part is not None:
                part.discard()
        if not reader.is_whole:
            raise PeerUnreachable(f"{web.place} broke off in the middle of a series.")
        return came


class _Part:
    """One object on its way in: its head is held until its meta information has been read."""

    def __init__(self, asked: Asked, sender: str, store: Store) -> None:
        self._asked, self._sender, self._store = asked, sender, store
        self._head = bytearray()
        self._spool: Spool | None = None
        self._request: Request | None = None
        self._error: AcceptError | None = None  #: what is wrong with it; the rest is not kept

    def write(self, data: bytes) -> None:
        """Take the next octets; never raises what is wrong with them alone."""
        if self._error is not None:
            return
        if self._spool is not None:
            self._spool.write(data)
            return
        self._head += data
        if len(self._head) > PREAMBLE_BYTES + MAX_META_BYTES or self._has_meta():
            self._begin()

    def end(self, receive: Receive, came: Came) -> None:
        """Take custody of what is whole; else say why not. Never raises."""
        try:
            if self._spool is None and self._error is None:
                self._begin()
            if self._error is not None:
                raise self._error
            if self._spool is None or self._request is None:
                raise NotDicom("The part is empty.")
            check_asked(self._spool, self._request, self._asked)
            receive(self._spool, self._request)
            came.stored.add(self._request.sop_instance_uid)
        except Exception as error:  # noqa: BLE001  one object must not hold up the others
            why = str(error) if isinstance(error, AcceptError) else f"the node stumbled ({describe(error)})."
            came.refuse(why)
            log.warning("instance_refused", reason=why, sender=self._sender)
        finally:
            self.discard()

    def discard(self) -> None:
        """Throw away what was not kept."""
        if self._spool is not None:
            self._spool.discard()

    def _has_meta(self) -> bool:
        """Whether all of the meta information has come: something stands behind it."""
        if len(self._head) <= PREAMBLE_BYTES:
            return False
        head = bytes(self._head)
        start = PREAMBLE_BYTES if head[128:PREAMBLE_BYTES] == b"DICM" else 0
        return read_meta(head, start)[1] + 8 <= len(head)

    def _begin(self) -> None:
        """Read who the object is, and open its file if it was asked for."""
        head = bytes(self._head)
        self._head.clear()
        try:
            transfer_syntax_uid, offset, meta = begin(head)
            uid = meta.get(META_SOP_INSTANCE, "")
            wanted = self._asked.classes
            if not uid or (wanted is not None and uid not in wanted):
                raise NotDicom("An object that was not asked for, or does not say who it is.")
            self._request = Request(
                sender=self._sender,
                sop_class_uid=meta.get(META_SOP_CLASS, ""),
                sop_instance_uid=uid,
                transfer_syntax_uid=transfer_syntax_uid,
                prior=self._asked.prior,
            )
        except AcceptError as error:
            self._error = error
            return
        self._spool = self._store.spool(self._request)
        self._spool.write(head[offset:])


def _refusal(place: str, status: int) -> PeerBusy | PeerRefused:
    """Say what an HTTP status means for a retrieval (PS3.18 Table 10.4.3-1)."""
    if status in (401, 403):
        return PeerRefused(f"{place} gives us nothing (status {status}); see token_file and [tls].")
    if status == 406:
        return PeerRefused(f"{place} has it in no form that can be kept (status 406).")
    if status in (404, 408, 410, 425, 429) or status >= 500:
        return PeerBusy(f"{place} does not give it just now (status {status}).")
    return PeerRefused(f"{place} does not give what is asked for (status {status}).")
