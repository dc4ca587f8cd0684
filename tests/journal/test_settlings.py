"""What tells whether a series is whole, as the journal keeps it."""

from __future__ import annotations

import pytest

from node.errors import NodeError
from node.model import Settling
from tests.journal_makers import NOON, a_spec, after, an_instance

UID = "1.2.3"


def arrive(journal, numbers=range(1, 4), at=NOON):
    for number in numbers:
        journal.record(an_instance(number, at=at))


def settling(held=3, by="count", **more):
    return Settling(by=by, sentence="All are here.", held=held, silent_s=2.5, **more)


def settle(journal, held=3, **more):
    return journal.plan(
        UID,
        expected_count=held,
        specs=[a_spec(numbers=range(1, held + 1))],
        reason="",
        now=NOON,
        settling=settling(held, **more),
    )


def only(journal):
    (one,) = journal.arriving()
    return one


def test_an_answer_is_kept_with_when_it_was_first_and_last_given(journal):
    arrive(journal)
    for second, said in ((0, 2), (1, 3), (5, 3)):
        journal.counted(UID, "ARCHIVE", said, after(second))
    journal.counted(UID, "cloud", None, after(2))
    told = {one.source: (one.instances, one.since, one.asked_at) for one in only(journal).counts}
    assert told == {"ARCHIVE": (3, after(1), after(5)), "cloud": (None, after(2), after(2))}


def test_counts_of_one_series_are_not_told_of_another(journal):
    arrive(journal)
    journal.record(an_instance(1, series="1.2.4"))
    journal.counted("1.2.4", "ARCHIVE", 9, NOON)
    assert {one.series_uid: len(one.counts) for one in journal.arriving()} == {UID: 0, "1.2.4": 1}
    told = {one["series_uid"]: one["counts"] for one in journal.status()["arriving"]}
    assert told == {UID: {}, "1.2.4": {"ARCHIVE": 9}}


def test_what_decided_is_kept_for_each_revision(journal):
    arrive(journal)
    settle(journal, counts={"ARCHIVE": 3}, associations=1)
    arrive(journal, [4], at=after(60))
    assert journal.series(UID).settling is None, "it still arrives"
    settle(journal, 4, by="quiet", caution="nobody knows")
    first, second = journal.settlings(UID)
    assert (first.revision, first.at) == (1, NOON)
    assert first.settling == settling(counts={"ARCHIVE": 3}, associations=1)
    assert (second.revision, second.settling.by) == (2, "quiet")
    assert journal.series(UID).settling == second.settling
    assert journal.settled_in(study_uid="1.2")[0].settling == second.settling


def test_a_series_that_nobody_had_to_decide_about_has_no_settling(journal):
    arrive(journal)
    journal.plan(UID, expected_count=3, specs=[], reason="", now=NOON)
    assert (journal.series(UID).settling, journal.settlings(UID)) == (None, [])


def test_an_operator_orders_what_is_held_and_no_more(journal):
    arrive(journal)
    assert not only(journal).is_ordered
    assert journal.settle(UID, NOON) == 3
    assert only(journal).is_ordered
    assert journal.settlings(UID) == [], "it has not settled yet"
    arrive(journal, [4])
    assert not only(journal).is_ordered, "one more has come"
    assert journal.settle(UID, NOON) == 4
    assert only(journal).is_ordered
    settle(journal, 4, by="operator")
    assert [one.settling.by for one in journal.settlings(UID)] == ["operator"]


def test_what_decided_about_a_revision_that_is_taken_back_is_no_order(journal):
    arrive(journal)
    journal.plan(UID, expected_count=3, specs=[], reason="Nobody.", now=NOON, settling=settling())
    assert journal.reconsider("other rules") == 1
    assert not only(journal).is_ordered
    assert journal.settlings(UID) == []


def test_an_operator_cannot_order_what_is_not_waited_for(journal):
    with pytest.raises(NodeError, match=r"holds no series 1\.2\.3"):
        journal.settle(UID, NOON)
    arrive(journal)
    settle(journal)
    with pytest.raises(NodeError, match="it has settled"):
        journal.settle(UID, NOON)


@pytest.mark.parametrize("by", ["patience", "operator"])
def test_what_went_on_without_what_an_archive_counts_is_told_until_it_comes(journal, by):
    arrive(journal)
    assert journal.status()["incomplete"] == []
    settle(journal, by=by, counts={"cloud": None, "ARCHIVE": 5})
    (told,) = journal.status()["incomplete"]
    assert (told["series_uid"], told["revision"], told["instances"]) == (UID, 1, 3)
    assert (told["counts"], told["reason"]) == ({"cloud": None, "ARCHIVE": 5}, "All are here.")
    arrive(journal, [4, 5])
    settle(journal, 5)
    assert journal.status()["incomplete"] == []


@pytest.mark.parametrize("counts", [{}, {"ARCHIVE": None}, {"ARCHIVE": 3}, {"ARCHIVE": 2}])
def test_what_an_operator_had_settled_and_nobody_counts_as_more_is_not_told_as_incomplete(journal, counts):
    arrive(journal)
    settle(journal, by="operator", counts=counts)
    assert journal.status()["incomplete"] == []


def test_what_is_forgotten_leaves_no_evidence(journal):
    arrive(journal)
    journal.counted(UID, "ARCHIVE", 3, NOON)
    settle(journal)
    for job in journal.jobs():
        journal.cancel(job.id, NOON)
    journal.forget(UID)
    arrive(journal)
    assert only(journal).counts == ()
    assert journal.settlings(UID) == []
