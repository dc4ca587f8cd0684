"""How long the steps of a job took, told as they begin."""

from __future__ import annotations

import time

from node.compute.port import Report


class Steps:
    """A stopwatch that names what is under way."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._name = ""
        self._since_s = 0.0
        self._seconds: dict[str, float] = {}

    def begin(self, name: str, done: float) -> None:
        """Begin a step, which ends the one before; ``done`` is the fraction of the whole so far."""
        now_s = time.monotonic()
        if self._name:
            self._seconds[self._name] = round(now_s - self._since_s, 3)
        self._name, self._since_s = name, now_s
        self._report(name, done)

    def end(self) -> dict[str, float]:
        """End the last step; return the seconds of each."""
        self.begin("", 1.0)
        return self._seconds
