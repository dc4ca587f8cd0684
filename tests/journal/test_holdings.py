from __future__ import annotations

from dataclasses import replace

from node.job import Job, Withdrawal
from node.journal import Journal
from tests.journal_makers import NOON, a_job, after, an_instance, an_outcome

SERIES = "1.2.3"


def test_what_came_is_held_series_by_series(tmp_path):
    journal = Journal.open(tmp_path)
    for number in (1, 2):
        journal.record(an_instance(number))
    journal.record(an_instance(7, series="1.2.4", at=after(500)))
    assert {one.series_uid: one.instances for one in journal.held_series()} == {SERIES: 2, "1.2.4": 1}
    assert [one.series_uid for one in journal.held_series(after(100))] == ["1.2.4"]
    assert len(journal.holdings("1.2")) == 3
    assert len(journal.holdings("1.2", SERIES)) == 2
    assert [one.sop_instance_uid for one in journal.holdings("1.2", SERIES, f"{SERIES}.2")] == [f"{SERIES}.2"]
    assert journal.holdings("1.9", SERIES) == []
    assert journal.series_with({f"{SERIES}.1", "1.2.4.7", "9.9"}) == {SERIES, "1.2.4"}
    first = journal.first_of(SERIES)
    assert first is not None and first.sop_instance_uid == f"{SERIES}.1" and not first.is_result
    assert journal.series_counted() == 2


def test_what_never_came_was_never_held(tmp_path):
    journal = Journal.open(tmp_path)
    assert journal.holdings("1.2") == [] and journal.first_of(SERIES) is None
    assert not journal.was_held("1.2") and not journal.was_held("1.2", SERIES, "1.2.3.4")
    assert journal.standing() == [] and journal.last_event() == 0 and journal.studies_moved(0) == set()


def test_what_aged_out_is_not_held_any_more(tmp_path):
    journal = Journal.open(tmp_path)
    journal.record(an_instance(1))
    journal.plan(SERIES, expected_count=1, specs=[], reason="none", now=NOON)
    journal.forget(SERIES)
    assert journal.holdings("1.2") == [] and journal.held_series() == []


def a_finished_job(journal: Journal) -> Job:
    a_job(journal)
    job = journal.claim(NOON)
    assert job is not None
    return journal.save_results(job, an_outcome(job.id), NOON) or job


def test_results_stand_until_they_are_withdrawn_and_are_gone_when_their_series_is(tmp_path):
    journal = Journal.open(tmp_path)
    before = journal.last_event()
    job = a_finished_job(journal)
    made = [f"2.25.{job.id}.1", f"2.25.{job.id}.2"]
    assert [one.sop_instance_uid for one in journal.standing()] == made
    assert all(one.is_result and one.study_uid == "1.2" for one in journal.standing(["1.2"]))
    assert journal.studies_moved(before) == {"1.2"}
    held = journal.holdings("1.2")
    assert [one.sop_instance_uid for one in held[-2:]] == made and len(held) == 5
    assert journal.series_with({made[0]}) == {f"2.25.{job.id}"}
    note = journal.withdraw(job.id, Withdrawal.QUALITY, seen={}, notes={}, now=after(1))
    assert note is not None
    assert journal.standing() == [] and len(journal.holdings("1.2")) == 3
    assert journal.was_held("1.2", f"2.25.{job.id}", made[0])


def test_a_result_that_came_back_from_outside_is_held_once(tmp_path):
    journal = Journal.open(tmp_path)
    job = a_finished_job(journal)
    journal.record(replace(an_instance(1, series=f"2.25.{job.id}"), sop_instance_uid=f"2.25.{job.id}.1"))
    uids = [one.sop_instance_uid for one in journal.holdings("1.2", f"2.25.{job.id}")]
    assert sorted(uids) == [f"2.25.{job.id}.1", f"2.25.{job.id}.2"]
