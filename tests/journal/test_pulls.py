"""Requests to archives: durable, once, tried again, and what comes of them known for a prior."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.config import SendTable
from node.errors import PeerRefused, PeerUnreachable
from node.journal import Journal
from tests.journal_makers import NOON, after, an_instance

STUDY = "1.2"


def test_the_same_request_twice_is_one_and_a_later_one_is_another(journal: Journal) -> None:
    first = journal.ask_pull("archive", STUDY, now=NOON)
    assert journal.ask_pull("archive", STUDY, now=after(1)) == first
    assert journal.ask_pull("archive", STUDY, "1.2.3", now=NOON) != first
    assert journal.ask_pull("cloud", STUDY, now=NOON) != first
    pull = journal.due_pull("archive", NOON)
    journal.finish_pull(pull, NOON, 10)
    assert journal.ask_pull("archive", STUDY, now=after(2)) != first


def test_a_request_outlives_the_node(journal: Journal, tmp_path) -> None:
    number = journal.ask_pull("archive", STUDY, now=NOON)
    journal.close()
    again = Journal.open(tmp_path)
    assert again.due_pull("archive", NOON).id == number
    again.close()


def test_what_failed_for_now_is_tried_again_later_and_later_and_then_given_up(journal: Journal) -> None:
    retry, now = SendTable(tries=3, first_retry_s=10), 0.0
    journal.ask_pull("archive", STUDY, now=NOON)
    for wait_s in (10, 20):
        pull = journal.due_pull("archive", after(now))
        journal.put_off_pull(pull, PeerUnreachable("It is down."), retry, after(now))
        assert journal.due_pull("archive", after(now + wait_s - 1)) is None
        now += wait_s
    ended = journal.put_off_pull(
        journal.due_pull("archive", after(now)), PeerUnreachable("Still."), retry, NOON
    )
    assert ended.state == "failed" and ended.reason == "Still." and ended.tries == 3
    assert journal.due_pull("archive", after(1e6)) is None
    assert journal.status()["pulls"]["failed"] == 1


def test_what_is_refused_for_good_has_failed_at_once(journal: Journal) -> None:
    journal.ask_pull("archive", STUDY, now=NOON)
    pull = journal.due_pull("archive", NOON)
    assert journal.put_off_pull(pull, PeerRefused("No."), SendTable(), NOON).state == "failed"


def test_what_a_case_waits_for_is_fetched_first(journal: Journal) -> None:
    journal.ask_pull("archive", "1.1", now=NOON)
    prior = journal.ask_pull("archive", "1.2", prior=True, now=after(1))
    assert journal.due_pull("archive", after(2)).id == prior


def test_what_arrives_of_a_prior_that_is_being_fetched_is_one(journal: Journal) -> None:
    journal.ask_pull("archive", STUDY, prior=True, now=NOON)
    journal.refresh_priors(NOON)
    assert journal.as_asked(an_instance(1)).prior
    assert not journal.as_asked(an_instance(1, study="1.9")).prior
    assert not journal.as_asked(an_instance(1, at=after(3600))).prior  # nothing was tried of it for an hour
    journal.finish_pull(journal.due_pull("archive", NOON), after(5), 1)
    assert not journal.as_asked(an_instance(1, at=after(6))).prior


def test_what_is_wanted_for_itself_is_no_prior(journal: Journal) -> None:
    journal.ask_pull("archive", STUDY, prior=True, now=NOON)
    journal.ask_pull("archive", STUDY, now=NOON)
    assert not journal.due_pull("archive", NOON).prior
    journal.ask_pull("cloud", STUDY, prior=True, now=NOON)
    journal.refresh_priors(NOON)
    assert not journal.as_asked(an_instance(1)).prior


def test_a_prior_that_somebody_sends_settles_anew_as_what_was_sent(journal: Journal) -> None:
    prior = replace(an_instance(1), prior=True)
    journal.record(prior)
    journal.plan("1.2.3", expected_count=1, specs=[], reason="", now=NOON)
    assert not journal.arriving()
    journal.record(replace(prior, arrived_at=after(1)))  # fetched again
    assert not journal.arriving() and journal.held_of(STUDY, "1.2.3") == {"1.2.3.1": True}
    journal.record(replace(prior, arrived_at=after(2), prior=False))
    assert [one.series_uid for one in journal.arriving()] == ["1.2.3"]
    assert journal.held_of(STUDY, "1.2.3") == {"1.2.3.1": False}


def test_what_was_sent_never_becomes_a_prior(journal: Journal) -> None:
    journal.record(an_instance(1))
    journal.record(replace(an_instance(1), prior=True))
    assert journal.held_of(STUDY, "1.2.3") == {"1.2.3.1": False}


def test_priors_that_are_asked_for_by_name_settle_anew(journal: Journal) -> None:
    journal.record(replace(an_instance(1), prior=True))
    journal.plan("1.2.3", expected_count=1, specs=[], reason="", now=NOON)
    assert journal.want_for_itself(["1.2.3"]) == 1
    assert journal.want_for_itself(["1.2.3"]) == 0
    assert len(journal.arriving()) == 1


def test_studies_that_are_new_are_asked_for_and_remembered_with_their_size(journal: Journal) -> None:
    assert journal.see("archive", {"1.1": 10, "1.2": None}, NOON) == 2
    assert journal.due_pull("archive", NOON).study_uid == "1.1"
    assert journal.watched("archive") == {"1.1": 10, "1.2": None} and journal.watched("cloud") == {}
    journal.see("archive", {"1.1": 12}, after(60), forgotten=after(30))
    assert journal.watched("archive") == {"1.1": 12}


def test_why_a_source_cannot_be_asked_is_told_until_it_can(journal: Journal) -> None:
    journal.complain("archive", "It is down.")
    assert journal.status()["pulls"]["sources"] == {"archive": "It is down."}
    journal.complain("archive", "")
    assert journal.status()["pulls"]["sources"] == {}


@pytest.mark.parametrize("kept", [["archive"], []])
def test_requests_to_an_archive_that_is_gone_have_failed(journal: Journal, kept: list[str]) -> None:
    journal.ask_pull("archive", STUDY, now=NOON)
    assert journal.disown_pulls(kept, NOON) == 1 - len(kept)
