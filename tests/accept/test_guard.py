"""What strangers may try at the DIMSE door, and that honest peers do not notice."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from tests.accept.conftest import echo, echoed_within, encoded, make_ct, send
from tests.accept.raw import (
    CT,
    EXPLICIT,
    VERIFICATION,
    RawPeer,
    associate_rq,
    command,
    p_data,
    pdu,
    status_in,
    store_rq,
)
from tests.harness import eventually, memory_mb

pytestmark = pytest.mark.faults

#: Short times, so that the tests need not wait for the usual ones.
HASTY = {"request_timeout_s": 0.7, "pdu_timeout_s": 0.7, "idle_timeout_s": 30.0}


def threads() -> int:
    return sum(t.name.startswith("accept-association") for t in threading.enumerate())


def test_a_silent_client_is_let_go_and_nobody_waits_for_it(open_door):
    door = open_door(dimse=HASTY)
    with RawPeer(door.port) as silent:
        assert echoed_within(door.port)
        started = time.monotonic()
        assert silent.is_cut()
        assert time.monotonic() - started < 2
    assert threads() == 0


def test_half_a_request_is_let_go(open_door):
    door = open_door(dimse=HASTY)
    with RawPeer(door.port) as half:
        half.send(associate_rq([(CT, [EXPLICIT])])[:-20])
        assert echoed_within(door.port)
        assert half.is_cut()


def test_a_request_that_drips_is_let_go(open_door):
    door = open_door(dimse=HASTY)
    with RawPeer(door.port) as slow:
        started = time.monotonic()
        with pytest.raises(OSError):
            for byte in associate_rq([(CT, [EXPLICIT])]):
                slow.send(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("drip", [False, True], ids=["silence", "drip"])
def test_a_pdu_that_is_begun_must_be_whole_in_time(drip, open_door):
    door = open_door(dimse=HASTY)
    with RawPeer(door.port) as slow:
        slow.associate()
        slow.send(p_data(1, 3, store_rq(b"1.2.3")))
        slow.send(pdu(0x04, bytes(5000))[:100])
        started = time.monotonic()
        stop = threading.Event()

        def drop_by_drop():
            while drip and not stop.wait(0.05):
                try:
                    slow.send(b"\0")
                except OSError:
                    return

        dripper = threading.Thread(target=drop_by_drop)
        dripper.start()
        assert echoed_within(door.port)
        assert slow.is_cut()
        stop.set()
        dripper.join()
        assert time.monotonic() - started < 3
    assert eventually(lambda: door.associations() == 0)


@pytest.mark.parametrize("kind", [1, 2, 4, 5, 7, 99])
def test_two_gibibytes_announced_as_a_first_pdu_cost_nothing(kind, open_door):
    door = open_door()
    before = memory_mb("VmRSS")
    with RawPeer(door.port) as bomber:
        with pytest.raises(OSError):
            bomber.send(struct.pack(">BBL", kind, 0, 1 << 31))
            for _ in range(64):
                bomber.send(bytes(1 << 20))
        assert echoed_within(door.port)
    assert memory_mb("VmRSS") - before < 20


def test_two_gibibytes_announced_within_an_association_cost_nothing(open_door):
    door = open_door()
    with RawPeer(door.port) as bomber:
        bomber.associate()
        before = memory_mb("VmRSS")
        with pytest.raises(OSError):
            bomber.send(struct.pack(">BBL", 4, 0, 1 << 31))
            for _ in range(64):
                bomber.send(bytes(1 << 20))
        assert memory_mb("VmRSS") - before < 20
    assert echoed_within(door.port)
    assert eventually(lambda: door.associations() == 0)


def test_five_hundred_idle_connections_keep_nobody_out(open_door):
    door = open_door()
    before = memory_mb("VmRSS")
    crowd = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(500)]
    try:
        assert echoed_within(door.port)
        assert send(door.port, make_ct())[0].Status == 0
        assert threads() <= 4
        assert memory_mb("VmRSS") - before < 30
    finally:
        for one in crowd:
            one.close()
    assert echoed_within(door.port)


def test_one_peer_cannot_hold_more_than_its_share(open_door):
    door = open_door(dimse={"max_connections_per_peer": 3, "request_timeout_s": 60})
    first = RawPeer(door.port)
    others = [RawPeer(door.port) for _ in range(3)]
    assert first.is_cut(), "who has waited longest should have made room"
    for peer in (first, *others):
        peer.socket.close()
    held = [RawPeer(door.port) for _ in range(3)]
    for peer in held:
        peer.associate()
    with RawPeer(door.port) as one_more:
        assert one_more.is_cut()
    for peer in held:
        peer.socket.close()
    assert eventually(lambda: echo(door.port) == 0)


def test_an_idle_association_makes_room_when_all_are_taken(open_door, monkeypatch):
    monkeypatch.setattr("node.accept.listener._SHED_SOON_S", 0.3)
    door = open_door(dimse={"max_associations": 2})
    with RawPeer(door.port) as lazy, RawPeer(door.port) as lazier:
        lazier.associate()
        lazy.associate()
        time.sleep(0.4)
        assert echoed_within(door.port)
        assert lazier.is_cut()


def test_half_sent_messages_do_not_keep_an_honest_peer_out(open_door):
    door = open_door(dimse={"max_associations": 20})
    crowd = [RawPeer(door.port) for _ in range(20)]
    try:
        for peer in crowd:
            peer.associate()
            peer.send(p_data(1, 1, store_rq(b"1.2.3")[:40]))
        assert eventually(lambda: echo(door.port) == 0, within_s=2.0)
    finally:
        for peer in crowd:
            peer.socket.close()


def test_associations_of_one_peer_that_say_nothing_do_not_keep_others_out(open_door):
    door = open_door(dimse={"max_associations": 4})
    crowd = [RawPeer(door.port) for _ in range(4)]
    try:
        for peer in crowd:
            peer.associate()
        assert eventually(lambda: echo(door.port) == 0, within_s=2.0)
    finally:
        for peer in crowd:
            peer.socket.close()


@pytest.mark.parametrize("begun", ["command", "data set"])
def test_a_message_that_is_begun_goes_on_or_ends(begun, open_door):
    door = open_door(dimse=HASTY)
    with RawPeer(door.port) as halfway:
        halfway.associate()
        if begun == "command":
            halfway.send(p_data(1, 1, store_rq(b"1.2.3")[:40]))
        else:
            halfway.send(p_data(1, 3, store_rq(b"1.2.3")) + p_data(1, 0, b"data"))
        started = time.monotonic()
        assert halfway.is_cut()
        assert time.monotonic() - started < 3
    assert eventually(lambda: door.associations() == 0)


def test_after_a_whole_message_the_peer_may_be_silent_again(open_door):
    door = open_door(dimse=HASTY)
    with RawPeer(door.port) as peer:
        peer.associate()
        for number in (b"1.2.3.1", b"1.2.3.2"):
            data = encoded(make_ct(SOPInstanceUID=number.decode()))
            peer.send(p_data(1, 3, store_rq(number)) + p_data(1, 0, data[:300]))
            time.sleep(0.3)
            peer.send(p_data(1, 2, data[300:]))
            assert status_in(peer.receive()[1]) == 0
            time.sleep(1.2)
    assert len(door.kept) == 2


def test_an_association_without_traffic_is_aborted(open_door):
    door = open_door(dimse={"idle_timeout_s": 0.5})
    with RawPeer(door.port) as idle:
        idle.associate()
        started = time.monotonic()
        assert idle.is_cut()
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("ending", ["abort", "fin", "reset"])
def test_an_object_that_breaks_off_leaves_nothing_and_takes_nothing_along(ending, open_door):
    door = open_door()
    whole = encoded(make_ct(SOPInstanceUID="1.2.3.1"))
    with RawPeer(door.port) as peer:
        peer.associate()
        peer.send(p_data(1, 3, store_rq(b"1.2.3.1")) + p_data(1, 2, whole))
        assert status_in(peer.receive()[1]) == 0
        peer.send(p_data(1, 3, store_rq(b"1.2.3.2")) + p_data(1, 0, whole[:300]))
        assert eventually(lambda: len(door.spooled()) == 1)
        if ending == "abort":
            peer.send(pdu(0x07, bytes(4)))
        elif ending == "reset":
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert eventually(lambda: door.spooled() == [])
    assert [i.sop_instance_uid for i in door.kept] == ["1.2.3.1"]
    assert door.kept[0].path.exists()
    assert eventually(lambda: door.associations() == 0)


def test_a_command_set_has_a_largest_size(open_door):
    door = open_door()
    with RawPeer(door.port) as peer:
        peer.associate()
        before = memory_mb("VmRSS")
        with pytest.raises(OSError):
            for _ in range(5000):
                peer.send(p_data(1, 1, bytes(16000)))
        assert memory_mb("VmRSS") - before < 20
    assert echoed_within(door.port)


def test_requests_sent_without_waiting_for_answers_are_served_in_turn_and_pile_up_nowhere(open_door):
    door = open_door()
    most = 0

    def look():
        nonlocal most
        most = max(most, len(door.spooled()))
        time.sleep(0.05)

    door.before_keeping = look
    uids = [b"1.2.3.%d" % number for number in range(30)]
    with RawPeer(door.port) as peer:
        peer.associate()
        for uid in uids:
            peer.send(
                p_data(1, 3, store_rq(uid)) + p_data(1, 2, encoded(make_ct(SOPInstanceUID=uid.decode())))
            )
        assert [status_in(peer.receive()[1]) for _ in uids] == [0] * len(uids)
    assert [instance.sop_instance_uid.encode() for instance in door.kept] == uids
    assert most == 1


@pytest.mark.parametrize(
    ("rows", "fragment_bytes", "at_once"), [(64, 2, 1), (64, 2, 10_000), (1024, 5000, 1), (1024, 5000, 20)]
)
def test_what_comes_in_many_fragments_is_put_together(open_door, rows, fragment_bytes, at_once):
    door = open_door()
    content = encoded(make_ct(rows=rows, SOPInstanceUID="1.2.3.1"))
    pieces = [content[at : at + fragment_bytes] for at in range(0, len(content), fragment_bytes)]
    values = [
        struct.pack(">LBB", len(piece) + 2, 1, 2 if at == len(pieces) - 1 else 0) + piece
        for at, piece in enumerate(pieces)
    ]
    pdus = [pdu(0x04, b"".join(values[at : at + at_once])) for at in range(0, len(values), at_once)]
    with RawPeer(door.port) as peer:
        peer.associate()
        peer.send(p_data(1, 3, store_rq(b"1.2.3.1")))
        sent = b"".join(pdus)
        for at in range(0, len(sent), 100_003):  # PDUs are cut anywhere
            peer.send(sent[at : at + 100_003])
        assert status_in(peer.receive()[1]) == 0
    (kept,) = door.kept
    assert kept.path.read_bytes().endswith(content)
    assert kept.sha256 == hashlib.sha256(content).hexdigest()


def test_requests_within_one_pdu_have_a_limit(open_door):
    door = open_door(dimse={"max_pdu_bytes": 1 << 20})
    fragments = b""
    for part, control in ((store_rq(b"1.2.3.1"), 3), (encoded(make_ct(SOPInstanceUID="1.2.3.1")), 2)) * 200:
        fragments += struct.pack(">LBB", len(part) + 2, 1, control) + part
    with RawPeer(door.port) as peer:
        peer.associate()
        peer.send(pdu(0x04, fragments))
        assert peer.is_cut()
    assert len(door.kept) < 20
    assert eventually(lambda: door.spooled() == [])


def test_nothing_on_the_way_waits_for_the_next_look(open_door, monkeypatch):
    monkeypatch.setattr("node.accept.upper._LOOK_EVERY_S", 30.0)
    monkeypatch.setattr("node.accept.guard._LOOK_EVERY_S", 30.0)
    door = open_door()
    assert [a.Status for a in send(door.port, make_ct(), make_ct())] == [0, 0]
    assert echo(door.port) == 0
    assert eventually(lambda: door.associations() == 0)


def test_who_waits_long_for_an_answer_is_not_idle_meanwhile(open_door):
    door = open_door(dimse={"idle_timeout_s": 0.5})
    door.before_keeping = lambda: time.sleep(1.5)
    assert [a.Status for a in send(door.port, make_ct(), make_ct())] == [0, 0]


MALFORMED = {
    "PDU of length 0": pdu(0x04, b""),
    "PDU of length 1": pdu(0x04, b"\0"),
    "PDV of length 0": pdu(0x04, struct.pack(">L", 0)),
    "PDV of length 1": pdu(0x04, struct.pack(">LB", 1, 1)),
    "PDV longer than its PDU": pdu(0x04, struct.pack(">L", 5000) + b"\1\3abc"),
    "no command field": p_data(1, 3, struct.pack("<HHL", 0, 0x0110, 2) + b"\1\0"),
    "an unknown command": p_data(1, 3, command(0x0777)),
    "C-FIND": p_data(1, 3, command(0x0020)),
    "C-MOVE": p_data(1, 3, command(0x0021)),
    "N-EVENT-REPORT": p_data(1, 3, command(0x0100)),
    "a response out of nowhere": p_data(1, 3, command(0x8001)),
    "garbage for a command": p_data(1, 3, random.Random(1).randbytes(400)),
    "a data set without a command": p_data(1, 2, b"data"),
    "C-ECHO with a data set": p_data(1, 3, command(0x0030, data_set=True)) + p_data(1, 0, b"data"),
    "a command inside a data set": p_data(1, 3, store_rq(b"1.2"))
    + p_data(1, 0, b"d")
    + p_data(1, 3, command(0x30)),
    "a context that was not agreed": p_data(7, 3, store_rq(b"1.2")) + p_data(7, 2, b"data"),
    "a data set in another context": p_data(1, 3, store_rq(b"1.2")) + p_data(3, 2, b"data"),
    "a UID of 500 characters": p_data(1, 3, store_rq(b"1" * 500)) + p_data(1, 2, b"data"),
    "a second A-ASSOCIATE-RQ": associate_rq([(CT, [EXPLICIT])]),
    "an A-ASSOCIATE-AC": pdu(0x02, bytes(70)),
    "an unknown PDU type": pdu(0x63, b"abcd"),
    "release, then data": pdu(0x05, bytes(4)) + p_data(1, 3, command(0x0030)),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_peer_that_breaks_the_protocol_loses_only_its_own_association(what, open_door, capfd):
    door = open_door(dimse=HASTY)
    with RawPeer(door.port) as peer:
        peer.associate([(CT, [EXPLICIT]), (VERIFICATION, [EXPLICIT])])
        peer.send(MALFORMED[what])
        kinds = []
        while (kind := peer.receive()[0]) not in (0, 0x07):
            kinds.append(kind)
        assert set(kinds) <= {0x06}, "nothing of it may be answered, except a release"
    assert eventually(lambda: door.associations() == 0)
    assert echoed_within(door.port)
    assert door.kept == []
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "calling", [b"../../x", b"A\x1b[31mB", b"A\\B", b"\xff\xfe", b" " * 16, bytes(16), b"'; DROP TABLE"]
)
def test_strange_calling_titles_make_no_path_and_no_trace(calling, open_door, capfd):
    door = open_door(dimse=HASTY)
    with RawPeer(door.port) as peer:
        peer.send(associate_rq([(CT, [EXPLICIT])], calling=calling))
        if peer.receive()[0] == 0x02:
            peer.send(p_data(1, 3, store_rq(b"1.2.3.1")))
            peer.send(p_data(1, 2, encoded(make_ct(SOPInstanceUID="1.2.3.1"))))
            assert status_in(peer.receive()[1]) == 0
            assert all(" " <= c <= "~" for c in door.kept[0].sender)
    assert echoed_within(door.port)
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err + captured.out
    assert "\x1b[31m" not in captured.out.replace("\x1b[31m\x1b[1m", "")


def test_two_hundred_contexts_with_junk_syntaxes_are_negotiated_quickly(open_door):
    door = open_door()
    contexts = [(CT, [f"1.2.3.{n}.{m}" for m in range(20)] + [EXPLICIT]) for n in range(200)]
    with RawPeer(door.port) as peer:
        started = time.monotonic()
        peer.send(associate_rq(contexts))
        assert peer.receive()[0] in (0x02, 0x07)
        assert time.monotonic() - started < 2
    assert echoed_within(door.port)


def test_a_thousand_connections_that_come_and_go_leave_nothing_behind(open_door):
    door = open_door()
    assert echo(door.port) == 0
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    before = memory_mb("VmRSS")
    for _ in range(1000):
        socket.create_connection(("127.0.0.1", door.port)).close()
    assert echoed_within(door.port)
    assert eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 2)
    assert memory_mb("VmRSS") - before < 20
    assert eventually(lambda: threads() == 0)


def test_random_bytes_and_mutated_conversations_are_survived(open_door, capfd):
    door = open_door(dimse=HASTY)
    dice = random.Random(20261120)
    talk = (
        associate_rq([(CT, [EXPLICIT])])
        + p_data(1, 3, store_rq(b"1.2.3.1"))
        + p_data(1, 2, encoded(make_ct(SOPInstanceUID="1.2.3.1")))
        + pdu(0x05, bytes(4))
    )
    for _ in range(150):
        mutant = bytearray(talk)
        for _ in range(dice.randint(1, 12)):
            mutant[dice.randrange(len(mutant))] = dice.randrange(256)
        with RawPeer(door.port) as peer:
            try:
                peer.send(bytes(mutant[: dice.randint(1, len(mutant))]))
                peer.socket.shutdown(socket.SHUT_WR)
                peer.is_cut()
            except OSError:
                continue
    assert echoed_within(door.port)
    assert eventually(lambda: door.associations() == 0)
    assert eventually(lambda: door.spooled() == [])
    assert "Traceback" not in capfd.readouterr().err
