"""A rule may ask what another pipeline found: then it matches once that is known, and only once."""

from __future__ import annotations

from dataclasses import replace

import pydicom
import pytest

from node import flow, loops
from node import follow as following
from node.accept import spool_file
from node.analyze import analyze
from node.explain import explained
from node.follow import follow, follow_all
from node.job import JobState, Withdrawal
from node.journal import follow as journal_follow
from tests import toy_chain
from tests.journal_makers import an_outcome
from tests.test_chaining import claim, configured, end, opened, settle
from tests.toy_node import small_ct

FIRST = toy_chain.card("first")
OTHER = toy_chain.card("other", above=300)
CARDS = (FIRST, OTHER)
IF_LARGE = '[rules.results.first]\nmeasurement = { name = "Volume", segment = "Left half", min = 5.0 }'
RULES = toy_chain.rule("first", "out") + toy_chain.rule("other", "out", more=IF_LARGE)


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    return small_ct(tmp_path_factory.mktemp("ct"))


def give(job, node, volume_ml=6.0, **more):
    """Let a claimed job say how large the left half is."""
    rows = ({"name": "Volume", "value": volume_ml, "unit": "mL", "segment": "Left half"},)
    outcome = replace(an_outcome(job.id), outlines="0" * 64, summary=rows, **more)
    node.journal.save_results(job, outcome, node.clock())


def names(jobs):
    return [job.spec.pipeline for job in jobs]


def test_it_matches_when_the_results_are_there_and_are_as_wanted(ct, tmp_path):
    with opened(tmp_path, CARDS, RULES) as node:
        assert list(settle(ct, node)) == ["first"]
        _, job = claim(node)
        assert follow_all(node) == []
        give(job, node)
        (made,) = follow_all(node)
        assert made.spec.pipeline == "other"
        assert node.journal.events(made.id)[0].reason == f"Rule 'other' matched what came of job {job.id}."
        assert follow_all(node) == [], "once"


@pytest.mark.parametrize("volume_ml", [4.9, None])
def test_it_does_not_match_when_they_are_not(volume_ml, ct, tmp_path):
    with opened(tmp_path, CARDS, RULES) as node:
        settle(ct, node)
        give(claim(node)[1], node, volume_ml)
        assert follow_all(node) == []
        assert list(node.journal.unfollowed()) == []


def test_what_was_not_asked_before_the_node_died_is_asked_at_the_next_start(ct, tmp_path, monkeypatch):
    monkeypatch.setenv("RADNODE_FAILPOINTS", "assign.followed=raise@1")
    with opened(tmp_path, CARDS, RULES) as node:
        settle(ct, node)
        give(claim(node)[1], node)
        with pytest.raises(Exception, match=r"assign\.followed"):
            follow_all(node)
    monkeypatch.delenv("RADNODE_FAILPOINTS")
    with opened(tmp_path, CARDS, RULES) as node:
        assert names(follow_all(node)) == ["other"]


def test_asking_twice_at_one_time_makes_one_job(ct, tmp_path):
    with opened(tmp_path, CARDS, RULES) as node:
        settle(ct, node)
        give(claim(node)[1], node)
        (job,) = node.journal.unfollowed()
        assert [len(follow(job, node)) for _ in range(2)] == [1, 0]


def test_results_go_to_one_more_place_if_they_say_so(ct, tmp_path):
    rules = toy_chain.rule("first", "out") + toy_chain.rule("first", "desk", name="large ones", more=IF_LARGE)
    with opened(tmp_path, CARDS, rules) as node:
        settle(ct, node)
        _, job = claim(node)
        assert job.spec.send_to == ("out",)
        give(job, node)
        assert {owed.destination for owed in node.journal.due(node.clock())} == {"out"}
        assert follow_all(node) == []
        assert {owed.destination for owed in node.journal.due(node.clock())} == {"out", "desk"}
        assert node.journal.job(job.id).spec.send_to == ("out", "desk")


def test_what_was_done_already_is_sent_again_to_the_new_place_alone(ct, tmp_path):
    rules = toy_chain.rule("first") + toy_chain.rule("first", "desk", name="large ones", more=IF_LARGE)
    with opened(tmp_path, CARDS, rules) as node:
        settle(ct, node)
        _, job = claim(node)
        give(job, node)
        assert node.journal.job(job.id).state is JobState.DONE
        follow_all(node)
        assert node.journal.job(job.id).state is JobState.SENDING
        assert [owed.destination for owed in node.journal.due(node.clock())] == ["desk"]


