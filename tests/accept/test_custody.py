"""Who an object is, and what is refused."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
import zlib
from datetime import UTC, datetime

import pytest
from pynetdicom.dsutils import encode

from node.accept.custody import accept
from node.accept.header import read_uids
from node.accept.spool import Request, Spool
from node.accept.store import Store
from node.config import AcceptTable
from node.errors import IdentityMismatch, MissingIdentity, NotDicom
from tests.accept.conftest import encoded, make_ct, send
from tests.accept.raw import CT, EXPLICIT, RawPeer, p_data, status_in, store_rq
from tests.harness import being_received, eventually

DEFLATED = "1.2.840.10008.1.2.1.99"
UID = "1.2.3.4"


@pytest.fixture(params=["in memory", "in its file"])
def take(request, tmp_path, monkeypatch):
    """Accept an encoded data set under a request for `UID`: a small one, or as if it were a large one."""
    if request.param == "in its file":
        monkeypatch.setattr(Spool, "_is_all_here", False)
    store = Store(tmp_path, AcceptTable(reserve_gb=0))

    def one(data: bytes, transfer_syntax_uid: str = EXPLICIT):
        said = Request(
            sender="TEST",
            sop_class_uid=CT,
            sop_instance_uid=UID,
            transfer_syntax_uid=transfer_syntax_uid,
        )
        spool = store.spool(said)
        spool.write(data)
        try:
            return accept(spool, said, store, now=datetime.now(UTC))
        finally:
            assert being_received(tmp_path) == []

    return one


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    group, number = divmod(tag, 1 << 16)
    size = len(value) if length is None else length
    if vr in (b"SQ", b"OB", b"OW", b"UN", b"UT"):
        return struct.pack("<HH2sHI", group, number, vr, 0, size) + value
    return struct.pack("<HH2sH", group, number, vr, size) + value


def identity(uid: bytes = b"1.2.3.4\0") -> bytes:
    return (
        element(0x00080016, b"UI", CT.encode() + b"\0")
        + element(0x00080018, b"UI", uid)
        + element(0x0020000D, b"UI", b"1.2.3.1\0")
        + element(0x0020000E, b"UI", b"1.2.3.2 ")
    )


def test_an_instance_carries_its_identity_without_padding(take):
    instance = take(identity())
    assert (instance.sop_instance_uid, instance.series_uid) == (UID, "1.2.3.2")
    assert instance.size_bytes == len(identity())


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_each_identifying_uid_must_be_there(keyword, take):
    ds = make_ct(**{"SOPInstanceUID": UID, keyword: None})
    with pytest.raises(MissingIdentity) as caught:
        take(encoded(ds))
    assert caught.value.tags


def test_a_class_that_only_the_request_names_is_taken_from_it(take):
    assert take(encoded(make_ct(SOPInstanceUID=UID, SOPClassUID=None))).sop_class_uid == CT


@pytest.mark.parametrize("study", ["../../etc", "1.2..3", "1.2.3a", "1" * 65, ".1", "\uff11.2"])
def test_a_malformed_uid_is_refused(study, take):
    data = identity().replace(element(0x0020000D, b"UI", b"1.2.3.1\0"), b"")
    with pytest.raises(MissingIdentity, match="malformed"):
        take(data + element(0x0020000D, b"UI", study.encode("utf-8").ljust(len(study.encode()) // 2 * 2 + 2)))


def test_request_and_data_set_must_agree(take):
    with pytest.raises(IdentityMismatch, match="SOP Instance UID"):
        take(identity(b"1.2.3.5\0"))
    with pytest.raises(IdentityMismatch, match="SOP Class UID"):
        take(encoded(make_ct(SOPInstanceUID=UID, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")))


def test_a_data_set_that_names_itself_twice_is_refused(take):
    with pytest.raises(NotDicom, match="who it is"):
        take(identity() + element(0x00080018, b"UI", b"1.2.3.9\0"))


def test_a_data_set_cut_off_anywhere_inside_an_element_is_refused(take):
    data = encoded(make_ct(SOPInstanceUID=UID))
    with pytest.raises(NotDicom, match=r"\(7FE0,0010\)"):
        take(data[:-1])
    with pytest.raises(NotDicom, match="middle"):
        take(identity()[:-3])
    with pytest.raises(NotDicom, match="empty"):
        take(b"")


def test_an_encapsulated_image_without_its_end_is_refused(take):
    fragment = struct.pack("<HHI", 0xFFFE, 0xE000, 4) + b"data"
    pixels = element(0x7FE00010, b"OB", fragment, length=0xFFFFFFFF)
    with pytest.raises(NotDicom, match="middle"):
        take(identity() + pixels)
    assert take(identity() + pixels + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))


@pytest.mark.parametrize("vr", [b"SQ", b"UN"])
def test_sequences_of_undefined_length_are_followed(vr, take):
    begin, end = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    inner = (
        struct.pack("<HHI", 0x0008, 0x0018, 8) + b"9.9.9.9\0"
        if vr == b"UN"
        else element(0x00080018, b"UI", b"9.9.9.9\0")
    )
    sequence = element(
        0x00081140, vr, begin + inner + end + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), 0xFFFFFFFF
    )
    assert take(sequence + identity()).sop_instance_uid == UID


def test_ten_thousand_levels_of_nesting_are_refused_at_once(take):
    level = element(0x00081140, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), 0xFFFFFFFF)
    started = time.monotonic()
    with pytest.raises(NotDicom, match="deep"):
        take(identity() + level * 10_000)
    assert time.monotonic() - started < 1


def test_implicit_explicit_and_big_endian_are_told_apart(take):
    ds = make_ct(SOPInstanceUID=UID)
    for syntax, implicit, little in (
        ("1.2.840.10008.1.2", True, True),
        ("1.2.840.10008.1.2.1", True, True),  # declared wrongly, as some senders do
        ("1.2.840.10008.1.2", False, True),
        ("1.2.840.10008.1.2.2", False, False),
    ):
        ds.PatientComments = f"{syntax}{implicit}{little}"
        assert take(encode(ds, implicit, little), syntax).sop_instance_uid == UID


def test_a_deflated_data_set_is_read(take):
    assert take(deflate(encoded(make_ct(SOPInstanceUID=UID))), DEFLATED).sop_instance_uid == UID


def test_a_deflate_bomb_costs_little_time_and_memory(take):
    data = deflate(identity() + element(0x7FE00010, b"OW", bytes(100 << 20)))
    assert len(data) < 1 << 20
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(NotDicom, match="measure"):
        take(data, DEFLATED)
    assert time.monotonic() - started < 3
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_broken_deflate_stream_is_refused(take):
    with pytest.raises(NotDicom, match="cut off"):
        take(deflate(encoded(make_ct(SOPInstanceUID=UID)))[:-5], DEFLATED)
    with pytest.raises(NotDicom, match="deflate"):
        take(b"\xff" * 100, DEFLATED)


def test_an_element_that_claims_four_gigabytes_is_refused(take):
    with pytest.raises(NotDicom, match="middle"):
        take(identity() + element(0x7FE00010, b"OW", b"", length=0xFFFFFFFE))


def outcome(path, syntax, *at_hand):
    """Return the UIDs, or the complaint."""
    try:
        return read_uids(path, syntax, 0, *at_hand)
    except NotDicom as error:
        return f"{error} {error.tags}"


@pytest.mark.faults
def test_a_thousand_mutants_are_kept_or_refused_and_nothing_else(tmp_path):
    begin, end = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    item_end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    nested = element(
        0x00081140, b"SQ", begin + element(0x00080060, b"CS", b"CT") + item_end + end, 0xFFFFFFFF
    )
    seed = identity() + nested * 2 + element(0x7FE00010, b"OW", bytes(64))
    dice = random.Random(8)
    path = tmp_path / "x"
    refused = 0
    started = time.monotonic()
    for number in range(1000):
        mutant = bytearray(seed)
        for _ in range(dice.randint(1, 6)):
            mutant[dice.randrange(len(mutant))] = dice.choice((0, 1, 0x7F, 0xFF, dice.randrange(256)))
        mutant = mutant[: dice.randint(0, len(mutant))] if number % 3 == 0 else mutant
        path.write_bytes(deflate(bytes(mutant)) if number % 5 == 0 else mutant)
        syntax = DEFLATED if number % 5 == 0 else dice.choice((EXPLICIT, "1.2.840.10008.1.2"))
        first = outcome(path, syntax)
        refused += isinstance(first, str)
        held = path.read_bytes()[: dice.randint(0, len(mutant) + 1)]
        assert outcome(path, syntax, held, path.stat().st_size) == first, "what is at hand changes nothing"
    assert 100 < refused < 990
    assert time.monotonic() - started < 20


def test_padding_after_the_data_set_is_tolerated(take):
    assert take(identity() + bytes(512))
    with pytest.raises(NotDicom):
        take(identity() + bytes(16) + b"junk!")


@pytest.mark.faults
@pytest.mark.parametrize(
    "uid", [b"../../x", b"/etc/passwd", b"1.2.3\0x", b"$(touch X)", b"", b"1.2.3.4.5.6"], ids=repr
)
def test_a_hostile_uid_in_the_request_makes_no_file_anywhere(uid, open_door, tmp_path):
    door = open_door()
    before = set(tmp_path.rglob("*"))
    with RawPeer(door.port) as peer:
        peer.associate()
        peer.send(p_data(1, 3, store_rq(uid)) + p_data(1, 2, encoded(make_ct())))
        kind, body = peer.receive()
        assert kind == 0x07 or (kind == 0x04 and status_in(body) in (0xA900, 0xC000))
    assert eventually(lambda: set(tmp_path.rglob("*")) == before)


@pytest.mark.faults
def test_answers_name_status_comment_and_element(open_door):
    door = open_door()
    with RawPeer(door.port) as peer:
        peer.associate()
        for data, status in (
            (encoded(make_ct(SOPInstanceUID="1.2.3.4"))[:-2], 0xC000),
            (b"this is no data set at all", 0xC000),
            (encoded(make_ct(SOPInstanceUID="1.2.3.5")), 0xA900),
            (encoded(make_ct(SOPInstanceUID="1.2.3.4", StudyInstanceUID=None)), 0xA900),
            (encoded(make_ct(SOPInstanceUID="1.2.3.4")), 0x0000),
        ):
            peer.send(p_data(1, 3, store_rq(b"1.2.3.4")) + p_data(1, 2, data))
            assert status_in(peer.receive()[1]) == status
        peer.send(p_data(1, 3, store_rq(b"1.2.3.4", sop_class_uid=b"1.2.840.10008.5.1.4.1.1.4")))
        peer.send(p_data(1, 2, encoded(make_ct(SOPInstanceUID="1.2.3.4"))))
        assert status_in(peer.receive()[1]) == 0x0122
    (answer,) = send(door.port, make_ct(StudyInstanceUID=None))
    assert answer.OffendingElement == 0x0020000D
    assert "Study Instance UID" in answer.ErrorComment
    assert len(answer.ErrorComment) <= 64
