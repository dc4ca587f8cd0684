"""Step 4: pipelines run elsewhere.

`Engine` is the port: run a `Task` somewhere else, come back with an answer or a clear error.
`LocalEngine` does it in warm, killable processes on this machine (`supervisor`, `worker`); what
they do inside is in `load` (make a pipeline ready, run it) and `findings` (hold it to its word).
"""

from __future__ import annotations

from node.compute.catalogue import installed
from node.compute.local import LocalEngine
from node.compute.order import Order, order_of, task_of
from node.compute.port import Engine, Report, Task
from node.compute.staging import Staging, write_manifest
from node.compute.steps import Steps

__all__ = [
    "Engine",
    "LocalEngine",
    "Order",
    "Report",
    "Staging",
    "Steps",
    "Task",
    "installed",
    "order_of",
    "task_of",
    "write_manifest",
]
