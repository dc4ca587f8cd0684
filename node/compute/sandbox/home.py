"""The folder that a worker may fill, seen from the node: weigh it, empty it. What is in it is hostile.

No limit of the kernel bounds how much one process writes in all; so somebody has to look. A file
without a name keeps its room as long as it is open or mapped, and is looked for there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

#: What is more than this is not counted to the end: it is too much in any case.
MOST_ENTRIES: Final = 10_000
#: A thread costs the machine a process id; libraries take some per processor.
MOST_THREADS: Final = 4096

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system has (stat(3type))
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def overuse(pid: int, home: Path, most_bytes: int) -> str:
    """Return what a worker has too much of, as the rest of "The worker ...", or ""."""
    entries, used = 0, 0
    for found in _below(home):
        entries, used = entries + 1, used + found.st_blocks * _BLOCK_BYTES
        if entries > MOST_ENTRIES:
            return f"made more than {MOST_ENTRIES} files"
        if used > most_bytes:
            break
    used += _nameless_bytes(pid, home)
    if used > most_bytes:
        return f"wrote more than the {most_bytes / 1e9:.1f} GB of [compute] scratch_gb"
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        if int(fields[17]) > MOST_THREADS:  # num_threads, the 20th of proc_pid_stat(5)
            return f"started {fields[17]} threads; {MOST_THREADS} are the most"
    return ""


def _below(folder: Path) -> Iterator[os.stat_result]:
    """Yield everything below a folder that can be seen, without following anything."""
    waiting = [str(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)


def _nameless_bytes(pid: int, home: Path) -> int:
    """Return the size of files that were removed, and are open or mapped still."""
    found: dict[int, int] = {}  # inode -> bytes
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                held = entry.stat()
                if held.st_nlink == 0 and stat.S_ISREG(held.st_mode):
                    found[held.st_ino] = held.st_blocks * _BLOCK_BYTES
    mapped: dict[int, int] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines():
            if line.endswith(b" (deleted)") and os.fsencode(home) in line:
                span, _, _, _, inode, *_ = line.split()
                begin, _, end = span.partition(b"-")
                mapped[int(inode)] = mapped.get(int(inode), 0) + int(end, 16) - int(begin, 16)
    return sum(found.values()) + sum(size for inode, size in mapped.items() if inode not in found)


def clear(folder: Path, most: int | None = None) -> None:
    """Remove what is in a folder, however deep it is nested and whatever its modes are.

    Folders in folders are first moved up, so that no path grows longer than the kernel takes and no
    function calls itself.

    Parameters
    ----------
    most
        Give up after so many: whoever fills the folder may be at it still.

    Raises
    ------
    OSError
        The folder is not there, something in it cannot be removed, or there was too much.
    """
    top = os.open(folder, _FOLDER)
    try:
        moved, removed = count(), 0
        while names := os.listdir(top):  # noqa: PTH208
            for name in names:
                removed += _remove(top, name, moved)
                if most is not None and removed > most:
                    raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder))
    finally:
        os.close(top)


def remove(folder: Path) -> None:
    """Remove a folder and all that is in it, as far as that is possible."""
    with contextlib.suppress(OSError):
        clear(folder)
        folder.rmdir()


def _remove(top: int, name: str, moved: Iterator[int]) -> int:
    """Remove one entry; what is in the folders of a folder is moved to the top. Return how many went."""
    inner = _opened(top, name)
    if inner is None:
        os.unlink(name, dir_fd=top)
        return 1
    try:
        children = os.listdir(inner)  # noqa: PTH208
        for child in children:
            below = _opened(inner, child)
            if below is None:
                os.unlink(child, dir_fd=inner)
                continue
            os.close(below)
            aside = next(name for name in (f"{number}.aside" for number in moved) if not _exists(top, name))
            os.rename(child, aside, src_dir_fd=inner, dst_dir_fd=top)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)
    return 1 + len(children)


def _opened(parent: int, name: str) -> int | None:
    """Open a folder, whatever its mode; None if it is something else."""
    try:
        held = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except NotADirectoryError:  # also of a link
        return None
    try:
        itself = f"/proc/self/fd/{held}"
        Path(itself).chmod(0o700)
        return os.open(itself, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(held)


def _exists(folder: int, name: str) -> bool:
    try:
        os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True
