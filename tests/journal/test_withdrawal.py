from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from node.config import KeepTable
from node.errors import IllegalTransition, NodeError
from node.job import JobState, Withdrawal
from node.model import ResultObject, StandIn
from tests.journal_makers import EXPLICIT, NOON, a_job, a_receipt, a_spec, after, an_instance, an_outcome, sha

KO = "1.2.840.10008.5.1.4.1.1.88.59"


def computed(journal, *, send_to=("archive",), count=2):
    job = a_job(journal, send_to=send_to)
    return journal.save_results(journal.claim(NOON), an_outcome(job.id, count=count), NOON)


def take(journal, job, destination="archive", *, only=(1, 2), at=NOON):
    for number in only:
        uid = f"2.25.{job.id}.{number}"
        journal.keep(job.id, a_receipt(uid, destination=destination, at=at))


def a_note(uid, things):
    return ResultObject(
        kind="rejection-note",
        sop_instance_uid=uid,
        sop_class_uid=KO,
        series_uid=f"{uid}.0",
        transfer_syntax_uid=EXPLICIT,
        path=Path("/elsewhere") / f"{uid}.dcm",
        sha256=sha(uid),
        refers_to=tuple(thing.sop_instance_uid for thing in things),
    )


def withdraw(journal, job, *, now=NOON, uid="2.25.900"):
    """Withdraw with one note per destination."""
    given = journal.to_reject(job.id)
    notes = {place: a_note(f"{uid}.{number}", things) for number, (place, things) in enumerate(given.items())}
    return journal.withdraw(job.id, Withdrawal.QUALITY, seen=given, notes=notes, now=now)


def owed(journal, job):
    return {(d.destination, o.sop_instance_uid) for d in journal.due(after(1)) for o in d.objects}


def test_what_is_done_is_withdrawn_and_done_again_once_the_note_is_taken(journal):
    job = computed(journal)
    take(journal, job)
    assert journal.finish(job.id, NOON).state is JobState.DONE
    assert withdraw(journal, job, now=after(1)).state is JobState.SENDING
    assert owed(journal, job) == {("archive", "2.25.900.0")}
    journal.keep(job.id, a_receipt("2.25.900.0"))
    done = journal.finish(job.id, after(2))
    assert (done.state, done.reason_code) == (JobState.DONE, "withdrawn")
    (told,) = journal.status()["withdrawn"]
    assert (told["withdrawal"], told["withdrawn_at"]) == ("quality", after(1).isoformat())


def test_each_destination_has_what_it_took_rejected_and_is_sent_nothing_else(journal):
    job = computed(journal, send_to=("archive", "second", "third"))
    take(journal, job)
    take(journal, job, "second", only=(1,))
    given = journal.to_reject(job.id)
    assert {place: [t.sop_instance_uid for t in things] for place, things in given.items()} == {
        "archive": [f"2.25.{job.id}.1", f"2.25.{job.id}.2"],
        "second": [f"2.25.{job.id}.1"],
    }
    assert withdraw(journal, job).state is JobState.SENDING
    assert owed(journal, job) == {("archive", "2.25.900.0"), ("second", "2.25.900.1")}


def test_what_stood_in_for_a_result_is_what_is_rejected(journal):
    job = computed(journal)
    (seg, _) = journal.results(job.id)
    other = replace(seg, sop_instance_uid="2.25.77", series_uid="2.25.770")
    journal.keep_stand_ins(job.id, {seg.sop_instance_uid: StandIn(thing=other, sentence="")})
    journal.keep(job.id, replace(a_receipt(seg.sop_instance_uid), sent_as="2.25.77"))
    assert journal.to_reject(job.id) == {"archive": (other,)}


@pytest.mark.parametrize("end", [None, JobState.FAILED, JobState.CANCELLED])
def test_what_nobody_took_is_withdrawn_without_a_note(journal, end):
    job = computed(journal)
    if end is JobState.FAILED:
        journal.park(job.id, "archive", code="peer-refused", reason="No.")
        journal.finish(job.id, NOON)
    if end is JobState.CANCELLED:
        journal.cancel(job.id, NOON)
    done = withdraw(journal, job)
    assert (done.state, done.reason) == (JobState.DONE, "Withdrawn (quality); nothing is sent.")
    assert owed(journal, job) == set()


def test_a_job_is_withdrawn_once(journal):
    job = computed(journal)
    take(journal, job)
    withdraw(journal, job)
    with pytest.raises(IllegalTransition, match=r"withdrawn already \(quality\) at 2026-11-20T12:00:00"):
        journal.to_reject(job.id)


