"""The DIMSE door: Verification and Storage SCP (PS3.4 A and B).

What strangers can do to it is the business of `node.accept.guard`; here a request becomes a
file, a call of ``receive``, and a status.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import PresentationContext

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.accept import status
from node.accept.classes import chosen_classes
from node.accept.connection import Limits
from node.accept.listener import Listener
from node.accept.store import Request, Spool, Store
from node.accept.syntaxes import UNCOMPRESSED, decodable_syntaxes, in_order
from node.config import AcceptTable
from node.errors import AcceptError, NotDicom
from node.log import describe, get_log
from node.model import Instance

log = get_log("accept")

#: Takes custody of what was received, or raises; Success is answered only after it returns.
Receive = Callable[[Spool, Request], Instance]

_VERIFICATION = "1.2.840.10008.1.1"
#: While draining, an association that is silent for this long between two requests is ended.
_LINGER_S = 2.0


class DimseDoor:
    """Listens for C-ECHO and C-STORE.

    Parameters
    ----------
    config
        Table [accept].
    ae_title
        Our own.
    store
        Gives the files that data sets are received into.
    receive
        Called with the whole object in its file, in the thread of its association. When it
        raises, the file is discarded and the sender gets `node.accept.status.status_of`.
    syntaxes
        Transfer syntaxes to accept, best first; None: those that a decoder is seen to decode.

    Raises
    ------
    ConfigError
        ``sop_classes`` names something that is no storage class.
    """

    def __init__(
        self,
        config: AcceptTable,
        ae_title: str,
        store: Store,
        receive: Receive,
        syntaxes: Sequence[str] | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._receive = receive
        self._syntaxes = syntaxes
        self._classes = chosen_classes(config.dimse.sop_classes)
        self._listener: Listener | None = None
        door = config.dimse
        ae = ApplicationEntity(ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_associations = door.max_associations * 4  # the guard counts, see `Listener`
        ae.acse_timeout = door.request_timeout_s
        ae.network_timeout = door.idle_timeout_s
        ae.dimse_timeout = door.idle_timeout_s
        ae.require_calling_aet = list(config.callers)
        ae.require_called_aet = door.check_called_ae
        self._ae = ae

    def start(self) -> int:
        """Listen, and return the port.

        Raises
        ------
        ConfigError
            The address is not ours or the port is taken; says by whom.
        """
        door = self._config.dimse
        syntaxes = decodable_syntaxes() if self._syntaxes is None else tuple(self._syntaxes)
        limits = Limits(
            max_associations=door.max_associations,
            max_connections_per_peer=door.max_connections_per_peer,
            max_pdu_bytes=door.max_pdu_bytes,
            request_timeout_s=door.request_timeout_s,
            pdu_timeout_s=door.pdu_timeout_s,
            idle_timeout_s=door.idle_timeout_s,
        )
        contexts = [
            _context(_VERIFICATION, UNCOMPRESSED),
            *(_context(uid, syntaxes) for uid in self._classes),
        ]
        handlers = [
            (evt.EVT_REQUESTED, _on_requested),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_ACCEPTED, _on_accepted),
            (evt.EVT_REJECTED, _on_rejected),
        ]
        self._listener = Listener(
            self._ae, (door.host, door.port), contexts, handlers, limits, self._open_spool
        )
        self._listener.start()
        log.info("door_open", port=self._listener.port, syntaxes=list(syntaxes), count=len(self._classes))
        return self._listener.port

    def drain(self, timeout_s: float, hurry: threading.Event | None = None) -> bool:
        """Take no more associations and let those in flight finish.

        Parameters
        ----------
        hurry
            Ends the waiting when it is set.

        Returns
        -------
        bool
            Whether all have ended within the time.
        """
        hurry = hurry or threading.Event()
        listener = self._listener
        if listener is None:
            return True
        listener.close()
        until = time.monotonic() + timeout_s
        while associations := listener.associations():
            if time.monotonic() >= until or hurry.wait(0.02):
                return False
            for association in associations:
                if association.idle_s > _LINGER_S:
                    association.abort(block=False)
        return True

    def stop(self) -> None:
        """Close the door now; what is being received is given up, unacknowledged."""
        if self._listener is None:
            return
        self._listener.close()
        for association in self._listener.associations():
            association.cut()
        for association in self._listener.associations():
            association.join(timeout=5.0)
        self._listener = None

    def _open_spool(self, association: Any, command: Any, context: PresentationContext) -> Spool:
        return self._store.spool(
            Request(
                sender=_printable(association.requestor.ae_title),
                sop_class_uid=str(command.AffectedSOPClassUID),
                sop_instance_uid=str(command.AffectedSOPInstanceUID),
                transfer_syntax_uid=str(context.transfer_syntax[0]),
            )
        )

    def _on_store(self, event: Any) -> Dataset | int:
        """Answer one C-STORE request. Never raises, and never touches the data set itself."""
        spool: Spool | None = event.request._dataset_file
        sop_class_uid = str(event.request.AffectedSOPClassUID)
        request = Request(
            sender=_printable(event.assoc.requestor.ae_title),
            sop_class_uid=sop_class_uid,
            sop_instance_uid=str(event.request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
        )
        try:
            if sop_class_uid != event.context.abstract_syntax:
                return _answer(status.SOP_CLASS_NOT_SUPPORTED, "Not the SOP class that was agreed on.")
            if spool is None:
                raise NotDicom("The request has no data set.")
            self._receive(spool, request)
            return status.SUCCESS
        except AcceptError as error:
            log.warning("instance_refused", code=error.code, reason=str(error), sender=request.sender)
            return _answer(status.status_of(error), status.comment_of(error), error.tags)
        except Exception as error:  # noqa: BLE001 - the sender must hear that it is not stored, whatever it was
            log.error("instance_failed", error=describe(error), sender=request.sender)
            return _answer(status.status_of(error), status.comment_of(error))
        finally:
            if spool is not None:
                spool.discard()


@lru_cache(maxsize=4096)  # shared and never written to: see `Listener`; to make 128 takes 20 ms
def _context(sop_class_uid: str, syntaxes: tuple[str, ...]) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = sop_class_uid
    context.transfer_syntax = list(syntaxes)
    return context


def _on_requested(event: Any) -> None:
    """Put the transfer syntaxes of what is proposed in the order that suits this sender."""
    association = event.assoc
    proposed: dict[str, list[str]] = {}
    for context in association.requestor.primitive.presentation_context_definition_list:
        proposed.setdefault(str(context.abstract_syntax), []).extend(map(str, context.transfer_syntax))
    association.acceptor.supported_contexts = [
        _context(uid, in_order(proposed[uid], [str(known) for known in context.transfer_syntax]))
        for context in association.acceptor.supported_contexts
        if (uid := str(context.abstract_syntax)) in proposed
    ]


def _answer(code: int, comment: str = "", tags: tuple[int, ...] = ()) -> Dataset:
    answer = Dataset()
    answer.Status = code
    if comment:
        answer.ErrorComment = comment
    if tags:
        answer.OffendingElement = list(tags)
    return answer


def _printable(ae_title: str | None) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in (ae_title or "").strip())[:16]


def _on_accepted(event: Any) -> None:
    log.info("association_accepted", ae_title=_printable(event.assoc.requestor.ae_title))


def _on_rejected(event: Any) -> None:
    log.warning("association_rejected", ae_title=_printable(event.assoc.requestor.ae_title))