def test_a_refusal_can_be_asked_for_by_its_code(ct, tmp_path):
    more = '[rules.results.first]\nrefused = ["toy*"]'
    rules = toy_chain.rule("first", "out") + toy_chain.rule("other", "out", more=more)
    with opened(tmp_path, CARDS, rules) as node:
        settle(ct, node)
        end(claim(node)[1], JobState.REFUSED, node)
        assert names(follow_all(node)) == ["other"]


def test_what_was_withdrawn_says_nothing_any_more(ct, tmp_path):
    with opened(tmp_path, CARDS, RULES) as node:
        settle(ct, node)
        _, job = claim(node)
        give(job, node)
        node.journal.withdraw(
            job.id, Withdrawal.QUALITY, seen=node.journal.to_reject(job.id), notes={}, now=node.clock()
        )
        assert follow_all(node) == []


def test_results_of_an_earlier_revision_do_not_count(tmp_path):
    files = small_ct(tmp_path / "ct")
    with opened(tmp_path / "node", CARDS, RULES) as node:
        settle(files[:-1], node)
        give(claim(node)[1], node)
        assert list(settle(files[-1:], node)) == ["first"], "of the new revision nothing is known"
        assert follow_all(node) == [], "and of the old one nothing more is done"
        give(claim(node)[1], node)
        assert names(follow_all(node)) == ["other"]


def with_derived(folder):
    """Return the files of a CT; the last one, which is derived, no rule here takes."""
    files = small_ct(folder)
    header = pydicom.dcmread(files[-1])
    header.ImageType = ["DERIVED", "SECONDARY"]
    header.save_as(files[-1])
    return files


@pytest.mark.parametrize("when", ["it computes", "it has ended", "it was followed", "the next computes"])
def test_an_image_that_is_left_out_may_come_whenever_it_likes(when, tmp_path):
    files = with_derived(tmp_path / "ct")
    with opened(tmp_path / "node", CARDS, RULES) as node:
        settle(files[:-1], node)
        _, job = claim(node)
        for moment in ("it computes", "it has ended", "it was followed", "the next computes"):
            if moment == "it has ended":
                give(job, node)
            elif moment == "it was followed":
                follow_all(node)
            elif moment == "the next computes":
                claim(node)
            if moment == when:
                break
        assert settle(files[-1:], node) == {}, "the work is the same"
        if when == "it computes":
            give(job, node)
        follow_all(node)
        name, other = claim(node)
        if when == "the next computes":
            assert name == "", "it goes on"
            (other,) = node.journal.jobs(JobState.COMPUTING)
        assert other.spec.pipeline == "other"
        assert other.spec.inputs["ct"].revision == 2
        assert list(node.journal.unfollowed()) == []


def test_nothing_is_asked_of_a_series_that_still_arrives(tmp_path):
    files = small_ct(tmp_path / "ct")
    with opened(tmp_path / "node", CARDS, RULES) as node:
        settle(files[:4], node)
        _, job = claim(node)
        flow.receive(*spool_file(files[4], node.store), node)
        give(job, node)
        assert follow_all(node) == []
        assert follow(node.journal.job(job.id), node) == [], "nor by one who has read the job before"
        (made,) = settle(files[5:], node).values()
        assert made.spec.pipeline == "first"
        give(claim(node)[1], node)
        (other,) = follow_all(node)
        assert len(other.spec.inputs["ct"].sop_instance_uids) == len(files)


@pytest.mark.parametrize("late", ["a wanted image", "one that is left out"])
def test_what_changes_while_rules_are_asked_is_asked_anew(late, tmp_path, monkeypatch):
    files = with_derived(tmp_path / "ct")
    files = files if late == "one that is left out" else [files[-1], *files[:-1]]
    with opened(tmp_path / "node", CARDS, RULES) as node:
        settle(files[:-1], node)
        give(claim(node)[1], node)
        (job,) = node.journal.unfollowed()
        meanwhile = [lambda: settle(files[-1:], node)]
        monkeypatch.setattr(following, "failpoint", lambda _: meanwhile and meanwhile.pop()())
        assert follow(job, node) == []
        assert not meanwhile
        assert follow(job, node) == [], "it knows the job as it was before"
        if late == "a wanted image":
            assert follow_all(node) == [], "there is no word on the new revision yet"
            give(claim(node)[1], node)
        (other,) = follow_all(node)
        assert other.spec.inputs["ct"].revision == 2


