"""What cannot be logged is done all the same."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from node import log
from tests.peers import RecordingPacs
from tests.toy_node import RESULTS_PER_JOB, make_node, send, small_ct


@pytest.fixture
def log_to(monkeypatch):
    """Return what sends the log to a stream."""

    def begin(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        log.configure()
        return log.get_log("test")

    return begin


def a_full_disk():
    return Path("/dev/full").open("w", encoding="utf-8")


def a_pipe_that_nobody_reads():
    theirs, ours = os.pipe()
    os.close(theirs)
    return os.fdopen(ours, "w", encoding="utf-8")


@pytest.mark.parametrize("place", [a_full_disk, a_pipe_that_nobody_reads])
def test_a_line_that_cannot_be_written_ends_nothing(log_to, place):
    told = log_to(stream := place())
    for method in (told.info, told.warning, told.error):
        method("job_moved", job=1)
    with suppress(OSError):  # what it could not write is still in its buffer
        stream.close()
    told.error("job_moved", job=1)


def test_lines_go_where_standard_error_is_now(log_to, monkeypatch):
    told = log_to(before := io.StringIO())
    told.info("job_moved", job=1)
    assert json.loads(before.getvalue())["job"] == 1
    before.close()
    monkeypatch.setattr(sys, "stderr", now := io.StringIO())
    told.info("job_moved", job=2)
    assert json.loads(now.getvalue())["job"] == 2


def test_without_standard_error_nothing_is_logged(log_to, capsys):
    log_to(None).error("job_moved", job=1)
    assert capsys.readouterr().out == ""


def test_a_node_whose_log_has_no_room_does_its_work(tmp_path):
    with RecordingPacs() as archive, Path("/dev/full").open("wb") as full:
        node = make_node(tmp_path / "node", archive.port)
        node.start(stderr=full)
        try:
            assert len(send(small_ct(tmp_path / "ct"), node.port)) == 8
            node.wait_idle()
            assert len(archive.received) == RESULTS_PER_JOB
        finally:
            node.kill()