def test_a_job_without_results_is_cancelled_not_withdrawn(journal):
    job = a_job(journal)
    with pytest.raises(IllegalTransition, match=f"`radnode cancel {job.id}`"):
        journal.to_reject(job.id)
    claimed = journal.claim(NOON)
    with pytest.raises(IllegalTransition, match="is computing: it has no results"):
        journal.to_reject(job.id)
    journal.move(claimed, JobState.REFUSED, reason="No lungs.", now=NOON)
    with pytest.raises(IllegalTransition, match="is refused and has no results"):
        journal.to_reject(job.id)
    with pytest.raises(NodeError, match="no job 77"):
        journal.to_reject(77)


def test_nothing_happens_when_more_was_taken_since_the_notes_were_written(journal):
    job = computed(journal)
    take(journal, job, only=(1,))
    given = journal.to_reject(job.id)
    take(journal, job, only=(2,))
    notes = {"archive": a_note("2.25.900", given["archive"])}
    assert journal.withdraw(job.id, Withdrawal.SAFETY, seen=given, notes=notes, now=NOON) is None
    assert journal.status()["withdrawn"] == []


@pytest.mark.parametrize("first", [(), (1,)], ids=["nothing taken before", "something taken before"])
def test_what_was_under_way_meanwhile_is_not_forgotten(journal, first):
    job = computed(journal)
    take(journal, job, only=first)
    withdraw(journal, job)
    take(journal, job, only=(2,), at=after(1))  # the archive answered a moment too late
    if first:
        journal.keep(job.id, a_receipt("2.25.900.0"))
    failed = journal.finish(job.id, after(2))
    assert (failed.state, failed.reason_code) == (JobState.FAILED, "not-all-rejected")
    assert f"`radnode withdraw {job.id} --reason quality`" in failed.reason
    assert journal.retry(job.id, after(3)).state is JobState.FAILED
    again = withdraw(journal, job, now=after(4), uid="2.25.901")
    assert again.state is JobState.SENDING
    (note,) = [thing for thing in journal.results(job.id) if thing.sop_instance_uid == "2.25.901.0"]
    assert note.refers_to == (f"2.25.{job.id}.2",)
    journal.keep(job.id, a_receipt("2.25.901.0"))
    assert journal.finish(job.id, after(5)).state is JobState.DONE


def test_a_rejection_that_is_refused_waits_for_a_person_who_sends_it_again(journal):
    job = computed(journal)
    take(journal, job, only=(1,))
    withdraw(journal, job)
    journal.park(job.id, "archive", code="peer-refused", reason="It takes no key objects.")
    assert journal.finish(job.id, NOON).state is JobState.FAILED
    assert journal.retry(job.id, NOON).state is JobState.SENDING
    assert owed(journal, job) == {("archive", "2.25.900.0")}
    with pytest.raises(IllegalTransition, match="its rejection is owed"):
        journal.cancel(job.id, NOON)


def test_a_failed_rejection_outlives_a_newer_revision(journal):
    job = computed(journal)
    take(journal, job)
    withdraw(journal, job)
    journal.park(job.id, "archive", code="peer-refused", reason="No.")
    journal.finish(job.id, NOON)
    journal.record(an_instance(4))
    spec = a_spec(numbers=range(1, 5))
    journal.plan("1.2.3", expected_count=4, specs=[spec], reason="", now=NOON)
    assert journal.job(job.id).state is JobState.FAILED


def test_a_series_whose_rejection_is_owed_does_not_age_out(journal):
    job = computed(journal)
    take(journal, job)
    withdraw(journal, job)
    assert journal.expired(after(1e9), KeepTable()) == []
    journal.keep(job.id, a_receipt("2.25.900.0"))
    journal.finish(job.id, NOON)
    assert journal.expired(after(1e9), KeepTable()) == ["1.2.3"]


def test_withdrawn_results_are_no_predecessor(journal):
    job = computed(journal)
    take(journal, job)
    withdraw(journal, job)
    journal.record(an_instance(4))
    spec = a_spec(numbers=range(1, 5))
    (newer,) = journal.plan("1.2.3", expected_count=4, specs=[spec], reason="", now=NOON)
    assert journal.predecessors(newer) == ()


def test_withdrawn_work_is_not_done_again_when_its_series_comes_back(journal):
    job = computed(journal)
    take(journal, job)
    withdraw(journal, job)
    journal.keep(job.id, a_receipt("2.25.900.0"))
    journal.finish(job.id, NOON)
    journal.forget("1.2.3")
    for number in range(1, 4):
        journal.record(an_instance(number))
    assert journal.plan("1.2.3", expected_count=3, specs=[a_spec()], reason="", now=NOON) == []


def test_of_work_done_twice_the_second_job_is_withdrawn(journal):
    job = computed(journal)
    take(journal, job)
    journal.finish(job.id, NOON)
    journal.forget("1.2.3")
    again = a_job(journal, at=after(9000))
    outcome = replace(an_outcome(job.id), notes=())
    journal.save_results(journal.claim(after(9000)), outcome, after(9000))
    with pytest.raises(NodeError, match=f"withdraw job {again.id}"):
        journal.to_reject(job.id)
    assert journal.to_reject(again.id) == {}
