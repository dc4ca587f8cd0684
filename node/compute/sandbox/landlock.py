"""Landlock: the kernel lets this process, and what it starts, touch listed places only (landlock(7)).

A rule stands for a place and everything below it. Landlock knows nothing of changing modes, times
and owners, and older kernels nothing of cutting files short; `seccomp` sees to those.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# linux/landlock.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION, _PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << b for b in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1, 2

#: Which of the rights to files an ABI knows; everything that it knows is denied unless a rule allows it.
_KNOWN: Final = {1: MAKE_SYM * 2 - 1, 2: REFER * 2 - 1, 3: TRUNCATE * 2 - 1, 5: IOCTL_DEV * 2 - 1}
_OF_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

#: Nothing is executed: a pipeline starts no programs.
READ: Final = READ_FILE | READ_DIR
#: Plain files and folders; no links, pipes, sockets or devices, which would surprise whoever reads them.
WRITE: Final = (
    READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
)  # fmt: skip
#: Devices of the system, and accelerators: no making or removing.
DEVICE: Final = READ | WRITE_FILE | TRUNCATE | IOCTL_DEV

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


class Unavailable(OSError):
    """The kernel does not do it; the sentence says why."""


def version() -> int:
    """Return the ABI version of this kernel's Landlock; 0 without one."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def restrict(rules: Iterable[tuple[Path, int]]) -> int:
    """Deny this thread, and all that it will start, every place that no rule allows.

    Connections over TCP, signals to processes and abstract sockets outside are denied as well, as
    far as the kernel knows how. Cannot be undone. ``PR_SET_NO_NEW_PRIVS`` has to be set.

    Parameters
    ----------
    rules
        Places, which may be missing, each with the rights to it and to what lies below.

    Returns
    -------
    int
        The ABI version, which tells what was denied.

    Raises
    ------
    Unavailable
        There is no Landlock here.
    """
    abi = version()
    if abi < 1:
        raise Unavailable("this kernel has no Landlock (Linux 5.13 or later, in its lsm= list)")
    known = _KNOWN[max(least for least in _KNOWN if least <= abi)]
    attributes = _Ruleset(
        known,
        _BIND_TCP | _CONNECT_TCP if abi >= 4 else 0,
        _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if abi >= 6 else 0,
    )
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & known)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return abi


def _allow(ruleset: int, path: Path, rights: int) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                rights &= _OF_FILES
            rule = _PathBeneath(rights, place)
            _call(
                _ADD_RULE,
                ctypes.c_int(ruleset),
                ctypes.c_int(_PATH_BENEATH),
                ctypes.byref(rule),
                ctypes.c_uint32(0),
            )
        finally:
            os.close(place)


def _call(number: int, *arguments: object) -> int:
    """Make a system call; raise what it complains about."""
    found = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        code = ctypes.get_errno()
        said = errno.errorcode.get(code, str(code))
        raise Unavailable(f"Landlock answers {said}; does a container forbid its system calls?")
    return found
