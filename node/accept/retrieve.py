"""What we fetch from an archive over DICOM: C-MOVE to our own door, or C-GET (PS3.4 C.4.2 and C.4.3).

One series at a time. What C-MOVE brings comes in as whatever else is sent to us; here is only waited for it.
What C-GET brings comes over the same association: fragment by fragment into the spool, checked against what
was asked for, and in our custody before the archive hears Success.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_role, evt
from pynetdicom.presentation import PresentationContext, build_context

from node.accept import status
from node.accept.classes import storage_classes
from node.accept.header import SERIES_UID, STUDY_UID
from node.accept.retrieve_messages import listen
from node.accept.spool import Request, Spool
from node.accept.store import Store
from node.accept.syntaxes import decodable_syntaxes
from node.config import DimseSource
from node.errors import AcceptError, IdentityMismatch, NotDicom, PeerBusy, PeerRefused, PeerUnreachable
from node.log import describe, get_log
from node.model import Instance
from node.peer.association import associated

log = get_log("accept")

STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
MOST_CONTEXTS: Final = 128  #: their numbers are the odd ones of a byte (PS3.8 9.3.2.2)
SLOWEST_BYTES_PER_S: Final = 5_000  #: less is nothing

_MESSAGE_ID: Final = 1
_PENDING: Final = 0xFF00

Receive = Callable[[Spool, Request], Instance]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to come: one series."""

    study_uid: str
    series_uid: str
    #: SOP Instance UID -> SOP Class UID, "" where the archive does not say; None: it cannot list them.
    classes: Mapping[str, str] | None
    prior: bool = False


@dataclass(slots=True)
class Came:
    """What has come so far, over our own line."""

    stored: set[str] = field(default_factory=set)  #: SOP Instance UIDs
    refused: int = 0
    why: str = ""  #: of the last one that was refused
    failed: int = 0  #: sub-operations that the archive says have failed

    def refuse(self, why: str) -> None:
        """Note that one was not taken."""
        self.refused += 1
        self.why = why

    @property
    def note(self) -> str:
        """What is to be known of it, as a sentence; "" for nothing."""
        told = [f"The archive could not send {self.failed} of them."] if self.failed else []
        told += [f"{self.refused} were not taken: {self.why}"] if self.refused else []
        return " ".join(told)


def check_asked(spool: Spool, request: Request, asked: Asked) -> None:
    """Refuse what was not asked for.

    Raises
    ------
    IdentityMismatch
        Another study, series or instance.
    NotDicom
        It cannot be read.
    """
    uids = spool.uids()
    if asked.classes is not None and request.sop_instance_uid not in asked.classes:
        raise IdentityMismatch("The archive sent an instance that was not asked for.")
    for tag, wanted in ((STUDY_UID, asked.study_uid), (SERIES_UID, asked.series_uid)):
        if uids.get(tag) != wanted:
            raise IdentityMismatch(
                "The archive sent what is of another series than was asked for.", tags=(tag,)
            )


def move(
    source: DimseSource,
    asked: Asked,
    *,
    ae_title: str,
    door: str,
    tls: ssl.SSLContext | None,
    arrived: Callable[[], int],
) -> str:
    """Have an archive send a series to our own door (PS3.4 C.4.2); return what is to be known of it, or "".

    Parameters
    ----------
    ae_title
        Ours: the Move Destination, which the archive must know.
    door
        Our address as people write it, for the sentence when it does not.
    arrived
        Returns how much of the series is here: as long as that grows, the archive is at work.

    Raises
    ------
    PeerUnreachable
        No connection, or nothing happened for too long.
    PeerBusy
        Not now (A701, A702, Cxxx, FE00).
    PeerRefused
        Never (A801, A900, 0122, 0124).
    """
    place = f"{source.ae_title} at {source.host}:{source.port}"
    with associated(
        source.host,
        source.port,
        source.ae_title,
        ae_title,
        [_plain_context(STUDY_ROOT_MOVE)],
        timeout_s=source.timeout_s,
        tls=tls,
    ) as association:
        listen(association, source, lambda: float(arrived()), enough=1.0)
        came = Came()
        try:
            answers = association.send_c_move(_identifier(asked), ae_title, STUDY_ROOT_MOVE, _MESSAGE_ID)
            _follow(answers, came, place)
        except _Unknown as error:
            raise PeerRefused(
                f"{place} does not know where to send it (A801): let it know AE {ae_title} at {door}."
            ) from error
        except PeerBusy as error:
            raise PeerBusy(f"{error} Does it reach AE {ae_title} at {door}?") from error
        except (ValueError, RuntimeError) as error:
            raise PeerRefused(f"{place} does not send what is asked for (C-MOVE, Study Root).") from error
        return came.note


