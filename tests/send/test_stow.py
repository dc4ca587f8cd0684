"""STOW-RS as a destination, against servers that answer in every way that was seen or is allowed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime

import pytest
from pydicom.uid import (
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SegmentationStorage,
)

from node.config import Config, StowDestination
from node.errors import PeerBusy, PeerRefused, PeerUnreachable, SendError
from node.log import KEYS
from node.model import StandIn
from node.profile import LABELMAP_CLASS
from node.send import send
from node.send.answer import read_answer
from tests.send.conftest import NOON, dataset_bytes, picture, report, saved
from tests.web_peers import RawPeer, Says, WebPeer, all_stored, store_answer

SEG, SR = "2.25.7.1", "2.25.7.2"


def stow(objects, url, *, so_far=None, swapping=lambda *_: {}, **keys):
    """Send objects by STOW-RS and return the receipts; on an error they are in ``so_far``."""
    receipts = [] if so_far is None else so_far
    destination = StowDestination(transport="stow", url=url, **{"timeout_s": 5, **keys})
    config = Config(destinations={"cloud": destination})
    for receipt in send(objects, "cloud", config, lambda: NOON, swapping):
        receipts.append(receipt)
    return receipts


def alone(tmp_path, number: int = 1, **changes):
    """Return an object that refers to none."""
    return replace(saved(picture(f"2.25.8.{number}"), tmp_path), kind="seg", **changes)


def test_files_go_as_they_are_what_is_referred_to_first(objects):
    with WebPeer(all_stored) as peer:
        receipts = stow(objects, peer.url)
        assert [receipt.sop_instance_uid for receipt in receipts] == [SEG, SR]
        assert [(asked.method, asked.target) for asked in peer.asked] == [("POST", "/dicom-web/studies")] * 2
        assert [asked.uids for asked in peer.asked] == [[SEG], [SR]]
        assert peer.asked[0].headers["accept"] == "application/dicom+json"
    for thing, asked in zip(reversed(objects), peer.asked, strict=True):
        assert dataset_bytes(thing) in asked.body
        assert thing.path.read_bytes() in asked.body


def test_what_does_not_refer_to_each_other_shares_a_request(tmp_path):
    things = [alone(tmp_path, number) for number in range(5)]
    with WebPeer(all_stored) as peer:
        stow(things, peer.url)
        assert [len(asked.uids) for asked in peer.asked] == [5]


def test_no_request_is_larger_than_it_may_be(tmp_path):
    """A picture has 6 kB; one that is larger than a request may be goes alone."""
    things = [alone(tmp_path, number) for number in range(400)]
    with WebPeer(all_stored) as peer:
        assert len(stow(things, peer.url, max_request_mb=1)) == 400
        assert len(peer.asked) > 1
        assert all(len(asked.body) <= 1_000_000 for asked in peer.asked)
        assert [uid for asked in peer.asked for uid in asked.uids] == [t.sop_instance_uid for t in things]
    large = picture("2.25.9.1")
    large.Rows, large.Columns, large.PixelData = 1000, 1000, bytes(2_000_000)
    with WebPeer(all_stored) as peer:
        stow([things[0], saved(large, tmp_path), things[1]], peer.url, max_request_mb=1)
        assert [len(asked.uids) for asked in peer.asked] == [1, 1, 1]


def test_a_token_goes_along(objects, tmp_path, caplog, capsys):
    token = tmp_path / "token"
    token.write_text("s3cret-token\n")
    with WebPeer(all_stored) as peer:
        stow(objects, peer.url, token_file=token)
        assert {asked.headers["authorization"] for asked in peer.asked} == {"Bearer s3cret-token"}
    said = capsys.readouterr()
    assert "s3cret" not in caplog.text + said.out + said.err


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (0xB000, "cloud stored it, but it changed some elements (warning reason B000)."),
        (0xB006, "cloud stored it, but it discarded some elements (warning reason B006)."),
        (0xB007, "cloud stored it, but it says the data set does not match its SOP Class"),
        (0xA900, "cloud stored it, but it warned without saying of what (warning reason A900)."),
    ],
)
def test_a_warning_is_told_with_the_receipt(objects, reason, sentence):
    def answer(_number, asked):
        return Says(202, store_answer(dict.fromkeys(asked.uids, reason)))

    with WebPeer(answer) as peer:
        receipts = stow(objects, peer.url)
    assert [receipt.status for receipt in receipts] == [reason, reason]
    assert all(receipt.sentence.startswith(sentence) for receipt in receipts)


@pytest.mark.parametrize(
    ("reason", "error", "words"),
    [
        (0xA700, PeerBusy, "it is out of resources"),
        (0x0110, PeerBusy, "it failed while processing"),
        (0x0213, PeerBusy, "at the limit of its resources"),
        (0xB000, PeerBusy, "it failed for a reason that is none"),
        (None, PeerBusy, "it did not say why"),
        (0xA900, PeerRefused, "the data set does not match its SOP Class"),
        (0xC000, PeerRefused, "it cannot understand the data set"),
        (0xC122, PeerRefused, "it does not take this transfer syntax"),
        (0x0124, PeerRefused, "it does not allow us to store"),
        (0x0117, PeerRefused, "SOP Instance UID for invalid"),
    ],
)
@pytest.mark.parametrize("status", [200, 202, 409, 400])
def test_what_failed_has_no_receipt_and_the_reason_decides(tmp_path, status, reason, error, words):
    good, bad = alone(tmp_path, 1), alone(tmp_path, 2)
    told = store_answer({good.sop_instance_uid: 0}, {bad.sop_instance_uid: reason})
    so_far = []
    with WebPeer(Says(status, told)) as peer, pytest.raises(error, match=words) as raised:
        stow([good, bad], peer.url, so_far=so_far)
    assert [receipt.sop_instance_uid for receipt in so_far] == [good.sop_instance_uid]
    assert bad.sop_instance_uid in str(raised.value)
    if reason:
        assert f"failure reason {reason:04X}" in str(raised.value)


@pytest.mark.parametrize("reason", [0x0111, 0xB00E])
def test_what_it_already_had_is_there(objects, reason):
    """microsoft/dicom-server says 409 and B00E for what came again after its answer was lost."""

    def answer(_number, asked):
        return Says(409, store_answer(failed=dict.fromkeys(asked.uids, reason)))

    with WebPeer(answer) as peer:
        receipts = stow(objects, peer.url)
    assert [receipt.sop_instance_uid for receipt in receipts] == [SEG, SR]
    assert all("it already had this SOP Instance" in receipt.sentence for receipt in receipts)


def test_a_report_is_not_sent_when_its_segmentation_was_refused(objects, tmp_path):
    """PS3.4 B.2.3: what the report points at is not there; both are told (N-13)."""
    with (
        WebPeer(lambda _n, asked: Says(409, store_answer(failed=dict.fromkeys(asked.uids, 0xC000)))) as peer,
        pytest.raises(PeerRefused) as raised,
    ):
        stow(objects, peer.url)
    assert [asked.uids for asked in peer.asked] == [[SEG]]
    assert f"{SR} was not sent: it is about a segmentation that was refused" in str(raised.value)


def test_a_report_that_is_refused_alone_is_told_and_the_segmentation_counts(objects):
    def answer(_number, asked):
        if SR in asked.uids:
            return Says(409, store_answer(failed={SR: 0xA900}))
        return all_stored(_number, asked)

    so_far = []
    with WebPeer(answer) as peer, pytest.raises(PeerRefused, match=f"refused sr-measurements {SR} for good"):
        stow(objects, peer.url, so_far=so_far)
    assert [receipt.sop_instance_uid for receipt in so_far] == [SEG]


def test_who_says_that_it_stored_what_it_was_not_sent_stored_nothing(objects):
    with (
        WebPeer(Says(200, store_answer({"2.25.666": 0}))) as peer,
        pytest.raises(PeerUnreachable, match="its answer does not name it"),
    ):
        stow(objects, peer.url)


def test_what_is_named_as_stored_and_as_failed_failed(objects):
    with (
        WebPeer(Says(202, store_answer({SEG: 0}, {SEG: 0xA700}))) as peer,
        pytest.raises(PeerBusy, match="out of resources"),
    ):
        stow(objects, peer.url)


PAGE = b"<!DOCTYPE html><html><body>Please log in, Jane Doe</body></html>"
BOMB = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;">]>
<NativeDicomModel><DicomAttribute tag="00081199" vr="SQ"><Item number="1"><DicomAttribute tag="00081155"
vr="UI"><Value number="1">2.25.7.1</Value></DicomAttribute></Item></DicomAttribute></NativeDicomModel>"""


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"  \n", PAGE, BOMB, BOMB.decode().encode("utf-16"), b"OK", b"\xff\xfe"),
        *(b"{", b"[]", b"[1]", b"{}", b"null", b"[" * 100_000),
        *(b'{"00081199": 5}', b'{"00081199": {"Value": "2.25.7.1"}}'),
    ],
)
@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_answer_that_names_nothing_proves_nothing(objects, status, body):
    if status == 204:
        body = b""
    so_far = []
    with (
        WebPeer(Says(status, body)) as peer,
        pytest.raises(
            (PeerUnreachable, PeerBusy), match=r"without naming what it stored|does not name"
        ) as told,
    ):
        stow(objects, peer.url, so_far=so_far)
    assert so_far == []
    assert "Jane" not in str(told.value)


