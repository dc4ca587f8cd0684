"""What an archive says that it will keep: the report of storage commitment (PS3.4 J.3.3).

It comes over the association by which it was asked, or over one that the archive opens to us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydicom import Dataset

from node.uid import is_harmless

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
ALL_COMMITTED, SOME_FAILED = 1, 2  #: Event Type ID (PS3.4 Table J.3-3)

SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_EVENT: Final = 0x0113
INVALID_VALUE: Final = 0x0115


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an archive says about a transaction. It may say it of objects that nobody asked about."""

    transaction_uid: str
    committed: Mapping[str, str]  #: SOP Instance UID -> SOP Class UID
    failed: Mapping[str, int]  #: SOP Instance UID -> Failure Reason (0008,1197)


#: Takes a report; returns the status that the archive is answered with.
Hear = Callable[[Report], int]


def read_report(event_type: int | None, told: Dataset) -> Report | int:
    """Return what an N-EVENT-REPORT says (PS3.4 J.3.3), or the status that refuses it.

    An object that stands among both counts as failed.
    """
    if event_type not in (ALL_COMMITTED, SOME_FAILED):
        return NO_SUCH_EVENT
    try:
        transaction_uid = str(told.get("TransactionUID") or "")
        failed = {
            str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or 0)
            for item in told.get("FailedSOPSequence") or ()
        }
        committed = {
            str(item.ReferencedSOPInstanceUID): str(item.ReferencedSOPClassUID)
            for item in told.get("ReferencedSOPSequence") or ()
        }
    except Exception:  # noqa: BLE001  a value is decoded when it is asked for, and fails in many ways
        return INVALID_VALUE
    if not is_harmless(transaction_uid):
        return INVALID_VALUE
    kept = {uid: sop_class for uid, sop_class in committed.items() if uid not in failed}
    return Report(transaction_uid=transaction_uid, committed=kept, failed=failed)


def heard(event: Any, hear: Hear) -> int:
    """Return the status for an N-EVENT-REPORT (a pynetdicom event), once it has been heard."""
    try:
        told = event.event_information
    except Exception:  # noqa: BLE001  whatever the peer sent instead of a data set
        return INVALID_VALUE
    report = read_report(event.event_type, told)
    return report if isinstance(report, int) else hear(report)
