"""While a destination cannot be reached, or takes no more, what it is owed goes to its alternates."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace

import pytest
from pydicom.uid import KeyObjectSelectionDocumentStorage, SegmentationStorage

from node.config import TlsTable
from node.job import JobState, Withdrawal
from node.loops import loops_of
from node.pause import standing_lines
from node.peer.tls import server_context
from node.withdraw import withdraw
from tests.harness import free_port, wait_until
from tests.peers import RESULT_CLASSES, AbortingPacs, RecordingPacs, RefusingPacs, RejectingPacs
from tests.proof_bench import Bench, dimse
from tests.web_peers import RawPeer, Says, WebPeer, all_stored, store_answer


@pytest.fixture
def bench(tmp_path):
    made = []

    def _bench(destinations, **send):
        made.append(Bench(tmp_path / f"data{len(made)}", destinations, **send))
        return made[-1]

    yield _bench
    for one in made:
        one.journal.close()


def nobody(**more):
    """Return a destination where nobody is."""
    port = free_port()
    return {
        "transport": "dimse",
        "ae_title": "GONE",
        "host": "127.0.0.1",
        "port": port,
        "timeout_s": 3.0,
        **more,
    }


def told(one, job):
    """Return who took each object, in the order of the objects."""
    return [
        (r.destination, r.via) for r in sorted(one.journal.receipts(job.id), key=lambda r: r.sop_instance_uid)
    ]


def test_an_alternate_takes_what_a_destination_that_is_gone_cannot(bench):
    with RecordingPacs() as second:
        one = bench({"main": nobody(alternates=["second"]), "second": dimse(second)})
        job = one.job("main")
        one.deliver()
        assert one.state(job) is JobState.DONE
        assert second.uids == [f"2.25.{job.id}.1", f"2.25.{job.id}.2"]
    assert told(one, job) == [("main", "second")] * 2
    assert one.standing("main")["via"] == {"second": 2}
    assert "  taken in its place: 2 by second" in list(standing_lines([one.standing("main")]))


def test_alternates_are_asked_in_their_order(bench):
    with RecordingPacs() as second, RecordingPacs() as third:
        one = bench(
            {
                "main": nobody(alternates=["second", "third"]),
                "third": dimse(third),
                "second": dimse(second),
            }
        )
        job = one.job("main")
        one.deliver()
        assert (len(second.received), len(third.received)) == (2, 0)
        assert told(one, job) == [("main", "second")] * 2


def test_what_the_destination_took_before_it_broke_is_not_sent_elsewhere(bench):
    with AbortingPacs(answers=1) as main, RecordingPacs() as second:
        one = bench({"main": dimse(main, alternates=["second"]), "second": dimse(second)})
        job = one.job("main")
        one.deliver()
        assert one.state(job) is JobState.DONE
        assert second.uids == [f"2.25.{job.id}.2"]
    assert told(one, job) == [("main", ""), ("main", "second")]


def test_a_destination_that_is_full_is_passed_over_too(bench):
    with RefusingPacs(0xA700) as main, RecordingPacs() as second:
        one = bench({"main": dimse(main, alternates=["second"]), "second": dimse(second)})
        job = one.job("main")
        one.deliver()
        assert one.state(job) is JobState.DONE
    assert told(one, job) == [("main", "second")] * 2


@pytest.mark.parametrize("refusing", ["the objects", "us"])
def test_what_a_destination_refuses_for_good_is_for_a_person_and_not_for_an_alternate(bench, refusing):
    main = RefusingPacs(0xA900) if refusing == "the objects" else RejectingPacs(1, 1, 3)
    with main, RecordingPacs() as second:
        one = bench({"main": dimse(main, alternates=["second"]), "second": dimse(second)})
        job = one.job("main")
        one.deliver()
        assert one.state(job) is JobState.FAILED
        assert second.received == []


def test_where_nobody_takes_it_all_are_told_and_it_stays_owed(bench):
    with RefusingPacs(0xA700) as second, RefusingPacs(0xA900) as third:
        one = bench(
            {
                "main": nobody(alternates=["second", "third"]),
                "second": dimse(second),
                "third": dimse(third),
            }
        )
        job = one.job("main")
        one.deliver()
        assert one.state(job) is JobState.SENDING
        (trouble,) = one.journal.status()["deliveries"]["troubled"]
        assert trouble["code"] == "peer-unreachable"
        assert all(f"{name} " in trouble["reason"] for name in ("main", "second", "third"))
        one.after(10)
        assert one.state(job) is JobState.SENDING


def test_what_an_alternate_may_have_without_an_answer_is_not_told_to_be_away(bench):
    """The destination says that it is full, which is plain; the alternate breaks off, which is not."""
    with RefusingPacs(0xA700) as main, AbortingPacs(answers=0) as second:
        one = bench({"main": dimse(main, alternates=["second"]), "second": dimse(second)})
        job = one.job("main")
        one.deliver()
        (trouble,) = one.journal.status()["deliveries"]["troubled"]
        assert trouble["code"] == "peer-unreachable"
        doubtful = one.journal.to_reject(job.id)["second"]
        assert second.uids[0] in {thing.sop_instance_uid for thing in doubtful}


def test_the_destination_is_asked_first_again_the_next_time(bench):
    with RecordingPacs() as main, RecordingPacs() as second:
        away = nobody(alternates=["second"])
        one = bench({"main": away, "second": dimse(second)})
        first = one.job("main", series="1.2.3")
        one.deliver()
        one.configure({"main": dimse(main, alternates=["second"]), "second": dimse(second)})
        later = one.job("main", series="1.2.4")
        one.deliver()
        assert told(one, first) == [("main", "second")] * 2
        assert told(one, later) == [("main", "")] * 2


def test_an_alternate_speaks_its_own_transport_with_its_own_tls(bench, certificates, tmp_path):
    theirs = TlsTable(certificate=certificates.server.certificate, key=certificates.server.key)
    with WebPeer(all_stored, tls=server_context(theirs, "on")) as cloud:
        one = bench(
            {
                "main": nobody(alternates=["cloud", "shelf"]),
                "cloud": {"transport": "stow", "url": cloud.url, "timeout_s": 3.0},
                "shelf": {"transport": "folder", "path": str(tmp_path / "shelf")},
            }
        )
        tls = TlsTable(authorities=certificates.authority)
        one.node = SimpleNamespace(
            **{**vars(one.node), "config": one.node.config.model_copy(update={"tls": tls})}
        )
        job = one.job("main")
        one.deliver()
        assert told(one, job) == [("main", "cloud")] * 2
        one.node.config = one.node.config.model_copy(update={"tls": TlsTable()})
        distrusted = one.job("main", series="1.2.4")
        one.deliver()
        assert told(one, distrusted) == [("main", "shelf")] * 2, "who is not believed is as good as gone"


def test_an_alternate_that_an_operator_holds_back_is_left_alone(bench):
    with RecordingPacs() as second, RecordingPacs() as third:
        one = bench(
            {
                "main": nobody(alternates=["second", "third"]),
                "second": dimse(second),
                "third": dimse(third),
            }
        )
        one.journal.pause("second", "it moves house", one.now)
        job = one.job("main")
        one.deliver()
        assert second.received == []
        assert told(one, job) == [("main", "third")] * 2


def test_what_an_alternate_takes_is_learnt_of_the_alternate(bench):
    with RecordingPacs() as second:
        one = bench({"main": nobody(alternates=["second"]), "second": dimse(second)})
        one.job("main")
        one.deliver()
    assert one.journal.takes("second", SegmentationStorage) is True
    assert one.journal.takes("main", SegmentationStorage) is None


@pytest.mark.parametrize(
    ("said", "after_s", "due"),
    [("50", 49, False), ("50", 51, True), ("1000000", 99, False), ("1000000", 101, True)],
)
def test_retry_after_is_honoured_up_to_the_longest_retry(bench, said, after_s, due):
    """RFC 9110 10.2.3; longest_retry_s is 100 here, and a first retry would come after some seconds."""
    with WebPeer(Says(503, b"", {"Retry-After": said})) as cloud:
        one = bench({"cloud": {"transport": "stow", "url": cloud.url}})
        one.job("cloud")
        one.deliver()
        one.after(after_s)
        assert len(cloud.asked) == (2 if due else 1)


def test_a_slow_destination_holds_up_no_other(bench, tmp_path):
    """1 kB/s; every destination has a thread of its own."""

    def drip(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        while not stop.wait(0.1) and connection.recv(100):
            pass

    stop = threading.Event()
    with RawPeer(drip) as slow, RecordingPacs() as fast:
        one = bench(
            {
                "slow": {"transport": "stow", "url": slow.url, "timeout_s": 20.0},
                "fast": dimse(fast),
                "shelf": {"transport": "folder", "path": str(tmp_path / "shelf")},
            }
        )
        jobs = [one.job("slow", "fast", "shelf", series=f"1.2.{n}") for n in range(3)]
        one.node = SimpleNamespace(**{**vars(one.node), "engine": SimpleNamespace(slots=0)})
        senders = [thread for thread in loops_of(one.node, stop) if thread.name.startswith("send-")]
        for thread in senders:
            thread.start()
        try:
            wait_until(lambda: len(fast.received) == 6, "the fast one has everything", 10)
            wait_until(lambda: len(list((tmp_path / "shelf").glob("*.dcm"))) == 6, "so has the shelf", 10)
            assert all(one.state(job) is JobState.SENDING for job in jobs)
        finally:
            stop.set()
    for thread in senders:
        thread.join(10)


def test_what_takes_results_back_goes_where_they_went(bench):
    """An alternate that took nothing cannot take anything back."""
    notes_too = (*RESULT_CLASSES, KeyObjectSelectionDocumentStorage)
    with RecordingPacs(sop_classes=notes_too) as main, RecordingPacs(sop_classes=notes_too) as second:
        one = bench({"main": dimse(main, alternates=["second"]), "second": dimse(second)})
        job = one.job("main")
        one.deliver()
        withdraw(job.id, Withdrawal.QUALITY, one.journal, one.node.config, lambda: one.now)
        one.configure({"main": nobody(alternates=["second"]), "second": dimse(second)})
        one.deliver()
        assert second.received == []
        assert one.state(job) is JobState.SENDING


class Swallows(RecordingPacs):
    """Stores what it gets, and cuts the association instead of answering, as long as it ``cuts``."""

    cuts = True

    def answer(self, event, number, request):
        if self.cuts:
            event.assoc.abort()
        return super().answer(event, number, request)


def test_what_an_alternate_may_have_is_taken_back_there_too(bench):
    notes_too = (*RESULT_CLASSES, KeyObjectSelectionDocumentStorage)
    with RecordingPacs(sop_classes=notes_too) as main, Swallows(sop_classes=notes_too) as second:
        one = bench({"main": nobody(alternates=["second"]), "second": dimse(second)})
        job = one.job("main")
        one.deliver()
        assert one.journal.receipts(job.id) == ()
        (stored,) = second.uids
        second.cuts = False
        one.configure({"main": dimse(main, alternates=["second"]), "second": dimse(second)})
        withdraw(job.id, Withdrawal.QUALITY, one.journal, one.node.config, lambda: one.now)
        one.deliver()
        assert one.state(job) is JobState.DONE
        for note in (second.received[-1], main.received[-1]):
            assert note.sop_class_uid == KeyObjectSelectionDocumentStorage
            assert stored.encode() in note.data


def test_what_an_alternate_says_no_to_may_still_be_at_the_destination(bench):
    """The alternate does not take the class, so that something else would go there: that is its own word."""

    def no_class(_number, asked):
        return Says(409, store_answer(failed=dict.fromkeys(asked.uids, 0x0122)))

    with Swallows() as main, WebPeer(no_class) as second:
        stow = {"transport": "stow", "url": second.url, "timeout_s": 3.0}
        one = bench({"main": dimse(main, alternates=["second"]), "second": stow})
        job = one.job("main")
        one.deliver()
        assert second.asked != []
        given = one.journal.to_reject(job.id)
        assert {thing.sop_instance_uid for thing in given["main"]} >= set(main.uids)
