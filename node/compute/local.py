"""The engine of one machine: a warm worker process per slot, replaced whenever it misbehaves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.compute.port import Report, Task
from node.compute.process import kill_marked
from node.compute.supervisor import Supervisor
from node.config import ComputeTable
from node.errors import Cancelled, ConfigError, NodeError, NodeStopping
from node.log import describe, get_log

log = get_log("compute")

#: A worker that did this many tasks is replaced, so that slow leaks of a pipeline stay small.
TASKS_PER_WORKER = 200

#: Without any of these there is no accelerator, and nobody needs to be asked.
_ACCELERATORS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
_COUNT = "import torch; print(torch.cuda.device_count())"


class LocalEngine:
    """Runs tasks in worker processes on this machine; see `node.compute.port.Engine`.

    Workers start at once, so that the first task finds one which has done its imports.

    Parameters
    ----------
    config
        One slot per entry of ``devices``; "auto" is every CUDA device, or else one CPU slot.
    target
        ``"module:function"`` that does a task inside a worker.
    scratch
        Folder for the private folders of workers, used by no other node; what is in it goes.
    preload
        Modules that workers import ahead of need.

    Raises
    ------
    ConfigError
        ``devices`` names one that does not exist.
    """

    def __init__(
        self, config: ComputeTable, *, target: str, scratch: Path, preload: Sequence[str] = ()
    ) -> None:
        devices = resolve_devices(config.devices)
        self._target, self._preload = target, tuple(preload)
        self._memory_limit = int(config.memory_gb * 1e9)
        self._threads = max(1, len(os.sched_getaffinity(0)) // len(devices))
        self._scratch = scratch.resolve()
        self._mark = f"{self._scratch}:"
        self._tidy()
        self._changed = threading.Condition()
        self._closed = False
        self._under_way: dict[int, NodeError | None] = {}  # job -> why it is to end, if it is
        self._slots = [_Slot(device, self._start(device)) for device in devices]
        self._free = list(self._slots)

    @property
    def slots(self) -> int:
        """How many tasks can run at once."""
        return len(self._slots)

    def run(self, task: Task, *, timeout_s: float, on_progress: Report) -> dict[str, Any]:
        """Run a task as soon as a slot is free; see `node.compute.port.Engine`."""
        slot = self._take(task)
        try:
            if not slot.worker.is_alive:  # it died while it had nothing to do
                self._replace(slot)
            return slot.worker.run(
                task,
                timeout_s=timeout_s,
                memory_limit=self._memory_limit,
                interrupted=lambda: self._under_way[task.job_id],
                on_progress=on_progress,
            )
        except NodeError as error:
            log.warning(
                "task_failed", job=task.job_id, pid=slot.worker.pid, code=error.code, tail=slot.worker.tail
            )
            raise
        finally:
            self._give_back(task, slot)

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
                slot.worker.end(grace_s=0)
        self._tidy()

    def _take(self, task: Task) -> _Slot:
        """Wait for a free slot, best one whose worker is warm for this task."""
        with self._changed:
            self._under_way[task.job_id] = _stopped() if self._closed else None
            self._changed.wait_for(lambda: self._free or self._under_way[task.job_id])
            if ending := self._under_way[task.job_id]:
                del self._under_way[task.job_id]
                raise ending
            slot = min(self._free, key=lambda slot: slot.worker.warm_for != task.key)
            self._free.remove(slot)
            return slot

    def _give_back(self, task: Task, slot: _Slot) -> None:
        """Free a slot, with a fresh worker where the old one is of no more use."""
        try:
            if not slot.worker.is_fit or slot.worker.tasks_done >= TASKS_PER_WORKER:
                self._replace(slot)
        finally:
            with self._changed:
                del self._under_way[task.job_id]
                self._free.append(slot)
                self._changed.notify_all()

    def _replace(self, slot: _Slot) -> None:
        log.info("worker_replaced", pid=slot.worker.pid)
        slot.worker.end()
        if not self._closed:
            slot.worker = self._start(slot.device)

    def _start(self, device: str) -> Supervisor:
        return Supervisor(
            self._target,
            device,
            preload=self._preload,
            scratch=self._scratch,
            mark=self._mark,
            threads=self._threads,
        )

    def _tidy(self) -> None:
        """Remove what workers left, also those of a node that was killed."""
        kill_marked(self._mark)
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        for home in self._scratch.glob("worker-*"):
            shutil.rmtree(home, ignore_errors=True)


@dataclass(slots=True, eq=False)
class _Slot:
    device: str
    worker: Supervisor


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
