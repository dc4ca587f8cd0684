"""The worker process: ``python -m node.compute.worker SETTINGS``, a JSON text (`Settings`).

Reads tasks from one pipe, runs them one by one, and answers on another; standard output and error
are free for whatever the pipeline prints. It lives until the node closes the pipe or dies, stays
warm in between, and reports every exception (`BaseException` included) instead of dying of it.
It shuts itself in before it hears of the first task.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.compute.sandbox import confine
from node.compute.wire import Unpacker, WireError, error_to_wire, pack
from node.errors import ComputeError, MemoryExceeded, NodeError, PipelineFailed
from node.log import configure, describe
from pipelines.contract import InputRefused

Work = Callable[[dict[str, Any], str, Callable[[str, float], None]], dict[str, Any] | None]

PROGRESS_EVERY_S = 0.1

#: Waits for the end of its input, which comes when the node closes the pipe or dies, and then ends
#: the process group. A process of its own, because a thread here could not run while native code
#: of a pipeline holds the interpreter.
GUARD = ("/bin/sh", "-c", "read nothing; kill -KILL 0")


REFUSED = "A pipeline from outside is not run in a worker that is not shut in; see [compute] isolation. It is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a worker is told at its start."""

    device: str
    commands: int  #: file descriptors of its ends of the pipes
    answers: int
    guard: int
    preload: list[str]  #: modules of ours that are imported ahead of need
    readable: list[str]  #: folders, beside what every worker needs
    writable: list[str]
    isolation: str  #: as in [compute]
    memory_bytes: int
    file_bytes: int


def main(argv: list[str]) -> None:
    """Serve tasks until the node goes away."""
    settings = Settings(**json.loads(argv[0]))
    commands, answers, guard = settings.commands, settings.answers, settings.guard
    _settle_in(commands, answers, guard)
    guardian = subprocess.Popen(GUARD, stdin=guard, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(guard)
    _write(answers, pack({"guard": guardian.pid}))
    lack = _shut_in(settings)  # before there is a second thread, which would stay outside
    _write(answers, pack({"confinement": lack}))
    for module in settings.preload:
        with contextlib.suppress(Exception):  # the task that needs it will tell
            importlib.import_module(module)
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands, tasks), daemon=True).start()
    while True:
        task = tasks.get()
        if task["foreign"] and lack and settings.isolation == "required":
            _write(answers, pack({"error": error_to_wire(PipelineFailed(f"{REFUSED} {lack}."))}))
            continue
        _write(answers, pack(_answer(task["target"], task["payload"], settings.device, answers)))


def _shut_in(settings: Settings) -> str:
    """Leave what will run here its folders, libraries and device; say what could not be kept from it."""
    done = confine(
        readable=[Path(place) for place in settings.readable],
        writable=[Path(place) for place in settings.writable],
        device=settings.device,
        memory_bytes=settings.memory_bytes,
        file_bytes=settings.file_bytes,
    )
    return "" if done.is_whole else str(done)


def _settle_in(*descriptors: int) -> None:
    """Keep our pipes from the pipeline's children, leave no core files, give way to the receiver."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would be full of images
    os.nice(5)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")  # sooner us than the receiver
    faulthandler.enable()
    configure()


def _listen(commands: int, tasks: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Take tasks from the pipe; when it closes, the node is gone and so is this process group."""
    unpacker = Unpacker()
    with contextlib.suppress(WireError, OSError):
        while piece := os.read(commands, 1 << 16):
            for message in unpacker.feed(piece):
                tasks.put(message)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _answer(target: str, payload: dict[str, Any], device: str, answers: int) -> dict[str, Any]:
    try:
        result = _resolve(target)(payload, device, _reporter(answers))
        result = {} if result is None else result
        if not isinstance(result, dict):
            raise ComputeError(f"{target} gave {type(result).__name__} instead of a mapping.")
        json.dumps(result)
    except (InputRefused, NodeError) as error:
        return {"error": error_to_wire(error)}
    except MemoryError as error:  # the limit to its data was met before the node weighed it
        return {"error": error_to_wire(MemoryExceeded(f"The worker got no more memory ({describe(error)})."))}
    except BaseException as error:  # noqa: BLE001  # SystemExit and the like must not end the worker
        # Type and place only: the message of a foreign exception may quote a header.
        return {"error": error_to_wire(PipelineFailed(f"The work ended with {describe(error)}."))}
    return {"result": result}


def _resolve(target: str) -> Work:
    module, _, name = target.partition(":")
    work: Work = getattr(importlib.import_module(module), name)
    return work


def _reporter(answers: int) -> Callable[[str, float], None]:
    """Return a function that tells the node about progress, though not too often."""
    last: list[Any] = ["", 0.0]

    def report(step: str, fraction: float) -> None:
        now = time.monotonic()
        if step == last[0] and now - last[1] < PROGRESS_EVERY_S:
            return
        last[:] = step, now
        _write(answers, pack({"progress": [str(step)[:64], min(1.0, max(0.0, float(fraction)))]}))

    return report


_write_lock = threading.Lock()


def _write(descriptor: int, content: bytes) -> None:
    with _write_lock:
        while content:
            content = content[os.write(descriptor, content) :]


if __name__ == "__main__":
    main(sys.argv[1:])
