"""What /proc says about processes and their memory."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import pytest

from node.compute.process import MARK, group_members, kill_all, marked, memory_bytes, signal_name
from tests.compute.conftest import gone


@pytest.fixture
def family():
    """A process group of two, and a third process that left it; all with one mark."""
    mark = f"test-{uuid.uuid4().hex}"
    script = "setsid sleep 600 & sleep 600 & echo $!; wait"
    leader = subprocess.Popen(
        ["/bin/sh", "-c", script],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    child = int(leader.stdout.readline())
    yield leader, child, mark
    kill_all(leader.pid, mark)
    leader.wait()
    leader.stdout.close()


def test_a_group_has_its_members_and_a_mark_finds_those_who_left_it(family):
    leader, child, mark = family
    for _ in range(200):
        if len(marked(mark)) == 3:
            break
    assert group_members(leader.pid) == {leader.pid, child}
    assert {leader.pid, child} < marked(mark)
    assert len(marked(mark)) == 3
    assert marked("another-" + mark) == set()


def test_killing_spares_nobody_of_the_family_and_nobody_else(family):
    leader, _, mark = family
    other = subprocess.Popen(["sleep", "600"])
    everyone = marked(mark)
    kill_all(leader.pid, mark)
    assert marked(mark) == set()
    assert all(gone(pid) for pid in everyone)
    assert other.poll() is None
    other.kill()
    other.wait()


def test_memory_that_forked_processes_share_is_counted_once():
    code = (
        "import os, sys; a = bytearray(b'x') * (200 << 20); os.fork(); "
        "os.write(1, f'{os.getpid()}\\n'.encode()); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pids = {int(process.stdout.readline()), int(process.stdout.readline())}
    cheap, exact = memory_bytes(pids, worth_above=1 << 40), memory_bytes(pids, worth_above=0)
    process.communicate("")
    assert cheap > 400 << 20
    assert 200 << 20 < exact < 260 << 20


def test_processes_that_are_gone_have_no_memory():
    assert memory_bytes({2**22 + 1}, worth_above=0) == 0


def test_signals_have_names():
    assert signal_name(11) == "SIGSEGV"
    assert signal_name(64 + 20) == "a signal without a name"
