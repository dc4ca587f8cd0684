"""What the node asks of an engine, whichever it is.

An engine runs one function of one payload somewhere else and comes back with its answer or with
an error that says what to do next. It is trusted with no state: the journal decides what counts,
and a task may be run twice. Arrays never cross this border; files do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

#: Tells how far a task has got: a step in one word, and the fraction of the whole (0 to 1).
Report = Callable[[str, float], None]

#: "host": code of the node, on the processors. "device": code of a pipeline, on one device.
Place = Literal["host", "device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to do elsewhere, in a folder of the worker's own that is empty before and after."""

    key: str  #: what a worker may keep warm between tasks: the name of the pipeline
    job_id: int
    target: str  #: "module:function" with the signature (payload, device, report) -> dict or None
    payload: Mapping[str, Any]  #: JSON: text, numbers, lists, mappings
    place: Place = "device"
    #: It runs code from outside, which could change its process for whatever comes next: so nothing but
    #: tasks of the same key is done there, before and after.
    foreign: bool = False
    rank: int = 0  #: of tasks that wait for the same place the highest goes first
    spent_s: float = 0.0  #: what earlier tasks of the job took of its time limit
    #: A folder that the worker finds, unchangeable, as ``../given/<its name>``, and that is then put back.
    gives: Path | None = None
    #: Where to the folder goes that the worker made in its own under this name. What is in it is hostile.
    takes: Path | None = None


class Engine(Protocol):
    """Runs tasks in places that may crash or hang without harm to the node."""

    @property
    def slots(self) -> int:
        """How many jobs may be under way: enough that one loads or encodes while another computes."""

    def run(self, task: Task, *, timeout_s: float, on_progress: Report) -> dict[str, Any]:
        """Run a task and wait for its answer; waits first until there is room for it.

        Parameters
        ----------
        timeout_s
            Of the whole job, of which ``task.spent_s`` are gone. Waiting for room does not count.

        Raises
        ------
        InputRefused
            The worker found the input not fit, with the worker's own code and sentence.
        WorkerLost, TimedOut, PipelineFailed, FindingsInvalid, Cancelled, NodeError
            As the worker reported, or as became of the worker.
        """

    def cancel(self, job_id: int) -> bool:
        """End the run of a job, if there is one; its `run` raises `Cancelled`."""

    def close(self) -> None:
        """End everything; what still runs raises `NodeStopping`. May be called twice."""
