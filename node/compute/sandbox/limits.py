"""What a worker may use up, as far as the kernel counts it by process (setrlimit(2), capabilities(7))."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import struct
from typing import Final

#: Descriptors of a worker. Also bounds what it can hold in files that have no name any more.
MOST_FILES: Final = 1024
#: A worker that grows slowly meets the node's watch first, which says more; only a leap gets here.
LEEWAY: Final = 1.25

_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS
_CAPABILITIES_V3 = 0x20080522
#: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: files of another user, in a container that runs as root.
#: Landlock holds against them.
_KEPT = 0b110

_libc = ctypes.CDLL(None, use_errno=True)


def limit(*, memory_bytes: int | None, file_bytes: int | None) -> None:
    """Lower the limits of this process for good.

    Parameters
    ----------
    memory_bytes
        Data that it may hold, shared or in files not counted. None: no limit, as drivers of
        accelerators reserve address space by the terabyte.
    file_bytes
        Size of a file that it may write.
    """
    _lower(resource.RLIMIT_CORE, 0)  # a core file would be full of images
    _lower(resource.RLIMIT_NOFILE, MOST_FILES)
    _lower(resource.RLIMIT_MSGQUEUE, 0)
    if memory_bytes is not None:
        _lower(resource.RLIMIT_DATA, int(memory_bytes * LEEWAY))
    if file_bytes is not None:
        _lower(resource.RLIMIT_FSIZE, file_bytes)


def _lower(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def renounce() -> bool:
    """Give up gaining privileges, and those of root; say whether the first was possible."""
    done = _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    header = struct.pack("<Ii", _CAPABILITIES_V3, 0)
    held = ctypes.create_string_buffer(24)
    if _libc.capget(header, held) == 0:
        words = struct.unpack("<6I", held.raw)  # effective, permitted, inheritable: low, then high words
        left = struct.pack("<6I", words[0] & _KEPT, words[1] & _KEPT, 0, 0, 0, 0)
        with contextlib.suppress(OSError):
            _libc.capset(header, left)
    return bool(done)
