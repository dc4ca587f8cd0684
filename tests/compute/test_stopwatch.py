"""How long the steps of a job took, whatever a worker says."""

from __future__ import annotations

from node.compute.stopwatch import Stopwatch


def test_a_worker_cannot_pass_its_work_off_as_waiting(monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr("node.compute.stopwatch.time.monotonic", lambda: now_s[0])
    heard = []
    watch = Stopwatch(lambda name, done: heard.append((name, done)))
    watch.wait()
    now_s[0] = 5.0
    watch.begin("load", 0.1)
    watch.begin("wait", 0.2)
    now_s[0] = 12.0
    watch.wait()
    now_s[0] = 20.0
    watch.begin("compute", 0.5)
    assert watch.seconds == {"wait": 13.0, "load": 7.0}
    assert watch.worked_s == 7.0
    assert heard == [("wait", 0.0), ("load", 0.1), ("wait", 0.1), ("compute", 0.5)]
