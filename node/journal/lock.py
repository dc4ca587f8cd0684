"""One node per data folder: a lock that the kernel lets go when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.errors import ConfigError

LOOKS, LOOK_EVERY_S = 10, 0.02  #: how often the lock is tried before somebody else is said to have it


def is_locked(data: Path) -> bool:
    """Return whether a node works on a data folder just now."""
    try:
        handle = os.open(data / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _take(handle: int) -> None:
    """Lock it alone; who only looks (`is_locked`) has it for a moment."""
    for _ in range(LOOKS - 1):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            time.sleep(LOOK_EVERY_S)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def lock_data(data: Path) -> Iterator[None]:
    """Hold ``data/lock`` for as long as the block runs.

    The file stays behind and means nothing by itself; the lock is the kernel's, so a killed
    node leaves none. Folders on a network share may not honour it.

    Raises
    ------
    ConfigError
        Another process has it (named by its process id), or the folder cannot be written.
    """
    path = data / "lock"
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o750)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    except OSError as error:
        raise ConfigError(
            f"[node] data = {str(data)!r} cannot be used: {error.strerror}. "
            "Name a folder that this user may write."
        ) from error
    try:
        try:
            _take(handle)
        except OSError as error:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            raise ConfigError(
                f"Another node (process {holder or 'unknown'}) works on the data folder {data}. "
                "Stop it first, or give this one its own [node] data."
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
