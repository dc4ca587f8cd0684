"""What keeps one pynetdicom 3.0.4 association safe from its peer, in one place.

pynetdicom believes any PDU length, waits for ever inside a PDU, keeps no bound on what a message
may bring, and leaves half received files behind. Here instead

* a PDU is measured before it is read, and must be whole within a deadline (`node.accept.connection`);
* threads wait instead of looking, data go straight to their file, and a request is served in the
  thread that received it (`node.accept.upper`);
* a command set has a largest size, only C-ECHO and C-STORE are understood, and a data set goes
  fragment by fragment into a file of ours (`_Messages`);
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

from pynetdicom import _config
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass, VerificationServiceClass

from node.accept.answer import encode_success
from node.accept.connection import GuardedSocket, Limits
from node.accept.upper import UpperLayer
from node.log import describe, get_log

log = get_log("accept")

# Its own log lines quote what peers send; ours say what happened.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False

_MAX_COMMAND_BYTES = 64 << 10
#: How long nothing may happen before an association looks at itself.
_LOOK_EVERY_S = 0.05
_PDV_HEAD = struct.Struct(">IBB")  #: PS3.8 9.3.5.1: length of what follows, context, control header
#: Requests of one association that wait for their turn. One is agreed (PS3.7 D.3.3.3).
_MAX_QUEUED = 16
#: PS3.7 annex E: the Command Fields that we serve, C-STORE-RQ and C-ECHO-RQ.
_SERVED = frozenset({0x0001, 0x0030})


class SpoolFile(Protocol):
    """Where a data set goes; what pynetdicom wants of it, and how to be rid of it."""

    @property
    def name(self) -> str: ...
    def write(self, data: bytes | memoryview) -> int: ...
    def close(self) -> None: ...
    def discard(self) -> None: ...


OpenSpool = Callable[[Association, Any, PresentationContext], SpoolFile]


class _Messages(DIMSEServiceProvider):
    """Takes messages apart by fragment, so that each can be refused before it is stored."""

    def __init__(self, assoc: GuardedAssociation, limits: Limits, open_spool: OpenSpool) -> None:
        super().__init__(assoc)
        self._idle_timeout_s = limits.idle_timeout_s
        self._stall_timeout_s = min(limits.pdu_timeout_s, limits.idle_timeout_s)
        self._open_spool = open_spool
        self._woken = threading.Event()
        self._file: SpoolFile | None = None  #: of the message that is being received

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
            self.assoc.network_timeout = self._stall_timeout_s if self.is_halfway else self._idle_timeout_s
        except Exception as error:  # noqa: BLE001 - a peer that breaks the protocol is aborted, whatever it did
            log.warning("message_refused", error=describe(error))
            self.drop()
            self.dul.event_queue.put("Evt19")  # PS3.8 table 9-10: invalid PDU; answers A-ABORT

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

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message; the one that is sent for each instance is put together at once."""
        encoded = encode_success(primitive)
        if encoded is None or 0 < self.maximum_pdu_size < len(encoded) + _PDV_HEAD.size:
            super().send_msg(primitive, context_id)
            return
        fragment = P_DATA()
        fragment.presentation_data_value_list.append((context_id, b"\x03" + encoded))
        self.dul.send_pdu(fragment)

    @property
    def is_halfway(self) -> bool:
        """Whether a message has begun and is not whole."""
        return self.message is not None

    def drop(self) -> None:
        """Throw away what was received and not served. Who serves may take some of it meanwhile."""
        self.message = None
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
        if self.message is None:
            self.message = DIMSEMessage()
        message = self.message
        # PS3.8 E.2: bit 0 of the control header is "command", bit 1 is "last fragment".
        is_command, is_last = control & 1, control & 2
        if is_command:
            if type(message) is not DIMSEMessage:
                raise ValueError("a command inside a data set")
            if message.encoded_command_set.tell() + len(data) > _MAX_COMMAND_BYTES:
                raise ValueError("the command set is too long")
            if self.msg_queue.qsize() >= _MAX_QUEUED:
                raise ValueError("too many requests at once")
            if is_last:
                encoded = message.encoded_command_set.getvalue() + bytes(data)
                if _command_field(encoded) not in _SERVED:
                    raise ValueError("no such service here")
            self._pass_on(context_id, control, bytes(data))
            return
        if type(message) is not C_STORE_RQ or message.context_id != context_id:
            raise ValueError("a data set that belongs to no request")
        if self._file is None:
            context = self.assoc._accepted_cx[context_id]
            self._file = self._open_spool(self.assoc, message.command_set, context)
            message._data_set_file = cast(Any, self._file)  # all that it does with it is in SpoolFile
        self._file.write(data)
        if is_last:
            self._pass_on(context_id, control, b"")
            # When the message is complete, the file is in the queue with its request.
            self._file = getattr(self.message, "_data_set_file", None)

    def _pass_on(self, context_id: int, control: int, data: bytes) -> None:
        """Have pynetdicom make messages of commands, and of the end of data sets."""
        fragment = P_DATA()
        fragment.presentation_data_value_list.append((context_id, bytes([control]) + data))
        super().receive_primitive(fragment)


class GuardedAssociation(Association):
    """An association with a peer, from its complete request on."""

    def __init__(self, ae: Any, limits: Limits, open_spool: OpenSpool) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self._messages = self.dimse = _Messages(self, limits, open_spool)
        self._upper_layer = self.dul = UpperLayer(self, self._messages)
        self.acse_timeout = limits.request_timeout_s
        self.network_timeout = limits.idle_timeout_s
        self.is_shed = False
        self.is_serving = False

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
            self.dul.kill_dul()
            self.cut()
            self.dul.join(timeout=5.0)
            self._messages.drop()

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
        context = self._accepted_cx.get(context_id)
        if context is None or not isinstance(msg, C_ECHO | C_STORE) or not msg.is_valid_request:
            self.abort(block=False)  # to wait for its end would be to wait for oneself
            return
        self.is_serving = True
        # By message and not by SOP class: pynetdicom does not know every storage class.
        if isinstance(msg, C_ECHO):
            VerificationServiceClass(self).SCP(msg, context)
        else:
            StorageServiceClass(self).SCP(msg, context)


def _command_field(encoded: bytes) -> int | None:
    """Return (0000,0100) of a command set, which is always implicit little endian (PS3.7 6.3.1)."""
    at = 0
    while at + 8 <= len(encoded):
        group, number, length = struct.unpack_from("<HHI", encoded, at)
        if group != 0:
            return None
        if number == 0x0100 and length == 2 and at + 10 <= len(encoded):
            return int.from_bytes(encoded[at + 8 : at + 10], "little")
        at += 8 + length
    return None
