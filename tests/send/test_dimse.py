from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import struct
import subprocess
import threading
import time
from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from node.errors import PeerBusy, PeerRefused, PeerUnreachable, SendError
from node.failpoint import FailpointRaised
from node.send.guard import LARGEST_PDU_BYTES
from tests.peers import (
    AbortingPacs,
    ContextRefusingPacs,
    DeafPacs,
    DrippingPacs,
    RecordingPacs,
    RefusingPacs,
    RejectingPacs,
)
from tests.send.conftest import NOON, dataset_bytes, picture, report, saved


def test_objects_arrive_byte_for_byte_and_in_order_over_one_association(objects, deliver):
    sr, seg = objects
    with RecordingPacs() as pacs:
        receipts = deliver(objects, pacs)
        assert pacs.uids == [seg.sop_instance_uid, sr.sop_instance_uid]
        assert [r.data for r in pacs.received] == [dataset_bytes(seg), dataset_bytes(sr)]
        assert {r.transfer_syntax_uid for r in pacs.received} == {ExplicitVRLittleEndian}
        assert {r.caller for r in pacs.received} == {"RADNODE"}
        assert pacs.associations == 1
    assert [r.sop_instance_uid for r in receipts] == pacs.uids
    assert {(r.destination, r.status, r.sentence, r.at) for r in receipts} == {("archive", 0, "", NOON)}


def test_a_file_goes_as_it_is_where_the_library_would_write_it_otherwise(tmp_path, deliver):
    thing = saved(report(), tmp_path)
    content, data = thing.path.read_bytes(), dataset_bytes(thing)
    group_length = struct.pack("<HH2sHL", 0x0008, 0x0000, b"UL", 4, 0)  # retired; pydicom drops it
    thing.path.write_bytes(content.removesuffix(data) + group_length + data)
    thing = replace(thing, sha256=hashlib.sha256(thing.path.read_bytes()).hexdigest())
    with RecordingPacs() as pacs:
        deliver([thing], pacs)
        assert pacs.received[0].data == group_length + data


def test_nothing_to_send_opens_no_association(deliver):
    with RecordingPacs() as pacs:
        assert deliver([], pacs) == []
        assert pacs.associations == 0


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0xB000, "changed some elements"),
        (0xB006, "discarded some elements"),
        (0xB007, "does not match its SOP Class"),
        (0xB123, "warned without saying"),
    ],
)
def test_a_warning_is_stored_and_told(objects, deliver, status, said):
    with RefusingPacs(status) as pacs:
        receipts = deliver(objects, pacs)
    assert [r.status for r in receipts] == [status] * 2
    assert all(said in r.sentence and f"{status:04X}" in r.sentence for r in receipts)


def test_a_duplicate_counts_as_delivered(objects, deliver):
    with RefusingPacs(0x0111) as pacs:
        assert [r.status for r in deliver(objects, pacs)] == [0x0111] * 2


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0x0110, 0x0213, 0x0210, 0x3333])
def test_a_passing_failure_is_tried_again_later(objects, deliver, status):
    with RefusingPacs(status) as pacs, pytest.raises(PeerBusy, match=f"{status:04X}") as caught:
        deliver(objects, pacs)
    assert caught.value.then == "retry"
    assert len(pacs.received) == 1  # a peer out of resources is left alone


@pytest.mark.parametrize("status", [0xA900, 0xA9FF, 0xC000, 0xC211, 0x0122, 0x0124, 0x0117])
def test_a_refusal_for_good_is_told_without_what_the_peer_says_of_the_patient(objects, deliver, status):
    with RefusingPacs(status) as pacs, pytest.raises(PeerRefused, match=f"{status:04X}") as caught:
        deliver(objects, pacs)
    assert caught.value.then == "fail"
    assert "DOE" not in str(caught.value)
    if status >= 0xA900:
        assert "(0010,0020)" in str(caught.value)


def test_what_refers_to_a_refused_object_is_withheld_and_the_rest_is_sent(objects, deliver, tmp_path):
    sr, seg = objects
    alone = saved(report("2.25.8.1"), tmp_path)
    so_far = []
    with RefusingPacs(0x0122, only=[SecondaryCaptureImageStorage]) as pacs:
        with pytest.raises(PeerRefused, match="And 1 more: sr-measurements"):
            deliver([sr, seg, alone], pacs, so_far=so_far)
        assert pacs.uids == [seg.sop_instance_uid, alone.sop_instance_uid]
    assert [r.sop_instance_uid for r in so_far] == [alone.sop_instance_uid]


def test_what_can_be_read_without_the_refused_object_is_sent(objects, deliver):
    """Sentences without their outlines, a report without its overlay: better than nothing."""
    report, outlines = objects
    overlay = replace(outlines, kind="secondary-capture")
    for pair in ((replace(report, kind="sr-text"), outlines), (report, overlay)):
        so_far = []
        with RefusingPacs(0x0122, only=[SecondaryCaptureImageStorage]) as pacs, pytest.raises(PeerRefused):
            deliver(pair, pacs, so_far=so_far)
        assert [r.sop_instance_uid for r in so_far] == [report.sop_instance_uid]


def test_a_peer_that_takes_the_picture_but_not_the_report_leaves_a_receipt_and_an_error(objects, deliver):
    sr, seg = objects
    so_far = []
    with (
        RefusingPacs(0xC000, only=[ComprehensiveSRStorage]) as pacs,
        pytest.raises(PeerRefused, match=sr.sop_instance_uid),
    ):
        deliver(objects, pacs, so_far=so_far)
    assert [r.sop_instance_uid for r in so_far] == [seg.sop_instance_uid]


