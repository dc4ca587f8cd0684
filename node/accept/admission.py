"""Letting callers in: what `node.accept.policy` decides is done here, association by association."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from pynetdicom.presentation import PresentationContext

from node.accept.guard import GuardedAssociation
from node.accept.pace import Pace
from node.accept.policy import Admitted, Caller, Rejected, admit
from node.accept.syntaxes import in_order
from node.config import AcceptTable
from node.log import describe, get_log
from node.peer.commitment import PUSH_MODEL

log = get_log("accept")

_NO_REASON = (2, 2, 1)  #: PS3.8 Table 9-21: rejected transient, by ACSE, no reason given
_FAREWELL_S = 1.0  #: ARTIM (PS3.8 9.1.5): how long one whom we reject may take to hang up


class Admission:
    """Lets callers in, and sets the pace of what they send.

    Parameters
    ----------
    ae_title
        Our own.
    associations
        Returns those that are alive.
    """

    def __init__(
        self, config: AcceptTable, ae_title: str, associations: Callable[[], Iterable[GuardedAssociation]]
    ) -> None:
        self._config = config
        self._ae_title = ae_title
        self._associations = associations
        self._turn = threading.Lock()  #: over decisions and paces
        self._paces = {
            name: Pace(policy.instances_per_minute)
            for name, policy in config.policies.items()
            if policy.instances_per_minute
        }

    def on_requested(self, event: Any) -> None:
        """Let somebody in or not, before pynetdicom does, and say what he may propose."""
        association: GuardedAssociation = event.assoc
        asked: Any = association.requestor.primitive
        caller = Caller(
            calling=(asked.calling_ae_title or "").strip(),
            called=(asked.called_ae_title or "").strip(),
            host=str(association.requestor.address),
            fingerprint=association.fingerprint,
        )
        association.caller = _plain(caller.calling)
        try:
            with self._turn:
                open_now = Counter(one.policy for one in self._associations() if not one.is_shed)
                verdict = admit(self._config, self._ae_title, caller, open_now)
                if isinstance(verdict, Admitted):
                    association.policy = verdict.policy
            _prefer(association, asked)
        except Exception as error:  # noqa: BLE001 - pynetdicom would let him in
            log.error("admission_failed", error=describe(error))
            verdict = Rejected(_NO_REASON, "the node stumbled")
        if isinstance(verdict, Rejected):
            log.warning(
                "association_rejected",
                ae_title=association.caller,
                called_ae_title=_plain(caller.called),
                host=caller.host,
                reason=verdict.sentence,
                code="-".join(map(str, verdict.answer)),
            )
            association.is_shed = True  # takes no place while its peer has not hung up
            association.dul.artim_timer.timeout = _FAREWELL_S
            association.acse.send_reject(*verdict.answer)
            association.kill()
        else:
            log.info("association_accepted", ae_title=association.caller, name=association.policy)

    def delay_s(self, policy: str) -> float:
        """Count one instance that came under a policy; return how long its answer is to wait."""
        pace = self._paces.get(policy)
        if pace is None:
            return 0.0
        with self._turn:
            return pace.delay_s(time.monotonic())


@lru_cache(maxsize=4096)  # shared and never written to: see `Listener`; to make 128 takes 20 ms
def offered(sop_class_uid: str, syntaxes: tuple[str, ...]) -> PresentationContext:
    """Return what we accept of a SOP Class, the best transfer syntax first."""
    context = PresentationContext()
    context.abstract_syntax = sop_class_uid
    context.transfer_syntax = list(syntaxes)
    if sop_class_uid == PUSH_MODEL:  # whoever proposes to be its SCP may be, and nobody its SCU
        context.scu_role, context.scp_role = False, True
    return context


def _prefer(association: GuardedAssociation, asked: Any) -> None:
    """Put the transfer syntaxes of what is proposed in the order that suits this sender."""
    proposed: dict[str, list[str]] = {}
    for context in asked.presentation_context_definition_list:
        proposed.setdefault(str(context.abstract_syntax), []).extend(map(str, context.transfer_syntax))
    association.acceptor.supported_contexts = [
        offered(uid, in_order(proposed[uid], [str(known) for known in context.transfer_syntax]))
        for context in association.acceptor.supported_contexts
        if (uid := str(context.abstract_syntax)) in proposed
    ]


def _plain(ae_title: str) -> str:
    """Return an AE title (PS3.5 6.2, at most 16 characters) as it may be logged and kept."""
    return "".join(c if " " <= c <= "~" else "?" for c in ae_title)[:16]
