from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from node.config import SendTable
from node.errors import NodeError, PeerBusy, PeerRefused, PeerUnreachable
from node.job import JobState, Withdrawal, next_try
from node.model import StandIn
from tests.journal_makers import NOON, SEG, a_job, a_receipt, after, an_outcome


@pytest.fixture
def sending(journal):
    """A job with two results for two destinations."""
    job = a_job(journal, send_to=("archive", "research"))
    return journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)


def owed(journal, now=NOON):
    return {
        (d.destination, thing.sop_instance_uid.rpartition(".")[2])
        for d in journal.due(now)
        for thing in d.objects
    }


def test_every_result_is_owed_to_every_destination(journal, sending):
    assert owed(journal) == {("archive", "1"), ("archive", "2"), ("research", "1"), ("research", "2")}
    assert [d.job_id for d in journal.due(NOON)] == [sending.id, sending.id]


def test_a_sender_asks_only_for_its_own_destination(journal, sending):
    for destination in ("archive", "research"):
        (delivery,) = journal.due(NOON, destination)
        assert delivery.destination == destination
        assert [thing.sop_instance_uid[-1] for thing in delivery.objects] == ["1", "2"]
    assert journal.due(NOON, "elsewhere") == []
    assert [d.destination for d in journal.due(NOON, other_than=("archive",))] == ["research"]
    assert journal.due(NOON, other_than=("archive", "research")) == []


def test_a_receipt_ends_what_is_owed_and_only_the_first_counts(journal, sending):
    uid = f"2.25.{sending.id}.1"
    journal.keep(sending.id, a_receipt(uid, sentence="first"))
    journal.keep(sending.id, a_receipt(uid, sentence="second", at=after(9)))
    assert owed(journal) == {("archive", "2"), ("research", "1"), ("research", "2")}
    assert journal.receipts(sending.id) == (a_receipt(uid, sentence="first"),)


def test_a_receipt_for_what_was_never_owed_is_an_error(journal, sending):
    with pytest.raises(NodeError, match="owes 'archive' no object"):
        journal.keep(sending.id, a_receipt("1.2.3"))


def test_a_failed_try_waits_longer_each_time(journal, sending):
    journal.park(sending.id, "research", code="peer-refused", reason="No.")
    now, waits = NOON, []
    for tries in range(1, 5):
        (delivery,) = journal.due(now)
        assert delivery.tries == tries - 1
        wait = (next_try(now, tries) - now).total_seconds()
        waits.append(wait)
        journal.postpone(
            sending.id,
            "archive",
            code="peer-unreachable",
            reason="It does not answer.",
            not_before=now + timedelta(seconds=wait),
        )
        assert journal.due(now + timedelta(seconds=wait - 0.001)) == []
        now += timedelta(seconds=wait)
    assert waits == [5.0, 10.0, 20.0, 40.0]
    assert journal.finish(sending.id, now) is None  # one waits for a retry


def test_one_destination_that_refuses_does_not_hold_up_the_other(journal, sending):
    journal.park(sending.id, "archive", code="peer-refused", reason="It knows no SEG.")
    assert owed(journal) == {("research", "1"), ("research", "2")}
    assert journal.finish(sending.id, NOON) is None
    for number in (1, 2):
        journal.keep(sending.id, a_receipt(f"2.25.{sending.id}.{number}", destination="research"))
    failed = journal.finish(sending.id, NOON)
    assert (failed.state, failed.reason_code) == (JobState.FAILED, "peer-refused")
    assert failed.reason == "archive: It knows no SEG."
    assert journal.status()["deliveries"]["parked"] == 2


def test_a_partial_delivery_is_never_done(journal, sending):
    for destination in ("archive", "research"):
        journal.keep(sending.id, a_receipt(f"2.25.{sending.id}.1", destination=destination))
        assert journal.finish(sending.id, NOON) is None
    for destination in ("archive", "research"):
        journal.keep(sending.id, a_receipt(f"2.25.{sending.id}.2", destination=destination))
    assert journal.finish(sending.id, NOON).state is JobState.DONE
    assert journal.finish(sending.id, NOON) is None  # it is not sending any more


def test_an_operator_sends_again_only_what_is_still_owed(journal, sending):
    journal.keep(sending.id, a_receipt(f"2.25.{sending.id}.1"))
    for destination in ("archive", "research"):
        journal.park(sending.id, destination, code="peer-refused", reason="No.")
    journal.finish(sending.id, NOON)
    assert journal.due(after(9)) == []
    assert journal.retry(sending.id, after(9)).state is JobState.SENDING
    assert owed(journal, after(9)) == {("archive", "2"), ("research", "1"), ("research", "2")}
    assert {d.tries for d in journal.due(after(9))} == {0}


def test_status_is_plain_json_and_names_what_is_in_trouble(journal, sending):
    journal.keep(sending.id, a_receipt(f"2.25.{sending.id}.1"))
    journal.postpone(sending.id, "research", code="peer-busy", reason="Full.", not_before=after(60))
    status = json.loads(json.dumps(journal.status()))
    assert status["jobs"]["sending"] == 1
    assert status["instances"] == 3
    deliveries = status["deliveries"]
    assert (deliveries["delivered"], deliveries["pending"], deliveries["parked"]) == (1, 3, 0)
    (trouble,) = deliveries["troubled"]
    assert (trouble["destination"], trouble["code"], trouble["tries"]) == ("research", "peer-busy", 1)
    assert status["events"][0]["to"] == "sending"


