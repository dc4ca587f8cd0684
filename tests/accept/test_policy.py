"""Who may come in: the decision by itself, then at the door with real callers."""

from __future__ import annotations

import subprocess
import threading
import time
from itertools import pairwise

import pytest
import structlog
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.presentation import build_context

from node.accept.pace import LONGEST_S, Pace
from node.accept.policy import Admitted, Caller, Rejected, admit
from node.config import AcceptTable
from node.log import KEYS
from node.peer.association import associated
from tests.accept.conftest import echo, make_ct, send
from tests.accept.raw import RawPeer, associate_rq
from tests.accept.test_dimse import FAST
from tests.harness import eventually, program

CALLING, CALLED, LIMIT = (1, 1, 3), (1, 1, 7), (2, 3, 2)  # PS3.8 Table 9-21
A, B = "a" * 64, "b" * 64
CT = [build_context(CTImageStorage, ExplicitVRLittleEndian)]


def verdict(tables, open_now=(), **caller) -> str | tuple[int, int, int]:
    """Return the name of the policy, or the answer of the rejection."""
    config = AcceptTable.model_validate(tables)
    who = Caller(**{"calling": "CT1", "called": "RADNODE", "host": "10.0.0.5"} | caller)
    found = admit(config, "RADNODE", who, dict(open_now))
    if isinstance(found, Rejected):
        assert found.sentence
        return found.answer
    assert isinstance(found, Admitted)
    return found.policy


def test_without_a_word_everybody_may_come_in():
    assert verdict({}) == ""
    assert verdict({}, called="SOMEBODY", calling="") == ""


def test_the_called_title_counts_where_it_is_checked_and_there_may_be_several():
    strict = {"called": ["AI", "NODE2"], "dimse": {"check_called_ae": True}}
    assert [verdict(strict, called=called) for called in ("RADNODE", "AI", "NODE2")] == [""] * 3
    assert verdict(strict, called="ELSE") == CALLED
    assert verdict({"called": ["AI"]}, called="ELSE") == ""


def test_the_calling_title_must_be_listed_where_there_is_a_list():
    assert verdict({"callers": ["CT1"]}) == ""
    assert verdict({"callers": ["CT2"]}) == CALLING


SCANNERS = {
    "scanners": {"calling": ["CT1", "CT2"], "hosts": ["10.0.0.0/24"]},
    "mr": {"calling": ["MR1"], "hosts": ["10.0.1.7"], "certificates": [A]},
    "research": {"calling": ["RES"], "called": ["AI"]},
}


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ({}, "scanners"),
        ({"calling": "CT2", "host": "10.0.0.255"}, "scanners"),
        ({"host": "::ffff:10.0.0.9"}, "scanners"),
        ({"host": "10.0.1.5"}, CALLING),
        ({"host": "fe80::1%eth0"}, CALLING),
        ({"host": "no address"}, CALLING),
        ({"calling": "XX"}, CALLING),
        ({"calling": "ct1"}, CALLING),
        ({"calling": "MR1", "host": "10.0.1.7", "fingerprint": A}, "mr"),
        ({"calling": "MR1", "host": "10.0.1.7", "fingerprint": B}, CALLING),
        ({"calling": "MR1", "host": "10.0.1.7"}, CALLING),
        ({"calling": "MR1", "host": "10.0.0.7", "fingerprint": A}, CALLING),
        ({"calling": "RES", "called": "AI"}, "research"),
        ({"calling": "RES", "called": "RADNODE"}, CALLED),
    ],
)
def test_whom_no_policy_fits_is_rejected_with_the_reason_that_is_nearest(caller, expected):
    assert verdict({"policies": SCANNERS}, **caller) == expected


def test_the_log_says_what_did_not_fit():
    config = AcceptTable.model_validate({"policies": SCANNERS})

    def sentence(**caller) -> str:
        who = Caller(**{"calling": "CT1", "called": "RADNODE", "host": "10.0.0.5"} | caller)
        return admit(config, "RADNODE", who, {}).sentence

    assert sentence(calling="XX") == "its AE title is in no policy"
    assert sentence(host="10.9.9.9") == "its address is not one of policy 'scanners'"
    assert sentence(calling="MR1", host="10.0.1.7") == "its certificate is not one of policy 'mr'"
    assert sentence(calling="RES") == "policy 'research' is for another called AE title"


def test_the_first_policy_that_fits_counts_in_the_order_of_the_file():
    first = {"narrow": {"calling": ["CT1"]}, "wide": {}}
    assert verdict({"policies": first}) == "narrow"
    assert verdict({"policies": dict(reversed(first.items()))}) == "wide"


def test_a_policy_has_a_number_of_associations_and_who_comes_next_may_try_later():
    policies = {"policies": {"few": {"calling": ["CT1"], "max_associations": 2}, "all": {}}}
    assert verdict(policies, {"few": 1}) == "few"
    assert verdict(policies, {"few": 2}) == LIMIT
    assert verdict(policies, {"few": 2}, calling="CT2") == "all"


def test_callers_and_policies_must_both_agree():
    both = {"callers": ["CT1"], "policies": {"all": {}}}
    assert verdict(both) == "all"
    assert verdict(both, calling="CT2") == CALLING


def test_a_pace_lets_a_burst_through_and_then_no_more_than_it_may():
    pace, now, answered = Pace(600), 100.0, []
    for _ in range(60):
        now += pace.delay_s(now)
        answered.append(now)
    assert answered[9] == 100.0  # a second's worth at once
    assert all(later - earlier == pytest.approx(0.1) for earlier, later in pairwise(answered[10:]))
    assert answered[-1] == pytest.approx(105.0, abs=0.2)


