"""The loops go on, whatever one thing in them does."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime

import pytest

from node import flow
from node.accept import spool_file
from node.config import read_config
from node.job import JobState
from node.loops import _canceller, _computer, _sender
from node.serve import open_node, utc_now
from tests.harness import wait_until
from tests.peers import RecordingPacs
from tests.toy_node import RESULTS_PER_JOB, make_node, send, small_ct


@pytest.fixture
def archive():
    with RecordingPacs() as peer:
        yield peer


@pytest.fixture
def node(tmp_path, monkeypatch, archive):
    """An open node without any loop, which holds two planned jobs."""
    monkeypatch.setattr("node.journal.database.BUSY_S", 0.2)
    config = read_config(make_node(tmp_path / "node", archive.port).config)
    with open_node(config) as opened:
        for seed in ("one", "two"):
            for file in small_ct(tmp_path / seed, seed=seed):
                instance = flow.receive(*spool_file(file, opened.store), opened)
            assert len(flow.plan(instance.series_uid, opened)) == 1
        yield opened


def test_a_disk_that_is_full_for_a_moment_costs_a_job_one_try(node, monkeypatch):
    monkeypatch.setenv("RADNODE_FAILPOINTS", "compute.claimed=enospc")
    _computer(node, set(), threading.Event())()
    job = node.journal.job(1)
    assert (job.state, job.reason_code, job.tries) == (JobState.QUEUED, "stumbled", 1)


def test_a_job_whose_end_the_journal_did_not_take_is_given_up_when_it_does(node, monkeypatch):
    monkeypatch.setenv("RADNODE_FAILPOINTS", "compute.claimed=enospc")
    monkeypatch.setattr("node.loops.STRANDED_PAUSE_S", 0.05)
    journal = node.config.node.data / "journal.sqlite"
    asked: list[datetime] = []

    with closing(sqlite3.connect(journal, isolation_level=None, check_same_thread=False)) as other:

        def clock() -> datetime:
            asked.append(utc_now())
            if len(asked) == 2:  # the first is for the claim; now the end is to be written down
                other.execute("BEGIN IMMEDIATE")
            return asked[-1]

        slot = threading.Thread(target=_computer(replace(node, clock=clock), set(), threading.Event()))
        slot.start()
        wait_until(lambda: len(asked) > 4 or not slot.is_alive(), "it tries again")
        assert slot.is_alive(), "it waits for the journal"
        assert node.journal.job(1).state is JobState.COMPUTING
        other.execute("ROLLBACK")
        slot.join()
    assert node.journal.job(1).state is JobState.QUEUED


def test_a_delivery_that_goes_wrong_in_an_unforeseen_way_does_not_hold_up_the_next(
    node, archive, monkeypatch, tmp_path
):
    compute = _computer(node, set(), threading.Event())
    assert compute() and compute()
    monkeypatch.setenv("RADNODE_FAILPOINTS", "send.connected=raise")
    monkeypatch.setenv("RADNODE_FAILPOINTS_ONCE", str(tmp_path))
    _sender(node, "archive", threading.Event())()
    assert len(archive.received) == RESULTS_PER_JOB
    assert [node.journal.job(number).state for number in (1, 2)] == [JobState.SENDING, JobState.DONE]
    (trouble,) = node.journal.status()["deliveries"]["troubled"]
    assert (trouble["job"], trouble["code"], trouble["parked"]) == (1, "stumbled", False)


def test_a_backlog_of_deliveries_does_not_hold_up_a_stop(node, archive):
    compute = _computer(node, set(), threading.Event())
    assert compute() and compute()
    stop = threading.Event()
    stop.set()
    _sender(node, "archive", stop)()
    assert archive.received == []


def test_only_a_job_that_computes_is_looked_at_for_a_cancellation(node, monkeypatch):
    monkeypatch.setenv("RADNODE_FAILPOINTS", "compute.loaded=sleep:60")
    under_way: set[int] = set()
    slot = threading.Thread(target=_computer(node, under_way, threading.Event()))
    slot.start()
    wait_until(lambda: under_way == {1}, "the job is under way")
    node.journal.cancel(1, utc_now())
    wait_until(lambda: _canceller(node, under_way)() or not under_way, "the worker is ended")
    slot.join()
    assert node.journal.job(1).state is JobState.CANCELLED


@pytest.mark.long
def test_a_silent_archive_does_not_hold_up_the_end(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        running = make_node(tmp_path / "node", silent.getsockname()[1])
        running.start()
        try:
            assert len(send(small_ct(tmp_path / "ct"), running.port)) == 8
            silent.settimeout(60)
            with silent.accept()[0] as heard:
                assert heard.recv(1), "it sends"
                started = time.monotonic()
                assert running.stop() == 0
                assert time.monotonic() - started < 3 + 4, "drain_s = 3, and a moment"
        finally:
            running.kill()
        status = running.status()
    assert status["jobs"]["sending"] == 1, "the next start delivers"


def test_results_of_a_job_that_is_cancelled_at_the_very_commit_leave_no_files(node, monkeypatch):
    job = node.journal.claim(node.clock())
    adopt = type(node.staging).adopt

    def adopt_and_cancel(staging, folder):
        outcome = adopt(staging, folder)
        assert list(staging.results.iterdir())
        node.journal.cancel(job.id, utc_now())
        return outcome

    monkeypatch.setattr(type(node.staging), "adopt", adopt_and_cancel)
    flow.compute(job, node, report=lambda _step, _fraction: None)
    assert node.journal.job(job.id).state is JobState.CANCELLED
    assert not list(node.staging.results.iterdir())
