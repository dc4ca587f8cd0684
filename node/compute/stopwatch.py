"""How long the steps of a job took, told as they begin."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from node.compute.port import Report

#: What is timed, in order. What else a worker says is passed on and not kept: it may be anything.
TIMED: Final = ("wait", "load", "model", "compute", "encode")


class Stopwatch:
    """Names what is under way, and times it.

    Parameters
    ----------
    report
        Is told as well.
    seconds
        What is known already.
    """

    def __init__(self, report: Report, seconds: Mapping[str, float] | None = None) -> None:
        self._report = report
        self._name = ""
        self._done = 0.0
        self._since_s = 0.0
        self._seconds = dict(seconds or {})

    def begin(self, name: str, done: float) -> None:
        """Begin a step, which ends the one before; ``done`` is the fraction of the whole so far.

        Workers call it, through the engine; that it waits is not theirs to say: waiting does not count
        in the time limit of a job.
        """
        if name != "wait":
            self._turn_to(name, done)

    def _turn_to(self, name: str, done: float) -> None:
        now_s = time.monotonic()
        if name != self._name and name in (*TIMED, ""):
            if self._name:
                total_s = self._seconds.get(self._name, 0.0) + now_s - self._since_s
                self._seconds[self._name] = round(total_s, 3)
            self._name, self._since_s = name, now_s
        self._done = done
        self._report(name, done)

    def wait(self) -> None:
        """Wait for the next worker, as far as the work has got."""
        self._turn_to("wait", self._done)

    def end(self) -> dict[str, float]:
        """End the last step; return the seconds of each, in their order."""
        self.begin("", 1.0)
        return self.seconds

    @property
    def seconds(self) -> dict[str, float]:
        """Of the steps that have ended, in their order."""
        return {name: self._seconds[name] for name in TIMED if name in self._seconds}

    @property
    def worked_s(self) -> float:
        """Seconds of the steps that have ended, without the waiting."""
        return sum(seconds for name, seconds in self._seconds.items() if name != "wait")
