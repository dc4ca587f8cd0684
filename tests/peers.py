"""Real storage SCPs that behave as we ask them to, each on a free port of the loopback.

Use as context managers, or call ``stop()``. What they received is in ``received``.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID, AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    Verification,
)

RESULT_CLASSES = (
    SegmentationStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
)
#: No private ones, and no big endian: what an archive would take.
SYNTAXES = tuple(s for s in AllTransferSyntaxes if not s.is_private and s.is_little_endian)


@dataclass(frozen=True)
class Received:
    """One C-STORE request as it came."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    data: bytes  #: the encoded data set
    caller: str


class Peer:
    """Something that listens on ``127.0.0.1:port``."""

    ae_title = "ARCHIVE"
    host = "127.0.0.1"
    port: int

    def stop(self) -> None:
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class RecordingPacs(Peer):
    """Answers every C-STORE with ``status(number, request)``, the number counting from 1."""

    def __init__(
        self,
        *,
        sop_classes: Iterable[str] = RESULT_CLASSES,
        syntaxes: Iterable[str] = SYNTAXES,
        port: int = 0,
        status: Callable[[int, Received], int] | int = 0x0000,
        delay_s: float = 0.0,
    ) -> None:
        self.received: list[Received] = []
        self.associations = 0
        self._status = status if callable(status) else lambda _number, _request: status
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self.ae = AE(ae_title=self.ae_title)
        self.ae.supported_contexts = [
            build_context(Verification, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
            *(build_context(sop_class, list(syntaxes)) for sop_class in sop_classes),
        ]
        self._server = self.ae.start_server(
            (self.host, port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._on_store), (evt.EVT_ESTABLISHED, self._on_established)],
        )
        self.port = self._server.server_address[1]

    def stop(self) -> None:
        # The server looks up twice a second, or when somebody comes: so we come.
        ending = threading.Thread(target=self._server.shutdown)
        ending.start()
        while ending.is_alive():
            with contextlib.suppress(OSError):
                socket.create_connection((self.host, self.port), timeout=1).close()
            ending.join(0.02)

    @property
    def uids(self) -> list[str]:
        return [request.sop_instance_uid for request in self.received]

    def _on_established(self, _event) -> None:
        self.associations += 1

    def _on_store(self, event) -> Dataset:
        request = Received(
            sop_instance_uid=str(event.request.AffectedSOPInstanceUID),
            sop_class_uid=str(event.request.AffectedSOPClassUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            data=event.request.DataSet.getvalue(),
            caller=event.assoc.requestor.ae_title,
        )
        with self._lock:
            self.received.append(request)
            number = len(self.received)
        time.sleep(self._delay_s)
        return self.answer(event, number, request)

    def answer(self, _event, number: int, request: Received) -> Dataset:
        answer = Dataset()
        answer.Status = self._status(number, request)
        if answer.Status >= 0xA900 and answer.Status <= 0xCFFF:
            answer.ErrorComment = "Patient DOE^JANE unknown"  # what a real archive may say
            answer.OffendingElement = [0x00100020]
        return answer


class RefusingPacs(RecordingPacs):
    """Refuses every object, or those of some SOP Classes, with one status."""

    def __init__(self, status: int, *, only: Iterable[str] = (), **more) -> None:
        chosen = {str(UID(uid)) for uid in only}
        super().__init__(
            status=lambda _n, request: status if not chosen or request.sop_class_uid in chosen else 0x0000,
            **more,
        )


class AbortingPacs(RecordingPacs):
    """Answers ``answers`` objects and aborts at the next, before its answer."""

    def __init__(self, answers: int, **more) -> None:
        super().__init__(**more)
        self._answers = answers

    def answer(self, event, number: int, request: Received) -> Dataset:
        if number > self._answers:
            event.assoc.abort()
        return super().answer(event, number, request)


class ContextRefusingPacs(RecordingPacs):
    """Takes only these SOP Classes, and only in these transfer syntaxes."""

    def __init__(
        self,
        *,
        sop_classes: Iterable[str] = RESULT_CLASSES,
        syntaxes: Iterable[str] = (ImplicitVRLittleEndian,),
        **more,
    ):
        super().__init__(sop_classes=sop_classes, syntaxes=syntaxes, **more)


class RejectingPacs(Peer):
    """Rejects every association: result, source and reason as in PS3.8 Table 9-21."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        self._reply = struct.pack(">BBLBBBB", 0x03, 0, 4, 0, result, source, reason)
        self._listener = _Listener(self._talk)
        self.port = self._listener.port

    def stop(self) -> None:
        self._listener.stop()

    def _talk(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(self._reply)
        connection.recv(1)  # until the other side closes


class DeafPacs(Peer):
    """Accepts connections and says ``greeting`` to whatever comes, then nothing more."""

    def __init__(self, greeting: bytes = b"") -> None:
        self._greeting = greeting
        self._listener = _Listener(self._talk)
        self.port = self._listener.port

    def stop(self) -> None:
        self._listener.stop()

    def _talk(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(self._greeting)
        while connection.recv(65536):
            pass


class DrippingPacs(DeafPacs):
    """Sends the beginning of an association acceptance one byte at a time."""

    def _talk(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(struct.pack(">BBL", 0x02, 0, 1000))
        for _ in range(1000):
            connection.sendall(b"\0")
            time.sleep(0.1)


class _Listener:
    """Calls ``talk`` with every connection, each in a thread; breaks all of them at the end."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._talk = talk
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._open:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._guarded, args=(connection,), daemon=True).start()

    def _guarded(self, connection: socket.socket) -> None:
        try:
            self._talk(connection)
        except OSError:
            pass  # the other side went away, which is its right
        finally:
            connection.close()
