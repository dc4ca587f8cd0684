"""Chains and rules on results in a node of its own process, which is killed between all that is durable."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.job import JobState, Withdrawal
from node.journal import Journal
from pipelines.contract import InputRefused
from tests import toy_chain
from tests.harness import NodeProcess
from tests.journal_makers import NOON, a_spec, after, an_instance, an_outcome
from tests.peers import RecordingPacs
from tests.toy_node import SERVED, read, received, send, small_ct

pytestmark = pytest.mark.long

CARDS = (toy_chain.card("first"), toy_chain.card("second", "first"), toy_chain.card("other", above=300))
IF_FOUND = '[rules.results.second]\npresent = ["Left half", "Right half"]'
RULES = toy_chain.rule("second", "archive") + toy_chain.rule("other", "archive", more=IF_FOUND)
#: Each kills the node once: jobs queued, a result that another job waits for, what follows from it.
PLACES = ("assign.enqueued", "compute.committed", "assign.followed")


@pytest.mark.slow
@pytest.mark.faults
def test_killed_anywhere_between_each_step_is_done_once(tmp_path):
    once = tmp_path / "once"
    once.mkdir()
    faults = {
        "RADNODE_FAILPOINTS": ",".join(f"{name}=kill" for name in PLACES),
        "RADNODE_FAILPOINTS_ONCE": str(once),
    }
    folder = tmp_path / "node"
    folder.mkdir()
    files = small_ct(tmp_path / "ct", slices=4)
    with RecordingPacs() as archive:
        toys = toy_chain.install(folder, *CARDS)
        node = NodeProcess(folder, SERVED.format(quiet_s=0.5, pipelines=toys, port=archive.port) + RULES)
        node.start(env=faults)
        assert len(send(files, node.port)) == len(files)
        for _ in PLACES:
            node.wait_dead()
            with suppress(AssertionError):  # it may be killed before it has said that it is ready
                node.start(env=faults)
        status = node.wait_idle()
        assert node.stop() == 0
        found = received(archive)
    assert {path.name for path in once.iterdir()} == set(PLACES)
    assert (status["jobs"]["done"], status["unfollowed"]) == (3, 0)
    assert sum(status["jobs"].values()) == 3
    assert all(len(set(encodings)) == 1 for encodings in found.values())
    titles = {read(encodings[0]).SeriesDescription.split(" ")[0] for encodings in found.values()}
    assert titles == {"second", "other"}, "what was only needed is kept, not sent"


#: What may happen, with the number of the job that it happens to, if there is one.
EVENTS = st.tuples(
    st.sampled_from(["claim", "finish", "refuse", "fail", "again", "retry", "cancel", "withdraw", "restart"]),
    st.integers(0, 2),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, max_size=25))
def test_in_whatever_order_things_happen_no_job_runs_before_what_it_needs(events, tmp_path_factory):
    journal = Journal.open(tmp_path_factory.mktemp("journal"))
    first = a_spec(pipeline="first")
    second = a_spec(pipeline="second", needs={"inside": first.key})
    third = a_spec(pipeline="third", needs={"inside": second.key})
    for number in range(1, 4):
        journal.record(an_instance(number))
    jobs = journal.plan("1.2.3", expected_count=3, specs=[first, second, third], reason="", now=NOON)
    try:
        for step, (what, which) in enumerate(events):
            happen(journal, jobs, what, which, after(step))
    finally:
        journal.close()


def happen(journal, jobs, what, which, now):
    """Let one thing happen, where it can; see that whatever begins has what it needs, or ends."""
    job = journal.job(jobs[which].id)
    before = [journal.job(one.id) for one in jobs]
    if what == "claim":
        claimed = journal.claim(now)
        if claimed is None or claimed.id == jobs[0].id:
            return
        needed = before[[one.id for one in jobs].index(claimed.id) - 1]
        assert needed.state not in (JobState.QUEUED, JobState.COMPUTING)
        try:
            journal.made_for(claimed)
        except InputRefused as refusal:
            journal.move(claimed, JobState.REFUSED, code=refusal.code, reason=refusal.sentence, now=now)
        else:
            assert journal.results(needed.id)
    elif what == "restart":
        journal.recover(now)
    elif what == "retry" and job.state is JobState.FAILED:
        journal.retry(job.id, now)
    elif what == "cancel" and job.state in (JobState.QUEUED, JobState.COMPUTING):
        journal.cancel(job.id, now)
    elif what == "withdraw" and job.state is JobState.SENDING and not journal.notes(job.id):
        if not journal.to_reject(job.id):
            journal.withdraw(job.id, Withdrawal.QUALITY, seen={}, notes={}, now=now)
    elif job.state is JobState.COMPUTING and what in ("finish", "refuse", "fail", "again"):
        if what == "finish":
            journal.save_results(job, an_outcome(job.id, outlines="0" * 64), now)
        else:
            to = {"refuse": JobState.REFUSED, "fail": JobState.FAILED, "again": JobState.QUEUED}[what]
            journal.move(job, to, code="toy", reason="It is too short.", now=now)
