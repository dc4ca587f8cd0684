from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from node.config import KeepTable
from node.errors import NodeError
from node.job import JobState
from node.journal import Journal, Recorded
from tests.journal_makers import NOON, a_job, a_receipt, a_spec, after, an_instance, an_outcome


def test_an_instance_comes_back_as_it_was_recorded(journal):
    instance = an_instance(1)
    assert journal.record(instance) is Recorded.NEW
    series = journal.series("1.2.3")
    assert series.instances == (instance,)
    assert (series.uid, series.study_uid, series.revision) == ("1.2.3", "1.2", 0)


def test_paths_move_with_the_data_folder(tmp_path):
    first = Journal.open(tmp_path / "here")
    first.record(replace(an_instance(1), path=tmp_path / "here" / "instances" / "a.dcm"))
    assert first.known_paths() == {tmp_path / "here" / "instances" / "a.dcm"}
    first.close()
    (tmp_path / "here").rename(tmp_path / "there")
    second = Journal.open(tmp_path / "there")
    assert second.known_paths() == {tmp_path / "there" / "instances" / "a.dcm"}
    second.close()


def test_the_same_bytes_again_change_nothing(journal):
    a_job(journal)
    assert journal.arriving() == []
    again = replace(an_instance(1), path=an_instance(9).path, sender="ARCHIVE", arrived_at=after(60))
    assert journal.record(again) is Recorded.SAME
    assert journal.arriving() == []
    assert journal.series("1.2.3").instances[0] == an_instance(1)


def test_other_content_under_a_known_uid_is_noted_and_what_we_hold_stays(journal):
    journal.record(an_instance(1))
    assert journal.record(an_instance(1, content="changed")) is Recorded.CONFLICT
    assert journal.series("1.2.3").instances == (an_instance(1),)
    assert journal.status()["quarantined"] == 1


def test_the_same_bytes_in_another_encoding_are_other_content(journal):
    journal.record(an_instance(1))
    other = replace(an_instance(1), transfer_syntax_uid="1.2.840.10008.1.2.4.80")
    assert journal.record(other) is Recorded.CONFLICT
    assert journal.series("1.2.3").instances == (an_instance(1),)


def test_a_series_does_not_change_its_study(journal):
    journal.record(an_instance(1))
    assert journal.record(an_instance(2, study="9.9")) is Recorded.CONFLICT
    assert len(journal.series("1.2.3").instances) == 1


