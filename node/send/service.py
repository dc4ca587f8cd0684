"""One request to a STOW-RS service, and what its answer means for each object (PS3.18 10.5.3).

What counts is what the answer says of each instance. One that is named neither among the stored nor
among the failed is not known to be stored, whatever the status of the answer is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from pydicom.uid import ExplicitVRLittleEndian

from node.config import StowDestination, TlsTable
from node.errors import PeerBusy, PeerRefused, PeerUnreachable, SendError
from node.failpoint import failpoint
from node.log import get_log
from node.model import ResultObject
from node.peer.tls import client_context
from node.peer.web import Web, WebAnswer
from node.send.answer import StoreAnswer, read_answer
from node.send.multipart import Multipart
from node.send.status import Family, Verdict, failure_of, family_of
from node.send.syntax import syntaxes_for

LARGEST_ANSWER_BYTES = 16 << 20  #: some hundred bytes an instance are usual
#: The Failure Reason that is about the transfer syntax (PS3.18 I.2.2).
_NO_SYNTAX = 0xC122
#: Statuses of a whole request where one object may be to blame: each is sent alone then.
_ONE_BY_ONE = frozenset({400, 406, 409, 413, 415, 422, 500})

_log = get_log("send")


class Outcome(NamedTuple):
    """What became of one object."""

    verdict: Verdict
    told: str  #: for people
    reason: int = 0  #: Warning Reason or Failure Reason

    @property
    def is_stored(self) -> bool:
        """Whether it is there."""
        return self.verdict in (Verdict.STORED, Verdict.WARNED)


class Service:
    """A STOW-RS service, and what was seen of it in this delivery.

    Parameters
    ----------
    name
        Of the destination.
    """

    def __init__(
        self, name: str, destination: StowDestination, tls: TlsTable, now: Callable[[], datetime]
    ) -> None:
        self._name, self._now = name, now
        self.most_bytes = int(destination.max_request_mb * 1e6)  #: of a request
        self._is_asked = destination.proof != "none"
        self._web = Web(
            destination.url,
            timeout_s=destination.timeout_s,
            token_file=destination.token_file,
            tls=client_context(tls) if destination.url.startswith("https:") else None,
        )
        self._unpack: frozenset[str] = frozenset()  # Transfer Syntax UIDs that it does not take

    def post(self, things: Sequence[ResultObject]) -> Iterator[tuple[ResultObject, Outcome]]:
        """Send objects in one request, or each in its own where that fails.

        Yields
        ------
        tuple
            An object, and what became of it, as soon as that is known.

        Raises
        ------
        PeerUnreachable, PeerBusy, PeerRefused
            It is about the service, not about any of these.
        """
        if not things:
            return
        answer = self._exchanged(things)
        said = read_answer(answer.body)
        if said is None and answer.status not in _ONE_BY_ONE:
            yield from self._unnamed(things, answer)
            return
        said = said or StoreAnswer({}, {}, ())
        # There are servers that leave out what they did not understand.
        is_unclear = len(things) > 1 and (said.others or answer.status in _ONE_BY_ONE)
        plain, alone = [], []
        for thing in things:
            outcome = self._judged(thing, answer, said)
            if is_unclear and not said.names(thing.sop_instance_uid):
                alone.append(thing)
            elif outcome.reason == _NO_SYNTAX and self._can_unpack(thing):
                plain.append(thing)
            else:
                yield thing, outcome
        self._unpack |= {thing.transfer_syntax_uid for thing in plain}
        yield from self.post(plain)
        for thing in alone:
            yield from self.post([thing])

    def _exchanged(self, things: Sequence[ResultObject]) -> WebAnswer:
        failpoint("send.connected")
        _log.info("connected", destination=self._name, objects=len(things))
        try:
            with Multipart(things, self._unpack) as body:
                headers = {"Accept": "application/dicom+json", **body.headers}
                return self._web.ask(
                    "POST", "/studies", headers=headers, body=body, most_bytes=LARGEST_ANSWER_BYTES
                )
        except PeerUnreachable as error:
            raise PeerUnreachable(f"{self._name}: {error}") from error
        except OSError as error:
            raise SendError(f"A file of these results cannot be read: {error.strerror}.") from error

    def _judged(self, thing: ResultObject, answer: WebAnswer, said: StoreAnswer) -> Outcome:
        """Return what an answer says of one object; what it cannot name is the only one it was sent."""
        uid = thing.sop_instance_uid
        if uid in said.stored:
            reason = said.stored[uid]
            family, code = family_of(reason), f"warning reason {reason:04X}"
            if family.verdict not in (Verdict.STORED, Verdict.WARNED):  # it says that it is stored
                family = Family(reason, reason, Verdict.WARNED, "it warned without saying of what", "none")
        elif uid in said.failed or said.others:
            failure = said.failed[uid] if uid in said.failed else said.others[0]
            family, reason = failure_of(failure), failure or 0
            code = f"failure reason {reason:04X}" if reason else f"status {answer.status}"
        else:
            family, reason, code = _of_all(answer.status), 0, f"status {answer.status}"
            reason = _NO_SYNTAX if answer.status == 415 else 0
        if family.verdict in (Verdict.STORED, Verdict.WARNED):
            return Outcome(family.verdict, family.stored(self._name, code), reason)
        return Outcome(family.verdict, family.unstored(self._name, f"{thing.kind} {uid}", code), reason)

    def _can_unpack(self, thing: ResultObject) -> bool:
        known = {ExplicitVRLittleEndian, *self._unpack}
        return thing.transfer_syntax_uid not in known and ExplicitVRLittleEndian in syntaxes_for(thing)

    def _unnamed(
        self, things: Sequence[ResultObject], answer: WebAnswer
    ) -> Iterator[tuple[ResultObject, Outcome]]:
        """Yield what became of objects of which an answer says nothing at all, if that can be known."""
        status, place = answer.status, f"{self._name} ({self._web.place})"
        if status in (401, 403, 407):
            raise PeerRefused(f"{place} does not let us store (status {status}); see token_file and [tls].")
        if status in (425, 429, 503, 507):
            raise PeerBusy(f"{place} cannot store just now (status {status}).", again_s=self._again_s(answer))
        if status == 408 or status > 500:
            told = f"{place} may not have stored what it was sent (status {status})."
            raise PeerUnreachable(told, again_s=self._again_s(answer))
        if 300 <= status < 400:
            raise PeerRefused(f"{place} sends us elsewhere (status {status}); write where it is in url.")
        if not 200 <= status < 300:
            raise PeerRefused(f"{place} stores nothing (status {status}); is url its DICOMweb service?")
        if status != 200 or answer.body.strip() or not self._is_asked:
            raise PeerUnreachable(
                f"{place} answered (status {status}) without naming what it stored, so that is not known. "
                f"If url is its DICOMweb service, set proof = "
                f'"query" in [destinations.{self._name}]: then it is asked.'
            )
        told = f"{self._name} said that it stored everything, but not what; it will be asked."
        for thing in things:
            yield thing, Outcome(Verdict.STORED, told)

    def _again_s(self, answer: WebAnswer) -> float:
        """Return Retry-After (RFC 9110 10.2.3) in seconds; 0 if there is none."""
        said = answer.headers.get("retry-after", "").strip()
        if said.isascii() and said.isdecimal():
            return float(said[:9])
        try:
            at = parsedate_to_datetime(said)
        except ValueError:
            return 0.0
        return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - self._now()).total_seconds())


def _of_all(status: int) -> Family:
    """Return what the status of an answer means for an object that it does not name (PS3.18 10.5.3.1)."""
    if status not in _ONE_BY_ONE:
        return Family(0, 0, Verdict.UNTOLD, "its answer does not name it", "PS3.18 10.5.3.3")
    if status == 500:
        return Family(0, 0, Verdict.UNTOLD, "it failed while processing", "RFC 9110 15.6.1")
    why = {
        413: "it is too large for it; raise the limit there, of the server or of a proxy before it",
        415: "it takes no DICOM files in multipart/related, or not in this transfer syntax",
    }.get(status, "it takes the request for wrong")
    return Family(0, 0, Verdict.REFUSED, why, "PS3.18 10.5.3.1")
