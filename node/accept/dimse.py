"""The DIMSE door: Verification and Storage SCP (PS3.4 A and B), and an ear for storage commitment (J).

What strangers can do to it is the business of `node.accept.guard`, who may come in that of
`node.accept.policy`; here a request becomes a file, a call of ``receive``, and a status.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import PresentationContext

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.accept import status
from node.accept.admission import Admission, offered
from node.accept.classes import chosen_classes
from node.accept.connection import Limits
from node.accept.guard import GuardedAssociation
from node.accept.listener import Listener
from node.accept.spool import Request, Spool
from node.accept.store import Store
from node.accept.syntaxes import UNCOMPRESSED, decodable_syntaxes
from node.config import AcceptTable, TlsTable
from node.errors import AcceptError, NotDicom
from node.log import describe, get_log
from node.model import Instance
from node.peer.commitment import PUSH_MODEL, Report, heard
from node.peer.echo import VERIFICATION
from node.peer.tls import server_context

log = get_log("accept")

#: Takes custody of what was received, or raises; Success is answered only after it returns.
Receive = Callable[[Spool, Request], Instance]
#: Takes a storage commitment report and the AE title of who brought it; returns a status (PS3.7 C).
OnCommitment = Callable[[Report, str], int]

#: While draining, an association that is silent for this long between two requests is ended.
_LINGER_S = 2.0
#: Of so many series an association is remembered to have brought an instance, the last ones.
_MOST_SERIES = 1000
#: PS3.4 B.3.1: we keep all attributes (level 2), bit by bit (signature level 3), and coerce none.
_EXTENDED_ANSWER = bytes((2, 0, 3, 0, 0, 0))


class DimseDoor:
    """Listens for C-ECHO and C-STORE, and for N-EVENT-REPORT of storage commitment.

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
    tls
        Table [tls], where ``config.dimse.tls`` asks for it.
    on_commitment
        Hears what archives report of storage commitment; None: nobody asks them for any.

    Raises
    ------
    ConfigError
        ``sop_classes`` names something that is no storage class, or a file of [tls] cannot be used.
    """

    def __init__(
        self,
        config: AcceptTable,
        ae_title: str,
        store: Store,
        receive: Receive,
        syntaxes: Sequence[str] | None = None,
        *,
        tls: TlsTable | None = None,
        on_commitment: OnCommitment | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._receive = receive
        self._syntaxes = syntaxes
        self._on_commitment = on_commitment
        door = config.dimse
        self._classes = frozenset(chosen_classes(door.sop_classes))
        self._tls = None if door.tls == "off" else server_context(tls or TlsTable(), door.tls)
        self._hurry = threading.Event()  #: no answer waits any more
        self._listener: Listener | None = None
        self._admission = Admission(config, ae_title, self._associations)
        ae = ApplicationEntity(ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_associations = door.max_associations * 4  # the guard counts, see `Listener`
        ae.acse_timeout = door.request_timeout_s
        ae.network_timeout = door.idle_timeout_s
        ae.dimse_timeout = door.idle_timeout_s
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
            offered(VERIFICATION, UNCOMPRESSED),
            *(offered(uid, syntaxes) for uid in sorted(self._classes)),
        ]
        if self._on_commitment is not None:
            contexts.append(offered(PUSH_MODEL, UNCOMPRESSED))
        handlers = [
            (evt.EVT_REQUESTED, self._admission.on_requested),
            (evt.EVT_SOP_EXTENDED, self._on_extended),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_EVENT_REPORT, self._on_report),
        ]
        self._listener = Listener(
            self._ae, (door.host, door.port), contexts, handlers, limits, self._open_spool, self._tls
        )
        self._listener.start()
        log.info("door_open", port=self._listener.port, syntaxes=list(syntaxes), count=len(self._classes))
        return self._listener.port

    def bringing(self) -> Mapping[str, int]:
        """Return, by Series Instance UID, how many associations have brought of it and have not ended."""
        return Counter(uid for one in self._associations() for uid in list(one.series))

    def _associations(self) -> list[GuardedAssociation]:
        listener = self._listener
        return listener.associations() if listener else []

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
        self._hurry.set()
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
        self._hurry.set()
        if self._listener is None:
            return
        self._listener.close()
        for association in self._listener.associations():
            association.cut()
        for association in self._listener.associations():
            association.join(timeout=5.0)
        self._listener = None

    def _on_extended(self, event: Any) -> dict[str, bytes]:
        """Answer SOP Class Extended Negotiation (PS3.7 D.3.3.5) for what we store."""
        return {str(uid): _EXTENDED_ANSWER for uid in event.app_info if str(uid) in self._classes}

    def _open_spool(self, association: Any, command: Any, context: PresentationContext) -> Spool:
        return self._store.spool(_request(association, command, str(context.transfer_syntax[0])))

    def _on_store(self, event: Any) -> Dataset | int:
        """Answer one C-STORE request. Never raises, and never touches the data set itself."""
        spool: Spool | None = event.request._dataset_file
        association: GuardedAssociation = event.assoc
        sender = association.caller
        try:
            if spool is None:
                raise NotDicom("The request has no data set.")
            request = spool.request
            sop_class_uid = request.sop_class_uid
            if sop_class_uid != event.context.abstract_syntax or sop_class_uid not in self._classes:
                return status.answer(status.SOP_CLASS_NOT_SUPPORTED, "Not the SOP class that was agreed on.")
            instance = self._receive(spool, request)
            _remember(association.series, instance.series_uid)
            association.kept += 1
            if delay_s := self._admission.delay_s(association.policy):
                self._hurry.wait(delay_s)
            return status.SUCCESS
        except AcceptError as error:
            log.warning("instance_refused", code=error.code, reason=str(error), sender=sender)
            return status.refusal(error)
        except Exception as error:  # noqa: BLE001 - the sender must hear that it is not stored, whatever it was
            log.error("instance_failed", error=describe(error), sender=sender)
            return status.refusal(error)
        finally:
            if spool is not None:
                spool.discard()

    def _on_report(self, event: Any) -> tuple[int, None]:
        """Have a storage commitment report heard, and answer it (PS3.4 J.3.3)."""
        caller = event.assoc.caller or "?"
        hear = self._on_commitment

        def told(report: Report) -> int:
            return hear(report, caller) if hear is not None else status.SOP_CLASS_NOT_SUPPORTED

        code = heard(event, told)
        log.info("commitment_reported", ae_title=caller, status=f"{code:04X}")
        return code, None


def _request(association: GuardedAssociation, command: Any, transfer_syntax_uid: str) -> Request:
    return Request(
        sender=association.caller,
        sop_class_uid=str(command.AffectedSOPClassUID),
        sop_instance_uid=str(command.AffectedSOPInstanceUID),
        transfer_syntax_uid=transfer_syntax_uid,
        policy=association.policy,
    )


def _remember(series: dict[str, None], uid: str) -> None:
    series.pop(uid, None)
    series[uid] = None  # last
    if len(series) > _MOST_SERIES:
        del series[next(iter(series))]
