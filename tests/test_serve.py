"""The loops go on, whatever one thing in them does."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from node import flow
from node.accept import spool_file
from node.config import read_config
from node.job import JobState
from node.serve import _computer, open_node
from tests.harness import wait_until
from tests.toy_node import make_node, small_ct


@pytest.fixture
def node(tmp_path, monkeypatch):
    """An open node without any loop, which holds one planned job."""
    monkeypatch.setattr("node.journal.database.BUSY_S", 0.2)
    config = read_config(make_node(tmp_path / "node", archive_port=9).config)
    with open_node(config) as opened:
        for file in small_ct(tmp_path / "ct"):
            instance = flow.receive(*spool_file(file, opened.store), opened)
        (job,) = flow.plan(instance.series_uid, opened)
        assert job.id == 1
        yield opened


def test_a_disk_that_is_full_for_a_moment_costs_a_job_one_try(node, monkeypatch):
    monkeypatch.setenv("RADNODE_FAILPOINTS", "compute.claimed=enospc")
    _computer(node, threading.Event())()
    job = node.journal.job(1)
    assert (job.state, job.reason_code, job.tries) == (JobState.QUEUED, "stumbled", 1)


def test_a_job_whose_end_the_journal_did_not_take_is_given_up_when_it_does(node, monkeypatch):
    monkeypatch.setenv("RADNODE_FAILPOINTS", "compute.claimed=sleep:1,compute.claimed=enospc")
    slot = threading.Thread(target=_computer(node, threading.Event()))
    slot.start()
    wait_until(lambda: node.journal.job(1).state is JobState.COMPUTING, "the job is claimed")
    with sqlite3.connect(node.config.node.data / "journal.sqlite") as other:
        other.execute("BEGIN IMMEDIATE")
        slot.join(3.0)
        assert slot.is_alive(), "it waits for the journal"
        assert node.journal.job(1).state is JobState.COMPUTING
    slot.join()
    assert node.journal.job(1).state is JobState.QUEUED
