from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from node.errors import EncodeError, IllegalTransition, NodeError
from node.job import JobState
from tests.journal_makers import NOON, a_job, a_receipt, after, an_instance, an_outcome


def states(journal, job_id):
    return [event.to_state.value for event in journal.events(job_id)]


def test_a_job_comes_back_as_it_was_queued(journal):
    job = a_job(journal)
    assert journal.job(job.id) == job
    assert (job.state, job.fence, job.tries) == (JobState.QUEUED, 0, 0)
    assert job.created_at == job.not_before == NOON
    (event,) = journal.events(job.id)
    assert (event.from_state, event.to_state) == (None, JobState.QUEUED)
    assert journal.instances_of(job) == {"ct": tuple(an_instance(n) for n in (1, 2, 3))}


def test_an_unknown_job_is_named(journal):
    for ask in (journal.job, lambda n: journal.retry(n, NOON), lambda n: journal.cancel(n, NOON)):
        with pytest.raises(NodeError, match="no job 77"):
            ask(77)


def test_the_oldest_job_that_may_begin_is_claimed(journal):
    first, second, third = (a_job(journal, series=f"1.2.{n}") for n in (1, 2, 3))
    assert journal.claim(NOON).id == first.id
    later = journal.move(
        journal.job(first.id), JobState.QUEUED, reason="again", now=NOON, not_before=after(60)
    )
    assert journal.claim(NOON).id == second.id
    assert journal.claim(after(61)).id == later.id
    assert journal.claim(after(61)).id == third.id
    assert journal.claim(after(61)) is None


def test_every_claim_raises_fence_and_tries(journal):
    a_job(journal)
    claimed = journal.claim(NOON)
    assert (claimed.state, claimed.fence, claimed.tries) == (JobState.COMPUTING, 1, 1)
    journal.move(claimed, JobState.QUEUED, code="worker-lost", reason="It died.", now=NOON)
    again = journal.claim(NOON)
    assert (again.fence, again.tries) == (2, 2)


def test_a_move_that_is_not_in_the_table_is_refused(journal):
    job = a_job(journal)
    with pytest.raises(IllegalTransition, match="is queued; from there it cannot become refused"):
        journal.move(job, JobState.REFUSED, reason="", now=NOON)
    assert states(journal, job.id) == ["queued"]


def test_no_move_alone_claims_a_job_or_makes_it_send_or_done(journal):
    job = a_job(journal)
    with pytest.raises(IllegalTransition, match="by a move alone"):
        journal.move(job, JobState.COMPUTING, reason="", now=NOON)
    job = journal.claim(NOON)
    with pytest.raises(IllegalTransition, match="by a move alone"):
        journal.move(job, JobState.SENDING, reason="", now=NOON)
    journal.save_results(job, an_outcome(job.id), NOON)
    with pytest.raises(IllegalTransition, match="by a move alone"):
        journal.move(journal.job(job.id), JobState.DONE, reason="", now=NOON)


def test_a_worker_whose_claim_was_given_away_cannot_commit(journal):
    a_job(journal)
    zombie = journal.claim(NOON)
    journal.move(zombie, JobState.QUEUED, reason="Its worker was lost.", now=NOON)
    holder = journal.claim(NOON)
    with pytest.raises(IllegalTransition, match="no longer computing under fence 1"):
        journal.save_results(zombie, an_outcome(zombie.id), NOON)
    with pytest.raises(IllegalTransition):
        journal.move(zombie, JobState.FAILED, reason="", now=NOON)
    assert journal.results(zombie.id) == ()
    assert journal.save_results(holder, an_outcome(holder.id), NOON).state is JobState.SENDING


def test_results_come_back_as_they_were_saved(journal, tmp_path):
    job = a_job(journal)
    outcome = an_outcome(job.id, folder=tmp_path / "results" / "1")
    assert journal.outcome(job.id) is None
    saved = journal.save_results(journal.claim(NOON), outcome, after(9))
    assert saved.state is JobState.SENDING
    assert journal.outcome(job.id) == outcome
    assert journal.results(job.id) == outcome.objects


def test_two_results_with_one_uid_are_not_saved(journal):
    job = a_job(journal)
    twice = an_outcome(job.id, count=1)
    twice = replace(twice, objects=twice.objects * 2)
    with pytest.raises(EncodeError, match="same SOP Instance UID"):
        journal.save_results(journal.claim(NOON), twice, NOON)
    assert journal.job(job.id).state is JobState.COMPUTING