def test_a_plain_200_is_believed_where_the_archive_is_asked_afterwards(objects):
    with WebPeer(Says(200)) as peer:
        receipts = stow(objects, peer.url, proof="query")
    assert [receipt.sop_instance_uid for receipt in receipts] == [SEG, SR]
    assert all("it will be asked" in receipt.sentence for receipt in receipts)
    with WebPeer(Says(200, PAGE)) as peer, pytest.raises(PeerUnreachable):
        stow(objects, peer.url, proof="query")


def test_an_answer_may_be_xml(objects):
    """PS3.19 A.1, with its namespace."""

    def answer(_number, asked):
        items = "".join(
            f'<Item number="{n}"><DicomAttribute tag="00081150" vr="UI"><Value number="1">1.2</Value>'
            f'</DicomAttribute><DicomAttribute tag="00081155" vr="UI"><Value number="1">{uid}</Value>'
            f'</DicomAttribute><DicomAttribute tag="00081196" vr="US"><Value number="1">45056</Value>'
            "</DicomAttribute></Item>"
            for n, uid in enumerate(asked.uids, start=1)
        )
        text = (
            '<?xml version="1.0" encoding="utf-8"?>'
            '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
            f'<DicomAttribute tag="00081199" vr="SQ" keyword="ReferencedSOPSequence">{items}</DicomAttribute>'
            "</NativeDicomModel>"
        )
        return Says(202, text.encode(), {"Content-Type": "application/dicom+xml"})

    with WebPeer(answer) as peer:
        assert [receipt.status for receipt in stow(objects, peer.url)] == [0xB000, 0xB000]


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (301, PeerRefused, "sends us elsewhere"),
        (307, PeerRefused, "sends us elsewhere"),
        (401, PeerRefused, "does not let us store .* token_file"),
        (403, PeerRefused, "does not let us store"),
        (404, PeerRefused, "is url its DICOMweb service"),
        (405, PeerRefused, "is url its DICOMweb service"),
        (408, PeerUnreachable, "may not have stored"),
        (429, PeerBusy, "cannot store just now"),
        (502, PeerUnreachable, "may not have stored"),
        (503, PeerBusy, "cannot store just now"),
        (504, PeerUnreachable, "may not have stored"),
        (507, PeerBusy, "cannot store just now"),
    ],
)
def test_an_answer_about_the_service_ends_the_delivery(tmp_path, status, error, words):
    things = [alone(tmp_path, number) for number in range(3)]
    with (
        WebPeer(Says(status, PAGE, {"Location": "http://127.0.0.1:1/"})) as peer,
        pytest.raises(error, match=words) as told,
    ):
        stow(things, peer.url)
    assert len(peer.asked) == 1
    assert f"status {status}" in str(told.value)
    assert "Jane" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, PeerRefused, "takes the request for wrong"),
        (409, PeerRefused, "takes the request for wrong"),
        (413, PeerRefused, "too large for it"),
        (415, PeerRefused, "takes no DICOM files in multipart"),
        (422, PeerRefused, "takes the request for wrong"),
        (500, PeerUnreachable, "may not have stored .* failed while processing"),
    ],
)
@pytest.mark.parametrize("page", [b"", PAGE])
def test_what_may_be_about_one_object_is_asked_of_each_alone(tmp_path, status, error, words, page):
    things = [alone(tmp_path, number) for number in range(4)]
    poison = things[1].sop_instance_uid

    def answer(number, asked):
        return Says(status, page) if poison in asked.uids else all_stored(number, asked)

    so_far = []
    with WebPeer(answer) as peer, pytest.raises(error, match=words) as told:
        stow(things, peer.url, so_far=so_far)
    others = [thing.sop_instance_uid for thing in things if thing.sop_instance_uid != poison]
    assert [receipt.sop_instance_uid for receipt in so_far] == others
    assert poison in str(told.value)


