"""Failpoints do what they are told, where and when they are told, and nothing else."""

from __future__ import annotations

import errno
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from node import failpoint as module
from node.failpoint import NAMES, FailpointRaised, failpoint
from tests.paths import REPOSITORY


@pytest.fixture(autouse=True)
def no_passages(monkeypatch):
    monkeypatch.setattr(module, "_passages", Counter())
    monkeypatch.delenv("RADNODE_FAILPOINTS_ONCE", raising=False)


def told(monkeypatch, spec):
    monkeypatch.setenv("RADNODE_FAILPOINTS", spec)


def test_nothing_happens_unless_asked(monkeypatch):
    monkeypatch.delenv("RADNODE_FAILPOINTS", raising=False)
    for name in NAMES:
        failpoint(name)


def test_only_the_named_place_acts(monkeypatch):
    told(monkeypatch, "send.connected=raise")
    failpoint("send.answered")
    with pytest.raises(FailpointRaised, match=r"send\.connected"):
        failpoint("send.connected")


def test_a_passage_can_be_chosen(monkeypatch):
    told(monkeypatch, "send.connected=raise@3")
    failpoint("send.connected")
    failpoint("send.connected")
    with pytest.raises(FailpointRaised):
        failpoint("send.connected")
    failpoint("send.connected")


def test_one_place_may_have_several_actions_each_at_its_passage(monkeypatch):
    told(monkeypatch, "send.connected=raise@1,send.connected=enospc@2")
    with pytest.raises(FailpointRaised):
        failpoint("send.connected")
    with pytest.raises(OSError):
        failpoint("send.connected")


def test_a_place_can_act_only_once_over_all_restarts(monkeypatch, tmp_path):
    told(monkeypatch, "send.connected=raise")
    monkeypatch.setenv("RADNODE_FAILPOINTS_ONCE", str(tmp_path))
    with pytest.raises(FailpointRaised):
        failpoint("send.connected")
    module._passages.clear()  # as after a restart
    failpoint("send.connected")


def test_the_disk_can_be_full(monkeypatch):
    told(monkeypatch, "accept.spooled=enospc")
    with pytest.raises(OSError) as caught:
        failpoint("accept.spooled")
    assert caught.value.errno == errno.ENOSPC


def test_time_can_pass(monkeypatch):
    told(monkeypatch, "accept.synced=raise,compute.staged=sleep:0.05")
    begun = time.monotonic()
    failpoint("compute.staged")
    assert time.monotonic() - begun >= 0.05


def test_a_kill_leaves_no_time_for_anything():
    code = "import atexit; atexit.register(print, 'still here'); from node.failpoint import failpoint; "
    done = subprocess.run(
        [sys.executable, "-c", code + "failpoint('send.finished')"],
        env={"RADNODE_FAILPOINTS": "send.finished=kill"},
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""


@pytest.mark.parametrize("spec", ["send.finished=explode", "send.finished", "send.finished=sleep:long"])
def test_an_action_nobody_knows_is_an_error(monkeypatch, spec):
    told(monkeypatch, spec)
    with pytest.raises(ValueError):
        failpoint("send.finished")


def test_a_place_nobody_registered_is_an_error():
    with pytest.raises(ValueError, match=r"'send\.nowhere' is no failpoint"):
        failpoint("send.nowhere")


def test_every_registered_place_is_in_the_code_and_every_place_in_the_code_is_registered():
    used = {
        name
        for path in (REPOSITORY / "node").rglob("*.py")
        for name in re.findall(r'failpoint\("([a-z.]+)"\)', path.read_text(encoding="utf-8"))
    }
    assert used == set(NAMES)
