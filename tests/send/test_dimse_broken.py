"""C-STORE that goes wrong on the way: peers that reject, stop, lie or are gone, a sender that is killed."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import SimpleNamespace

import pytest

from node.errors import PeerRefused, PeerUnreachable
from node.failpoint import FailpointRaised
from node.peer.association import LARGEST_PDU_BYTES
from tests.peers import (
    AbortingPacs,
    DeafPacs,
    DrippingPacs,
    RecordingPacs,
    RejectingPacs,
)
from tests.send.conftest import picture, saved


@pytest.mark.parametrize("answers", [0, 1])
def test_an_abort_keeps_the_receipts_so_far(objects, deliver, answers):
    so_far = []
    with AbortingPacs(answers) as pacs, pytest.raises(PeerUnreachable):
        deliver(objects, pacs, so_far=so_far)
    assert len(so_far) == answers


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((1, 1, 3), PeerRefused, "calling AE title not recognised. Make our AE title known"),
        ((1, 1, 7), PeerRefused, "called AE title not recognised"),
        ((1, 1, 1), PeerRefused, "no reason given"),
        ((2, 3, 1), PeerUnreachable, "temporary congestion"),
        ((2, 3, 2), PeerUnreachable, "local limit exceeded"),
        ((1, 3, 2), PeerUnreachable, "local limit exceeded"),
        ((2, 1, 1), PeerUnreachable, "no reason given"),
    ],
)
def test_a_rejected_association_is_passing_or_final_by_its_reason(objects, deliver, answer, error, said):
    with RejectingPacs(*answer) as pacs, pytest.raises(error, match=said):
        deliver(objects, pacs)


def test_the_reason_is_heard_however_fast_the_peer_is_gone(objects, deliver):
    with RejectingPacs(1, 1, 3) as pacs:
        for _ in range(40):
            with pytest.raises(PeerRefused, match="calling AE title"):
                deliver(objects, pacs)


def test_a_peer_that_is_not_there_is_tried_again_later(objects, deliver):
    with RecordingPacs() as pacs:
        gone = SimpleNamespace(ae_title="ARCHIVE", host="127.0.0.1", port=pacs.port)
    with pytest.raises(PeerUnreachable, match=f"127.0.0.1:{gone.port}"):
        deliver(objects, gone)
    nowhere = SimpleNamespace(ae_title="ARCHIVE", host="no.such.host.invalid", port=104)
    with pytest.raises(PeerUnreachable, match=r"no.such.host.invalid:104\) cannot be reached"):
        deliver(objects, nowhere)


@pytest.mark.parametrize(
    "peer",
    [
        DeafPacs,
        DrippingPacs,
        lambda: DeafPacs(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        lambda: DeafPacs(struct.pack(">BBL", 0x02, 0, LARGEST_PDU_BYTES + 1)),
        lambda: DeafPacs(struct.pack(">BBL", 0x02, 0, 8) + b"\xff" * 8),
    ],
    ids=["silent", "dripping", "http", "huge", "garbage"],
)
def test_a_peer_that_does_not_speak_dicom_is_given_up_in_time(objects, deliver, peer):
    began = time.monotonic()
    with peer() as pacs, pytest.raises(PeerUnreachable):
        deliver(objects, pacs, timeout_s=0.5)
    assert time.monotonic() - began < 6
    _no_thread_is_left()


def test_a_peer_that_never_answers_an_object_is_given_up_in_time(objects, deliver):
    with RecordingPacs(delay_s=4) as pacs:
        began = time.monotonic()
        with pytest.raises(PeerUnreachable, match="did not answer"):
            deliver(objects, pacs, timeout_s=0.5)
        assert time.monotonic() - began < 3.5


def test_a_peer_that_stops_reading_is_given_up_in_time(deliver, tmp_path):
    large = picture()
    large.Rows = large.Columns = 2048
    large.PixelData = bytes(2048 * 2048 * 2)
    with RecordingPacs() as pacs, _StuckProxy(pacs.port, after_bytes=100_000) as proxy:
        began = time.monotonic()
        with pytest.raises(PeerUnreachable):
            deliver([saved(large, tmp_path)], proxy, timeout_s=0.5)
        assert time.monotonic() - began < 6
    _no_thread_is_left()


def test_a_peer_that_ignores_even_our_abort_is_given_up_in_time(objects, deliver):
    with RecordingPacs() as pacs, _StuckProxy(pacs.port, after_bytes=2000, then_swallow=True) as proxy:
        began = time.monotonic()
        with pytest.raises(PeerUnreachable, match="did not answer"):
            deliver(objects, proxy, timeout_s=0.5)
        assert time.monotonic() - began < 6
    _no_thread_is_left()


def test_an_answer_given_twice_is_not_taken_for_the_next_object(objects, deliver):
    def twice(event, number, request):
        answer = RecordingPacs.answer(pacs, event, number, request)
        if number == 1:
            early = _success_for(event)
            event.assoc.dimse.send_msg(early, event.context.context_id)
        return answer

    so_far = []
    with RecordingPacs(status=lambda n, _r: 0x0000 if n == 1 else 0xC000) as pacs:
        pacs.answer = twice
        with pytest.raises(PeerUnreachable):  # it is told by its number, or comes before anything was asked
            deliver(objects, pacs, so_far=so_far)
    assert len(so_far) == 1


def test_a_sender_killed_between_answer_and_receipt_sends_the_same_bytes_again(objects, deliver, monkeypatch):
    with RecordingPacs() as pacs:
        monkeypatch.setenv("RADNODE_FAILPOINTS", "send.answered=raise")
        with pytest.raises(FailpointRaised):
            deliver(objects, pacs)
        monkeypatch.delenv("RADNODE_FAILPOINTS")
        assert len(deliver(objects, pacs)) == 2
    assert pacs.received[0] == pacs.received[1]
    assert len({request.sop_instance_uid for request in pacs.received}) == 2
    _no_thread_is_left()


def _success_for(event):
    from pynetdicom.dimse_primitives import C_STORE

    answer = C_STORE()
    answer.MessageIDBeingRespondedTo = event.request.MessageID
    answer.AffectedSOPClassUID = event.request.AffectedSOPClassUID
    answer.AffectedSOPInstanceUID = event.request.AffectedSOPInstanceUID
    answer.Status = 0x0000
    return answer


def _no_thread_is_left():
    for _ in range(100):
        left = [t.name for t in threading.enumerate() if "Requestor" in t.name or "DUL" in t.name]
        if not left:
            return
        time.sleep(0.05)
    raise AssertionError(f"threads of a finished association: {left}")


class _StuckProxy:
    """Passes on so many bytes to a peer; then reads no further, or reads without a word."""

    ae_title, host = "ARCHIVE", "127.0.0.1"

    def __init__(self, port: int, *, after_bytes: int, then_swallow: bool = False) -> None:
        self._far = socket.create_connection(("127.0.0.1", port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.port = self._server.getsockname()[1]
        self._left = after_bytes
        self._then_swallow = then_swallow
        self._near = None
        threading.Thread(target=self._forward, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in (self._far, self._near, self._server):
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # closing alone wakes no thread that reads
                connection.close()

    def _forward(self):
        self._near, _ = self._server.accept()
        threading.Thread(target=self._back, daemon=True).start()
        while self._left > 0:
            some = self._near.recv(4096)
            self._left -= len(some)
            self._far.sendall(some)
        with contextlib.suppress(OSError):
            while self._then_swallow and self._near.recv(4096):
                pass

    def _back(self):
        with contextlib.suppress(OSError):
            while some := self._far.recv(4096):
                self._near.sendall(some)
