"""The local engine against work that goes wrong in every way: each costs one job, never the node."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from node.compute import Task, supervisor
from node.compute.local import resolve_devices
from node.compute.process import group_members
from node.errors import (
    Cancelled,
    ComputeError,
    ConfigError,
    EncodeError,
    FindingsInvalid,
    MemoryExceeded,
    NodeError,
    NodeStopping,
    PipelineFailed,
    TimedOut,
    WorkerLost,
)
from pipelines.contract import InputRefused
from tests.compute.conftest import gone, make_engine
from tests.paths import REPOSITORY

numbers = itertools.count(1)


TOYS = "tests.compute.toys:work"


def do(
    engine, what, *, timeout_s=20.0, on_progress=lambda *_: None, key="toy", job_id=None, more=None, **payload
):
    task = Task(
        **{"key": key, "target": TOYS, "job_id": job_id or next(numbers), "payload": {"do": what, **payload}}
        | (more or {})
    )
    return engine.run(task, timeout_s=timeout_s, on_progress=on_progress)


def test_a_warm_worker_does_one_task_after_another(engine):
    first, second = do(engine, "ok"), do(engine, "ok")
    assert first["pid"] == second["pid"] != os.getpid()
    assert second["calls"] == first["calls"] + 1
    assert first["device"] == "cpu"


def test_progress_comes_through(engine):
    told = []
    do(engine, "ok", on_progress=lambda *said: told.append(said))
    assert told == [("begin", 0.0), ("half", 0.5)]


def test_a_large_payload_goes_through(engine):
    answer = do(engine, "echo", text="x" * 3_000_000 + "ender")
    assert (answer["length"], answer["end"]) == (3_000_005, "ender")


#: Said where the limit to its data is met before the node has weighed the worker, which is not always so.
SHORT = r"The worker got no more memory \(MemoryError at toys\.py:\d+\)\."
CONTAINED = [
    ("raise_error", PipelineFailed, r"The work ended with ValueError at toys\.py:\d+\."),
    ("raise_base", PipelineFailed, r"The work ended with BaseException at toys\.py:\d+\."),
    ("raise_node", EncodeError, r"The object would be wrong\."),
    ("raise_invalid", FindingsInvalid, r"The label map \[31m has the wrong shape\. "),
    ("exit_zero", PipelineFailed, r"The work ended with SystemExit at toys\.py:\d+\."),
    ("exit_at_once", WorkerLost, r"The worker left with exit code 3\."),
    ("segfault", WorkerLost, r"The worker died of signal 11 \(SIGSEGV\)\."),
    ("abort", WorkerLost, r"The worker died of signal 6 \(SIGABRT\)\."),
    ("illegal", WorkerLost, r"The worker died of signal 4 \(SIGILL\)\."),
    ("kill_self", WorkerLost, r"The worker died of signal 9 \(SIGKILL\), as when .* runs out of memory\."),
    (
        "eat_memory",
        MemoryExceeded,
        rf"The worker used 1\.\d GB of memory, more than the 1\.0 GB .*|{SHORT}",
    ),
    ("be_short_of_memory", MemoryExceeded, SHORT),
    ("eat_memory_in_a_child", MemoryExceeded, r"The worker used 1\.\d GB of memory, more than .*"),
    ("print_and_die", WorkerLost, r"The worker died of signal 6 \(SIGABRT\)\."),
    ("talk_nonsense", WorkerLost, r"The worker talked nonsense \(a message of \d+ bytes is too long\) .*"),
    ("close_pipes", WorkerLost, r"The worker (closed its pipe without an answer|died of signal 9.*)\.?"),
    ("answer_badly", PipelineFailed, r"The work ended with TypeError at encoder\.py:\d+\."),
]


@pytest.mark.faults
@pytest.mark.parametrize(("toy", "kind", "sentence"), CONTAINED, ids=[c[0] for c in CONTAINED])
def test_a_failure_costs_one_task_and_the_next_has_a_fresh_worker(engine, free_engine, toy, kind, sentence):
    engine = free_engine if "child" in toy else engine
    before = do(engine, "ok")["pid"]
    with pytest.raises(NodeError) as caught:
        do(engine, toy)
    assert type(caught.value) is kind
    assert re.fullmatch(sentence, str(caught.value)), str(caught.value)
    assert "CANARY" not in str(caught.value)
    begun = time.monotonic()
    after = do(engine, "ok")
    assert time.monotonic() - begun < 5
    assert after["calls"] == 1
    assert after["pid"] != before
    assert gone(before)


@pytest.mark.faults
def test_an_answer_too_long_to_carry_costs_one_task(engine):
    with pytest.raises(ComputeError):
        do(engine, "answer_hugely")
    assert do(engine, "ok")["calls"] == 1


def test_a_refusal_is_an_answer_like_any_other(engine):
    before = do(engine, "ok")["pid"]
    with pytest.raises(InputRefused) as caught:
        do(engine, "refuse")
    assert caught.value.code == "slice-gap"
    assert caught.value.sentence == "There is a gap of 5 mm after slice 12."
    assert do(engine, "ok")["pid"] == before


@pytest.mark.faults
def test_a_hang_in_native_code_that_ignores_sigterm_is_killed_soon_after_the_deadline(engine):
    before = do(engine, "ok")["pid"]
    begun = time.monotonic()
    with pytest.raises(TimedOut, match=r"longer than 0\.5 s"):
        do(engine, "hang", timeout_s=0.5)
    assert 0.5 <= time.monotonic() - begun < 5
    assert gone(before)
    assert do(engine, "ok")["calls"] == 1


@pytest.mark.faults
@pytest.mark.parametrize("toy", ["leave_child", "leave_daemon", "fork_without_exec"])
def test_processes_left_behind_by_a_good_task_are_ended(free_engine, toy):
    answer = do(free_engine, toy)
    assert gone(answer["child"])
    assert gone(answer["pid"])
    assert do(free_engine, "ok")["calls"] == 1


@pytest.mark.faults
def test_threads_left_behind_do_not_keep_a_worker_alive(tmp_path):
    engine = make_engine(tmp_path / "scratch")
    pid = do(engine, "leave_thread")["pid"]
    engine.close()
    assert gone(pid)


def test_work_that_removes_its_own_folder_keeps_its_answer_and_the_next_finds_another(free_engine):
    first = do(free_engine, "remove_home")
    assert do(free_engine, "ok")["pid"] != first["pid"]


def test_an_answer_ahead_of_the_next_task_is_given_to_nobody(engine):
    first = do(engine, "answer_twice")
    answer = do(engine, "ok")
    assert answer["pid"] != first["pid"]
    assert "cwd" in answer


NO_ROOM = OSError(28, "No space left on device")


@pytest.mark.parametrize("what", ["mkdtemp", "mkdir", "pipe", "popen"])
def test_an_answer_is_kept_where_no_next_worker_can_be_started(what, free_engine, monkeypatch):
    def fail(*_arguments, **_more):
        raise NO_ROOM

    where = {
        "mkdtemp": (supervisor.tempfile, "mkdtemp"),
        "mkdir": (Path, "mkdir"),
        "pipe": (os, "pipe"),
        "popen": (supervisor.subprocess, "Popen"),
    }
    first = do(free_engine, "ok")
    scratch = free_engine._scratch
    with monkeypatch.context() as broken:
        broken.setattr(*where[what], fail)
        assert do(free_engine, "remove_home") is not None  # after which its worker is of no use
        with pytest.raises(
            WorkerLost, match=r"No worker process could be started: No space left on device\."
        ):
            do(free_engine, "ok")
        kept = {slot.worker._folder for slot in free_engine._slots if slot.worker is not None}
        assert {*scratch.glob("worker-*")} == kept
    again = do(free_engine, "ok")
    assert again["pid"] != first["pid"]


def test_a_worker_that_has_ended_is_not_killed_again(engine, monkeypatch):
    slot, *_ = engine._slots
    slot.worker.end()
    killed = []
    monkeypatch.setattr(os, "killpg", lambda *said: killed.append(said))
    slot.worker.end()
    assert killed == []


def test_files_left_behind_are_removed(engine):
    answer = do(engine, "leave_files")
    assert not Path(answer["folder"]).exists()
    assert do(engine, "ok")["pid"] == answer["pid"]
    assert list(Path(do(engine, "ok")["cwd"]).iterdir()) == []


@pytest.mark.faults
def test_output_without_end_is_capped_and_harmless(engine):
    do(engine, "print_much")
    slot, *_ = engine._slots
    deadline = time.monotonic() + 2
    while "the last line" not in "".join(slot.worker.tail) and time.monotonic() < deadline:
        time.sleep(0.02)
    tail = slot.worker.tail
    assert tail[-1] == " ]0;title the last line"
    assert len(tail) <= 20
    assert all(line.isprintable() and len(line) <= 203 for line in tail)


def test_progress_without_end_and_out_of_range_is_held_in_check(engine):
    told = []
    do(engine, "report_nonstop", on_progress=lambda *said: told.append(said))
    assert len(told) < 200
    assert told[-1] == ("done", 1.0)
    do(engine, "garble_arguments", on_progress=lambda *said: told.append(said))
    assert told[-1][0].isprintable()
    assert told[-1][1] == 0.0


def test_a_worker_has_a_private_folder_no_secrets_and_a_narrow_umask(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    monkeypatch.setenv("RADNODE_FAILPOINTS", "send.finished=kill")
    engine = make_engine(tmp_path / "scratch")
    answer = do(engine, "ok")
    environment = answer["environment"]
    assert "secret" not in json.dumps(environment)
    assert environment["RADNODE_FAILPOINTS"] == "send.finished=kill"
    assert environment["HOME"] == environment["TMPDIR"] == answer["cwd"]
    assert Path(answer["cwd"]).is_relative_to(tmp_path)
    assert Path(answer["cwd"]).stat().st_mode & 0o777 == 0o700
    assert answer["umask"] == 0o077
    engine.close()
    assert not Path(answer["cwd"]).exists()


def test_a_worker_that_died_while_idle_is_replaced_without_a_failure(engine):
    pid = do(engine, "ok")["pid"]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()  # nor does a zombie stay, though nobody asked
    assert do(engine, "ok")["calls"] == 1


def test_cancelling_ends_a_running_task_and_only_that(engine):
    assert engine.cancel(4711) is False
    caught = []

    def run():
        try:
            do(engine, "sleep", seconds=60, job_id=4711)
        except NodeError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not engine.cancel(4711):
        time.sleep(0.01)
    thread.join(5)
    assert [type(error) for error in caught] == [Cancelled]
    assert engine.cancel(4711) is False
    assert do(engine, "ok", job_id=4711)["calls"] == 1


def test_cancelling_a_task_that_waits_for_a_slot_does_not_touch_the_running_one(engine):
    ended = {}

    def run(job_id, seconds):
        try:
            ended[job_id] = do(engine, "sleep", seconds=seconds, job_id=job_id)
        except NodeError as error:
            ended[job_id] = error

    threads = [threading.Thread(target=run, args=(9001, 1.0)), threading.Thread(target=run, args=(9002, 60))]
    threads[0].start()
    time.sleep(0.3)
    threads[1].start()
    time.sleep(0.2)
    assert engine.cancel(9002)
    threads[1].join(0.5)
    assert isinstance(ended[9002], Cancelled)
    assert 9001 not in ended
    threads[0].join(5)
    assert isinstance(ended[9001], dict)


def test_a_task_prefers_the_worker_that_is_warm_for_it_and_slots_work_at_once(tmp_path):
    engine = make_engine(tmp_path / "scratch", devices=("cpu", "cpu"))
    assert engine.slots == 3
    answers = {}

    def run(key):
        answers[key] = do(engine, "sleep", seconds=0.5, key=key)["pid"]

    threads = [threading.Thread(target=run, args=(key,)) for key in ("lungs", "spleen")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers["lungs"] != answers["spleen"]
    for key in ("spleen", "lungs", "lungs", "spleen", "spleen"):
        assert do(engine, "ok", key=key)["pid"] == answers[key]
    engine.close()


def test_closing_ends_what_runs_and_what_waits(tmp_path):
    engine = make_engine(tmp_path / "scratch")
    pid = do(engine, "ok")["pid"]
    ended = []

    def run():
        try:
            do(engine, "sleep", seconds=60)
        except NodeError as error:
            ended.append(type(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    engine.close()
    for thread in threads:
        thread.join(5)
    assert ended == [NodeStopping] * 3
    assert gone(pid)
    with pytest.raises(NodeStopping, match="The node stopped"):
        do(engine, "ok")
    engine.close()


NODE = """
import sys, threading
from pathlib import Path
from node.compute import LocalEngine, Task
from node.config import ComputeTable
from tests.compute.unconfined import changed
config = ComputeTable(devices=("cpu",))
scratch = Path(sys.argv[1])
payload = {"do": sys.argv[3], "note": sys.argv[2], "seconds": 600}
task = Task(key="toy", target="tests.compute.toys:work", job_id=1, payload=payload)
with changed(scratch):
    engine = LocalEngine(config, scratch=scratch)
    engine.run(task, timeout_s=600, on_progress=lambda *_: print("running", flush=True))