def test_a_class_that_the_peer_does_not_negotiate_is_refused_and_the_rest_is_sent(objects, deliver):
    sr, _ = objects
    alone = replace(sr, refers_to=())
    so_far = []
    with (
        ContextRefusingPacs(sop_classes=[ComprehensiveSRStorage]) as pacs,
        pytest.raises(PeerRefused, match="takes no Secondary Capture"),
    ):
        deliver([alone, objects[1]], pacs, so_far=so_far)
    assert [r.sop_instance_uid for r in so_far] == [sr.sop_instance_uid]


def test_a_peer_that_takes_none_of_the_classes_refuses_for_good(objects, deliver):
    with (
        ContextRefusingPacs(sop_classes=[CTImageStorage]) as pacs,
        pytest.raises(PeerRefused, match="none of the SOP Classes"),
    ):
        deliver(objects, pacs)


def test_a_peer_that_knows_only_implicit_vr_gets_the_same_content(objects, deliver):
    sr, seg = objects
    with ContextRefusingPacs(syntaxes=[ImplicitVRLittleEndian]) as pacs:
        assert len(deliver(objects, pacs)) == 2
    for thing, request in zip((seg, sr), pacs.received, strict=True):
        assert request.transfer_syntax_uid == ImplicitVRLittleEndian
        got = read_dataset(DicomBytesIO(request.data), is_implicit_VR=True, is_little_endian=True)
        expected = dcmread(thing.path)
        assert str(got.PatientName) == str(expected.PatientName) == "Ωμέγα^Ä"
        assert got == expected


@pytest.mark.parametrize("taken", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_lossless_picture_is_unpacked_for_a_peer_that_cannot_unpack_it(tmp_path, deliver, taken):
    packed = picture()
    pixels = packed.pixel_array.copy()
    packed.compress(RLELossless, generate_instance_uid=False)
    thing = saved(packed, tmp_path)
    assert thing.transfer_syntax_uid == RLELossless
    with RecordingPacs() as pacs:
        deliver([thing], pacs)
        assert pacs.received[0].transfer_syntax_uid == RLELossless
        assert pacs.received[0].data == dataset_bytes(thing)
    with ContextRefusingPacs(syntaxes=[taken]) as pacs:
        (receipt,) = deliver([thing], pacs)
        assert receipt.sop_instance_uid == thing.sop_instance_uid
        (request,) = pacs.received
        assert request.transfer_syntax_uid == taken
        got = read_dataset(
            BytesIO(request.data), is_implicit_VR=taken == ImplicitVRLittleEndian, is_little_endian=True
        )
    assert got.SOPInstanceUID == thing.sop_instance_uid
    np.testing.assert_array_equal(np.frombuffer(got.PixelData, np.uint16).reshape(64, 48), pixels)


def test_a_deflated_report_is_inflated_for_a_peer_that_does_not_take_it(tmp_path, deliver):
    deflated = report()
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    thing = saved(deflated, tmp_path)
    with ContextRefusingPacs(syntaxes=[ExplicitVRLittleEndian]) as pacs:
        deliver([thing], pacs)
    got = read_dataset(BytesIO(pacs.received[0].data), is_implicit_VR=False, is_little_endian=True)
    assert got == dcmread(thing.path)


def test_a_lossy_picture_is_never_encoded_anew(tmp_path, deliver):
    thing = replace(saved(picture(), tmp_path), transfer_syntax_uid=str(JPEGBaseline8Bit))
    with (
        ContextRefusingPacs(syntaxes=[ExplicitVRLittleEndian]) as pacs,
        pytest.raises(PeerRefused, match="takes no Secondary Capture"),
    ):
        deliver([thing], pacs)


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
        with pytest.raises(PeerUnreachable, match="another request"):
            deliver(objects, pacs, so_far=so_far)
    assert len(so_far) == 1


def test_a_file_that_changed_after_it_was_made_is_not_sent(objects, deliver):
    _, seg = objects
    seg.path.write_bytes(seg.path.read_bytes()[:-2] + b"\1\1")
    with RecordingPacs() as pacs, pytest.raises(SendError, match="changed on disk") as caught:
        deliver(objects, pacs)
    assert caught.value.then == "fail"
    assert pacs.associations == 0
    seg.path.unlink()
    with RecordingPacs() as pacs, pytest.raises(SendError, match="cannot be read"):
        deliver(objects, pacs)


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


@pytest.mark.skipif(shutil.which("storescp") is None, reason="needs storescp (Debian: dcmtk)")
def test_dcmtk_receives_what_we_made(objects, deliver, tmp_path):
    home = tmp_path / "archive"
    home.mkdir()
    with RecordingPacs() as free:
        port = free.port
    program = subprocess.Popen(
        ["storescp", "--aetitle", "ARCHIVE", "--output-directory", home, "+B", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        peer = SimpleNamespace(ae_title="ARCHIVE", host="127.0.0.1", port=port)
        for _ in range(50):
            try:
                receipts = deliver(objects, peer)
                break
            except PeerUnreachable:
                time.sleep(0.1)
        assert {r.status for r in receipts} == {0}
        got = {dcmread(path).SOPInstanceUID: dcmread(path) for path in home.iterdir()}
        for thing in objects:
            assert got[thing.sop_instance_uid] == dcmread(thing.path)
    finally:
        program.terminate()
        program.wait(5)


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
