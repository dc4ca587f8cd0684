from __future__ import annotations

import hashlib
import struct
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

from node.errors import PeerBusy, PeerRefused, SendError
from tests.peers import (
    ContextRefusingPacs,
    RecordingPacs,
    RefusingPacs,
)
from tests.send.conftest import NOON, dataset_bytes, picture, report, saved
from tests.storescp import Storescp


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


def test_dcmtk_receives_what_we_made(objects, deliver, tmp_path):
    with Storescp(tmp_path / "archive", "+B") as scp:
        peer = SimpleNamespace(ae_title="ARCHIVE", host="127.0.0.1", port=scp.port)
        assert {receipt.status for receipt in deliver(objects, peer)} == {0}
        got = {dcmread(path).SOPInstanceUID: dcmread(path) for path in scp.stored()}
    for thing in objects:
        assert got[thing.sop_instance_uid] == dcmread(thing.path)
