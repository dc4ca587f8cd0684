"""What Linux knows about a worker and the processes it started: memory, members, and their end.

A pipeline may start processes of its own. They share the worker's process group; where they leave
that (daemons do), they still carry the worker's mark in the environment they were born with.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

#: Environment variable whose value tells the processes of one worker from all others.
MARK = "RADNODE_WORKER"

#: A process in an uninterruptible call (a dead network disk) cannot be waited for.
LONGEST_DEATH_S = 2.0

_PROC = Path("/proc")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def group_members(group: int) -> set[int]:
    """Return the living processes of a process group (zombies do not count)."""
    return {pid for pid, state, of_group in _processes() if of_group == group and state not in "ZX"}


def marked(mark: str) -> set[int]:
    """Return the living processes whose mark begins like this."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for pid, state, _ in _processes():
        if state not in "ZX":
            with contextlib.suppress(OSError):  # gone by now, or another user's
                born_with = (_PROC / str(pid) / "environ").read_bytes()
                if any(entry.startswith(wanted) for entry in born_with.split(b"\0")):
                    found.add(pid)
    return found


def memory_bytes(pids: set[int], *, worth_above: int) -> int:
    """Return the resident memory of some processes together.

    Resident sizes count what processes share (code, forked pages) once for each. Only if their
    sum exceeds ``worth_above`` are the proportional sizes taken, which are right but slow to get.
    """
    total = sum(_resident_bytes(pid) for pid in pids)
    if total > worth_above and len(pids) > 1:
        total = sum(_proportional_bytes(pid) for pid in pids)
    return total


def kill_all(group: int, mark: str) -> None:
    """End a process group and everything that carries the mark, without asking."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    kill_marked(mark)


def kill_marked(mark: str) -> int:
    """End everything that carries the mark, and wait for it; return how many processes that were."""
    killed: set[int] = set()
    deadline = time.monotonic() + LONGEST_DEATH_S
    while (left := marked(mark) - {os.getpid()}) and time.monotonic() < deadline:
        for pid in left:  # again in each round: what is killed may have started another meanwhile
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= left
        time.sleep(0.005)
    return len(killed)


def signal_name(number: int) -> str:
    """Return e.g. ``"SIGSEGV"``."""
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return "a signal without a name"


def _processes() -> Iterator[tuple[int, str, int]]:
    """Yield process id, state letter and process group of every process (proc_pid_stat(5))."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # The second field is the program's name in parentheses, and may hold anything.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                yield int(entry.name), fields[0], int(fields[2])


def _resident_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE_BYTES
    return 0


def _proportional_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return _resident_bytes(pid)