def test_what_a_server_leaves_out_of_a_bad_request_is_asked_alone(tmp_path):
    """Orthanc's plugin 1.7 says 400, stores what it can, and does not name what it could not read."""
    things = [alone(tmp_path, number) for number in range(3)]
    poison = things[0].sop_instance_uid

    def answer(number, asked):
        known = [uid for uid in asked.uids if uid != poison]
        body = store_answer(dict.fromkeys(known, 0)) if known else b'{"00081198": {"vr": "SQ"}}'
        return Says(200 if len(known) == len(asked.uids) else 400, body)

    so_far = []
    with WebPeer(answer) as peer, pytest.raises(PeerRefused, match=poison):
        stow(things, peer.url, so_far=so_far)
    assert len(so_far) == 2
    assert [len(asked.uids) for asked in peer.asked] == [3, 1]


def test_other_failures_are_of_the_only_one_that_was_sent(tmp_path):
    """PS3.18 I.2.2: Other Failures Sequence, of what could not even be named."""
    things = [alone(tmp_path, number) for number in range(3)]
    poison = things[2].sop_instance_uid

    def answer(_number, asked):
        known = dict.fromkeys((uid for uid in asked.uids if uid != poison), 0)
        return Says(202, store_answer(known, others=(0xC000,) if poison in asked.uids else ()))

    so_far = []
    with (
        WebPeer(answer) as peer,
        pytest.raises(PeerRefused, match=f"{poison} for good: it cannot understand"),
    ):
        stow(things, peer.url, so_far=so_far)
    assert len(so_far) == 2


