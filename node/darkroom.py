"""Where pixels are decoded for those who look at them: worker processes of their own.

Apart from those that compute, so that neither waits for the other. They start when somebody looks, are
shut in like all workers, and are replaced when they misbehave.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

from node.assemble.syntaxes import decodable
from node.compute import Task
from node.compute.process import kill_marked
from node.compute.sandbox import remove
from node.compute.supervisor import Supervisor
from node.errors import NodeError, NodeStopping, WorkerLost

#: Transfer syntaxes of which pixels can be decoded.
DECODABLE: Final = decodable()
WORKERS: Final = 2
DEADLINE_S: Final = 60.0
#: Who does not get a worker within this time is sent away.
QUEUE_S: Final = 20.0
#: So many wait for one; who comes on top of them is sent away at once, lest all threads of the door wait.
QUEUE: Final = 8
MEMORY_BYTES: Final = 6_000_000_000
SCRATCH_BYTES: Final = 6_000_000_000
#: A worker that did this many things is replaced.
TASKS_PER_WORKER: Final = 500


class Crowded(NodeError):
    """All that decode are busy."""

    then = "retry"
    code = "crowded"


class Darkroom:
    """Develops what it is given; may be asked by any number of threads.

    Parameters
    ----------
    scratch
        Folder of its own; what is in it goes.
    sources
        Folders that workers may read.
    isolation
        As in [compute].
    """

    def __init__(self, scratch: Path, sources: tuple[Path, ...], isolation: str) -> None:
        self._scratch = scratch.resolve()
        self._sources, self._isolation = sources, isolation
        self._mark = f"{self._scratch}:"
        self._changed = threading.Condition()
        self._idle: list[Supervisor | None] = [None] * WORKERS  #: None: not started
        self._waiting = 0
        self._numbers = count(1)
        self._closed = False
        kill_marked(self._mark)
        remove(self._scratch)
        self._scratch.mkdir(parents=True, mode=0o700)

    @contextmanager
    def develop(self, what: str, path: Path, payload: Mapping[str, Any]) -> Iterator[Path]:
        """Do one of the things of `node.develop` to a file, and yield the folder with what it made.

        What is in the folder is hostile; it is removed when the block ends.

        Raises
        ------
        InputRefused
            It cannot be done to this file.
        Crowded
            There was no room for it in time.
        NodeError
            What became of the worker.
        """
        made = self._scratch / f"made-{secrets.token_hex(8)}"
        try:
            self._run(
                Task(
                    key="develop",
                    job_id=next(self._numbers),
                    target=f"node.develop:{what}",
                    payload={**payload, "path": str(path), "folder": made.name},
                    place="host",
                    takes=made,
                )
            )
            yield made
        finally:
            remove(made)

    def close(self) -> None:
        """End all workers; what they are at ends with an error."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._idle) == WORKERS, timeout=DEADLINE_S)
            for worker in self._idle:
                if worker is not None:
                    worker.end(grace_s=0)
            self._idle = [None] * WORKERS
        remove(self._scratch)

    def _run(self, task: Task) -> None:
        worker = self._take()
        try:
            if worker is None or not worker.is_alive:
                if worker is not None:
                    worker.end()
                worker = None
                worker = self._start()
            worker.run(
                task,
                timeout_s=DEADLINE_S,
                interrupted=lambda: NodeStopping("The node stops.") if self._closed else None,
                on_progress=lambda _step, _fraction: None,
            )
        finally:
            if worker is not None and (not worker.is_fit or worker.tasks_done >= TASKS_PER_WORKER):
                worker.end(grace_s=0)
                worker = None
            with self._changed:
                self._idle.append(worker)
                self._changed.notify_all()

    def _take(self) -> Supervisor | None:
        with self._changed:
            if not self._idle and self._waiting >= QUEUE:
                raise Crowded("All that decode pixels are busy.")
            self._waiting += 1
            try:
                if not self._changed.wait_for(lambda: self._idle or self._closed, timeout=QUEUE_S):
                    raise Crowded("All that decode pixels are busy.")
            finally:
                self._waiting -= 1
            if self._closed:
                raise NodeStopping("The node stops.")
            running = [worker for worker in self._idle if worker is not None]
            chosen = running[-1] if running else None
            self._idle.remove(chosen)
            return chosen

    def _start(self) -> Supervisor:
        if not self._scratch.is_dir():
            raise WorkerLost("The folder in which pixels are decoded is gone.")
        return Supervisor(
            "host",
            "cpu",
            preload=["node.develop"],
            readable=self._sources,
            scratch=self._scratch,
            mark=self._mark,
            threads=1,
            memory_limit=MEMORY_BYTES,
            scratch_limit=SCRATCH_BYTES,
            isolation=self._isolation,
        )
