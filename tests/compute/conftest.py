"""Engines for the tests, and a watch on what they leave behind."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.compute import LocalEngine
from node.compute.process import kill_marked, marked
from node.config import ComputeTable
from tests.compute.unconfined import changed
from tests.harness import eventually, wait_until
from tests.paths import REPOSITORY

SETTLING_S = 10.0


def make_engine(scratch: Path, devices=("cpu",), memory_gb=1.0, **more):
    """Return an engine whose workers run the toys."""
    config = ComputeTable(devices=devices, memory_gb=memory_gb)
    toys = [REPOSITORY / "tests"]
    return LocalEngine(config, scratch=scratch, **{"readable": toys, "sources": toys, **more})


def gone(pid: int, within_s: float = 2.0) -> bool:
    """Say whether a process is gone (or a zombie that its new parent will reap) in time."""
    return eventually(lambda: _is_gone(pid), within_s)


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[LocalEngine]:
    """One CPU slot, shared by the tests of a module: each must find it in order."""
    made = make_engine(tmp_path_factory.mktemp("scratch") / "scratch")
    yield made
    made.close()


@pytest.fixture(scope="module")
def free_engine(tmp_path_factory) -> Iterator[LocalEngine]:
    """The same on a kernel that shuts nothing in."""
    scratch = tmp_path_factory.mktemp("scratch") / "scratch"
    with changed(scratch):
        made = make_engine(scratch)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path) -> Iterator[None]:
    """After a test: no more descriptors, threads, workers or zombies than a warm engine needs."""
    before = _descriptors(), threading.active_count()
    yield
    left = marked(f"{tmp_path}/")
    kill_marked(f"{tmp_path}/")  # a test that fails must not be the one that litters
    assert left == set()
    # What was killed has ended a moment later, and what read its output a moment after that.
    wait_until(lambda: _descriptors() <= before[0] + 8, "files closed", SETTLING_S)
    wait_until(lambda: threading.active_count() <= before[1] + 2, "threads ended", SETTLING_S)
    wait_until(lambda: "Z" not in _children(), "zombies reaped", SETTLING_S)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _children() -> list[str]:
    """Return the state of each child process, as a letter."""
    states = []
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        with contextlib.suppress(OSError):
            states.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    return states
