"""One worker process, seen from the node: start it, give it tasks, watch it, end it.

Whatever the worker does (crash, hang in native code, eat memory, fork, print without end, talk
nonsense), `Supervisor.run` comes back in time with an answer or one error that says what happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import node
from node.compute.port import Place, Report, Task
from node.compute.process import MARK, group_members, kill_all, marked, memory_bytes, signal_name
from node.compute.sandbox import MOST_ENTRIES, clear, overuse, remove
from node.compute.wire import Unpacker, WireError, error_from_wire, pack
from node.errors import MemoryExceeded, NodeError, TimedOut, WorkerLost
from node.log import get_log
from node.text import clean
from pipelines.contract import InputRefused

log = get_log("compute")

TICK_S = 0.05  #: how often a waiting supervisor looks at the clock, the operator and the process
MEMORY_EVERY_S = 0.25
GRACE_S = 2.0  #: between SIGTERM and SIGKILL
TAIL_BYTES, TAIL_LINES, TAIL_LINE_LENGTH = 8192, 20, 200  #: what is kept of the worker's output

#: What a worker inherits: where programs and devices are, and no secrets.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_INHERITED_PREFIXES = (
    "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "PYTORCH_", "HIP_", "ROCR_", "OMP_", "MKL_", "RADNODE_FAILPOINTS"
)  # fmt: skip


class Supervisor:
    """Owner of one worker process and of its private folder.

    Its folder holds ``home/``, which it may fill as it likes, and ``given/``, which it may only read.

    Parameters
    ----------
    place
        ``"host"`` for a worker that runs code of the node alone and sees no accelerator. It reads what
        strangers sent, so it is shut in as well.
    device
        On which pipelines run.
    readable
        Folders that it may read beside its own.
    scratch
        Existing folder in which the worker gets its private one.
    mark
        Tells the processes of this node from all others; a unique part is added.
    threads
        How many threads numerical libraries may use.
    memory_limit
        In bytes, for the worker and all that it started.
    scratch_limit
        In bytes, for what it writes into its folder.
    isolation
        "required": code from outside is not run where the kernel does not shut it in.

    Raises
    ------
    WorkerLost
        The process cannot be started.
    """

    def __init__(
        self,
        place: Place,
        device: str,
        *,
        preload: Sequence[str],
        readable: Sequence[Path],
        scratch: Path,
        mark: str,
        threads: int,
        memory_limit: int,
        scratch_limit: int,
        isolation: str,
    ) -> None:
        self.warm_for: frozenset[str] = frozenset()  #: keys of tasks for which it is ready
        self.used_share = 0.0  #: how full it says its device is: 0 to 1
        self.tasks_done = 0
        self.is_fit = True  #: False: end it and start another
        self._memory_limit, self._scratch_limit = memory_limit, scratch_limit
        self._confinement: str | None = None  # what it said of it, once
        self._tied_to = ""  # key of the only tasks for which it is good
        self._mark = f"{mark}{uuid.uuid4().hex}"
        self._own: set[int] = set()
        self._tail = b""
        self._unpacker = Unpacker()
        self._asking = threading.Lock()
        self._commands = self._answers = self._guard = -1
        theirs: dict[str, int] = {}
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="worker-", dir=scratch))
        except OSError as error:
            raise _not_started(error) from error
        self._home, self._given = self._folder / "home", self._folder / "given"
        settings = {
            "device": device,
            "preload": list(preload),
            "readable": [str(folder) for folder in (*readable, self._given)],
            "writable": [str(folder) for folder in (self._home, *_notebooks())],
            "isolation": isolation,
            "memory_bytes": memory_limit,
            "file_bytes": scratch_limit,
        }
        # -P: nothing is imported from the working folder; -W: warnings may quote headers.
        command = [sys.executable, "-P", "-W", "ignore", "-m", "node.compute.worker"]
        try:
            for folder in (self._home, self._given):
                folder.mkdir(mode=0o700)
            theirs["commands"], self._commands = os.pipe()
            self._answers, theirs["answers"] = os.pipe()
            theirs["guard"], self._guard = os.pipe()
            command.append(json.dumps(settings | theirs))
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                pass_fds=tuple(theirs.values()),
                cwd=self._home,
                env=_environment(os.environ, self._home, self._mark, threads, place),
                start_new_session=True,
                umask=0o077,
            )
        except OSError as error:
            self._close_pipes()
            remove(self._folder)
            raise _not_started(error) from error
        finally:
            for descriptor in theirs.values():
                os.close(descriptor)
        os.set_blocking(self._commands, False)
        threading.Thread(target=self._keep_tail, name=f"output-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id, which is also the id of the process group."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._exit_code() is None

    @property
    def tail(self) -> list[str]:
        """The last lines that the worker printed, without control characters."""
        lines = self._tail.decode(errors="replace").splitlines()
        return [clean(line, TAIL_LINE_LENGTH) for line in lines if line.strip()][-TAIL_LINES:]

    @property
    def is_blank(self) -> bool:
        """Whether it has done nothing yet but its imports."""
        return self.tasks_done == 0 and not self._tied_to

    @property
    def is_tied(self) -> bool:
        """Whether it is good for one pipeline alone, which came from outside."""
        return bool(self._tied_to)

    def suits(self, task: Task) -> bool:
        """Say whether it may do a task, after all that it did: code from outside shares no process."""
        if self._tied_to:
            return task.key == self._tied_to
        return not task.foreign or self.tasks_done == 0

    def run(
        self,
        task: Task,
        *,
        timeout_s: float,
        interrupted: Callable[[], NodeError | None],
        on_progress: Report,
    ) -> dict[str, Any]:
        """Do one task; afterwards ``is_fit`` says whether the worker is good for another.

        Parameters
        ----------
        timeout_s
            Of the whole job.
        interrupted
            Asked all the time; what it returns is raised.
        """
        self.is_fit = False  # until it has answered and left nothing behind
        self._tied_to = task.key if task.foreign else ""
        self._tail = b""
        self._hand_over(task)
        answer = self._converse(task, timeout_s, interrupted, on_progress)
        self.warm_for, self.used_share = _hints(answer, task.key)
        self.tasks_done += 1
        alone = not (group_members(self.pid) | marked(self._mark)) - self._own - {self.pid}
        self._take_over(task)
        try:
            clear(self._home, MOST_ENTRIES)
        except OSError:  # the work removed it, or goes on filling it; its answer is as good as any
            alone = False
        alone = alone and self._is_silent()
        if isinstance(answer.get("result"), dict):
            self.is_fit = alone
            return dict(answer["result"])
        error = error_from_wire(answer["error"])
        # A refusal is a normal answer; after anything else the process may not be what it was.
        self.is_fit = alone and isinstance(error, InputRefused)
        raise error

    def end(self, *, grace_s: float = GRACE_S) -> None:
        """End the process and all that it started, and remove its folder; once."""
        if self._commands < 0:
            return  # its process id may be somebody else's by now
        self.is_fit = False
        if self.is_alive and grace_s > 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        kill_all(self.pid, self._mark)
        self._process.wait()
        self._close_pipes()
        remove(self._folder)

    def _hand_over(self, task: Task) -> None:
        """Move what the task gives to where the worker may read it; nothing is copied."""
        if task.gives is not None:
            task.gives.rename(self._given / task.gives.name)

    def _take_over(self, task: Task) -> None:
        """Move back what was given, and out what the worker made, if it did."""
        if task.gives is not None:
            (self._given / task.gives.name).rename(task.gives)
        if task.takes is not None:
            with contextlib.suppress(OSError):  # whoever reads it will say what is wrong
                (self._home / task.takes.name).rename(task.takes)

    def _converse(
        self,
        task: Task,
        timeout_s: float,
        interrupted: Callable[[], NodeError | None],
        on_progress: Report,
    ) -> dict[str, Any]:
        """Send the task and wait for its answer, with an eye on everything else."""
        waiting = pack({"target": task.target, "foreign": task.foreign, "payload": dict(task.payload)})
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        poll.register(self._commands, select.POLLOUT)
        deadline, next_weighing = time.monotonic() + timeout_s - task.spent_s, 0.0
        while True:
            code = self._exit_code()  # before the pipe is read: its last words are still in there
            ready = {descriptor for descriptor, _ in poll.poll(TICK_S * 1000)}
            if self._commands in ready:
                try:
                    waiting = waiting[os.write(self._commands, waiting) :]
                except BrokenPipeError:
                    waiting = b""  # it is gone, or about to be; the answer pipe will tell
                if not waiting:
                    poll.unregister(self._commands)
            piece = os.read(self._answers, 1 << 16) if self._answers in ready else None
            try:
                for message in self._unpacker.feed(piece or b""):
                    if answer := self._heard(message, on_progress):
                        return answer
            except WireError as error:
                raise WorkerLost(f"The worker talked nonsense ({error}) and was ended.") from error
            if piece == b"" or (code is not None and not piece):
                raise WorkerLost(self._obituary())
            if ending := interrupted():
                raise ending
            now = time.monotonic()
            if now > deadline:
                raise TimedOut(f"The work took longer than {timeout_s:g} s, and its process was killed.")
            if now > next_weighing:
                next_weighing = now + MEMORY_EVERY_S
                used = memory_bytes(group_members(self.pid), worth_above=self._memory_limit)
                if used > self._memory_limit:
                    raise MemoryExceeded(
                        f"The worker used {used / 1e9:.1f} GB of memory, more than the "
                        f"{self._memory_limit / 1e9:.1f} GB of [compute] memory_gb, and was killed."
                    )
                if said := overuse(self.pid, self._home, self._scratch_limit):
                    raise WorkerLost(f"The worker {said}, and was killed.")

    def _is_silent(self) -> bool:
        """Say whether nothing waits that would be taken for a word on the next task."""
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        return self._unpacker.is_empty and not poll.poll(0)

    def _heard(self, message: dict[str, Any], on_progress: Report) -> dict[str, Any] | None:
        """Act on one message; return it if it is the answer."""
        match message:
            case {"guard": int(pid)} if not self._own:  # once, and before code of a pipeline can speak
                self._own.add(pid)
            case {"confinement": str(lack)} if self._confinement is None:
                self._confinement = lack
                if lack:
                    log.warning("worker_not_confined", pid=self.pid, reason=clean(lack))
            case {"progress": [str(step), int() | float() as fraction]}:
                on_progress(clean(step, 64), float(fraction))
            case {"result": dict()} | {"error": dict()}:
                return message
            case _:
                raise WireError("an unknown message")
        return None

    def _obituary(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(GRACE_S)
            if code >= 0:
                return f"The worker left with exit code {code}."
            said = f"The worker died of signal {-code} ({signal_name(-code)})"
            outside = code == -signal.SIGKILL
            return f"{said}, as when the machine runs out of memory." if outside else f"{said}."
        return "The worker closed its pipe without an answer."

    def _keep_tail(self) -> None:
        """Read what the worker prints, so that it never waits for a reader; keep the end of it."""
        stream = self._process.stdout
        if stream is None:
            return
        with stream, contextlib.suppress(OSError):
            while piece := stream.read(1 << 16):
                self._tail = (self._tail + piece)[-TAIL_BYTES:]
        while self.is_alive:  # a dead process is not to linger, even if nobody else is looking
            time.sleep(TICK_S)

    def _exit_code(self) -> int | None:
        """Ask without waiting; Popen.poll alone says "alive" while another thread asks."""
        with self._asking:
            return self._process.poll()

    def _close_pipes(self) -> None:
        for descriptor in (self._commands, self._answers, self._guard):
            if descriptor >= 0:
                os.close(descriptor)
        self._commands = self._answers = self._guard = -1


def _not_started(error: OSError) -> WorkerLost:
    return WorkerLost(f"No worker process could be started: {error.strerror}.")


def _hints(answer: Mapping[str, Any], key: str) -> tuple[frozenset[str], float]:
    """Return for what a worker says it is warm, and how full its device is.

    It may lie: this decides only who waits for whom, and which worker is ended to make room.
    """
    result = answer.get("result")
    said = result if isinstance(result, dict) else {}
    warm, used = said.get("warm"), said.get("used")
    names = frozenset(map(str, warm)) if isinstance(warm, list) else frozenset({key})
    return names, float(used) if isinstance(used, int | float) else 0.0


def _notebooks() -> list[Path]:
    """Return where failpoints note that they acted: a folder, if somebody who tests set any."""
    folder = os.environ.get("RADNODE_FAILPOINTS") and os.environ.get("RADNODE_FAILPOINTS_ONCE")
    return [Path(folder)] if folder else []


def _environment(
    inherited: Mapping[str, str], home: Path, mark: str, threads: int, place: Place
) -> dict[str, str]:
    """Return the environment of a worker: what it needs and nothing else."""
    chosen = {k: v for k, v in inherited.items() if k in _INHERITED or k.startswith(_INHERITED_PREFIXES)}
    if site.ENABLE_USER_SITE:
        chosen["PYTHONUSERBASE"] = site.getuserbase()
    if place == "host":
        chosen["CUDA_VISIBLE_DEVICES"] = ""
    return {
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(threads),
        **chosen,
        "OPENBLAS_NUM_THREADS": "1",  # numpy's would run before the walls stand, and stay outside
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": str(Path(node.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",  # an approved folder stays as it was approved
        MARK: mark,
    }
