"""Pipelines stay ready as long as there is memory, and give way when there is not."""

from __future__ import annotations

import shutil
import weakref

import pytest

from node.compute import Task, warm
from node.compute.confined import analyze
from node.compute.exchange import write_case
from node.compute.slot import _resident_bytes as slot_bytes
from node.compute.warm import Shelf
from node.errors import MemoryExceeded, PipelineFailed
from node.model import Volume
from pipelines.contract import folder_digest
from tests.compute.conftest import gone, make_engine
from tests.compute.findings_maker import card, image

ALIVE: weakref.WeakSet = weakref.WeakSet()  #: toy pipelines that hold memory now


class Toy:
    """Holds one unit of memory from loading on."""

    def __init__(self, its_card) -> None:
        self.card = its_card

    def load(self, device):
        ALIVE.add(self)
        if len(ALIVE) > ROOM["load"]:
            raise MemoryError

    def check(self, case):
        pass

    def analyze(self, case):
        pass


class OutOfMemoryError(RuntimeError):
    """As torch has one."""


ROOM = {"load": 10}


@pytest.fixture(autouse=True)
def plenty_of_room(monkeypatch):
    monkeypatch.setitem(ROOM, "load", 10)
    yield
    warm.release("cpu")


def toy(name):
    return card(name=name, digest=name, use=f"{__name__}:Toy")


def shelf(used=lambda: 0.0):
    return Shelf("cpu", used)


def test_a_pipeline_is_made_ready_once():
    some = shelf()
    first = some.take(toy("one"))
    assert some.take(toy("one")) is first
    assert some.known("one") == toy("one")
    assert some.known("two") is None
    assert some.take(toy("two")) is not first


def test_as_many_stay_as_there_is_room_for():
    some = shelf()
    for name in "abcdef":
        some.take(toy(name))
    assert some.names == list("abcdef")


def test_the_one_unused_for_longest_gives_way():
    some = shelf(lambda: len(ALIVE) / 6)
    for name in "abcacd":
        some.take(toy(name))
        some.trim()
    assert some.names == ["a", "c", "d"]
    assert len(ALIVE) == 3


def test_the_last_one_stays_however_little_room_there_is():
    some = shelf(lambda: 1.0)
    first = some.take(toy("a"))
    some.trim()
    assert some.take(toy("a")) is first


def test_one_that_does_not_fit_beside_others_is_loaded_alone(monkeypatch):
    some = shelf()
    for name in "abc":
        some.take(toy(name))
    monkeypatch.setitem(ROOM, "load", 1)
    some.take(toy("d"))
    assert some.names == ["d"]
    assert len(ALIVE) == 1


def test_one_that_does_not_fit_even_alone_is_told(monkeypatch):
    some = shelf()
    monkeypatch.setitem(ROOM, "load", 0)
    with pytest.raises(MemoryExceeded, match="toy needs more memory than there is for it on cpu, even alone"):
        some.take(toy("toy"))
    assert some.names == []


SHORT = [
    MemoryError(),
    OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    RuntimeError("cuDNN error: out of memory"),
]


@pytest.mark.parametrize("reason", SHORT, ids=[type(s).__name__ for s in SHORT])
def test_work_that_runs_out_of_memory_is_done_again_with_the_others_gone(reason):
    some, tried = shelf(), []
    for name in "abc":
        some.take(toy(name))

    def act():
        tried.append(some.names)
        if len(some.names) > 1:
            try:
                raise reason
            except type(reason) as error:
                raise PipelineFailed("toy failed") from error
        return "done"

    assert some.roomy(toy("b"), act) == "done"
    assert tried == [["a", "b", "c"], ["b"]]


def test_another_failure_costs_the_others_nothing():
    some = shelf()
    for name in "ab":
        some.take(toy(name))
    with pytest.raises(PipelineFailed, match="of another kind"):
        some.roomy(toy("b"), lambda: (_ for _ in ()).throw(PipelineFailed("of another kind")))
    assert some.names == ["a", "b"]


def test_the_share_in_use_is_of_what_the_process_may_have():
    half = warm.used_share("cpu", 1 << 30)
    assert half > 0.01
    assert warm.used_share("cpu", 1 << 31) == pytest.approx(half / 2, rel=0.2)


CARD = """
name = "{name}"
version = "1"
title = "Holds memory"
maker = "test"
intended_use = "test"
use = "{name}.code:Holds"
[inputs.ct]
modality = ["CT"]
unit = "[hnsf'U]"
"""

CODE = """
import numpy as np
from pipelines.contract import Findings
class Holds:
    def __init__(self, card):
        self.card = card
    def load(self, device):
        self.held = np.ones({megabytes} << 17)
    def check(self, case):
        pass
    def analyze(self, case):
        return Findings(cautions=("It was analyzed.",))
"""