def test_jobs_that_cannot_be_followed_hold_up_none_behind_them(ct, tmp_path, monkeypatch):
    monkeypatch.setattr(journal_follow, "MOST_AT_ONCE", 2)
    followed = []

    def fails_at_first(job, _):
        followed.append(job.id)
        if len(followed) <= 3:
            raise OSError("a disk that fails")
        return []

    monkeypatch.setattr(loops, "follow", fails_at_first)
    cards = [toy_chain.card(f"toy-{number}") for number in range(5)]
    with opened(tmp_path, cards, "".join(toy_chain.rule(f"toy-{n}") for n in range(5))) as node:
        settle(ct, node)
        for _ in cards:
            give(claim(node)[1], node)
        once = loops._follower(node)
        assert once()
        assert sorted(followed) == [1, 2, 3, 4, 5]
        assert once(), "the two that were not paused are asked again"
        assert sorted(followed) == [1, 2, 3, 4, 4, 5, 5]


def test_what_is_asked_for_brings_what_it_needs(ct, tmp_path):
    cards = (FIRST, OTHER, toy_chain.card("inner", "other"))
    rules = toy_chain.rule("first", "out") + toy_chain.rule("inner", "out", more=IF_LARGE)
    with opened(tmp_path, cards, rules) as node:
        settle(ct, node)
        give(claim(node)[1], node)
        assert names(follow_all(node)) == ["other", "inner"]
        name, _ = claim(node)
        assert (name, claim(node)) == ("other", ("", None))


def test_explain_tells_which_value_met_which_clause(ct, tmp_path):
    config = configured(tmp_path, CARDS, RULES)
    with opened(tmp_path, CARDS, RULES) as node:
        jobs = settle(ct, node)
        uid = jobs["first"].spec.inputs["ct"].series_uid
        (_, before) = explained(uid, config)[0].rules
        assert not before.matched
        assert before.why.endswith(
            "Not known: first: Volume of Left half is at least 5.0 (saw no results so far)."
        )
        give(claim(node)[1], node, 6.25)
        (told,) = explained(uid, config)
        assert told.rules[1].matched
        assert told.as_dict()["rules"][1]["results"] == [
            {
                "pipeline": "first",
                "words": "Volume of Left half is at least 5.0",
                "verdict": "yes",
                "seen": "6.25",
            }
        ]


def test_analyze_goes_on_with_what_the_results_ask_for(ct, tmp_path):
    rules = toy_chain.rule("first") + toy_chain.rule("other", more=IF_LARGE)
    rules += toy_chain.rule("other", name="never", more=IF_LARGE.replace("5.0", "500.0"))
    config = configured(tmp_path, CARDS, rules)
    result = analyze(ct[0].parent, tmp_path / "out", config, None, lambda *_: None)
    assert [(job.spec.pipeline, job.state, job.spec.rule) for job, _ in result.jobs] == [
        ("first", JobState.DONE, "first"),
        ("other", JobState.DONE, "other"),
    ]


@pytest.mark.parametrize("order", ["plan first", "results first"])
def test_a_plan_that_did_not_know_of_results_is_made_anew(order, ct, tmp_path):
    with opened(tmp_path, CARDS, RULES) as node:
        jobs = settle(ct, node)
        uid = jobs["first"].spec.inputs["ct"].series_uid
        asked = ("first", uid, 1)
        give(claim(node)[1], node)
        answers = {asked: None if order == "plan first" else jobs["first"].id}
        node.journal.record(replace(node.journal.series(uid).instances[0], sop_instance_uid="1.2.3"))
        count = len(node.journal.series(uid).instances)
        node.journal.plan(uid, expected_count=count, specs=[], reason="", now=node.clock(), answers=answers)
        assert node.journal.series(uid).revision == (1 if order == "plan first" else 2)
