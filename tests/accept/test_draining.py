"""How the DIMSE door closes: what is in flight comes to its end, or is given up."""

from __future__ import annotations

import threading
import time

import pytest

from tests.accept.conftest import make_ct, send
from tests.accept.raw import RawPeer, p_data, store_rq
from tests.harness import eventually


def test_draining_finishes_what_is_in_flight_and_lets_nobody_in(open_door):
    door = open_door()
    inside = threading.Event()

    def slowly():
        inside.set()
        time.sleep(0.5)

    door.before_keeping = slowly
    answers = []
    sender = threading.Thread(target=lambda: answers.extend(send(door.port, make_ct(), make_ct())))
    sender.start()
    assert inside.wait(5)
    assert door.door.drain(10.0)
    sender.join()
    assert [a.Status for a in answers] == [0, 0]
    assert len(door.kept) == 2
    with pytest.raises(ConnectionRefusedError):
        RawPeer(door.port)


def test_draining_does_not_wait_for_ever_for_a_silent_peer(open_door):
    door = open_door()
    with RawPeer(door.port) as peer:
        peer.associate()
        started = time.monotonic()
        assert door.door.drain(20.0)
        assert time.monotonic() - started < 10
        assert peer.is_cut()


def test_draining_ends_at_once_for_somebody_in_a_hurry(open_door):
    door = open_door()
    hurry = threading.Event()
    with RawPeer(door.port) as peer:
        peer.associate()
        peer.send(p_data(1, 3, store_rq(b"1.2.3")) + p_data(1, 0, b"half"))
        assert eventually(lambda: len(door.spooled()) == 1)
        threading.Timer(0.3, hurry.set).start()
        assert not door.door.drain(60.0, hurry)
        assert hurry.is_set()


def test_stopping_gives_up_what_is_half_received(open_door):
    door = open_door()
    with RawPeer(door.port) as peer:
        peer.associate()
        peer.send(p_data(1, 3, store_rq(b"1.2.3")) + p_data(1, 0, b"half"))
        assert eventually(lambda: len(door.spooled()) == 1)
        door.door.stop()
        assert door.spooled() == []
        assert peer.is_cut()
