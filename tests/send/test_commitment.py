"""We ask an archive to commit itself, and listen to what it says."""

from __future__ import annotations

import time

import pytest
from pydicom import Dataset

from node.config import Config, DimseDestination
from node.errors import PeerBusy, PeerRefused, PeerUnreachable
from node.peer.commitment import INVALID_VALUE, NO_SUCH_EVENT, Report, read_report
from node.send.commitment import FAILURES, MOST_ITEMS, failure_of, request_commitment
from tests.committing import NO_SUCH_INSTANCE, CommittingPacs, report_of, say
from tests.harness import wait_until
from tests.peers import DeafPacs, RecordingPacs, RejectingPacs

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
TRANSACTION = "2.25.1234567890"
OBJECTS = {"2.25.1": SEG, "2.25.2": SEG}


def ask(peer, *, timeout_s: float = 5.0, enough=None, objects=OBJECTS, takes_s=0.0) -> list[Report]:
    """Ask for commitment; return the reports that came over the same association."""
    heard: list[Report] = []

    def hear(report: Report) -> int:
        heard.append(report)
        time.sleep(takes_s)
        return 0

    request_commitment(
        "archive",
        DimseDestination(
            transport="dimse", ae_title="ARCHIVE", host="127.0.0.1", port=peer.port, timeout_s=timeout_s
        ),
        TRANSACTION,
        objects,
        Config(),
        hear=hear,
        enough=enough or (lambda: bool(heard)),
    )
    return heard


def test_an_archive_is_asked_by_name_and_class_and_its_report_is_heard():
    with CommittingPacs() as archive:
        archive.kept = dict.fromkeys(OBJECTS)
        (report,) = ask(archive)
        (asked,) = archive.asked
        assert (asked.transaction_uid, asked.references, asked.caller) == (TRANSACTION, OBJECTS, "RADNODE")
        assert report == Report(transaction_uid=TRANSACTION, committed=OBJECTS, failed={})
        wait_until(lambda: archive.answers == [0], "it is answered", within_s=5)


def test_a_report_is_answered_before_the_association_is_released():
    with CommittingPacs() as archive:
        archive.kept = dict.fromkeys(OBJECTS)
        assert len(ask(archive, takes_s=1.0)) == 1
        wait_until(lambda: archive.answers, "the archive has its answer", within_s=5)
        assert archive.answers == [0]


def test_a_partial_report_says_what_is_not_there_and_why():
    with CommittingPacs() as archive:
        archive.kept = {"2.25.1": None}
        (report,) = ask(archive)
        assert report.committed == {"2.25.1": SEG}
        assert report.failed == {"2.25.2": NO_SUCH_INSTANCE}


def test_listening_ends_once_there_is_enough():
    with CommittingPacs() as archive:
        archive.how.over = "never"
        looks = iter([False, False, True])
        assert ask(archive, timeout_s=60, enough=lambda: next(looks)) == []


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (0x0110, PeerBusy, "just now .status 0110."),
        (0x0213, PeerBusy, "just now"),
        (0x0118, PeerRefused, "refuses storage commitment .status 0118."),
        (0x0122, PeerRefused, "refuses"),
    ],
)
def test_a_request_that_is_not_taken_is_told(status, kind, words):
    with CommittingPacs() as archive:
        archive.how.action_status = status
        with pytest.raises(kind, match=words):
            ask(archive)


def test_an_archive_without_the_service_is_told_so():
    with RecordingPacs() as archive, pytest.raises(PeerRefused, match="archive does no storage commitment"):
        ask(archive)


def test_an_archive_that_is_not_there_or_says_nothing_can_be_asked_later():
    with DeafPacs() as archive, pytest.raises(PeerUnreachable):
        ask(archive, timeout_s=0.5)
    with RejectingPacs(2, 3, 1) as archive, pytest.raises(PeerUnreachable, match="rejected"):
        ask(archive)
    with pytest.raises(PeerUnreachable):
        ask(archive)


def test_an_archive_that_does_not_answer_the_request_can_be_asked_later():
    class Silent(CommittingPacs):
        def _on_action(self, event):
            event.assoc.abort()
            return 0, None

    with Silent() as archive, pytest.raises(PeerUnreachable, match="did not answer the request"):
        ask(archive)


def test_an_archive_that_does_not_come_to_an_end_is_left():
    with CommittingPacs() as archive:
        archive.kept = {f"2.25.{number}": None for number in range(20_000)}
        archive.verdict = lambda _asked: (dict.fromkeys(archive.kept, SEG), {})
        assert ask(archive, timeout_s=30) == []


def test_as_many_objects_as_are_asked_for_at_once_fit_into_one_report():
    longest = {f"2.25.{10**58 + number}": "1.2.840.10008.5.1.4.1.1.88.11" for number in range(MOST_ITEMS)}
    with CommittingPacs() as archive:
        archive.kept = longest
        (report,) = ask(archive, objects=longest)
        assert report.committed == longest
        archive.kept = {}
        (report,) = ask(archive, objects=longest)
        assert report.failed == dict.fromkeys(longest, NO_SUCH_INSTANCE)


def test_a_report_that_overtakes_the_answer_to_the_request_is_heard():
    class Hasty(CommittingPacs):
        def _on_action(self, event):
            status = super()._on_action(event)
            self.how.over = "never"
            told = report_of(TRANSACTION, OBJECTS, {}, OBJECTS)
            self.answers.append(say(event.assoc, told, 1))
            return status

    with Hasty() as archive:
        archive.how.over = "never"
        (report,) = ask(archive)
        assert report.committed == OBJECTS
        assert archive.answers == [0]


# ---- what a report says ----


def a_report(**more) -> Dataset:
    given = {"transaction_uid": TRANSACTION, "committed": OBJECTS, "failed": {}, "classes": OBJECTS} | more
    return report_of(**given)


def test_what_stands_among_both_has_failed():
    report = read_report(2, a_report(failed={"2.25.2": 0x0110}))
    assert (report.committed, report.failed) == ({"2.25.1": SEG}, {"2.25.2": 0x0110})


@pytest.mark.parametrize("event_type", [0, 3, 65535, None])
def test_an_event_that_the_standard_does_not_know_is_refused(event_type):
    assert read_report(event_type, a_report()) == NO_SUCH_EVENT


def _without(keyword: str) -> Dataset:
    told = a_report(failed={"2.25.2": 0x0110})
    del told.ReferencedSOPSequence[0][keyword]
    return told


@pytest.mark.parametrize(
    "told",
    [
        Dataset(),
        a_report(transaction_uid="../../etc"),
        a_report(transaction_uid="1." * 40 + "1"),
        _without("ReferencedSOPInstanceUID"),
        _without("ReferencedSOPClassUID"),
    ],
    ids=["empty", "no UID", "too long", "no instance", "no class"],
)
def test_what_is_no_report_is_refused(told):
    assert read_report(1, told) == INVALID_VALUE


def test_every_failure_reason_of_the_standard_has_a_sentence_and_others_are_sent_again():
    assert set(FAILURES) == {0x0110, 0x0112, 0x0213, 0x0122, 0x0119, 0x0131}
    assert failure_of(0x0112).then == "send"
    assert failure_of(0x4711).then == "send"
    assert {failure_of(reason).then for reason in (0x0110, 0x0213, 0x0131)} == {"ask"}
    assert {failure_of(reason).then for reason in (0x0122, 0x0119)} == {"wait"}
