"""What STOW-RS brings: PS3.10 files that come piece by piece (PS3.18 10.5). HTTP itself is `node.show.stow`.

The same is asked of an object as at the DIMSE door: a class and a transfer syntax that we take, a data set
that is whole and says who it is, the same as its file meta information says. Stored is told only of what is
on disk and in the journal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from node.accept import status
from node.accept.classes import chosen_classes
from node.accept.header import SERIES_UID, STUDY_UID
from node.accept.pace import Pace
from node.accept.part10 import (
    MAX_META_BYTES,
    META_SOP_CLASS,
    META_SOP_INSTANCE,
    META_TRANSFER_SYNTAX,
    PREAMBLE_BYTES,
    begin,
    read_meta,
)
from node.accept.policy import Caller, Rejected, admit
from node.accept.spool import Request, Spool
from node.accept.store import Store
from node.accept.syntaxes import decodable_syntaxes
from node.config import AcceptTable
from node.errors import AcceptError, IdentityMismatch, MissingIdentity, NotDicom
from node.log import describe, get_log
from node.model import Instance
from node.uid import is_harmless

log = get_log("accept")

SENDER = "stow"
_SYNTAX_NOT_SUPPORTED = 0xC122  #: PS3.18 table I.2-2; DIMSE settles this beforehand
_FIRST_LOOK_BYTES = 4096  #: the meta information of most files is within these


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of one object; UIDs are "" where they are not known."""

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    series_uid: str = ""
    study_uid: str = ""
    failure: int = 0  #: Failure Reason (0008,1197), PS3.18 I.2.2; 0: it is stored
    sentence: str = ""


