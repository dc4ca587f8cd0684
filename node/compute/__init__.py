"""Step 4: pipelines run elsewhere.

port        what the node asks of an engine
local       the engine of this machine: warm, killable processes (`slot`, `supervisor`, `worker`, `process`)
order       what workers are told of a job (`wire`: in which language)
exchange/   what they hand each other: a case, where it came from, findings
confined    the one step in which code of a pipeline runs (`sandbox`: what it may touch)
load        make a pipeline ready, run it, hold it to its word (`findings`)
warm        pipelines that stay in memory, as long as there is room
staging     how files of workers become ours
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
