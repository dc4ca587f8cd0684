"""What is written to disk survives a power cut: a file is durable once its folder is synced too."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any


def sync_folder(folder: Path | str) -> None:
    """Make the names in a folder durable (fsync(2) of the folder)."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(file: IO[Any]) -> None:
    """Make what was written to an open file durable, but not its name."""
    file.flush()
    os.fsync(file.fileno())


def write_whole(path: Path, text: str, *, mode: int | None = None) -> None:
    """Put a small text under a name, durably, at once, in the place of what is there.

    Parameters
    ----------
    mode
        Permissions of the file; None: as any new file has them.

    Raises
    ------
    OSError
        It cannot be written. Unless it was the last step that failed, what was there still is.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(text)
            sync_file(file)
        part.rename(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
