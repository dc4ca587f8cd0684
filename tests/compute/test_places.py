"""Two kinds of places: who waits for which, what is handed over, and who is told what."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.compute import Task, analyze, do, order_for, order_of
from node.compute.sandbox.landlock import version
from node.config import ComputeTable, Config
from node.errors import Cancelled, NodeError, PipelineMissing, TimedOut, WorkerLost
from node.job import Job, JobState
from node.model import Instance, Predecessor
from node.profile import Profile
from tests.compute.conftest import make_engine
from tests.compute.findings_maker import card
from tests.harness import wait_until
from tests.journal_makers import NOON, a_spec

TOYS = "tests.compute.toys:work"
CANARY = "1.2.826.4711"


def run(
    engine,
    what,
    *,
    place="device",
    job_id=1,
    timeout_s=60.0,
    rank=0,
    spent_s=0.0,
    told=lambda *_: None,
    **more,
):
    folders = {name: more.pop(name) for name in ("gives", "takes") if name in more}
    task = Task(
        key=more.pop("key", "toy"),
        job_id=job_id,
        target=TOYS,
        payload={"do": what, **more},
        place=place,
        rank=rank,
        spent_s=spent_s,
        **folders,
    )
    return engine.run(task, timeout_s=timeout_s, on_progress=told)


@pytest.fixture
def given(tmp_path):
    folder = tmp_path / "case"
    folder.mkdir()
    (folder / "note").write_text("as it was")
    return folder


def test_what_is_given_is_lent_and_what_is_made_is_taken(engine, given, tmp_path):
    if version() < 1:
        pytest.skip("this kernel has no Landlock")
    for _ in range(2):
        answer = run(engine, "hand", gives=given, takes=tmp_path / "taken")
        assert answer["spoilt"] == []
        assert (tmp_path / "taken" / "note").read_text() == "AS IT WAS"
        assert {file.name: file.read_text() for file in given.iterdir()} == {"note": "as it was"}
        (tmp_path / "taken").rename(tmp_path / "looked at")
        os.remove(tmp_path / "looked at" / "note")  # noqa: PTH107
        (tmp_path / "looked at").rmdir()


def test_nothing_is_taken_of_work_that_died(engine, given, tmp_path):
    with pytest.raises(WorkerLost):
        run(engine, "hand_and_die", gives=given, takes=tmp_path / "taken")
    assert not (tmp_path / "taken").exists()
    assert run(engine, "ok")["calls"] == 1


def test_the_host_sees_no_accelerator_and_the_device_has_all_processors(engine):
    cores = len(os.sched_getaffinity(0))
    assert run(engine, "see", place="host")["cuda"] == ""
    seen = run(engine, "see")
    assert seen["cuda"] == os.environ.get("CUDA_VISIBLE_DEVICES")
    assert "OMP_NUM_THREADS" in os.environ or seen["threads"] == str(cores)


def test_one_task_on_the_device_and_two_on_the_host_are_under_way_at_once(engine):
    begun = set()

    def go(job_id, place):
        with pytest.raises(Cancelled):
            run(engine, "sleep", seconds=600, job_id=job_id, place=place, told=lambda *_: begun.add(job_id))

    threads = [threading.Thread(target=go, args=one) for one in ((11, "device"), (12, "host"), (13, "host"))]
    for thread in threads:
        thread.start()
    wait_until(lambda: begun == {11, 12, 13}, "all of them have begun")
    for job_id in begun:
        engine.cancel(job_id)
    for thread in threads:
        thread.join()
    assert engine.slots == 2


def test_what_is_begun_is_finished_first(tmp_path):
    engine = make_engine(tmp_path / "scratch")
    order: list[int] = []

    def go(job_id, rank):
        run(engine, "sleep", seconds=2 if job_id == 1 else 0.1, job_id=job_id, rank=rank)
        order.append(job_id)

    threads = [threading.Thread(target=go, args=one) for one in ((1, 0), (2, 0), (3, 0), (4, 2), (5, 2))]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    engine.close()
    assert order == [1, 4, 5, 2, 3]


def test_one_that_gives_up_waiting_lets_the_next_go(tmp_path):
    engine = make_engine(tmp_path / "scratch")
    ended = {}

    def go(job_id, seconds, rank):
        try:
            ended[job_id] = run(engine, "sleep", seconds=seconds, job_id=job_id, rank=rank)
        except NodeError as error:
            ended[job_id] = error

    threads = [threading.Thread(target=go, args=one) for one in ((1, 0.5, 0), (2, 60, 9), (3, 0.1, 0))]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    engine.cancel(2)
    for thread in threads:
        thread.join(20)
    engine.close()
    assert isinstance(ended[2], Cancelled)
    assert isinstance(ended[3], dict)


def test_a_job_has_one_time_limit_for_all_its_tasks(engine):
    with pytest.raises(TimedOut, match="longer than 300 s"):
        run(engine, "sleep", seconds=600, timeout_s=300, spent_s=299.5)


class Notes:
    """An engine that writes down what it is asked for."""

    slots = 1

    def __init__(self, seconds: float = 0.0) -> None:
        self.tasks: list[Task] = []
        self._seconds = seconds

    def run(self, task, *, timeout_s, on_progress):
        self.tasks.append(task)
        on_progress({0: "load", 1: "model", 2: "encode"}[len(self.tasks) - 1], 0.5)
        time.sleep(self._seconds)
        on_progress("as the pipeline calls it", 0.6)
        return {}


def an_order(tmp_path: Path, **changes):
    job = Job(
        id=7,
        spec=replace(a_spec(), **{"pipeline": "toy", "pipeline_digest": "0" * 64} | changes),
        state=JobState.COMPUTING,
        fence=1,
        tries=1,
        not_before=NOON,
        created_at=NOON,
        reason_code="",
        reason="",
    )
    instance = Instance(
        sop_instance_uid=f"{CANARY}.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        series_uid=f"{CANARY}.2",
        study_uid=f"{CANARY}.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=tmp_path / CANARY,
        sha256="a" * 64,
        size_bytes=1,
        arrived_at=datetime(2026, 1, 1, tzinfo=UTC),
        sender="SCANNER",
    )
    earlier = Predecessor(
        study_uid=f"{CANARY}.3", series_uid=f"{CANARY}.4", sop_class_uid="1.2", sop_instance_uid=f"{CANARY}.5"
    )
    return order_for(
        job,
        {"toy": card()},
        {"ct": [instance]},
        (tmp_path / "exchange", tmp_path / "results"),
        Config(compute=ComputeTable()),
        {"archive": Profile(), "shelf": Profile(also=("pdf",)), "other": Profile()},
        [earlier],
    )


def load():
    """Stand for the first step."""


def encode():
    """Stand for the last step."""


def test_our_workers_get_the_whole_order_and_the_pipeline_gets_its_name(tmp_path):
    order, engine = an_order(tmp_path), Notes()
    do((load, analyze, encode), order, engine, ComputeTable(), lambda *_: None)
    first, second, third = engine.tasks
    for task, exchange in ((first, "exchange"), (third, "../given/exchange")):
        told = order_of(json.loads(json.dumps(task.payload)))
        assert (told.exchange, told.folder) == (Path(exchange), Path("results"))
        assert replace(told, exchange=order.exchange, folder=order.folder) == order
    assert set(second.payload) == {"card", "digest", "memory_bytes"}
    assert CANARY not in json.dumps(dict(second.payload))
    assert [task.place for task in engine.tasks] == ["host", "device", "host"]
    assert first.rank < second.rank < third.rank
    exchange = tmp_path / "exchange"
    assert [task.gives for task in engine.tasks] == [None, exchange / "case", exchange]
    assert [task.takes for task in engine.tasks] == [exchange, exchange / "findings", tmp_path / "results"]
    assert [task.target.partition(":")[2] for task in engine.tasks] == ["load", "analyze", "encode"]


def test_the_seconds_of_each_step_travel_along_and_waiting_is_none_of_them(tmp_path):
    engine, told = Notes(seconds=0.05), []
    do((load, analyze, encode), an_order(tmp_path), engine, ComputeTable(), lambda *said: told.append(said))
    assert [list(task.payload.get("seconds", {})) for task in engine.tasks] == [
        [],
        [],
        ["wait", "load", "model"],
    ]
    assert engine.tasks[0].spent_s == 0
    assert 0.1 <= engine.tasks[2].spent_s < 1
    assert ("as the pipeline calls it", 0.6) in told, "passed on, and not timed"


def test_a_pipeline_that_is_no_longer_there_is_told(tmp_path):
    with pytest.raises(PipelineMissing, match="is no longer installed"):
        an_order(tmp_path, pipeline="gone")