def get(
    source: DimseSource,
    asked: Asked,
    *,
    ae_title: str,
    tls: ssl.SSLContext | None,
    store: Store,
    receive: Receive,
) -> Came:
    """Fetch a series over the association that we ask for (PS3.4 C.4.3).

    Parameters
    ----------
    receive
        Takes custody of an instance, or raises; only then the archive hears Success.

    Raises
    ------
    PeerUnreachable, PeerBusy, PeerRefused
        As `move`.
    """
    place = f"{source.ae_title} at {source.host}:{source.port}"
    came = Came()
    taker = _Taker(asked, source, store, receive, came)
    classes = sorted({one for one in (asked.classes or {}).values() if one}) or list(
        storage_classes().values()
    )
    contexts = storage_contexts(classes, decodable_syntaxes())
    with associated(
        source.host,
        source.port,
        source.ae_title,
        ae_title,
        [_plain_context(STUDY_ROOT_GET), *contexts],
        timeout_s=source.timeout_s,
        tls=tls,
        roles=[build_role(uid, scp_role=True) for uid in dict.fromkeys(_abstract(contexts))],
        handlers=[(evt.EVT_C_STORE, taker.on_store)],
        most_bytes=float("inf"),  # they go to files, and what a file may hold is bounded
    ) as association:
        least = SLOWEST_BYTES_PER_S * source.timeout_s
        messages = listen(association, source, None, enough=least, open_spool=taker.open_spool)
        try:
            answers = association.send_c_get(_identifier(asked), STUDY_ROOT_GET, _MESSAGE_ID)
            _follow(answers, came, place)
        except (ValueError, RuntimeError) as error:
            raise PeerRefused(f"{place} gives nothing over our own line (C-GET, Study Root).") from error
        finally:
            messages.drop()
    return came


def storage_contexts(classes: Sequence[str], syntaxes: Sequence[str]) -> list[PresentationContext]:
    """Return contexts for storage over our own line, at most 127: one beside them asks.

    One per class and syntax where that is possible: so the archive can send each object as it is kept,
    whichever it is. Otherwise it has to choose one syntax for a class.
    """
    most = MOST_CONTEXTS - 1
    if len(classes) * len(syntaxes) <= most:
        return [build_context(uid, syntax) for uid, syntax in product(classes, syntaxes)]
    return [build_context(uid, list(syntaxes)) for uid in list(classes)[:most]]


def _abstract(contexts: Sequence[PresentationContext]) -> Iterator[str]:
    yield from (str(context.abstract_syntax) for context in contexts)


def _plain_context(uid: str) -> PresentationContext:
    return build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])


def _identifier(asked: Asked) -> Dataset:
    """Return what is asked for, at the level of a series (PS3.4 C.4.2.1.4.1)."""
    question = Dataset()
    question.QueryRetrieveLevel = "SERIES"
    question.StudyInstanceUID = asked.study_uid
    question.SeriesInstanceUID = asked.series_uid
    return question


class _Unknown(Exception):
    """The archive does not know our AE title as a destination."""


def _follow(answers: Iterator[tuple[Dataset, Dataset | None]], came: Came, place: str) -> None:
    """Hear an archive out until its last word (PS3.4 C.4.2.1.5, C.4.3.1.4)."""
    code = -1
    for answer, _ in answers:
        if "Status" not in answer:
            raise PeerUnreachable(
                f"{place} stopped in the middle of sending, or nothing happened for too long."
            )
        code = int(answer.Status)
        failed = answer.get("NumberOfFailedSuboperations")
        came.failed = failed if isinstance(failed, int) else came.failed
    told = f"{place} did not send all that was asked for (status {code:04X}). {came.note}".strip()
    if code in (0x0000, 0xB000):
        return
    if code == 0xA801:
        raise _Unknown
    if code in (0xA900, 0x0122, 0x0124):
        raise PeerRefused(told)
    # A701, A702, FE00, and what no clause knows; Cxxx as well: so some say that they do not reach our door.
    raise PeerBusy(told)


class _Taker:
    """The Storage SCP of a C-GET: what a sub-operation brings becomes a file, a call, and a status."""

    def __init__(self, asked: Asked, source: DimseSource, store: Store, receive: Receive, came: Came) -> None:
        self._asked, self._source, self._store, self._receive, self._came = (
            asked,
            source,
            store,
            receive,
            came,
        )

    def open_spool(self, command: Any, context: PresentationContext) -> Spool:
        """Open the file that a data set goes to."""
        return self._store.spool(self._request(command, str(context.transfer_syntax[0])))

    def on_store(self, event: Any) -> Dataset:
        """Answer one sub-operation; never raises."""
        spool: Spool | None = event.request._dataset_file
        request = self._request(event.request, str(event.context.transfer_syntax))
        try:
            if request.sop_class_uid != event.context.abstract_syntax:
                raise IdentityMismatch("Not the SOP class that was agreed on.")
            if spool is None:
                raise NotDicom("The request has no data set.")
            check_asked(spool, request, self._asked)
            self._receive(spool, request)
            self._came.stored.add(request.sop_instance_uid)
            return status.answer(status.SUCCESS)
        except Exception as error:  # noqa: BLE001 - the archive must hear that it is not taken, whatever it was
            why = str(error) if isinstance(error, AcceptError) else f"the node stumbled ({describe(error)})."
            self._came.refuse(why)
            log.warning("instance_refused", reason=why, sender=request.sender)
            return status.refusal(error)
        finally:
            if spool is not None:
                spool.discard()

    def _request(self, command: Any, transfer_syntax_uid: str) -> Request:
        return Request(
            sender=self._source.ae_title,
            sop_class_uid=str(command.AffectedSOPClassUID),
            sop_instance_uid=str(command.AffectedSOPInstanceUID),
            transfer_syntax_uid=transfer_syntax_uid,
            prior=self._asked.prior,
        )