class Site:
    """An engine, three pipelines that hold 200 MB each, and a case for them."""

    def __init__(self, folder, memory_gb):
        self._folders = {}
        for name in ("first", "second", "third"):
            self._folders[name] = folder / name
            self._folders[name].mkdir()
            (self._folders[name] / "card.toml").write_text(CARD.format(name=name))
            (self._folders[name] / "code.py").write_text(CODE.format(megabytes=200))
        self._exchange = folder / "exchange"
        self._exchange.mkdir()
        volume = Volume(image=image(), slices=(), series_uid="", study_uid="", frame_of_reference_uid="")
        write_case({"ct": volume}, self._exchange)
        self.engine = make_engine(folder / "scratch", memory_gb=memory_gb, readable=[*self._folders.values()])
        self._memory_bytes = int(memory_gb * 1e9)

    def warm_after(self, name, *, foreign):
        """Run a pipeline; return what its worker is then warm for, and the workers of the device."""
        folder = self._folders[name]
        task = Task(
            key=name,
            job_id=1,
            target=f"{analyze.__module__}:{analyze.__name__}",
            payload={
                "card": str(folder / "card.toml"),
                "digest": folder_digest(folder),
                "memory_bytes": self._memory_bytes,
            },
            foreign=foreign,
            gives=self._exchange / "case",
            takes=self._exchange / "findings",
        )
        answer = self.engine.run(task, timeout_s=60, on_progress=lambda *_: None)
        shutil.rmtree(self._exchange / "findings")
        return " ".join(answer["warm"])

    @property
    def workers(self):
        return [worker.pid for worker in self.engine._slots[0].workers]


def test_a_worker_keeps_what_fits(tmp_path):
    site = Site(tmp_path, memory_gb=1.0)
    kept = [site.warm_after(n, foreign=False) for n in ("first", "second", "first", "third", "third")]
    assert kept == ["first", "first second", "second first", "first third", "first third"]
    assert len(site.workers) == 1
    site.engine.close()


def test_pipelines_from_outside_stay_warm_each_in_a_worker_of_its_own(tmp_path):
    site = Site(tmp_path, memory_gb=4.0)
    for name in ("first", "second", "third"):
        assert site.warm_after(name, foreign=True) == name
    spare, first, second, third = site.workers
    for name in ("second", "first", "third", "third"):
        site.warm_after(name, foreign=True)
    assert site.workers == [spare, second, first, third]
    site.engine.close()


def test_the_worker_unused_for_longest_is_ended_when_memory_is_short(tmp_path):
    site = Site(tmp_path, memory_gb=0.8)
    for name in ("first", "second"):
        site.warm_after(name, foreign=True)
    first, second = site.workers
    site.warm_after("third", foreign=True)
    assert first not in site.workers
    assert second in site.workers
    assert gone(first)
    site.engine.close()


def test_the_first_case_of_another_pipeline_finds_a_worker_that_has_started(tmp_path):
    site = Site(tmp_path, memory_gb=4.0)
    for name in ("first", "second", "third"):
        before = site.workers
        site.warm_after(name, foreign=True)
        spare, *_ = site.workers
        assert site.workers[-1] in before
        assert spare not in before
    assert len(site.workers) == 4
    site.warm_after("first", foreign=True)
    assert len(site.workers) == 4, "one spare is enough"
    site.engine.close()


def test_pipelines_of_ours_share_a_worker_and_need_no_spare(tmp_path):
    site = Site(tmp_path, memory_gb=4.0)
    for name in ("first", "second"):
        site.warm_after(name, foreign=False)
    assert len(site.workers) == 1
    site.engine.close()


def test_a_spare_takes_the_place_of_a_worker_that_is_gone(tmp_path):
    site = Site(tmp_path, memory_gb=4.0)
    site.warm_after("first", foreign=True)
    spare, used = site.workers
    slot = site.engine._slots[0]
    slot.worker.is_fit = False
    site.engine._replace(slot)
    assert site.workers == [spare]
    assert gone(used)
    site.warm_after("second", foreign=True)
    assert site.workers[-1] == spare
    site.engine.close()


def test_a_spare_is_the_first_to_go(tmp_path):
    site = Site(tmp_path, memory_gb=4.0)
    for name in ("first", "second"):
        site.warm_after(name, foreign=True)
    spare, first, second = site.workers
    slot = site.engine._slots[0]
    slot.make_room(2 * (slot_bytes(slot.idle[1]) + 1_000_000))
    assert site.workers == [first, second]
    assert gone(spare)
    site.engine.close()


def test_a_spare_does_not_come_back_without_room(tmp_path):
    site = Site(tmp_path, memory_gb=1.3)
    site.warm_after("first", foreign=True)
    assert len(site.workers) == 2, "there was room"
    site.warm_after("second", foreign=True)
    assert site.workers[0] not in (spare := site.workers[1:])
    assert len(spare) == 1, "one of two pipelines idle, and no room for a blank one besides"
    site.engine.close()