def test_a_time_without_a_zone_is_refused(journal):
    with pytest.raises(Exception, match="aware"):
        journal.record(an_instance(1, at=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_a_series_arrives_until_it_is_planned_and_again_with_a_late_instance(journal):
    journal.record(an_instance(1))
    journal.record(an_instance(2, at=after(5)))
    (arriving,) = journal.arriving()
    assert (arriving.series_uid, arriving.count, arriving.last_arrival_at) == ("1.2.3", 2, after(5))
    journal.plan("1.2.3", expected_count=2, specs=[], reason="no rule wants it", now=after(20))
    assert journal.arriving() == []
    journal.record(an_instance(3, at=after(30)))
    (arriving,) = journal.arriving()
    assert (arriving.count, arriving.last_arrival_at) == (3, after(30))
    assert journal.series("1.2.3").revision == 1


def test_an_instance_that_arrived_before_another_does_not_turn_the_clock_back(journal):
    journal.record(an_instance(1, at=after(5)))
    journal.record(an_instance(2, at=after(4)))
    assert journal.arriving()[0].last_arrival_at == after(5)


def test_planning_does_nothing_when_one_more_instance_came(journal):
    for number in (1, 2, 3):
        journal.record(an_instance(number))
    assert journal.plan("1.2.3", expected_count=2, specs=[a_spec()], reason="", now=NOON) == []
    assert journal.jobs() == []
    assert journal.arriving()[0].count == 3
    assert journal.series("1.2.3").revision == 0


def test_planning_an_unknown_or_a_settled_series_does_nothing(journal):
    assert journal.plan("1.2.3", expected_count=0, specs=[a_spec()], reason="", now=NOON) == []
    job = a_job(journal)
    assert journal.plan("1.2.3", expected_count=3, specs=[a_spec()], reason="", now=NOON) == []
    assert journal.jobs() == [job]


def test_a_series_that_no_rule_wants_is_told_with_its_reason(journal):
    journal.record(an_instance(1))
    journal.plan("1.2.3", expected_count=1, specs=[], reason="no rule wants this series", now=NOON)
    told = journal.status()["unrouted"]
    assert told == {"count": 1, "series": [{"series_uid": "1.2.3", "reason": "no rule wants this series"}]}


def test_a_newer_revision_takes_the_place_of_queued_work(journal):
    old = a_job(journal)
    journal.record(an_instance(4, at=after(60)))
    (new,) = journal.plan(
        "1.2.3", expected_count=4, specs=[a_spec(numbers=range(1, 5))], reason="", now=after(70)
    )
    assert new.spec.inputs["ct"].revision == 2
    old = journal.job(old.id)
    assert (old.state, old.reason_code) == (JobState.CANCELLED, "superseded")
    assert "Revision 2" in old.reason


def test_a_newer_revision_leaves_claimed_work_and_equal_work_alone(journal):
    claimed = a_job(journal)
    journal.claim(NOON)
    for number in range(1, 4):
        journal.record(an_instance(number, series="1.2.4"))
    specs = [a_spec(series="1.2.4", numbers=range(1, 3))]
    (equal,) = journal.plan("1.2.4", expected_count=3, specs=specs, reason="", now=NOON)
    journal.record(an_instance(4))
    journal.record(an_instance(4, series="1.2.4"))
    journal.plan("1.2.3", expected_count=4, specs=[a_spec(numbers=range(1, 5))], reason="", now=NOON)
    assert journal.plan("1.2.4", expected_count=4, specs=specs, reason="", now=NOON) == []
    assert journal.job(claimed.id).state is JobState.COMPUTING
    assert journal.job(equal.id).state is JobState.QUEUED


def test_two_rules_that_ask_for_the_same_work_get_one_job_and_all_destinations(journal):
    for number in range(1, 4):
        journal.record(an_instance(number))
    specs = [a_spec(send_to=("archive",)), a_spec(send_to=("archive", "research"), rule="copies")]
    (job,) = journal.plan("1.2.3", expected_count=3, specs=specs, reason="", now=NOON)
    assert job.spec.send_to == ("archive", "research")
    assert job.spec.rule == "lungs, copies"
    assert job.spec.key == specs[0].key


def test_own_results_that_come_back_are_not_told_as_unrouted_even_after_they_aged_out(journal):
    job = a_job(journal)
    journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)
    for series in (f"2.25.{job.id}", "1.9"):
        journal.record(an_instance(1, series=series))
        journal.plan(series, expected_count=1, specs=[], reason="no rule wants it", now=NOON)
    assert [s["series_uid"] for s in journal.status()["unrouted"]["series"]] == ["1.9"]
    for thing in journal.results(job.id):
        journal.keep(job.id, a_receipt(thing.sop_instance_uid))
    journal.finish(job.id, NOON)
    journal.forget("1.2.3")
    assert journal.status()["unrouted"]["count"] == 1


KEEP = KeepTable(unrouted_days=7, done_days=30, failed_days=90)


def days(number: float) -> datetime:
    return after(number * 86400)


def test_what_no_rule_wants_ages_out_first(journal):
    journal.record(an_instance(1))
    assert journal.expired(days(1000), KEEP) == []  # it still arrives
    journal.plan("1.2.3", expected_count=1, specs=[], reason="", now=NOON)
    assert journal.expired(days(6.9), KEEP) == []
    assert journal.expired(days(7.1), KEEP) == ["1.2.3"]


@pytest.mark.parametrize(
    ("end", "kept_days"), [(JobState.DONE, 30), (JobState.REFUSED, 30), (JobState.FAILED, 90)]
)
def test_finished_work_ages_out_by_how_it_ended_and_open_work_never(journal, end, kept_days):
    job = a_job(journal)
    assert journal.expired(days(1000), KEEP) == []
    claimed = journal.claim(NOON)
    assert journal.expired(days(1000), KEEP) == []
    if end is JobState.DONE:
        journal.save_results(claimed, an_outcome(job.id), NOON)
        assert journal.expired(days(1000), KEEP) == []
        for thing in journal.results(job.id):
            journal.keep(job.id, a_receipt(thing.sop_instance_uid))
        journal.finish(job.id, NOON)
    else:
        journal.move(claimed, end, reason="It ended.", now=NOON)
    assert journal.expired(days(kept_days - 0.1), KEEP) == []
    assert journal.expired(days(kept_days + 0.1), KEEP) == ["1.2.3"]


def test_forgetting_gives_the_files_once_and_keeps_the_history(journal):
    job = a_job(journal)
    done = journal.save_results(journal.claim(NOON), an_outcome(job.id, count=1), NOON)
    with pytest.raises(NodeError, match=f"Job {job.id}"):
        journal.forget("1.2.3")
    journal.cancel(done.id, NOON)
    paths = {path.name for path in journal.forget("1.2.3")}
    assert paths == {"1.2.3.1.dcm", "1.2.3.2.dcm", "1.2.3.3.dcm", f"2.25.{job.id}.1.dcm"}
    assert journal.forget("1.2.3") == []
    assert journal.series("1.2.3") is None
    assert journal.known_paths() == set()
    assert [event.to_state for event in journal.events(job.id)][-1] is JobState.CANCELLED
    assert len(journal.results(job.id)) == 1
    with pytest.raises(NodeError, match="no longer here"):
        journal.instances_of(journal.job(job.id))


def send_again(journal, at):
    for number in range(1, 4):
        assert journal.record(an_instance(number, at=at)) is Recorded.NEW
    return journal.plan("1.2.3", expected_count=3, specs=[a_spec()], reason="", now=at)


@pytest.mark.parametrize("end", ["done", "failed", "failed to send", "cancelled"])
def test_a_series_sent_again_after_it_aged_out_is_analysed_again(journal, end):
    old = journal.claim(NOON) if a_job(journal) else None
    if end == "failed":
        journal.move(old, JobState.FAILED, code="timed-out", reason="Slow.", now=NOON)
    else:
        journal.save_results(old, an_outcome(old.id, count=1), NOON)
        if end == "done":
            journal.keep(old.id, a_receipt(f"2.25.{old.id}.1"))
        elif end == "failed to send":
            journal.park(old.id, "archive", code="peer-refused", reason="No.")
        else:
            journal.cancel(old.id, NOON)
        journal.finish(old.id, NOON)
    journal.forget("1.2.3")
    (new,) = send_again(journal, days(100))
    assert (new.id, new.state, new.spec.key) == (old.id + 1, JobState.QUEUED, old.spec.key)
    assert new.created_at == old.created_at, "the results are the same to the byte"
    assert new.not_before == days(100)
    wanted = JobState.DONE if end == "done" else JobState.CANCELLED
    assert journal.job(old.id).state is wanted
    assert journal.status()["failed"] == []


def test_work_that_is_done_and_kept_is_not_repeated_when_the_series_settles_again(journal):
    job = a_job(journal)
    journal.save_results(journal.claim(NOON), an_outcome(job.id, count=0), NOON)
    journal.record(an_instance(4))
    assert journal.plan("1.2.3", expected_count=4, specs=[a_spec()], reason="", now=NOON) == []


def test_an_unrouted_series_is_planned_anew_when_the_rules_changed_and_only_then(journal):
    assert journal.reconsider("old rules") == 0
    for number in (1, 2, 3):
        journal.record(an_instance(number))
    journal.plan("1.2.3", expected_count=3, specs=[], reason="no rule wants it", now=NOON)
    a_job(journal, series="1.2.4")  # routed: not planned anew
    assert (journal.reconsider("old rules"), journal.arriving()) == (0, [])
    assert journal.reconsider("new rules") == 1
    assert [arriving.series_uid for arriving in journal.arriving()] == ["1.2.3"]
    assert journal.reconsider("newest rules") == 0  # it waits to be planned already
    (job,) = journal.plan("1.2.3", expected_count=3, specs=[a_spec()], reason="", now=after(60))
    assert job.spec.inputs["ct"].revision == journal.series("1.2.3").revision == 1


def test_a_newer_revision_takes_the_place_of_failed_work_of_the_same_pipeline(journal):
    old = a_job(journal)
    journal.move(journal.claim(NOON), JobState.FAILED, code="timed-out", reason="Slow.", now=NOON)
    journal.record(an_instance(4))
    other = a_spec(numbers=range(1, 5), pipeline="liver-volume")
    journal.plan("1.2.3", expected_count=4, specs=[other], reason="", now=NOON)
    assert journal.job(old.id).state is JobState.FAILED
    journal.record(an_instance(5))
    journal.plan("1.2.3", expected_count=5, specs=[a_spec(numbers=range(1, 6))], reason="", now=NOON)
    assert (journal.job(old.id).state, journal.job(old.id).reason_code) == (JobState.CANCELLED, "superseded")
    assert journal.status()["failed"] == []


def test_failed_work_that_a_newer_revision_asks_for_unchanged_still_waits_for_a_person(journal):
    job = a_job(journal)
    journal.move(journal.claim(NOON), JobState.FAILED, code="timed-out", reason="Slow.", now=NOON)
    journal.record(an_instance(4))
    assert journal.plan("1.2.3", expected_count=4, specs=[a_spec()], reason="", now=NOON) == []
    assert journal.job(job.id).state is JobState.FAILED


def test_a_series_sent_again_after_it_aged_out_is_not_refused_twice(journal):
    job = a_job(journal)
    journal.move(journal.claim(NOON), JobState.REFUSED, code="slice-gap", reason="A gap.", now=NOON)
    journal.forget("1.2.3")
    assert send_again(journal, days(50)) == []
    assert journal.job(job.id).state is JobState.REFUSED