"""


@pytest.mark.faults
def test_a_killed_node_leaves_no_worker_even_if_that_hangs_in_native_code(tmp_path):
    note = tmp_path / "note"
    node = subprocess.Popen(
        [sys.executable, "-c", NODE, str(tmp_path / "scratch"), str(note), "hang_with_children"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    deadline = time.monotonic() + 20
    while not (note.exists() and len(note.read_text().split()) == 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker, child, daemon = (int(pid) for pid in note.read_text().split())
    time.sleep(0.3)  # now it hangs
    node.kill()
    node.wait()
    node.stdout.close()
    assert gone(worker)
    assert gone(child)
    assert group_members(worker) == set()
    # One that left the group lives until the node starts again.
    assert not gone(daemon, within_s=0.1)
    assert list((tmp_path / "scratch").glob("worker-*"))
    engine = make_engine(tmp_path / "scratch")
    assert gone(daemon)
    engine.close()
    assert list((tmp_path / "scratch").glob("worker-*")) == []


def test_a_target_that_cannot_be_imported_is_told_at_the_task(tmp_path):
    engine = make_engine(tmp_path / "scratch", preload={"device": ["also.nothing"]})
    with pytest.raises(PipelineFailed, match="ModuleNotFoundError"):
        do(engine, "ok", more={"target": "tests.compute.nothing:work"})
    engine.close()


def test_a_worker_retires_after_many_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr("node.compute.local.TASKS_PER_WORKER", 2)
    engine = make_engine(tmp_path / "scratch")
    assert [do(engine, "ok")["calls"] for _ in range(5)] == [1, 2, 1, 2, 1]
    engine.close()


def test_devices_are_resolved_to_slots(monkeypatch):
    monkeypatch.setattr("node.compute.local._ACCELERATORS", ())
    assert resolve_devices(["auto"]) == ["cpu"]
    assert resolve_devices(["cpu", "cpu"]) == ["cpu", "cpu"]
    for devices, complaint in [
        (["gpu"], r"'gpu' is none of 'auto', 'cpu', 'cuda:0', 'cuda:1' \.\.\."),
        (["cuda:0"], "'cuda:0' is asked for, but this machine has no accelerator"),
        ([], "the list is empty"),
    ]:
        with pytest.raises(ConfigError, match=complaint):
            resolve_devices(devices)


def test_accelerators_are_counted_by_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr("node.compute.local._ACCELERATORS", (Path("/dev/null"),))
    monkeypatch.setattr("node.compute.local._COUNT", "print(3)")
    assert resolve_devices(["auto", "cpu"]) == ["cuda:0", "cuda:1", "cuda:2", "cpu"]
    monkeypatch.setattr("node.compute.local._COUNT", "raise SystemExit(1)")
    assert resolve_devices(["auto"]) == ["cpu"]
