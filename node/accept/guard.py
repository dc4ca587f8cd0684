"""What keeps one pynetdicom 3.0.4 association safe from its peer, in one place.

pynetdicom believes any PDU length, waits for ever inside a PDU, keeps no bound on what a message
may bring, and leaves half received files behind. Here instead

* a PDU is measured before it is read, and must be whole within a deadline (`node.accept.connection`);
* threads wait instead of looking, data go from where they were read to their file, and a request is
  served in the thread that received it (`node.accept.upper`);
* a command set has a largest size, only C-ECHO, C-STORE and notices of storage commitment are
  understood, and a data set goes into a file of ours as it comes (`_Messages`);
* nothing that a peer sends ends in a stack trace, and whatever was half received when an
  association ends is thrown away (`GuardedAssociation`).

`node.accept.listener` decides who gets an association at all. All of them subclass, and reach only
into what the subclasses of 3.0.4 need.
"""

from __future__ import annotations

import contextlib
import queue
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from pynetdicom import _config, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, N_ACTION_RQ, N_EVENT_REPORT_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE, N_ACTION, N_EVENT_REPORT
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass, VerificationServiceClass

from node.accept.answer import decode_request, elements_of, encode_success
from node.accept.connection import GuardedSocket, Limits
from node.accept.notice import NOTICES, Notice, NoticeService, check_notice
from node.accept.upper import UpperLayer
from node.log import describe, get_log

log = get_log("accept")

# Its own log lines quote what peers send; ours say what happened.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False

_MAX_COMMAND_BYTES = 64 << 10
#: How long nothing may happen before an association looks at itself.
_LOOK_EVERY_S = 0.25
_PDV_HEAD = struct.Struct(">IBB")  #: PS3.8 9.3.5.1: length of what follows, context, control header
#: Requests of one association that wait for their turn. One is agreed (PS3.7 D.3.3.3).
_MAX_QUEUED = 16
#: PS3.7 annex E: the Command Fields that we serve: C-STORE-RQ, C-ECHO-RQ, and notices.
_SERVED = frozenset({b"\x01\0", b"\x30\0", *NOTICES})


class SpoolFile(Protocol):
    """Where a data set goes; what pynetdicom wants of it, and how to be rid of it."""

    @property
    def name(self) -> str: ...
    def write(self, data: bytes | memoryview) -> int: ...
    def close(self) -> None: ...
    def discard(self) -> None: ...


OpenSpool = Callable[[Association, Any, PresentationContext], SpoolFile]


_Request = C_STORE | N_ACTION | N_EVENT_REPORT