class StowDoor:
    """Takes in what comes over HTTP.

    Parameters
    ----------
    config
        [accept]; classes are those of [accept.dimse], and policies hold for whoever brings something.
    ae_title
        Our own: what a policy may ask for as the called one.
    store
        Gives the files that data sets are received into.
    receive
        Takes custody of what was received, or raises.
    syntaxes
        Transfer syntaxes to accept; None: those that a decoder is seen to decode.

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
        receive: Callable[[Spool, Request], Instance],
        syntaxes: Sequence[str] | None = None,
    ) -> None:
        self._classes = frozenset(chosen_classes(config.dimse.sop_classes))
        self._syntaxes = syntaxes
        # Whom [accept] callers names are titles, which nobody has over HTTP.
        self._config = config.model_copy(update={"callers": ()})
        self._ae_title = ae_title
        self._paces = {
            name: Pace(policy.instances_per_minute)
            for name, policy in config.policies.items()
            if policy.instances_per_minute
        }
        self._turn = threading.Lock()  #: over the paces
        self.store = store
        self.receive = receive

    def policy_of(self, host: str, fingerprint: str) -> str | None:
        """Return the policy under which somebody may bring something; None: he may not.

        Where there are no policies, that is "".

        Parameters
        ----------
        host
            Address.
        fingerprint
            SHA-256 of the certificate that was shown, or "".
        """
        caller = Caller(calling="", called=self._ae_title, host=host, fingerprint=fingerprint)
        verdict = admit(self._config, self._ae_title, caller, {})
        if isinstance(verdict, Rejected):
            log.warning("sender_refused", host=host, reason=verdict.sentence, sender=SENDER)
            return None
        return verdict.policy

    def arriving(self, study_uid: str = "", policy: str = "") -> Arriving:
        """Begin to take in one object.

        Parameters
        ----------
        study_uid
            The study that it must be of; "": any.
        """
        return Arriving(self, study_uid, policy)

    def delay_s(self, policy: str) -> float:
        """Count one object under a policy; return how long the next is to wait."""
        pace = self._paces.get(policy)
        if pace is None:
            return 0.0
        with self._turn:
            return pace.delay_s(time.monotonic())

    def check(self, request: Request) -> None:
        """Refuse what no data set could make good.

        Raises
        ------
        StowError
            A class or transfer syntax that we do not take.
        """
        syntaxes = decodable_syntaxes() if self._syntaxes is None else self._syntaxes
        if request.sop_class_uid not in self._classes:
            raise StowError(status.SOP_CLASS_NOT_SUPPORTED, "The node does not take this SOP class.")
        if request.transfer_syntax_uid not in syntaxes:
            raise StowError(_SYNTAX_NOT_SUPPORTED, "The node does not take this transfer syntax.")


class StowError(AcceptError):
    """The object was not taken, for a reason that only DICOMweb has a code for."""

    code = "not-taken"

    def __init__(self, failure: int, sentence: str) -> None:
        super().__init__(sentence)
        self.failure = failure


class Arriving:
    """One object on its way in. Nothing here raises: what went wrong first is told by `end`."""

    def __init__(self, door: StowDoor, study_uid: str, policy: str) -> None:
        self._door = door
        self._study_uid = study_uid
        self._policy = policy
        self._head = bytearray()  #: until the data set begins
        self._look_at = _FIRST_LOOK_BYTES
        self._spool: Spool | None = None
        self._request: Request | None = None
        self._taken = Taken()
        self._error: Exception | None = None

    def write(self, data: bytes) -> None:
        """Take the next octets of the file; after an error they are passed over."""
        if self._error is not None:
            return
        try:
            if self._spool is not None:
                self._spool.write(data)
                return
            self._head += data
            if len(self._head) >= self._look_at:
                self._open(is_all=False)
        except Exception as error:  # noqa: BLE001  told by `end`
            self._give_up(error)

    def fail(self, sentence: str) -> None:
        """Give it up for a reason that the carrier found."""
        self._give_up(NotDicom(sentence))

    def end(self) -> Taken:
        """Take custody of the object, which has come to its end, and say what became of it."""
        try:
            if self._error is None and self._spool is None:
                self._open(is_all=True)
            if self._error is not None:
                raise self._error
            if self._spool is None or self._request is None:
                raise NotDicom("The file has no data set.")
            self._check_study(self._spool)
            kept = self._door.receive(self._spool, self._request)
            self._taken = replace(self._taken, series_uid=kept.series_uid, study_uid=kept.study_uid)
        except AcceptError as error:
            failure = error.failure if isinstance(error, StowError) else status.status_of(error)
            log.warning("instance_refused", code=error.code, reason=str(error), sender=SENDER)
            self._taken = replace(self._taken, failure=failure, sentence=str(error))
        except Exception as error:  # noqa: BLE001  the sender must hear that it is not stored, whatever it was
            log.error("instance_failed", error=describe(error), sender=SENDER)
            self._taken = replace(
                self._taken, failure=status.status_of(error), sentence=status.comment_of(error)
            )
        finally:
            self.discard()
        return self._taken

    def discard(self) -> None:
        """Leave nothing behind of what was not taken."""
        if self._spool is not None:
            self._spool.discard()

    def _open(self, *, is_all: bool) -> None:
        """Read the meta information once it is there, and open the file that the data set goes to."""
        head = bytes(self._head)
        if head[128:PREAMBLE_BYTES] != b"DICM":
            raise NotDicom("This is no file of PS3.10: it lacks the prefix DICM.")
        _, end = read_meta(head, PREAMBLE_BYTES)
        if not is_all and end + 8 > len(head) and len(head) < PREAMBLE_BYTES + MAX_META_BYTES:
            self._look_at = 2 * len(head)
            return
        _, offset, meta = begin(head)
        if not meta.get(META_TRANSFER_SYNTAX):
            raise NotDicom("The file meta information has no Transfer Syntax UID.")
        request = Request(
            sender=SENDER,
            sop_class_uid=meta.get(META_SOP_CLASS, ""),
            sop_instance_uid=meta.get(META_SOP_INSTANCE, ""),
            transfer_syntax_uid=meta[META_TRANSFER_SYNTAX],
            policy=self._policy,
        )
        if not (is_harmless(request.sop_class_uid) and is_harmless(request.sop_instance_uid)):
            raise MissingIdentity("The file meta information has no SOP Class or Instance UID.")
        self._taken = Taken(sop_class_uid=request.sop_class_uid, sop_instance_uid=request.sop_instance_uid)
        self._door.check(request)
        self._request = request
        self._spool = self._door.store.spool(request)
        self._spool.write(head[offset:])
        self._head.clear()

    def _check_study(self, spool: Spool) -> None:
        """Refuse an object of another study than the one that it was brought to."""
        if not self._study_uid:
            return
        uids = spool.uids()
        self._taken = replace(
            self._taken, study_uid=uids.get(STUDY_UID, ""), series_uid=uids.get(SERIES_UID, "")
        )
        if uids.get(STUDY_UID) and uids[STUDY_UID] != self._study_uid:
            raise IdentityMismatch("The data set is of another study than the one it was brought to.")

    def _give_up(self, error: Exception) -> None:
        self._error = error
        self._head.clear()
        self.discard()