@pytest.mark.parametrize(("send_to", "count"), [((), 2), (("archive",), 0)])
def test_a_job_with_nothing_to_send_is_done_at_once(journal, send_to, count):
    job = a_job(journal, send_to=send_to)
    done = journal.save_results(journal.claim(NOON), an_outcome(job.id, count=count), NOON)
    assert done.state is JobState.DONE
    assert states(journal, job.id) == ["queued", "computing", "sending", "done"]


def test_an_operator_retries_what_failed_before_there_were_results(journal):
    job = a_job(journal)
    failed = journal.move(journal.claim(NOON), JobState.FAILED, code="timed-out", reason="Slow.", now=NOON)
    again = journal.retry(failed.id, after(60))
    assert (again.state, again.tries, again.not_before) == (JobState.QUEUED, 0, after(60))
    assert journal.claim(after(60)).fence == 2
    with pytest.raises(IllegalTransition, match="only a failed job"):
        journal.retry(job.id, NOON)


def test_an_operator_cannot_retry_what_has_aged_out(journal):
    job = a_job(journal)
    journal.move(journal.claim(NOON), JobState.FAILED, reason="Slow.", now=NOON)
    journal.forget("1.2.3")
    with pytest.raises(NodeError, match="send the series again"):
        journal.retry(job.id, NOON)


def test_results_that_aged_out_are_computed_again_from_a_series_sent_again(journal):
    job = a_job(journal)
    journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)
    journal.park(job.id, "archive", code="peer-refused", reason="No.")
    journal.finish(job.id, NOON)
    journal.forget("1.2.3")
    for number in (1, 2, 3):
        journal.record(an_instance(number))
    assert journal.retry(job.id, NOON).state is JobState.QUEUED
    journal.save_results(journal.claim(NOON), an_outcome(job.id, count=1), NOON)
    assert len(journal.results(job.id)) == 1
    assert [len(owed.objects) for owed in journal.due(NOON)] == [1]


@pytest.mark.parametrize("at", [JobState.QUEUED, JobState.COMPUTING, JobState.SENDING, JobState.FAILED])
def test_an_operator_cancels_a_job_wherever_it_stands(journal, at):
    job = a_job(journal)
    if at is not JobState.QUEUED:
        job = journal.claim(NOON)
    if at is JobState.SENDING:
        journal.save_results(job, an_outcome(job.id), NOON)
    if at is JobState.FAILED:
        journal.move(job, JobState.FAILED, reason="Slow.", now=NOON)
    assert journal.cancel(job.id, NOON).state is JobState.CANCELLED
    assert journal.due(NOON) == []
    with pytest.raises(IllegalTransition):
        journal.cancel(job.id, NOON)


def test_a_job_lost_with_the_node_has_one_try_free(journal):
    a_job(journal)
    journal.claim(NOON)
    (back,) = journal.recover(NOON, tries=2)
    assert (back.state, back.tries) == (JobState.QUEUED, 0)
    journal.claim(NOON)
    assert journal.recover(NOON, tries=2)[0].tries == 1
    assert journal.claim(NOON).fence == 3
    (over,) = journal.recover(NOON, tries=2)
    assert (over.state, over.reason_code) == (JobState.FAILED, "worker-lost")


def test_a_job_whose_last_receipt_came_just_before_the_end_is_finished_at_the_start(journal):
    job = a_job(journal)
    journal.save_results(journal.claim(NOON), an_outcome(job.id, count=1), NOON)
    journal.keep(job.id, a_receipt(journal.results(job.id)[0].sop_instance_uid))
    assert journal.recover(NOON) == []
    assert journal.job(job.id).state is JobState.DONE


def test_jobs_are_listed_newest_first(journal):
    first, second = a_job(journal, series="1.2.1"), a_job(journal, series="1.2.2")
    assert [job.id for job in journal.jobs()] == [second.id, first.id]
    assert [job.id for job in journal.jobs(limit=1)] == [second.id]
    journal.claim(NOON)
    assert [job.id for job in journal.jobs(JobState.QUEUED)] == [second.id]


def test_many_threads_claim_every_job_once(journal):
    for number in range(30):
        a_job(journal, series=f"1.2.{number}")
    claimed: list[int] = []

    def work():
        while (job := journal.claim(NOON)) is not None:
            claimed.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(job.id for job in journal.jobs())
