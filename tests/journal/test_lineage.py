from __future__ import annotations

from dataclasses import replace

import pytest

from node.model import Predecessor
from tests.journal_makers import NOON, SEG, a_job, a_receipt, a_spec, after, an_instance, an_outcome, sha


def run(journal, job, *, count=2):
    """Claim the job and save results for it."""
    claimed = journal.claim(after(10_000))
    assert claimed.id == job.id
    journal.save_results(claimed, an_outcome(job.id, count=count), NOON)
    return journal.job(job.id)


def late(journal, number, *, at, numbers=None, **changes):
    """Let one more instance come and plan the series anew."""
    journal.record(an_instance(number, at=at))
    spec = replace(a_spec(numbers=numbers or range(1, number + 1)), **changes)
    (job,) = journal.plan("1.2.3", expected_count=number, specs=[spec], reason="", now=at)
    return job


def reports_of(job_id):
    """Return what `an_outcome` has of reports: its second object."""
    return (
        Predecessor(
            study_uid="1.2",
            series_uid=f"2.25.{job_id}",
            sop_class_uid=SEG,
            sop_instance_uid=f"2.25.{job_id}.2",
        ),
    )


def test_the_first_run_has_no_predecessor(journal):
    assert journal.predecessors(a_job(journal)) == ()


def test_a_newer_revision_supersedes_the_reports_of_the_one_before(journal):
    first = run(journal, a_job(journal))
    second = late(journal, 4, at=after(60))
    assert journal.predecessors(second) == reports_of(first.id)
    assert journal.predecessors(first) == ()


def test_a_newer_version_of_the_pipeline_supersedes_too_and_the_newest_run_counts(journal):
    run(journal, a_job(journal))
    second = run(journal, late(journal, 4, at=after(60)))
    third = late(journal, 5, at=after(120), pipeline_version="2.0", pipeline_digest=sha("v2"))
    assert journal.predecessors(third) == reports_of(second.id)


def test_the_next_try_of_a_job_sees_the_same_predecessors_though_a_later_run_has_results(journal):
    first = run(journal, a_job(journal))
    second = run(journal, late(journal, 4, at=after(60)))
    run(journal, late(journal, 5, at=after(120)))
    assert journal.predecessors(second) == reports_of(first.id)


@pytest.mark.parametrize(
    "other", [{"pipeline": "liver"}, {"study_uid": "1.9"}], ids=["other pipeline", "other study"]
)
def test_what_is_about_something_else_is_not_superseded(journal, other):
    run(journal, a_job(journal))
    assert journal.predecessors(late(journal, 4, at=after(60), **other)) == ()


def test_two_rules_that_give_one_pipeline_two_parts_of_a_series_do_not_supersede_each_other(journal):
    for number in range(1, 5):
        journal.record(an_instance(number))
    specs = [a_spec(numbers=range(1, 3), rule="a"), a_spec(numbers=range(3, 5), rule="b")]
    one, other = journal.plan("1.2.3", expected_count=4, specs=specs, reason="", now=NOON)
    run(journal, one)
    assert journal.predecessors(other) == ()
    run(journal, other)
    again = late(journal, 5, at=after(60), numbers=range(1, 3), pipeline_digest=sha("v2"))
    assert journal.predecessors(again) == reports_of(one.id)


def test_a_run_without_results_is_passed_over(journal):
    first = run(journal, a_job(journal))
    late(journal, 4, at=after(60))
    assert journal.predecessors(late(journal, 5, at=after(120))) == reports_of(first.id)


def test_the_same_work_done_anew_does_not_supersede_itself(journal):
    first = run(journal, a_job(journal))
    journal.keep(first.id, a_receipt(f"2.25.{first.id}.1"))
    journal.keep(first.id, a_receipt(f"2.25.{first.id}.2"))
    journal.finish(first.id, NOON)
    journal.forget("1.2.3")
    again = a_job(journal, at=after(9000))
    assert again.id != first.id
    assert journal.predecessors(again) == ()


def test_a_superseded_job_is_shown_as_such(journal):
    first = run(journal, a_job(journal))
    assert [job["superseded_by"] for job in journal.jobs_of("1.2.3")] == [None]
    second = late(journal, 4, at=after(60))
    assert [job["superseded_by"] for job in journal.jobs_of("1.2.3")] == [None, None]
    run(journal, second)
    assert [job["superseded_by"] for job in journal.jobs_of("1.2.3")] == [second.id, None]
    assert first.id != second.id