class _Messages(DIMSEServiceProvider):
    """Takes messages apart by fragment, so that each can be refused before it is stored."""

    def __init__(self, assoc: GuardedAssociation, limits: Limits, open_spool: OpenSpool) -> None:
        super().__init__(assoc)
        self._idle_timeout_s = limits.idle_timeout_s
        self._stall_timeout_s = min(limits.pdu_timeout_s, limits.idle_timeout_s)
        self._open_spool = open_spool
        self._woken = threading.Event()
        self._command = b""  #: what has come of a command set that is not whole
        self._request: _Request | None = None  #: whose data set is being received ...
        self._context_id = 0  #: ... in this presentation context ...
        self._file: SpoolFile | None = None  #: ... into this file

    def take(self, body: memoryview) -> None:
        """Take the presentation data values (PS3.8 9.3.5.1) of one P-DATA-TF PDU; never raises."""
        try:
            at = 0
            while at < len(body):
                length, context_id, control = _PDV_HEAD.unpack_from(body, at)
                end = at + 4 + length
                if length < 2 or end > len(body):
                    raise ValueError("a presentation data value that is longer than its PDU")
                self._take(context_id, control, body[at + _PDV_HEAD.size : end])
                at = end
            if not at:
                raise ValueError("a PDU without content")
            # The timer that each PDU starts anew: who has begun a message must go on with it.
            timeout_s = self._stall_timeout_s if self.is_halfway else self._idle_timeout_s
            if self.assoc.network_timeout != timeout_s:
                self.assoc.network_timeout = timeout_s
        except Exception as error:  # noqa: BLE001 - a peer that breaks the protocol is aborted, whatever it did
            self._refuse(error)

    def receive_primitive(self, primitive: Any) -> None:
        """Do the same for what came while the association was not in data transfer."""
        self.take(
            memoryview(
                b"".join(
                    struct.pack(">IB", len(data) + 1, context_id) + data
                    for context_id, data in primitive.presentation_data_value_list
                )
            )
        )
        self.serve()

    @property
    def has_request(self) -> bool:
        """Whether a request is whole."""
        return bool(self.msg_queue.queue)

    def serve(self) -> None:
        """Serve the requests that are whole, in the thread that received them; never raises."""
        with contextlib.suppress(queue.Empty):
            while True:
                context_id, message = self.msg_queue.get_nowait()
                self.assoc._serve_request(cast(Any, message), cast(int, context_id))

    def get_msg(self, block: bool = False) -> Any:
        """Give the association's own thread no message: it waits for release, abort and timers."""
        del block
        self._woken.wait(_LOOK_EVERY_S)
        self._woken.clear()
        return None, None

    def knock(self) -> None:
        """End the waiting of `get_msg`."""
        self._woken.set()

    def send_success(self, request: C_STORE, context_id: int) -> None:
        """Answer a C-STORE request with Success."""
        encoded = encode_success(request)
        if 0 < self.maximum_pdu_size < len(encoded) + _PDV_HEAD.size:
            answer = C_STORE()
            answer.MessageIDBeingRespondedTo, answer.Status = request.MessageID, 0
            answer.AffectedSOPClassUID = request.AffectedSOPClassUID
            answer.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
            self.send_msg(answer, context_id)
        elif not cast(UpperLayer, self.dul).send_data(context_id, b"\x03" + encoded):
            fragment = P_DATA()
            fragment.presentation_data_value_list.append((context_id, b"\x03" + encoded))
            self.dul.send_pdu(fragment)

    @property
    def is_halfway(self) -> bool:
        """Whether a message has begun and is not whole."""
        return bool(self._command) or self._request is not None

    def drop(self) -> None:
        """Throw away what was received and not served. Who serves may take some of it meanwhile."""
        self._command, self._request = b"", None
        file, self._file = self._file, None
        if file is not None:
            file.discard()
        with contextlib.suppress(queue.Empty):
            while True:
                _, waiting = self.msg_queue.get_nowait()
                file = getattr(waiting, "_dataset_file", None)
                if file is not None:
                    file.discard()

    def _take(self, context_id: int, control: int, data: memoryview) -> None:
        # PS3.8 E.2: bit 0 of the control header is "command", bit 1 is "last fragment".
        is_command, is_last = control & 1, control & 2
        if is_command:
            self._take_command(context_id, bytes(data), is_last=bool(is_last))
            return
        if self._request is None or self._context_id != context_id:
            raise ValueError("a data set that belongs to no request")
        if self._file is None:
            context = self.assoc._accepted_cx[context_id]
            is_store = isinstance(self._request, C_STORE)
            self._file = self._open_spool(self.assoc, self._request, context) if is_store else Notice()
        self._file.write(data)
        if is_last:
            request, self._request = self._request, None
            if isinstance(request, C_STORE):
                request._dataset_file = cast(Any, self._file)  # what pynetdicom wants is in SpoolFile
            elif isinstance(self._file, Notice):
                self._file.into(request)
            self.msg_queue.put((context_id, request))
            self._file = None  # it is in the queue with its request

    def _refuse(self, error: Exception) -> None:
        log.warning("message_refused", error=describe(error))
        self.drop()
        self.dul.event_queue.put("Evt19")  # PS3.8 table 9-10: invalid PDU; answers A-ABORT

    def _take_command(self, context_id: int, data: bytes, *, is_last: bool) -> None:
        if self._request is not None:
            raise ValueError("a command inside a data set")
        if len(self._command) + len(data) > _MAX_COMMAND_BYTES:
            raise ValueError("the command set is too long")
        if self.msg_queue.qsize() >= _MAX_QUEUED:
            raise ValueError("too many requests at once")
        self._command += data
        if not is_last:
            return
        command, self._command = self._command, b""
        values = elements_of(command)
        if values.get(0x0100) not in _SERVED:
            raise ValueError("no such service here")
        if values[0x0100] in NOTICES:
            check_notice(values, self.assoc._accepted_cx.get(context_id))
        self._request, self._context_id = decode_request(values), context_id
        if self._request is None:
            self._pass_on(context_id, command)

    def _pass_on(self, context_id: int, command: bytes) -> None:
        """Have pynetdicom make a message of a command; that of a data set goes on like any other."""
        fragment = P_DATA()
        fragment.presentation_data_value_list.append((context_id, b"\x03" + command))
        super().receive_primitive(fragment)
        message, self.message = self.message, None
        if message is None:
            return  # it is whole, and in the queue
        if type(message) not in (C_STORE_RQ, N_ACTION_RQ, N_EVENT_REPORT_RQ):
            raise ValueError("a data set that belongs to no request")
        self._request = cast(_Request, message.message_to_primitive())