def test_what_was_taken_counts_before_the_service_has_had_enough(tmp_path):
    """One alone is stored, the next meets a limit; and who might be there is not told to be away."""
    things = [alone(tmp_path, number) for number in range(3)]

    def answer(number, asked):
        said = [Says(413), all_stored(number, asked), Says(500), Says(429)]
        return said[number - 1]

    so_far = []
    with (
        WebPeer(answer) as peer,
        pytest.raises(PeerUnreachable, match=r"2.25.8.1: it failed while processing .*\(status 429\)"),
    ):
        stow(things, peer.url, so_far=so_far)
    assert [receipt.sop_instance_uid for receipt in so_far] == ["2.25.8.0"]


@pytest.mark.parametrize(
    ("said", "again_s"),
    [
        ("120", 120),
        ("0", 0),
        (format_datetime(NOON + timedelta(minutes=5), usegmt=True), 300),
        (format_datetime(NOON - timedelta(minutes=5), usegmt=True), 0),
        ("9" * 400, 999_999_999),
        ("-5", 0),
        ("soon", 0),
        ("٣", 0),
        ("Fri, 99 Nov 2026 12:00:00 GMT", 0),
    ],
)
def test_who_says_when_to_come_again_is_heard(objects, said, again_s):
    """RFC 9110 10.2.3; the journal bounds it."""
    headers = {"Retry-After": said} if said.isascii() else {}
    with WebPeer(Says(503, b"", headers)) as peer, pytest.raises(PeerBusy) as told:
        stow(objects, peer.url)
    assert told.value.again_s == again_s


