"""What code of a pipeline may touch: its own folder, the libraries, its device. Nothing else.

    landlock   which files, by place
    seccomp    which system calls: no sockets, no processes, no signals to others (`syscalls`)
    limits     how much memory, how many and how large files; no privileges
    places     what every pipeline has to reach of the system
    words      what Python says when a pipeline tries what it may not
    home       the folder that it may fill, weighed and emptied by the node
    probe      whether this machine can do all that

`confine` shuts the process in that calls it, for good. The kernel does it, not Python: code of a
pipeline may be native, and may change whatever it likes within its process.

Not kept from it: using the processor and the accelerator's memory, measuring time, asking whether a
file whose name it knows exists, and remembering one case while it computes the next of the same
pipeline.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from node.compute.sandbox import landlock, limits, seccomp
from node.compute.sandbox.home import MOST_ENTRIES, clear, overuse, remove
from node.compute.sandbox.places import of_the_system
from node.compute.sandbox.words import explain_refusals

__all__ = ["MOST_ENTRIES", "Confinement", "clear", "confine", "overuse", "remove"]

#: What the kernel tells about this process.
_OWN = Path("/proc/self")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What is kept from a process: "" where it is, or else why it is not."""

    files: str = "it was not asked for"  #: other files than those listed: reading, writing, changing
    network: str = "it was not asked for"  #: sockets of every kind
    processes: str = "it was not asked for"  #: starting, tracing, reading them
    signals: str = "it was not asked for"  #: to others than itself

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return not any(asdict(self).values())

    def __str__(self) -> str:
        """Return e.g. "kept from network, processes; not from files (this kernel ...)"."""
        kept = [name for name, lack in asdict(self).items() if not lack]
        open_ = [f"{name} ({lack})" for name, lack in asdict(self).items() if lack]
        said = [f"kept from {', '.join(kept)}"] if kept else []
        return "; ".join(said + ([f"not kept from {', '.join(open_)}"] if open_ else []))


def confine(
    *,
    readable: Sequence[Path],
    writable: Sequence[Path],
    device: str = "cpu",
    memory_bytes: int | None = None,
    file_bytes: int | None = None,
) -> Confinement:
    """Shut this process in, and all threads that it will start; cannot be undone.

    To be called while there is one thread: Landlock binds the thread that asks and those that come
    after it, so an older one would stay free, and code of a pipeline could make use of it. numpy
    brings threads along unless ``OPENBLAS_NUM_THREADS`` is 1 when it is imported.

    Parameters
    ----------
    readable, writable
        Places, each with what lies below, beside those that every pipeline needs.
    device
        "cpu", or an accelerator whose device files are then open as well.
    memory_bytes
        Where ``device`` is "cpu", data beyond this (and some leeway) are refused, as `MemoryError`.
    file_bytes
        A file may not grow beyond this.

    Returns
    -------
    Confinement
        What the kernel agreed to; never raises because it did not.
    """
    limits.limit(memory_bytes=memory_bytes if device == "cpu" else None, file_bytes=file_bytes)
    if not limits.renounce():
        lack = "the kernel does not let a process give up privileges"
        return Confinement(files=lack, network=lack, processes=lack, signals=lack)
    os.environ.setdefault("LOGNAME", "radnode")  # libraries ask for it, and the list of users is out of reach
    # A rule stands for the very folder that /proc/self leads to now, which lasts only while it is held.
    os.open(_OWN, os.O_PATH | os.O_CLOEXEC)
    threads = len([*(_OWN / "task").iterdir()])
    abi, files = 0, ""
    try:
        abi = landlock.restrict(_rules(readable, writable, device))
    except landlock.Unavailable as error:
        files = str(error)
    if threads > 1:
        files = files or f"{threads} threads were running already, which Landlock does not bind"
    calls = seccomp.restrict(cuts=abi >= 3)
    explain_refusals()
    return Confinement(
        files=files or (f"modes and times can be changed: {calls}" if calls else ""),
        network=calls,
        processes=calls,
        signals="" if abi >= 6 and threads == 1 else calls,
    )


def _rules(readable: Sequence[Path], writable: Sequence[Path], device: str) -> Iterator[tuple[Path, int]]:
    yield from of_the_system(device)
    for place in readable:
        yield place, landlock.READ
    for place in writable:
        yield place, landlock.WRITE
    yield _OWN, landlock.READ