@pytest.fixture
def stood_in(journal, sending, tmp_path):
    """The same job; its first result went to the archive as another kind."""
    uid = f"2.25.{sending.id}.1"
    (one, _) = an_outcome(sending.id, folder=tmp_path).objects
    stand_in = replace(
        one,
        sop_instance_uid="2.25.99",
        series_uid="2.25.98",
        sop_class_uid=SEG,
        path=journal.results(sending.id)[0].path.with_name("stand-in.dcm"),
    )
    made = {
        uid: StandIn(thing=stand_in, sentence="As BINARY."),
        "2.25.5": StandIn(thing=None, sentence="No."),
    }
    journal.keep_stand_ins(sending.id, made)
    journal.keep_stand_ins(sending.id, made)  # as a second try does
    journal.keep(sending.id, replace(a_receipt(uid, sentence="As BINARY."), sent_as="2.25.99"))
    return stand_in


def test_a_receipt_tells_what_the_object_went_as(journal, sending, stood_in):
    (receipt,) = journal.receipts(sending.id)
    assert (receipt.sent_as, receipt.sentence) == (stood_in.sop_instance_uid, "As BINARY.")


def test_what_went_as_another_kind_is_known_to_the_next_try_of_that_destination_alone(
    journal, sending, stood_in
):
    uid = f"2.25.{sending.id}.1"
    told = {d.destination: d.earlier for d in journal.due(NOON)}
    assert told == {"archive": {uid: stood_in}, "research": {}}


def test_the_journal_says_what_a_destination_holds(journal, sending, stood_in):
    journal.keep(sending.id, a_receipt(f"2.25.{sending.id}.1", destination="research"))
    journal.keep(sending.id, a_receipt(f"2.25.{sending.id}.2"))
    first, second = journal.results(sending.id)
    assert journal.to_reject(sending.id) == {"archive": (stood_in, second), "research": (first,)}


@pytest.mark.parametrize(
    ("error", "tries", "then"),
    [
        (PeerUnreachable("Gone."), 1, "later"),
        (PeerBusy("Full."), 2, "parked"),
        (PeerRefused("Never."), 1, "parked"),
    ],
)
def test_a_failed_try_is_repeated_until_the_tries_are_spent(journal, sending, error, tries, then):
    settings = SendTable(tries=2, first_retry_s=7)
    now = NOON
    for _ in range(tries):
        (owed,) = journal.due(now, "archive")
        journal.put_off(owed, error, settings, now)
        now = after(7)
    assert bool(journal.due(now, "archive")) == (then == "later")
    assert journal.due(after(6.9), "archive") == []
    (trouble,) = journal.status()["deliveries"]["troubled"]
    assert (trouble["parked"], trouble["reason"]) == (then == "parked", str(error))


def test_a_try_that_fails_after_the_job_was_taken_back_changes_nothing(journal, sending):
    (stale,) = journal.due(NOON, "archive")
    journal.keep(sending.id, a_receipt(f"2.25.{sending.id}.1"))
    given = journal.to_reject(sending.id)
    note = replace(
        journal.results(sending.id)[0],
        kind="rejection-note",
        sop_instance_uid="2.25.900",
        refers_to=(f"2.25.{sending.id}.1",),
    )
    journal.withdraw(
        sending.id, Withdrawal.QUALITY, seen=given, notes=dict.fromkeys(given, note), now=after(1)
    )
    journal.put_off(stale, PeerRefused("Object 2 never."), SendTable(), after(2))
    journal.put_off(stale, PeerUnreachable("Gone."), SendTable(), after(2))
    (owed,) = journal.due(after(2), "archive")
    assert (owed.tries, owed.objects) == (0, (note,))


def test_only_the_first_of_two_tries_at_the_same_counts(journal, sending):
    (seen,) = journal.due(NOON, "archive")
    for _ in range(2):
        journal.put_off(seen, PeerUnreachable("Gone."), SendTable(first_retry_s=1), NOON)
    assert [owed.tries for owed in journal.due(after(1), "archive")] == [1]


def test_what_was_not_finished_with_its_last_object_is_finished_later(journal):
    """The journal takes the receipt, and then nothing: the disk is full, say."""
    open_one, done, failed, unproved = [a_job(journal, series=f"1.2.{n}") for n in range(3, 7)]
    for job in (open_one, done, failed, unproved):
        journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)
        count = {open_one.id: 1, failed.id: 0}.get(job.id, 2)
        for number in range(1, count + 1):
            journal.keep(job.id, a_receipt(f"2.25.{job.id}.{number}"), prove=job.id == unproved.id)
    journal.park(failed.id, "archive", code="peer-refused", reason="It will not have it.")
    ended = {job.id: job.state for job in journal.finish_all(after(1))}
    assert ended == {done.id: JobState.DONE, failed.id: JobState.FAILED}
    assert journal.finish_all(after(2)) == []
    assert journal.job(open_one.id).state is journal.job(unproved.id).state is JobState.SENDING