def test_a_lost_answer_leaves_everything_owed(objects):
    def talk(connection):
        connection.recv(1 << 20)

    so_far = []
    with RawPeer(talk) as peer, pytest.raises(PeerUnreachable, match=r"cloud: .* broke the connection"):
        stow(objects, peer.url, so_far=so_far)
    assert so_far == []


def packed(tmp_path, number: int = 1):
    dataset = picture(f"2.25.8.{number}")
    dataset.compress(RLELossless, generate_instance_uid=False)
    return saved(dataset, tmp_path)


@pytest.mark.parametrize("how", [0xC122, 415])
def test_a_transfer_syntax_that_is_refused_is_unpacked(tmp_path, how):
    """PS3.18 I.2.2, C122; the same pixels under the same UID."""
    thing, plain = packed(tmp_path), alone(tmp_path, 2)

    def answer(number, asked):
        odd = [part for part in asked.parts if part.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian]
        if how == 415 and odd:
            return Says(415)
        bad = {str(part.SOPInstanceUID): how for part in odd}
        good = {str(part.SOPInstanceUID): 0 for part in asked.parts if str(part.SOPInstanceUID) not in bad}
        return Says(202 if bad else 200, store_answer(good, bad))

    with WebPeer(answer) as peer:
        receipts = stow([thing, plain], peer.url)
        assert {receipt.sop_instance_uid for receipt in receipts} == {"2.25.8.1", "2.25.8.2"}
        last = next(
            p for asked in reversed(peer.asked) for p in asked.parts if p.SOPInstanceUID == "2.25.8.1"
        )
    assert last.PixelData == picture().PixelData
    assert last.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_what_is_deflated_or_implicit_can_be_said_plainly(tmp_path, syntax):
    dataset = report("2.25.8.3")
    dataset.file_meta.TransferSyntaxUID = syntax
    thing = saved(dataset, tmp_path)

    def answer(number, asked):
        (part,) = asked.parts
        return (
            all_stored(number, asked)
            if part.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
            else Says(415)
        )

    with WebPeer(answer) as peer:
        assert len(stow([thing], peer.url)) == 1
        assert peer.asked[-1].parts == [report("2.25.8.3")]


def test_what_cannot_be_unpacked_without_loss_is_refused(tmp_path):
    thing = alone(tmp_path, transfer_syntax_uid=str(JPEGBaseline8Bit))
    with WebPeer(Says(415)) as peer, pytest.raises(PeerRefused, match="not in this transfer syntax"):
        stow([thing], peer.url)
    assert len(peer.asked) == 1


