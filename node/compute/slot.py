"""Room for one task at a time, with the workers that are warm for what was done there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from node.compute.port import Place, Task
from node.compute.process import group_members, memory_bytes
from node.compute.supervisor import Supervisor
from node.compute.warm import FULL

#: What a blank worker takes once it has imported PyTorch and MONAI, and a little more.
BLANK_BYTES: Final = 500_000_000


@dataclass(slots=True, eq=False)
class Slot:
    """One device, or a place on the host. One worker works; others keep their pipelines in memory."""

    place: Place
    device: str
    worker: Supervisor | None = None  #: the one used last; None: none was needed yet
    idle: list[Supervisor] = field(default_factory=list)  #: the others, longest unused first

    @property
    def workers(self) -> list[Supervisor]:
        """All of them, the one used last at the end."""
        return [*self.idle, *([self.worker] if self.worker is not None else [])]

    def coldness(self, task: Task) -> tuple[bool, bool, int]:
        """Return what makes it a worse choice for a task: to start a worker, to load, to make room."""
        good = [worker for worker in self.workers if worker.suits(task)]
        return not good, all(task.key not in worker.warm_for for worker in good), len(self.workers)

    def turn_to(self, task: Task, start: Callable[[], Supervisor]) -> Supervisor:
        """Return the worker that is best for a task, started now if none is good for it."""
        alive = []
        for worker in self.workers:  # one may have died while it had nothing to do
            if worker.is_alive:
                alive.append(worker)
            else:
                worker.end()
        self.worker, self.idle = None, alive
        good = [worker for worker in alive if worker.suits(task)]
        chosen = min(good, key=lambda one: (task.key not in one.warm_for, one.is_blank)) if good else start()
        self.worker, self.idle = chosen, [worker for worker in alive if worker is not chosen]
        return chosen

    def make_room(self, memory_limit: int) -> None:
        """End idle workers, those unused for longest first, until the rest leave room for the work.

        How full an accelerator is only a worker can tell, after its work: there one goes at a time.
        """
        if self.device != "cpu":
            used = [worker for worker in self.idle if not worker.is_blank]
            if used and self.worker is not None and self.worker.used_share > FULL:
                self.idle.remove(used[0])
                used[0].end(grace_s=0)
            return
        while self.idle and sum(map(_resident_bytes, self.idle)) > FULL * memory_limit:
            self.idle.pop(0).end(grace_s=0)

    def keep_spare(self, start: Callable[[], Supervisor], memory_limit: int) -> None:
        """Start a blank worker ahead of need, where pipelines from outside are run and there is room.

        They share no worker, so the first case of another would wait for a process to start and to
        import PyTorch. It is the first to go when memory is short.
        """
        ours = self.workers
        wanted = any(one.is_tied for one in ours) and not any(one.is_blank for one in ours)
        if wanted and sum(map(_resident_bytes, self.idle)) + BLANK_BYTES <= FULL * memory_limit:
            self.idle.insert(0, start())

    def end(self, *, grace_s: float, but_the_last: bool = False) -> None:
        """End its workers, or all but the one used last."""
        for worker in self.idle if but_the_last else self.workers:
            worker.end(grace_s=grace_s)
        self.idle = []


def _resident_bytes(worker: Supervisor) -> int:
    return memory_bytes(group_members(worker.pid), worth_above=0)
