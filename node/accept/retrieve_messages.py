"""Messages of a retrieval over an association of ours: data sets go into files, and waiting has an end.

pynetdicom keeps the data sets of C-GET in memory, and takes a silence between two answers of an archive for
the end of it, whatever else arrives.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from node.accept.spool import Spool
from node.config import DimseSource
from node.log import describe, get_log
from node.peer.association import finish_within

log = get_log("accept")

#: An archive may load from tape, and not every one says so meanwhile (PS3.4 C.4.2.2.2: may send Pending):
#: it is given up when nothing happens for so many times ``timeout_s``.
PATIENCE: Final = 4.0

_MOST_QUEUED: Final = 16  #: requests that wait for their turn; one is agreed (PS3.7 D.3.3.3)
_MOST_ANSWER_BYTES: Final = 8 << 20  #: of a command set, or of an Identifier with what failed

_LOOK_EVERY_S: Final = 1.0  #: for progress, which is told to whoever waits for it

OpenSpool = Callable[[Any, PresentationContext], Spool]


def listen(
    association: Association,
    source: DimseSource,
    moved: Callable[[], float] | None,
    *,
    enough: float,
    open_spool: OpenSpool | None = None,
) -> Messages:
    """Have an association wait as long as something moves, and put data sets into files."""
    messages = Messages(association, moved, enough, PATIENCE * source.timeout_s, open_spool)
    association.dimse = messages
    finish_within(association, float("inf"), stall_s=source.timeout_s)
    return messages


class Messages(DIMSEServiceProvider):
    """Takes messages apart by fragment, and waits for the next one as long as something moves.

    Parameters
    ----------
    moved
        Grows as long as something happens; None: the bytes that come over this line.
    enough
        By how much it must have grown, each ``patience_s``.
    """

    def __init__(
        self,
        association: Association,
        moved: Callable[[], float] | None,
        enough: float,
        patience_s: float,
        open_spool: OpenSpool | None,
    ) -> None:
        super().__init__(association)
        self._bytes: float = 0.0
        self._moved = moved or (lambda: self._bytes)
        self._enough, self._patience_s, self._open_spool = enough, patience_s, open_spool
        self._answer_bytes = 0
        self._file: Spool | None = None
        self._turn = threading.Lock()  #: over what is received: another thread may drop it

    def get_msg(self, block: bool = False) -> Any:
        """Wait for a message as long as there is progress; (None, None): there is none any more."""
        if not block:  # the association's own thread looks all the time
            return super().get_msg(block=False)
        before, until = self._moved(), time.monotonic() + self._patience_s
        while True:
            try:
                return self.msg_queue.get(timeout=min(_LOOK_EVERY_S, self._patience_s))
            except queue.Empty:
                if (now := self._moved()) - before >= self._enough:
                    before, until = now, time.monotonic() + self._patience_s
                elif time.monotonic() >= until:
                    return None, None

    def receive_primitive(self, primitive: Any) -> None:
        """Take what one PDU brings; called by the thread that reads. What breaks the protocol is aborted."""
        try:
            with self._turn:
                for context_id, data in primitive.presentation_data_value_list:
                    self._bytes += len(data)
                    self._take(context_id, data)
        except Exception as error:  # noqa: BLE001 - a peer that breaks the protocol is aborted, whatever it did
            log.warning("message_refused", error=describe(error))
            self.drop()
            self.dul.event_queue.put("Evt19")  # PS3.8 table 9-10: invalid PDU; answers A-ABORT

    def drop(self) -> None:
        """Throw away what was received and not served, and take no data set any more."""
        with self._turn:
            self._open_spool = None
            self.message = None
            file, self._file = self._file, None
            if file is not None:
                file.discard()
            with suppress(queue.Empty):
                while True:
                    _, waiting = self.msg_queue.get_nowait()
                    file = getattr(waiting, "_dataset_file", None)
                    if file is not None:
                        file.discard()

    def _take(self, context_id: int, data: bytes) -> None:
        # PS3.8 E.2: bit 0 of the control header is "command", bit 1 is "last fragment".
        is_command, is_last = data[0] & 1, data[0] & 2
        message = self.message
        if is_command or not isinstance(message, C_STORE_RQ):
            self._answer_bytes = 0 if message is None else self._answer_bytes + len(data)
            if self._answer_bytes > _MOST_ANSWER_BYTES or self.msg_queue.qsize() >= _MOST_QUEUED:
                raise ValueError("too long an answer, or too many at once")
            self._pass_on(context_id, data)
            return
        if self._open_spool is None or message.context_id != context_id:
            raise ValueError("a data set that nobody asked for")
        if self._file is None:
            self._file = self._open_spool(message.command_set, self.assoc._accepted_cx[context_id])
            message._data_set_file = cast(Any, self._file)
        self._file.write(data[1:])
        if is_last:
            self._file = None  # it is in the queue with its request
            self._pass_on(context_id, data[:1])

    def _pass_on(self, context_id: int, data: bytes) -> None:
        fragment = P_DATA()
        fragment.presentation_data_value_list.append((context_id, data))
        super().receive_primitive(fragment)
