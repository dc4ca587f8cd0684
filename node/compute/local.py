"""The engine of one machine: warm worker processes, replaced whenever they misbehave.

On each device one confined worker works at a time; others stay warm for what they did, as long as there
is memory (`slot`). Workers for the host besides, so that the next case is loaded and the last one encoded
while a device computes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from node.compute.port import Place, Report, Task
from node.compute.process import kill_marked
from node.compute.sandbox import remove
from node.compute.slot import Slot
from node.compute.supervisor import Supervisor
from node.config import ComputeTable
from node.errors import Cancelled, ConfigError, MemoryExceeded, NodeError, NodeStopping, WorkerLost
from node.log import describe, get_log

log = get_log("compute")

#: A worker that did this many tasks is replaced, so that slow leaks of a pipeline stay small.
TASKS_PER_WORKER = 200

#: Without any of these there is no accelerator, and nobody needs to be asked.
_ACCELERATORS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
_COUNT = "import torch; print(torch.cuda.device_count())"


class LocalEngine:
    """Runs tasks in worker processes on this machine; see `node.compute.port.Engine`.

    Workers start at once, so that the first task finds one which has done its imports; those for the
    host beyond the first when they are needed.

    Parameters
    ----------
    config
        One slot per entry of ``devices``; "auto" is every CUDA device, or else one CPU slot.
    scratch
        Folder for the private folders of workers, used by no other node; what is in it goes.
    preload
        Place -> modules of the node and its pipelines that workers import ahead of need.
    readable
        Folders of pipelines from outside, which workers for devices may read.
    sources
        Folders of instances and earlier results, which workers for the host may read.

    Raises
    ------
    ConfigError
        ``devices`` names one that does not exist.
    """

    def __init__(
        self,
        config: ComputeTable,
        *,
        scratch: Path,
        preload: Mapping[Place, Sequence[str]] = MappingProxyType({}),
        readable: Sequence[Path] = (),
        sources: Sequence[Path] = (),
    ) -> None:
        devices = resolve_devices(config.devices)
        self._preload = preload
        self._readable: dict[Place, tuple[Path, ...]] = {"device": tuple(readable), "host": tuple(sources)}
        self._memory_limit, self._scratch_limit = int(config.memory_gb * 1e9), int(config.scratch_gb * 1e9)
        self._isolation = config.isolation
        # Work on the host is done piece by piece; what computes on processors has all of them.
        self._threads = {"host": 1, "device": max(1, len(os.sched_getaffinity(0)) // len(devices))}
        self._scratch = scratch.resolve()
        self._mark = f"{self._scratch}:"
        self._tidy()
        self._changed = threading.Condition()
        self._closed = False
        self._under_way: dict[int, NodeError | None] = {}  # job -> why it is to end, if it is
        self._numbers = count()
        self._waiting: dict[Place, set[tuple[int, int]]] = {"host": set(), "device": set()}
        self._slots = [Slot("device", device) for device in devices]
        self._slots += [Slot("host", "cpu") for _ in range(len(devices) + 1)]
        for slot in self._slots[: len(devices) + 1]:
            slot.worker = self._start(slot)
        self._free = list(self._slots)

    @property
    def slots(self) -> int:
        """How many jobs may be under way: one on each device, and one more that loads or encodes."""
        return sum(slot.place == "host" for slot in self._slots)

    def run(self, task: Task, *, timeout_s: float, on_progress: Report) -> dict[str, Any]:
        """Run a task as soon as there is room; see `node.compute.port.Engine`."""
        slot = self._take(task)
        try:
            try:
                return self._run(task, slot, timeout_s, on_progress)
            except MemoryExceeded:
                # Perhaps of a device, where what others keep warm is in the way; once more without them.
                if slot.device == "cpu" or not slot.idle or not (task.gives and task.gives.exists()):
                    raise
                slot.end(grace_s=0)
                return self._run(task, slot, timeout_s, on_progress)
        except NodeError as error:
            if slot.worker is not None:
                pid, tail = slot.worker.pid, slot.worker.tail
                log.warning("task_failed", job=task.job_id, pid=pid, code=error.code, tail=tail)
            raise
        finally:
            self._give_back(task, slot)

    def _run(self, task: Task, slot: Slot, timeout_s: float, on_progress: Report) -> dict[str, Any]:
        if self._closed:
            raise _stopped()
        return slot.turn_to(task, lambda: self._start(slot)).run(
            task,
            timeout_s=timeout_s,
            interrupted=lambda: self._under_way[task.job_id],
            on_progress=on_progress,
        )

    def cancel(self, job_id: int) -> bool:
        """End the run of a job, if there is one; its `run` raises `Cancelled`."""
        with self._changed:
            if job_id not in self._under_way:
                return False
            self._under_way[job_id] = Cancelled()
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """End all workers; what still runs raises `NodeStopping`."""
        with self._changed:
            self._closed = True
            for job_id, ending in self._under_way.items():
                self._under_way[job_id] = ending or _stopped()
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._free) == len(self._slots))
            for slot in self._slots:
                slot.end(grace_s=0)
        self._tidy()

    def _take(self, task: Task) -> Slot:
        """Wait for a free slot, best one whose worker is warm for this task.

        Among those who wait the highest rank goes first, and of one rank whoever came first.
        """
        with self._changed:
            queue, mine = self._waiting[task.place], (-task.rank, next(self._numbers))
            queue.add(mine)
            self._under_way[task.job_id] = _stopped() if self._closed else None
            self._changed.wait_for(
                lambda: (mine == min(queue) and self._of(task.place)) or self._under_way[task.job_id]
            )
            queue.discard(mine)
            self._changed.notify_all()  # whoever is next may go as well
            if ending := self._under_way[task.job_id]:
                del self._under_way[task.job_id]
                raise ending
            slot = min(self._of(task.place), key=lambda slot: slot.coldness(task))
            self._free.remove(slot)
            return slot

    def _of(self, place: Place) -> list[Slot]:
        return [slot for slot in self._free if slot.place == place]

    def _give_back(self, task: Task, slot: Slot) -> None:
        """Free a slot, with a fresh worker where the old one is of no more use.

        What goes wrong here costs no answer that was given: the task that needs a worker will tell.
        """
        worker = slot.worker
        try:
            if worker is not None and (not worker.is_fit or worker.tasks_done >= TASKS_PER_WORKER):
                self._replace(slot)
            slot.make_room(self._memory_limit)
            if slot.place == "device" and not self._closed:
                slot.keep_spare(lambda: self._start(slot), self._memory_limit)
        except (OSError, WorkerLost) as error:
            log.warning("worker_not_replaced", device=slot.device, reason=describe(error))
        finally:
            with self._changed:
                del self._under_way[task.job_id]
                self._free.append(slot)
                self._changed.notify_all()

    def _replace(self, slot: Slot) -> None:
        old, slot.worker = slot.worker, None
        if old is not None:
            log.info("worker_replaced", pid=old.pid)
            old.end()
        if not self._closed and not any(worker.is_blank for worker in slot.idle):
            slot.worker = self._start(slot)

    def _start(self, slot: Slot) -> Supervisor:
        return Supervisor(
            slot.place,
            slot.device,
            preload=self._preload.get(slot.place, ()),
            readable=self._readable[slot.place],
            scratch=self._scratch,
            mark=self._mark,
            threads=self._threads[slot.place],
            memory_limit=self._memory_limit,
            scratch_limit=self._scratch_limit,
            isolation=self._isolation,
        )

    def _tidy(self) -> None:
        """Remove what workers left, also those of a node that was killed."""
        kill_marked(self._mark)
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in self._scratch.glob("worker-*"):
            remove(folder)


def _stopped() -> NodeStopping:
    return NodeStopping("The node stopped before the work was done.")


def resolve_devices(devices: Sequence[str]) -> list[str]:
    """Return one device per slot; "auto" becomes every CUDA device, or one CPU slot if there is none.

    Raises
    ------
    ConfigError
        An entry is no device, or there are none or no accelerators at all.
    """
    found: list[str] = []
    for device in devices:
        if device == "auto":
            found += [f"cuda:{index}" for index in range(_count_accelerators())] or ["cpu"]
        elif device == "cpu":
            found.append(device)
        elif not re.fullmatch(r"cuda:[0-9]{1,3}", device):
            raise ConfigError(
                f"[compute] devices: {device!r} is none of 'auto', 'cpu', 'cuda:0', 'cuda:1' ..."
            )
        elif not _has_accelerators():
            raise ConfigError(
                f"[compute] devices: {device!r} is asked for, but this machine has no accelerator"
            )
        else:
            found.append(device)
    if not found:
        raise ConfigError("[compute] devices: the list is empty; 'auto' is the default")
    return found


def _has_accelerators() -> bool:
    return any(path.exists() for path in _ACCELERATORS)


def _count_accelerators() -> int:
    """Ask torch in a process of its own, so that the receiver stays free of it."""
    if not _has_accelerators():
        return 0
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _COUNT], capture_output=True, text=True, timeout=120, check=True
        )
        return int(asked.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("accelerators_not_counted", error=describe(error))
        return 0
