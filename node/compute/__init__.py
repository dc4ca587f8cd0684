"""Step 4: pipelines run elsewhere.

In the node
    catalogue   which pipelines there are, and who approved them
    order       what workers are told of a job, and in which order its steps are done
    port        what the node asks of an engine: `Task`
    local       the engine of this machine; `slot`: room for one task, `supervisor`: one worker
    process     what Linux knows of a worker and what it started
    staging     how files of workers become ours
    trial       a pipeline tried on a simulated case, `record`: what is kept of that
In a worker
    worker      the process: shut in by `sandbox/`, then one task after another
    confined    the step in which code of a pipeline runs
    load        make a pipeline ready, run it, hold it to its word
    warm        pipelines that stay in memory, as long as there is room
Between them
    wire        the language of the pipes
    exchange/   files: a case, where it came from, findings
    stopwatch   how long each step took
Judged on both sides
    findings    what a pipeline said (`pointed`: detections and maps, `complaint`: what all have in common)
"""

from __future__ import annotations

from node.compute.catalogue import installed
from node.compute.confined import analyze
from node.compute.local import LocalEngine
from node.compute.order import Order, do, order_for, order_of
from node.compute.port import Engine, Report, Task
from node.compute.staging import Staging, write_manifest
from node.compute.stopwatch import Stopwatch

__all__ = [
    "Engine",
    "LocalEngine",
    "Order",
    "Report",
    "Staging",
    "Stopwatch",
    "Task",
    "analyze",
    "do",
    "installed",
    "order_for",
    "order_of",
    "write_manifest",
]
