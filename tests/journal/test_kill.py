"""Kill -9 at any moment: no job is lost, none is committed twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from node.job import JobState
from node.journal import Journal
from tests.journal_makers import NOON, a_job
from tests.paths import REPOSITORY

WORKER = """
import sys, time
from pathlib import Path
from node.errors import JournalUnavailable
from node.journal import Journal
from tests.journal_makers import NOON, an_instance, an_outcome, a_receipt
journal, number = Journal.open(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
while True:
    journal.record(an_instance(number, series="1.9"))
    number += 2
    print(number, flush=True)
    job = journal.claim(NOON)
    if job is None:
        time.sleep(0.01)
        continue
    journal.save_results(job, an_outcome(job.id), NOON)
    for owed in journal.due(NOON):
        if owed.job_id == job.id:
            for thing in owed.objects:
                journal.keep(job.id, a_receipt(thing.sop_instance_uid, destination=owed.destination))
    journal.finish(job.id, NOON)
"""


@pytest.mark.faults
def test_workers_killed_at_any_moment_lose_nothing_and_commit_nothing_twice(tmp_path):
    journal = Journal.open(tmp_path)
    jobs = [a_job(journal, series=f"1.2.{number}", send_to=("archive", "research")) for number in range(40)]
    chance = random.Random(1)
    acknowledged = 0
    for round_ in range(4):
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(tmp_path), str(round_ * 1_000_000 + side)],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for side in (0, 1)
        ]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.1, 0.5))
        for worker in workers:
            worker.kill()
            acknowledged += len(worker.stdout.read().splitlines())
            worker.wait()
        journal.recover(NOON)

    assert journal.jobs(JobState.COMPUTING) == []
    while (job := journal.claim(NOON)) is not None:
        journal.cancel(job.id, NOON)  # not reached in time: at least it can be claimed
    for job in jobs:
        moves = Counter(event.to_state for event in journal.events(job.id))
        state = journal.job(job.id).state
        assert moves[JobState.SENDING] <= 1
        assert len(journal.results(job.id)) == 2 * moves[JobState.SENDING]
        assert state in (JobState.SENDING, JobState.DONE, JobState.CANCELLED)
        if state is JobState.DONE:
            assert len(journal.receipts(job.id)) == 4
        if state is JobState.SENDING:  # killed between commit and the last receipt: still owed
            assert any(owed.job_id == job.id for owed in journal.due(NOON))
    # What was printed had been committed; at most one more per kill was committed and not printed.
    recorded = len(journal.series("1.9").instances)
    assert acknowledged <= recorded <= acknowledged + 8
    with journal._reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    journal.close()
