"""Whatever is done to the journal, in whatever order: jobs move only as the table allows."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from node.config import KeepTable
from node.errors import IllegalTransition, NodeError
from node.job import OPEN, TRANSITIONS, JobState
from node.journal import Journal
from tests.journal_makers import NOON, a_receipt, a_spec, an_instance, an_outcome

SERIES = ("1.2.1", "1.2.2")


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.journal = Journal.open(Path(self.folder.name))
        self.now = NOON
        self.seen = []  # every job as somebody once saw it: stale ones included
        self.receipts: set[tuple[int, str, str]] = set()

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()

    def ids(self) -> list[int]:
        return [job.id for job in self.journal.jobs()]

    def attempt(self, doing) -> None:
        try:
            job = doing()
        except (IllegalTransition, NodeError):  # NodeError: its series has aged out
            return
        if job is not None:
            self.seen.append(job)

    @rule(series=st.sampled_from(SERIES), number=st.integers(1, 6))
    def record(self, series, number):
        self.journal.record(an_instance(number, series=series, at=self.now))

    @rule(series=st.sampled_from(SERIES), send_to=st.sampled_from([(), ("a",), ("a", "b")]))
    def plan(self, series, send_to):
        held = self.journal.series(series)
        if held is None:
            return
        numbers = [int(i.sop_instance_uid.rpartition(".")[2]) for i in held.instances]
        specs = [a_spec(series=series, numbers=numbers, send_to=send_to)]
        self.seen += self.journal.plan(
            series, expected_count=len(numbers), specs=specs, reason="", now=self.now
        )

    @rule(series=st.sampled_from(SERIES))
    def forget(self, series):
        if series in self.journal.expired(self.now + timedelta(days=1000), KeepTable()):
            self.journal.forget(series)

    @rule(seconds=st.integers(1, 100))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule()
    def claim(self):
        self.attempt(lambda: self.journal.claim(self.now))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), to=st.sampled_from(JobState), later=st.integers(0, 50))
    def move(self, data, to, later):
        job = data.draw(st.sampled_from(self.seen))
        at = self.now + timedelta(seconds=later)
        self.attempt(lambda: self.journal.move(job, to, reason="a test", now=self.now, not_before=at))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), count=st.integers(0, 3))
    def save_results(self, data, count):
        job = data.draw(st.sampled_from(self.seen))
        self.attempt(lambda: self.journal.save_results(job, an_outcome(job.id, count=count), self.now))

    @rule(data=st.data())
    def deliver(self, data):
        due = self.journal.due(self.now)
        if not due:
            return
        owed = data.draw(st.sampled_from(due))
        thing = data.draw(st.sampled_from(owed.objects))
        what = data.draw(st.sampled_from(["keep", "postpone", "park"]))
        told = {"code": "peer-busy", "reason": "a test"}
        if what == "keep":
            uid = thing.sop_instance_uid
            self.journal.keep(owed.job_id, a_receipt(uid, destination=owed.destination, at=self.now))
            self.receipts.add((owed.job_id, owed.destination, uid))
        elif what == "postpone":
            later = self.now + timedelta(seconds=30)
            self.journal.postpone(owed.job_id, owed.destination, not_before=later, **told)
        else:
            self.journal.park(owed.job_id, owed.destination, **told)
        self.attempt(lambda: self.journal.finish(owed.job_id, self.now))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), verb=st.sampled_from(["retry", "cancel", "finish"]))
    def operate(self, data, verb):
        job_id = data.draw(st.sampled_from(self.ids()))
        self.attempt(lambda: getattr(self.journal, verb)(job_id, self.now))

    @rule()
    def restart(self):
        self.journal.close()
        self.journal = Journal.open(Path(self.folder.name))
        self.seen += self.journal.recover(self.now, tries=3)

    @invariant()
    def every_job_moved_as_the_table_allows(self):
        for job in self.journal.jobs():
            events = self.journal.events(job.id)
            assert (events[0].from_state, events[0].to_state) == (None, JobState.QUEUED)
            for before, event in pairwise(events):
                assert event.from_state is before.to_state
                assert (event.from_state, event.to_state) in TRANSITIONS
                claimed = event.to_state is JobState.COMPUTING
                assert event.fence == before.fence + claimed
            assert (events[-1].to_state, events[-1].fence) == (job.state, job.fence)

    @invariant()
    def done_means_that_every_destination_has_everything(self):
        for job in self.journal.jobs(JobState.DONE):
            for thing in self.journal.results(job.id):
                for destination in job.spec.send_to:
                    assert (job.id, destination, thing.sop_instance_uid) in self.receipts

    @invariant()
    def the_same_work_is_queued_once(self):
        keys = [job.spec.key for job in self.journal.jobs() if job.state in OPEN]
        assert len(keys) == len(set(keys))


JournalMachine.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
test_no_order_of_events_leads_to_an_illegal_state = JournalMachine.TestCase