@pytest.mark.parametrize("reason", [0x0122, 0xA900, 0xC000])
def test_a_label_map_that_is_refused_goes_as_what_stands_in_for_it(tmp_path, reason):
    label_map = alone(tmp_path, 1, sop_class_uid=LABELMAP_CLASS)
    sr = saved(report("2.25.8.3"), tmp_path, refers_to=(label_map.sop_instance_uid,))
    binary = replace(alone(tmp_path, 11), sop_class_uid=str(SegmentationStorage))
    sr_of_it = saved(report("2.25.8.13"), tmp_path, refers_to=(binary.sop_instance_uid,))
    calls = []

    def swapping(place, lacking, taken, hoped):
        calls.append(([thing.sop_instance_uid for thing in lacking], dict(taken)))
        if {**hoped, **taken}.get(LABELMAP_CLASS) is not False or not lacking or not taken:
            return {}
        assert hoped[str(SegmentationStorage)]
        return {
            label_map.sop_instance_uid: StandIn(thing=binary, sentence="In place of a label map."),
            sr.sop_instance_uid: StandIn(thing=sr_of_it, sentence="Refers to it."),
        }

    def answer(number, asked):
        if label_map.sop_instance_uid in asked.uids:
            return Says(409, store_answer(failed={label_map.sop_instance_uid: reason}))
        return all_stored(number, asked)

    with WebPeer(answer) as peer:
        first, second = stow([label_map, sr], peer.url, swapping=swapping)
        assert [asked.uids for asked in peer.asked] == [["2.25.8.1"], ["2.25.8.11"], ["2.25.8.13"]]
    assert (first.sop_instance_uid, first.sent_as) == ("2.25.8.1", "2.25.8.11")
    assert (second.sop_instance_uid, second.sent_as) == ("2.25.8.3", "2.25.8.13")
    # Asked before anything goes, again when something was refused; what was learnt is told at the end.
    assert calls[0] == (["2.25.8.1", "2.25.8.3"], {})
    assert calls[1] == (["2.25.8.1", "2.25.8.3"], {LABELMAP_CLASS: False})
    assert calls[-1][0] == []
    assert calls[-1][1][LABELMAP_CLASS] is False
    assert calls[-1][1][str(SegmentationStorage)] is True


def test_a_class_without_anything_in_its_place_is_refused_once(tmp_path):
    sr = saved(report("2.25.8.3"), tmp_path)

    def swapping(_place, lacking, taken, _hoped):
        if taken.get(str(ComprehensiveSRStorage)) is False and lacking:
            return {sr.sop_instance_uid: StandIn(thing=None, sentence="It takes no report.")}
        return {}

    with (
        WebPeer(Says(409, store_answer(failed={"2.25.8.3": 0x0122}))) as peer,
        pytest.raises(PeerRefused, match="It takes no report"),
    ):
        stow([sr], peer.url, swapping=swapping)
    assert len(peer.asked) == 1


def test_a_class_that_was_taken_before_is_not_given_up_for_one_object(tmp_path):
    """It said 0122, but it has just taken one of that class."""
    things = [replace(saved(report(f"2.25.8.{n}"), tmp_path)) for n in (1, 2)]
    things[1] = replace(things[1], refers_to=("2.25.8.1",))
    calls = []

    def swapping(_place, lacking, taken, _hoped):
        calls.append(dict(taken))
        return {}

    def answer(number, asked):
        if "2.25.8.2" in asked.uids:
            return Says(409, store_answer(failed={"2.25.8.2": 0x0122}))
        return all_stored(number, asked)

    with WebPeer(answer) as peer, pytest.raises(PeerRefused, match="does not support this SOP Class"):
        stow(things, peer.url, swapping=swapping)
    assert calls[-1] == {str(ComprehensiveSRStorage): True}
    assert str(EnhancedSRStorage) not in calls[-1]


def test_a_file_that_shrinks_while_it_is_sent_is_not_blamed_on_the_peer(tmp_path):
    thing = alone(tmp_path)

    def swapping(*_):
        return {}

    def talk(connection):
        connection.recv(100)
        thing.path.write_bytes(b"")

    from node.send.multipart import Multipart

    with Multipart([thing], frozenset()) as body:
        thing.path.write_bytes(b"short")
        with pytest.raises(SendError, match="became shorter"):
            b"".join(body)


def test_a_warning_reason_may_be_written_as_text():
    said = json.loads(store_answer({SEG: 1}))
    said["00081199"]["Value"][0]["00081196"]["Value"] = ["45056"]
    assert read_answer(json.dumps([said]).encode()).stored == {SEG: 0xB000}
    said["00081199"]["Value"][0]["00081196"]["Value"] = [{"a": 1}]
    assert read_answer(json.dumps(said).encode()).stored == {SEG: 0}


def test_nothing_that_it_logs_is_left_out():
    assert {"destination", "objects", "sop_instance_uid", "status", "via", "code", "reason"} <= KEYS