class GuardedAssociation(Association):
    """An association with a peer, from its complete request on."""

    def __init__(self, ae: Any, limits: Limits, open_spool: OpenSpool) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self._messages = self.dimse = _Messages(self, limits, open_spool)
        self._upper_layer = self.dul = UpperLayer(self, self._messages)
        self.acse_timeout = limits.request_timeout_s
        self.network_timeout = limits.idle_timeout_s
        self.is_shed = False
        self.caller = ""  #: the calling AE title, as it may be logged and kept
        self.policy = ""  #: that let it in, see `node.accept.policy`
        self.series: dict[str, None] = {}  #: UIDs of those that it brought instances of
        self.kept = 0  #: how many instances it brought
        self.fingerprint = ""  #: of the certificate that the peer showed
        self.is_serving = False
        self._may_serve = threading.Event()  # a request may come before the association knows that it is one
        self._may_serve_within_s = limits.request_timeout_s
        self.bind(evt.EVT_ESTABLISHED, lambda _event: self._may_serve.set())

    def use(self, connection: GuardedSocket) -> None:
        """Take the connection, once."""
        self.set_socket(connection)
        self._upper_layer.connection = connection

    def cut(self) -> None:
        """Close the connection; both threads end."""
        self._upper_layer.connection.cut()

    @property
    def idle_s(self) -> float:
        """For how long nothing has come and nothing was being done; half a message is nothing."""
        if self.is_serving or not self._messages.msg_queue.empty():
            return 0.0
        return time.monotonic() - self._upper_layer.connection.last_heard

    @property
    def is_halfway(self) -> bool:
        """Whether a message has begun and is not whole."""
        return self._messages.is_halfway

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - see UpperLayer.run_reactor
            log.warning("association_broken", error=describe(error))
        finally:
            was_established = self._may_serve.is_set()
            self._may_serve.set()
            self.dul.kill_dul()
            self.cut()
            self.dul.join(timeout=5.0)
            self._messages.drop()
            if was_established:
                log.info("association_ended", ae_title=self.caller, name=self.policy, instances=self.kept)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        try:
            self._serve(msg, context_id)
        except Exception as error:  # noqa: BLE001 - see UpperLayer.run_reactor
            log.error("service_failed", error=describe(error))
            self.abort(block=False)
        finally:
            self.is_serving = False
            file = getattr(msg, "_dataset_file", None)
            if file is not None:
                file.discard()

    def _serve(self, msg: Any, context_id: int) -> None:
        self._may_serve.wait(self._may_serve_within_s)
        context = self._accepted_cx.get(context_id)
        if context is None or not isinstance(msg, C_ECHO | _Request) or not msg.is_valid_request:
            self.abort(block=False)  # to wait for its end would be to wait for oneself
            return
        self.is_serving = True
        # By message and not by SOP class: pynetdicom does not know every storage class.
        if isinstance(msg, C_ECHO):
            VerificationServiceClass(self).SCP(msg, context)
        elif isinstance(msg, C_STORE):
            self._store(msg, context)
        else:
            NoticeService(self).SCP(msg, context)

    def _store(self, request: C_STORE, context: PresentationContext) -> None:
        """Do what pynetdicom's Storage SCP does, without a response to take apart for each Success."""
        status = evt.trigger(self, evt.EVT_C_STORE, {"request": request, "context": context.as_tuple})
        if not self.is_established:
            return
        context_id = cast(int, context.context_id)
        if status == 0:
            self._messages.send_success(request, context_id)
            return
        answer = C_STORE()
        answer.MessageIDBeingRespondedTo = request.MessageID
        answer.AffectedSOPClassUID = request.AffectedSOPClassUID
        answer.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
        self.dimse.send_msg(StorageServiceClass(self).validate_status(cast(int, status), answer), context_id)
