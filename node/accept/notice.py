"""What comes for an archive's commitment: its reports are heard, and asking us for one is refused.

Storage Commitment Push Model (PS3.4 J): the archive that we asked opens an association to us, proposes
itself as SCP, and sends an N-EVENT-REPORT. A device that takes us for an archive and sends an N-ACTION
is told that we do not commit ourselves, for what it sent ages out here.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, cast

from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass

from node.peer.commitment import PUSH_MODEL

#: PS3.7 annex E: Command Fields N-EVENT-REPORT-RQ and N-ACTION-RQ, as they come.
NOTICES = frozenset({b"\x00\x01", b"\x30\x01"})
#: PS3.7 C.5: the operation is not one of those agreed upon.
UNRECOGNIZED_OPERATION = 0x0211
#: Some thousand references; we never ask for so many at once.
_MAX_BYTES = 1 << 20
_NO_DATA_SET = b"\x01\x01"  #: PS3.7 annex E: Command Data Set Type


class Notice:
    """The data set of a request that is kept in memory."""

    name = ""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes | memoryview) -> int:
        """Take the next bytes.

        Raises
        ------
        ValueError
            There are too many.
        """
        if len(self._data) + len(data) > _MAX_BYTES:
            raise ValueError("the data set of a notice is too long")
        self._data += data
        return len(data)

    def close(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Forget it."""
        self._data.clear()

    def into(self, request: N_ACTION | N_EVENT_REPORT) -> None:
        """Put the data set where pynetdicom looks for it."""
        keyword = "EventInformation" if isinstance(request, N_EVENT_REPORT) else "ActionInformation"
        setattr(request, keyword, BytesIO(bytes(self._data)))


def check_notice(values: dict[int, bytes], context: PresentationContext | None) -> None:
    """Check the command set of a notice.

    Raises
    ------
    ValueError
        It has no data set, or is about something else than storage commitment.
    """
    if values.get(0x0800) == _NO_DATA_SET or context is None or context.abstract_syntax != PUSH_MODEL:
        raise ValueError("no such notice here")


class NoticeService(ServiceClass):
    """Answers what was noticed."""

    def SCP(self, req: Any, context: PresentationContext) -> None:
        """Have the handler of EVT_N_EVENT_REPORT hear a report; refuse everything else."""
        if isinstance(req, N_EVENT_REPORT):
            self._n_event_report_scp(req, context)
            return
        answer = N_ACTION()
        answer.MessageIDBeingRespondedTo = req.MessageID
        answer.AffectedSOPClassUID = req.RequestedSOPClassUID
        answer.AffectedSOPInstanceUID = req.RequestedSOPInstanceUID
        answer.ActionTypeID = req.ActionTypeID
        answer.Status = UNRECOGNIZED_OPERATION
        self.dimse.send_msg(answer, cast(int, context.context_id))
