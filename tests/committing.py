"""An archive that says what it has: by storage commitment (PS3.4 J), and by C-FIND at the IMAGE level."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)

from tests.harness import wait_until
from tests.peers import Received, RecordingPacs

NO_SUCH_INSTANCE = 0x0112
_PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


@dataclass
class Asked:
    """One request for storage commitment."""

    transaction_uid: str
    references: dict[str, str]  #: SOP Instance UID -> SOP Class UID
    association: Association
    caller: str


@dataclass
class Behaviour:
    """How it behaves; may be changed while it runs."""

    #: (SOP Instance UID, how often it came) -> whether it is kept; Success is said anyway
    keeps: Callable[[str, int], bool] = lambda _uid, _times: True
    #: whether what is kept is listed by C-FIND
    lists: Callable[[str], bool] = lambda _uid: True
    over: str = "same"  #: how a report goes: "same", "reverse", "never"
    node_port: int = 0  #: for "reverse"
    action_status: int = 0x0000
    fails: dict[str, int] = field(default_factory=dict)  #: SOP Instance UID -> Failure Reason


class CommittingPacs(RecordingPacs):
    """Keeps what it is sent, or says so, and can be asked."""

    def __init__(self, *, services: tuple[str, ...] = ("commitment", "find"), **more: Any) -> None:
        self.how = Behaviour()
        self.kept: dict[str, Received] = {}
        self.asked: list[Asked] = []
        self.found = 0  #: C-FIND requests
        self.answers: list[int | None] = []  #: status of each N-EVENT-REPORT
        super().__init__(**more)
        classes = {
            "commitment": StorageCommitmentPushModel,
            "find": StudyRootQueryRetrieveInformationModelFind,
        }
        self.ae.supported_contexts += [build_context(classes[name], _PLAIN) for name in services]
        self._server.contexts = self.ae.supported_contexts
        self._server.bind(evt.EVT_N_ACTION, self._on_action)
        self._server.bind(evt.EVT_C_FIND, self._on_find)

    def answer(self, event: Any, number: int, request: Received) -> Dataset:
        uid = request.sop_instance_uid
        if self.how.keeps(uid, self.uids.count(uid)):
            self.kept[uid] = request
        return super().answer(event, number, request)

    def wait_asked(self, number: int) -> Asked:
        wait_until(lambda: len(self.asked) >= number, f"it is asked {number} times", within_s=20)
        return self.asked[number - 1]

    # ---- storage commitment ----

    def _on_action(self, event: Any) -> tuple[int, None]:
        told = event.action_information
        asked = Asked(
            transaction_uid=str(told.TransactionUID),
            references={
                str(item.ReferencedSOPInstanceUID): str(item.ReferencedSOPClassUID)
                for item in told.ReferencedSOPSequence
            },
            association=event.assoc,
            caller=event.assoc.requestor.ae_title,
        )
        if self.how.action_status == 0 and self.how.over != "never":
            threading.Thread(target=self._report_later, args=(asked,), daemon=True).start()
        self.asked.append(asked)
        return self.how.action_status, None

    def _report_later(self, asked: Asked) -> None:
        time.sleep(0.1)  # the response goes first
        self.report(asked, over=self.how.over)

    def verdict(self, asked: Asked) -> tuple[dict[str, str], dict[str, int]]:
        """Return what it truthfully has to say: what it has, and what it has not."""
        failed = {uid: NO_SUCH_INSTANCE for uid in asked.references if uid not in self.kept}
        failed |= {uid: reason for uid, reason in self.how.fails.items() if uid in asked.references}
        return {uid: c for uid, c in asked.references.items() if uid not in failed}, failed

    def report(
        self,
        asked: Asked,
        *,
        over: str = "reverse",
        committed: Mapping[str, str] | None = None,
        failed: Mapping[str, int] | None = None,
        transaction_uid: str | None = None,
        ae_title: str | None = None,
        role: bool = True,
    ) -> int | None:
        """Tell the node what came of a request, the truth unless told otherwise; return its answer."""
        true = self.verdict(asked)
        committed = true[0] if committed is None else committed
        failed = true[1] if failed is None else failed
        told = report_of(transaction_uid or asked.transaction_uid, committed, failed, asked.references)
        event_type = 2 if failed else 1
        if over == "same":
            status = say(asked.association, told, event_type)
        else:
            with calling(self.how.node_port, ae_title or self.ae_title, role=role) as association:
                status = say(association, told, event_type)
        self.answers.append(status)
        return status

    # ---- C-FIND ----

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        self.found += 1
        asked = event.identifier
        for uid, request in self.kept.items():
            if not self.how.lists(uid):
                continue
            answer = Dataset()
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            answer.StudyInstanceUID = asked.StudyInstanceUID
            answer.SeriesInstanceUID = asked.SeriesInstanceUID
            answer.SOPInstanceUID, answer.SOPClassUID = uid, request.sop_class_uid
            yield 0xFF00, answer
        yield 0x0000, None


def report_of(
    transaction_uid: str, committed: Mapping[str, str], failed: Mapping[str, int], classes: Mapping[str, str]
) -> Dataset:
    """Return Event Information (PS3.4 Table J.3-4)."""
    told = Dataset()
    told.TransactionUID = transaction_uid
    told.ReferencedSOPSequence = [_reference(uid, sop_class) for uid, sop_class in committed.items()]
    if failed:
        told.FailedSOPSequence = [
            _reference(uid, classes.get(uid, "1.2.3"), why) for uid, why in failed.items()
        ]
    return told


def _reference(uid: str, sop_class: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    if reason is not None:
        item.FailureReason = reason
    return item


def say(association: Association, told: Dataset, event_type: int) -> int | None:
    """Send an N-EVENT-REPORT; return the status of its answer, None without one."""
    answer, _ = association.send_n_event_report(
        told, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return answer.get("Status")


class calling:
    """An association that an archive opens to tell a node, as the SCP of storage commitment."""

    def __init__(self, port: int, ae_title: str, *, called: str = "RADNODE", role: bool = True) -> None:
        ae = AE(ae_title=ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if role else []
        self.association = ae.associate(
            "127.0.0.1",
            port,
            contexts=[build_context(StorageCommitmentPushModel, _PLAIN)],
            ae_title=called,
            ext_neg=roles,
        )

    def __enter__(self) -> Association:
        assert self.association.is_established, "the node does not take the association"
        return self.association

    def __exit__(self, *_: object) -> None:
        if self.association.is_established:
            self.association.release()
