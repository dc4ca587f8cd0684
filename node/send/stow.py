"""Objects go to an archive by STOW-RS (PS3.18 10.5): several in a request, each answered for.

What counts is what the answer says of each instance. One that is named neither among the stored nor
among the failed is not known to be stored, whatever the status of the answer is, and stays owed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from pydicom.uid import ExplicitVRLittleEndian

from node.config import StowDestination, TlsTable
from node.errors import PeerBusy, PeerRefused, PeerUnreachable, SendError
from node.failpoint import failpoint
from node.log import get_log
from node.model import Receipt, ResultObject
from node.peer.tls import client_context
from node.peer.web import Web, WebAnswer
from node.profile import LABELMAP_CLASS
from node.send.answer import StoreAnswer, read_answer
from node.send.classes import RESULT_CLASSES, Negotiated
from node.send.multipart import FRAME_BYTES, Multipart
from node.send.status import Family, Verdict, failure_of, family_of
from node.send.syntax import syntaxes_for
from node.send.trip import Trip

LARGEST_ANSWER_BYTES = 16 << 20  #: some hundred bytes an instance are usual
#: Failure Reasons that are about the SOP Class, and the one about the transfer syntax (PS3.18 I.2.2).
_NO_CLASS, _NO_SYNTAX = frozenset({0x0118, 0x0122}), 0xC122
#: What a server is hoped to take that has not said otherwise; a label map is too new for that.
_HOPED = {uid: uid != LABELMAP_CLASS for uid in RESULT_CLASSES}
#: Of a whole request, where one object may be to blame: each is sent alone then.
_ONE_BY_ONE = frozenset({400, 406, 409, 413, 415, 422, 500})

_log = get_log("send")


class Outcome(NamedTuple):
    """What became of one object."""

    family: Family
    told: str  #: for people
    reason: int = 0  #: Warning Reason or Failure Reason


def store(
    objects: Sequence[ResultObject],
    name: str,
    destination: StowDestination,
    *,
    calling_ae: str,
    tls: TlsTable,
    now: Callable[[], datetime],
    negotiated: Negotiated,
) -> Iterator[Receipt]:
    """Send objects in as many requests as they need; yield a receipt for each that is told to be stored.

    Nobody says beforehand what he takes; that is learnt from the answers. An object of a class that is
    refused goes as what `negotiated` names in its place.

    Raises
    ------
    PeerUnreachable
        No connection, none that is trusted, no answer in time, or none that tells what was stored.
    PeerBusy
        Not now; ``again_s`` where it says when.
    PeerRefused
        It does not let us in, or at least one object will never be taken; told after all others were sent.
    """
    del calling_ae  # HTTP has no such thing
    if not objects:
        return
    door = _Door(name, destination, tls, now)
    trip = Trip(objects, name, now)
    taken: dict[str, bool] = {}  # SOP Class UID -> whether it was seen to be taken
    trip.replaced = negotiated(objects, taken)
    waiting = list(objects)
    most_bytes = int(destination.max_request_mb * 1e6)
    while pack := _pack(waiting, trip, most_bytes):
        waiting = waiting[len(pack) :]
        sent = {thing.sop_instance_uid: one for thing in pack if (one := trip.going(thing)) is not None}
        outcomes = door.post(list(sent.values())) if sent else {}
        again, later = [], ""
        for thing in pack:
            one = sent.get(thing.sop_instance_uid)
            if one is None:
                continue
            outcome = outcomes[one.sop_instance_uid]
            if outcome.family.verdict in (Verdict.STORED, Verdict.WARNED):
                taken[one.sop_class_uid] = True
                yield trip.receipt(thing, outcome.reason, outcome.told)
            elif outcome.family.verdict is Verdict.BUSY:
                later = later or outcome.told
            elif _is_about_class(one, outcome) and one.sop_class_uid not in taken:
                again.append(thing)
            else:
                trip.refuse(thing, outcome.told)
        taken |= {sent[thing.sop_instance_uid].sop_class_uid: False for thing in again}
        if later:
            negotiated((), taken)
            raise PeerBusy(later)
        if again:
            waiting = [*again, *waiting]
            trip.replaced = {**trip.replaced, **negotiated(waiting, taken, _HOPED)}
    negotiated((), taken)
    trip.end()


def _pack(waiting: Sequence[ResultObject], trip: Trip, most_bytes: int) -> list[ResultObject]:
    """Return what goes in the next request: never two of which one refers to the other.

    What is refused is known then before anything goes that is about it.
    """
    pack: list[ResultObject] = []
    here: set[str] = set()
    size = 0
    for thing in waiting:
        size += (trip.standing_for(thing) or thing).path.stat().st_size + FRAME_BYTES
        if pack and (size > most_bytes or not here.isdisjoint(thing.refers_to)):
            break
        pack.append(thing)
        here.add(thing.sop_instance_uid)
    return pack


def _is_about_class(thing: ResultObject, outcome: Outcome) -> bool:
    """Whether another class may be taken instead; who does not know label maps says so in many ways."""
    return outcome.reason in _NO_CLASS or thing.sop_class_uid == LABELMAP_CLASS


class _Door:
    """A STOW-RS service, and what was seen of it in this delivery."""

    def __init__(
        self, name: str, destination: StowDestination, tls: TlsTable, now: Callable[[], datetime]
    ) -> None:
        self._name, self._now = name, now
        self._proved = destination.proof != "none"
        self._web = Web(
            destination.url,
            timeout_s=destination.timeout_s,
            token_file=destination.token_file,
            tls=client_context(tls) if destination.url.startswith("https:") else None,
        )
        self._unpack: frozenset[str] = frozenset()  # Transfer Syntax UIDs that it does not take

    def post(self, things: Sequence[ResultObject]) -> dict[str, Outcome]:
        """Send objects in one request, or each in its own where that fails; return what became of each.

        Raises
        ------
        PeerUnreachable, PeerBusy, PeerRefused
            It is about the service, not about any of these.
        """
        failpoint("send.connected")
        _log.info("connected", destination=self._name, objects=len(things))
        try:
            with Multipart(things, self._unpack) as body:
                headers = {"Accept": "application/dicom+json", **body.headers}
                answer = self._web.ask(
                    "POST", "/studies", headers=headers, body=body, most_bytes=LARGEST_ANSWER_BYTES
                )
        except PeerUnreachable as error:
            raise PeerUnreachable(f"{self._name}: {error}") from error
        except OSError as error:
            raise SendError(f"A file of these results cannot be read: {error.strerror}.") from error
        said = read_answer(answer.body)
        alone = len(things) == 1
        if said is None:
            if answer.status in _ONE_BY_ONE:
                return self._whole(things[0], answer) if alone else self._one_by_one(things)
            return self._unnamed(things, answer)
        unnamed = (
            []
            if said.others and alone
            else [thing for thing in things if not said.names(thing.sop_instance_uid)]
        )
        if alone and unnamed and answer.status in _ONE_BY_ONE:
            return self._whole(things[0], answer)
        outcomes = {thing.sop_instance_uid: self._judged(thing, answer, said) for thing in things}
        outcomes |= self._in_plain(things, outcomes)
        # There are servers that leave out what they did not understand.
        more = not alone and (said.others or answer.status in _ONE_BY_ONE)
        return outcomes | self._one_by_one(unnamed if more else [])

    def _one_by_one(self, things: Sequence[ResultObject]) -> dict[str, Outcome]:
        return {uid: outcome for thing in things for uid, outcome in self.post([thing]).items()}

    def _judged(self, thing: ResultObject, answer: WebAnswer, said: StoreAnswer) -> Outcome:
        """Return what an answer says of one object; what it cannot name is the only one it was sent."""
        uid, what = thing.sop_instance_uid, f"{thing.kind} {thing.sop_instance_uid}"
        if uid in said.stored:
            reason = said.stored[uid]
            family = family_of(reason)
            if family.verdict not in (Verdict.STORED, Verdict.WARNED):  # it says that it is stored
                family = Family(reason, reason, Verdict.WARNED, "it warned without saying of what", "none")
            return Outcome(family, family.stored(self._name, f"warning reason {reason:04X}"), reason)
        if uid not in said.failed and not said.others:
            family = Family(0, 0, Verdict.BUSY, "its answer does not name it", "PS3.18 10.5.3.3")
            return Outcome(family, family.unstored(self._name, what, f"status {answer.status}"))
        failure = said.failed[uid] if uid in said.failed else said.others[0]
        family, reason = failure_of(failure), failure or 0
        code = f"failure reason {reason:04X}" if reason else f"status {answer.status}"
        if family.verdict is Verdict.STORED:
            return Outcome(family, family.stored(self._name, code))
        return Outcome(family, family.unstored(self._name, what, code), reason)

    def _in_plain(
        self, things: Sequence[ResultObject], outcomes: Mapping[str, Outcome]
    ) -> dict[str, Outcome]:
        """Send once more what was refused for its transfer syntax, in one that everybody takes."""
        again = [
            thing
            for thing in things
            if outcomes[thing.sop_instance_uid].reason == _NO_SYNTAX and self._can_unpack(thing)
        ]
        self._unpack |= {thing.transfer_syntax_uid for thing in again}
        return self.post(again) if again else {}

    def _can_unpack(self, thing: ResultObject) -> bool:
        own = thing.transfer_syntax_uid
        return own not in {ExplicitVRLittleEndian, *self._unpack} and ExplicitVRLittleEndian in syntaxes_for(
            thing
        )

    def _whole(self, thing: ResultObject, answer: WebAnswer) -> dict[str, Outcome]:
        """Return what became of an object whose request was turned down as a whole."""
        uid, status = thing.sop_instance_uid, answer.status
        if status == 415 and self._can_unpack(thing):
            self._unpack |= {thing.transfer_syntax_uid}
            return self.post([thing])
        why = {
            413: "it is too large for it; raise the limit there, of the server or of a proxy before it",
            415: "it takes no DICOM files in multipart/related, or not in this transfer syntax",
            500: "it failed while processing",
        }.get(status, "it takes the request for wrong")
        verdict = Verdict.BUSY if status == 500 else Verdict.REFUSED
        family = Family(0, 0, verdict, why, "PS3.18 10.5.3.1")
        return {uid: Outcome(family, family.unstored(self._name, f"{thing.kind} {uid}", f"status {status}"))}

    def _unnamed(self, things: Sequence[ResultObject], answer: WebAnswer) -> dict[str, Outcome]:
        """Return what became of objects of which an answer says nothing at all, if that can be known."""
        status, place = answer.status, f"{self._name} ({self._web.place})"
        if status in (401, 403, 407):
            raise PeerRefused(f"{place} does not let us store (status {status}); see token_file and [tls].")
        if status in (408, 425, 429, 503) or status > 500:
            raise PeerBusy(f"{place} cannot store just now (status {status}).", again_s=self._again_s(answer))
        if 300 <= status < 400:
            raise PeerRefused(f"{place} sends us elsewhere (status {status}); write where it is in url.")
        if not 200 <= status < 300:
            raise PeerRefused(f"{place} stores nothing (status {status}); is url its DICOMweb service?")
        if status == 200 and not answer.body.strip() and self._proved:
            told = f"{self._name} said that it stored everything, but not what; it will be asked."
            family = Family(0, 0, Verdict.STORED, told, "PS3.18 10.5.3.1")
            return {thing.sop_instance_uid: Outcome(family, told) for thing in things}
        raise PeerUnreachable(
            f"{place} answered (status {status}) without naming what it stored, so that is not known. If url "
            f'is its DICOMweb service, set proof = "query" in [destinations.{self._name}]: then it is asked.'
        )

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
