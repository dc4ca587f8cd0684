"""Memory for what arrives, aligned as a disk wants it that is written past the page cache."""

from __future__ import annotations

import mmap
from collections import deque

#: What is written at once. Most slices fit in, and are looked at here before they are written.
BUFFER_BYTES = 1 << 20
#: Buffers that are kept for those who come next.
_MOST_IDLE = 32


class Buffers:
    """Memory for what arrives, used again and again; may be used by any number of threads."""

    def __init__(self) -> None:
        self._idle: deque[memoryview] = deque(maxlen=_MOST_IDLE)

    def take(self) -> memoryview:
        """Return `BUFFER_BYTES` bytes that begin at a page. What is in them is somebody else's.

        Raises
        ------
        OSError
            There is no memory.
        """
        try:
            return self._idle.pop()
        except IndexError:
            # Shared, as open(2) wants it where a process forks while the disk reads its memory.
            return memoryview(mmap.mmap(-1, BUFFER_BYTES, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS))

    def give_back(self, buffer: memoryview) -> None:
        """Let others have it: nobody may write to it any more."""
        self._idle.append(buffer)