def test_no_answer_waits_longer_than_a_sender_would_however_many_send_at_once():
    pace = Pace(1)
    delays = [pace.delay_s(10.0) for _ in range(100)]
    assert delays[0] == 0
    assert max(delays) == LONGEST_S
    assert pace.delay_s(10.0 + 60 + LONGEST_S) == 0  # what was forgiven is not owed


def rejection(port: int, **options) -> tuple[int, ...]:
    """Return result, source and reason as they come over the wire."""
    with RawPeer(port) as peer:
        peer.send(associate_rq([(str(CTImageStorage), [str(ExplicitVRLittleEndian)])], **options))
        kind, body = peer.receive()
        assert kind == 0x03
        return tuple(body[1:4])


def test_the_door_says_why_and_goes_on(open_door):
    door = open_door(
        called=["AI"],
        dimse={"check_called_ae": True},
        policies={
            "here": {"calling": ["HONEST", "ECHOSCU"], "hosts": ["127.0.0.0/8"]},
            "there": {"calling": ["FAR"], "hosts": ["192.0.2.0/24"]},
            "shown": {"calling": ["SECRET"], "certificates": [A]},
        },
    )
    assert rejection(door.port, called=b"ELSE", calling=b"HONEST") == CALLED
    assert rejection(door.port, calling=b"NOBODY") == CALLING
    assert rejection(door.port, calling=b"FAR") == CALLING
    assert rejection(door.port, calling=b"SECRET") == CALLING
    ds = make_ct()
    with associated("127.0.0.1", door.port, "AI", "HONEST", CT, timeout_s=5, tls=None) as association:
        assert association.send_c_store(ds).Status == 0
    assert door.kept[0].policy == "here"
    options = ["-aet", "HONEST", "127.0.0.1", str(door.port)]
    for called, expected in (("AI", 0), ("RADNODE", 0), ("ELSE", 1)):
        done = subprocess.run([program("echoscu"), "-aec", called, *options], env=FAST, timeout=20)
        assert done.returncode == expected


def test_the_log_tells_which_called_title_was_asked_for(open_door):
    door = open_door(dimse={"check_called_ae": True})
    with structlog.testing.capture_logs() as lines:
        assert rejection(door.port, called=b"NOT OURS", calling=b"HONEST") == CALLED
    (told,) = (line for line in lines if line["event"] == "association_rejected")
    assert told["called_ae_title"] == "NOT OURS"
    assert "called_ae_title" in KEYS


def test_the_next_association_of_a_full_policy_may_try_later_and_later_it_may(open_door):
    door = open_door(policies={"few": {"calling": ["HONEST"], "max_associations": 1}, "others": {}})
    with RawPeer(door.port) as peer:
        peer.associate(calling=b"HONEST")
        assert rejection(door.port, calling=b"HONEST") == LIMIT
        assert echo_as(door.port, "ELSE") == 0
    assert eventually(lambda: echo(door.port) == 0)


def test_those_who_are_rejected_and_stay_on_the_line_take_nobodys_place(open_door):
    door = open_door(callers=["HONEST"], dimse={"max_associations": 3})
    crowd = [RawPeer(door.port) for _ in range(6)]
    try:
        for peer in crowd:
            peer.send(associate_rq([(str(CTImageStorage), [str(ExplicitVRLittleEndian)])], calling=b"NOBODY"))
            assert peer.receive()[0] == 0x03
        assert echo(door.port) == 0
        assert eventually(lambda: door.associations() == 0, within_s=4)
    finally:
        for peer in crowd:
            peer.socket.close()


def echo_as(port: int, calling: str) -> int:
    ae = AE(calling)
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", port)
    status = association.send_c_echo().Status
    association.release()
    return status


def test_who_is_too_fast_is_slowed_down_and_loses_nothing(open_door):
    door = open_door(policies={"slow": {"calling": ["HONEST"], "instances_per_minute": 60}, "others": {}})
    waits = door.door._hurry = Waits()
    begun = time.monotonic()
    assert [a.Status for a in send(door.port, *(make_ct() for _ in range(4)))] == [0] * 4
    assert time.monotonic() - begun > 2.9
    assert len(waits) == 3, "the first waits for nothing"
    assert min(waits) > 0
    waits.clear()
    assert len(send(door.port, *(make_ct() for _ in range(5)), calling="OTHER")) == 5
    assert waits == []
    assert len(door.kept) == 9


class Waits(list, threading.Event):
    """An event that remembers how long it was waited for."""

    def __init__(self) -> None:
        list.__init__(self)
        threading.Event.__init__(self)

    def wait(self, timeout=None) -> bool:
        self.append(timeout)
        return super().wait(timeout)


def test_a_drain_does_not_wait_for_a_slow_pace(open_door):
    door = open_door(policies={"slow": {"instances_per_minute": 1}})
    ae = AE("HONEST")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", door.port)
    assert association.send_c_store(make_ct()).Status == 0
    begun = time.monotonic()

    def hurry() -> None:
        assert eventually(lambda: len(door.kept) == 2)
        door.door.drain(0.1)

    ending = threading.Thread(target=hurry)
    ending.start()
    assert association.send_c_store(make_ct()).Status == 0
    assert time.monotonic() - begun < 2
    ending.join()
    association.release()
