"""A pipeline that uses another's result waits for it, sees it voxel by voxel, and ends when there is none."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import permutations

import pydicom
import pytest
from pydicom.uid import EnhancedSRStorage

from node import flow
from node.accept import Store, spool_file
from node.analyze import analyze
from node.assign import parse_rules
from node.compute import Staging, installed
from node.config import read_config
from node.errors import ConfigError
from node.job import JobState, Withdrawal
from node.journal import Journal
from node.serve import utc_now
from pipelines.contract import InputRefused
from tests import phantoms, toy_chain
from tests.journal_makers import an_outcome
from tests.toy_node import HELD, small_ct

DESK = """\
[destinations.desk]
transport = "folder"
path = "desk"
"""
FIRST = toy_chain.card("first", above=0)
SECOND = toy_chain.card("second", "first", above=0, segments=["Right half"])
THIRD = toy_chain.card("third", "second", above=0)
ONLY_SECOND = toy_chain.rule("second", "out")


def configured(folder, cards, rules):
    """Write a configuration with toy pipelines; return it as it is read."""
    folder.mkdir(exist_ok=True)
    toys = toy_chain.install(folder, *cards)
    (folder / "node.toml").write_text(HELD.format(pipelines=toys) + DESK + rules, encoding="utf-8")
    return read_config(folder / "node.toml")


@contextmanager
def opened(folder, cards=(FIRST, SECOND, THIRD), rules=ONLY_SECOND):
    """Open a node without workers, whose clock stands still: what jobs give is told by the tests."""
    config = configured(folder, cards, rules)
    known = installed(config.pipelines)
    data, now = config.node.data, utc_now()
    journal = Journal.open(data)
    yield flow.Node(
        config=config,
        journal=journal,
        store=Store(data, config.accept),
        staging=Staging(data),
        engine=None,
        cards=known,
        rules=parse_rules(config.rules, known),
        clock=lambda: now,
    )
    journal.close()


def settle(files, node):
    """Let a series arrive and settle; return pipeline -> the job that this made."""
    uid = [flow.receive(*spool_file(file, node.store), node) for file in files][-1].series_uid
    return {job.spec.pipeline: job for job in flow.plan(uid, node)}


def claim(node):
    """Return the pipeline whose turn it is, and its job; ("", None) where nothing is due."""
    job = node.journal.claim(node.clock())
    return (job.spec.pipeline, job) if job else ("", None)


def finish(job, node, outlines="0" * 64, **more):
    """Let a claimed job have results."""
    outcome = replace(an_outcome(job.id), outlines=outlines, **more)
    node.journal.save_results(job, outcome, node.clock())


def end(job, to, node, reason="It is too short."):
    node.journal.move(job, to, code="toy", reason=reason, now=node.clock())


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    return small_ct(tmp_path_factory.mktemp("ct"))


def test_a_pipeline_waits_for_the_one_whose_result_it_takes(ct, tmp_path):
    with opened(tmp_path) as node:
        jobs = settle(ct, node)
        assert list(jobs) == ["first", "second"]
        assert jobs["first"].spec.send_to == (), "nobody asked for it: its results are kept, not sent"
        assert jobs["second"].spec.needs == {"inside": jobs["first"].spec.key}
        name, job = claim(node)
        assert name == "first"
        assert claim(node) == ("", None)
        finish(job, node)
        assert node.journal.job(job.id).state is JobState.DONE
        name, job = claim(node)
        assert name == "second"
        made = node.journal.made_for(job)["inside"]
        assert (made.pipeline, made.version, made.path.name) == ("first", "1.0.0", "outlines.zip")


def test_a_chain_of_three_is_done_in_its_order(ct, tmp_path):
    with opened(tmp_path, rules=toy_chain.rule("third", "out")) as node:
        settle(ct, node)
        for expected in ("first", "second", "third"):
            name, job = claim(node)
            assert (name, claim(node)) == (expected, ("", None))
            finish(job, node)


@pytest.mark.parametrize("order", list(permutations(("first", "second", "third"))))
def test_what_is_needed_is_done_once_and_goes_where_its_own_rule_says(order, ct, tmp_path):
    rules = "".join(toy_chain.rule(name, "out" if name == "third" else "desk") for name in order)
    with opened(tmp_path, rules=rules) as node:
        jobs = settle(ct, node)
        assert list(jobs) == ["first", "second", "third"]
        assert {name: job.spec.send_to for name, job in jobs.items()} == {
            "first": ("desk",),
            "second": ("desk",),
            "third": ("out",),
        }


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (JobState.REFUSED, "which refused this series: It is too short."),
        (JobState.FAILED, "which failed on this series: It is too short."),
        (JobState.CANCELLED, "which was cancelled for this series: It is too short."),
    ],
)
def test_without_the_result_it_is_refused_and_so_is_what_needs_that(state, told, ct, tmp_path):
    with opened(tmp_path, rules=toy_chain.rule("third", "out")) as node:
        jobs = settle(ct, node)
        end(claim(node)[1], state, node)
        for name in ("second", "third"):
            found, job = claim(node)
            assert found == name
            flow.compute(job, node, lambda *_: None)
        ended = [node.journal.job(jobs[name].id) for name in ("second", "third")]
        assert {(job.state, job.reason_code) for job in ended} == {(JobState.REFUSED, "input-missing")}
        assert ended[0].reason == f"Input 'inside' is a result of first, {told}"
        assert (
            ended[1].reason
            == f"Input 'inside' is a result of second, which refused this series: {ended[0].reason}"
        )


def test_a_retry_wakes_what_was_refused_for_want_of_it(ct, tmp_path):
    with opened(tmp_path, rules=toy_chain.rule("third", "out")) as node:
        settle(ct, node)
        _, first = claim(node)
        end(first, JobState.FAILED, node)
        for _ in range(2):
            flow.compute(claim(node)[1], node, lambda *_: None)
        assert claim(node) == ("", None)
        node.journal.retry(first.id, node.clock())
        for expected in ("first", "second", "third"):
            name, job = claim(node)
            assert (name, claim(node)) == (expected, ("", None))
            finish(job, node)


@pytest.mark.parametrize("how", [JobState.FAILED, JobState.CANCELLED])
@pytest.mark.parametrize("what", ["all again, once it has aged out", "one more that is left out"])
def test_what_was_refused_for_want_of_a_result_is_made_anew_with_it(how, what, tmp_path):
    files = small_ct(tmp_path / "ct")
    header = pydicom.dcmread(files[-1])
    header.ImageType = ["DERIVED", "SECONDARY"]
    header.save_as(files[-1])
    with opened(tmp_path / "node", rules=toy_chain.rule("third", "out")) as node:
        jobs = settle(files[:-1], node)
        end(claim(node)[1], how, node)
        for _ in ("second", "third"):
            flow.compute(claim(node)[1], node, lambda *_: None)
        if what == "one more that is left out":
            again = list(settle(files[-1:], node))
        else:
            node.store.remove(node.journal.forget(jobs["first"].spec.inputs["ct"].series_uid))
            again = list(settle(files[:-1], node))
        if how is JobState.FAILED and what == "one more that is left out":
            assert again == [], "a retry wakes them"
            return
        assert again == ["first", "second", "third"]
        for expected in again:
            name, job = claim(node)
            assert (name, claim(node)) == (expected, ("", None))
            finish(job, node)


def test_results_of_the_time_before_outlines_were_kept_are_made_anew_when_needed(tmp_path):
    files = small_ct(tmp_path / "ct")
    header = pydicom.dcmread(files[-1])
    header.ImageType = ["DERIVED", "SECONDARY"]
    header.save_as(files[-1])
    with opened(tmp_path / "node", rules=toy_chain.rule("first", "desk")) as node:
        settle(files[:-1], node)
        finish(claim(node)[1], node)
    with closing(sqlite3.connect(tmp_path / "node" / "data" / "journal.sqlite")) as db, db:
        db.execute("UPDATE job SET outcome = json_remove(outcome, '$.outlines')")
    with opened(tmp_path / "node") as node:
        assert list(settle(files[-1:], node)) == ["first", "second"]
        finish(claim(node)[1], node)
        name, job = claim(node)
        assert name == "second"
        assert node.journal.made_for(job).keys() == {"inside"}


def test_results_that_could_not_be_sent_are_used_all_the_same(ct, tmp_path):
    rules = toy_chain.rule("first", "desk") + toy_chain.rule("second", "out")
    with opened(tmp_path, rules=rules) as node:
        settle(ct, node)
        _, first = claim(node)
        finish(first, node)
        end(node.journal.job(first.id), JobState.FAILED, node, "desk: it is full.")
        name, second = claim(node)
        assert name == "second"
        assert node.journal.made_for(second).keys() == {"inside"}


def test_results_that_were_withdrawn_are_not_used(ct, tmp_path):
    with opened(tmp_path) as node:
        settle(ct, node)
        _, first = claim(node)
        finish(first, node)
        node.journal.withdraw(first.id, Withdrawal.QUALITY, seen={}, notes={}, now=node.clock())
        with pytest.raises(InputRefused, match=r"result of first, which were withdrawn \(quality\)"):
            node.journal.made_for(claim(node)[1])


def test_a_new_version_of_what_is_needed_makes_other_work_of_it(ct, tmp_path):
    keys = set()
    for version in ("1.0.0", "1.0.1"):
        cards = (toy_chain.card("first", version=version), SECOND)
        with opened(tmp_path / version, cards) as node:
            jobs = settle(ct, node)
            keys.add(jobs["second"].spec.key)
            assert jobs["second"].spec.pipeline_version == "1.0.0"
    assert len(keys) == 2


def test_a_later_slice_takes_the_place_of_both(tmp_path):
    files = small_ct(tmp_path / "ct")
    with opened(tmp_path / "node") as node:
        before = settle(files[:-1], node)
        after = settle(files[-1:], node)
        assert after.keys() == before.keys()
        assert {node.journal.job(job.id).reason_code for job in before.values()} == {"superseded"}
        name, job = claim(node)
        assert (name, job.id) == ("first", after["first"].id)


def test_status_says_what_a_job_waits_for(ct, tmp_path):
    with opened(tmp_path) as node:
        jobs = settle(ct, node)
        (waits,) = node.journal.status()["waiting"]
        assert (waits["job"], waits["pipeline"]) == (jobs["second"].id, "second")
        assert (
            waits["reason"]
            == f"Input 'inside' is a result of first, job {jobs['first'].id}, which is queued."
        )
        finish(claim(node)[1], node)
        assert node.journal.status()["waiting"] == []


@pytest.mark.parametrize(
    ("cards", "complaint"),
    [
        (
            [toy_chain.card("second", "frist"), FIRST],
            "there is no pipeline 'frist', whose result it is; did you mean 'first'?",
        ),
        (
            [toy_chain.card("second", "first", segments=["Left hafl"]), FIRST],
            "'first' has no segment 'Left hafl'; it has 'Left half', 'Right half'; did you mean 'Left half'?",
        ),
        (
            [toy_chain.card("first", "second"), SECOND],
            "pipeline 'first': needs its own result: first needs second needs first",
        ),
        (
            [toy_chain.card("first", "first"), SECOND],
            "pipeline 'first': needs its own result: first needs first",
        ),
        ([toy_chain.card("second", "phantom-inserts"), FIRST], None),
    ],
)
def test_what_cannot_work_is_told_at_start(cards, complaint, tmp_path):
    config = configured(tmp_path, cards, toy_chain.rule("second", "out"))
    if complaint is None:
        parse_rules(config.rules, installed(config.pipelines))
        return
    with pytest.raises(ConfigError) as told:
        parse_rules(config.rules, installed(config.pipelines))
    assert complaint in str(told.value)


@pytest.fixture(scope="module")
def analyzed(ct, tmp_path_factory):
    """Pipeline -> its job, outcome and reports of a chain of three over a CT, with real workers."""
    folder = tmp_path_factory.mktemp("analyzed")
    config = configured(folder, (FIRST, SECOND, THIRD), "")
    result = analyze(ct[0].parent, folder / "out", config, "third", lambda *_: None)
    return {job.spec.pipeline: (job, outcome) for job, outcome in result.jobs}, folder / "out"


def test_the_result_is_seen_voxel_by_voxel(analyzed):
    jobs, _ = analyzed
    assert [jobs[name][0].state for name in ("first", "second", "third")] == [JobState.DONE] * 3
    affine = phantoms.make_affine()
    bright = phantoms.asymmetric_phantom((8, 48, 40), affine).array_hu > 0
    right = bright.copy()
    right[:, :, 20:] = False
    told = {
        name: {row["name"]: row["value"] for row in outcome.summary if not row["segment"]}
        for name, (_, outcome) in jobs.items()
    }
    assert told["second"] == {"Voxels given as 1": right.sum(), "Voxels given as 2": 0}
    assert told["third"] == {"Voxels given as 1": 0, "Voxels given as 2": right.sum()}


def test_only_what_was_asked_for_is_written_and_its_report_names_what_it_was_made_with(analyzed):
    jobs, out = analyzed
    files = [pydicom.dcmread(file) for file in sorted(out.rglob("*.dcm"))]
    assert {file.SOPInstanceUID for file in files} == {
        made.sop_instance_uid for made in jobs["third"][1].objects
    }
    (text,) = [file for file in files if file.SOPClassUID == EnhancedSRStorage]
    told = {element.value for element in text.iterall() if element.keyword == "TextValue"}
    assert "Images of input 'inside': everything as outlined by second 1.0.0, not by a person." in told
    assert [picture.name.split("-")[0] for picture in out.glob("*.png")] == ["third"]
