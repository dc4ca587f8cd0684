"""seccomp: which system calls a process may still make (seccomp(2)), as a small program for the kernel.

A list of what is allowed, with conditions on whole numbers among the arguments. What is not on it is
"not implemented", so that libraries fall back on what they did before a call existed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from node.compute.sandbox.syscalls import ALLOWED, MACHINES, REFUSED, numbers

# linux/filter.h, linux/seccomp.h
_LOAD, _AND, _IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data; both machines are little-endian
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_SYSTEM_CALL: Final = {"x86_64": 317, "aarch64": 277}

_WHOLE = 0xFFFFFFFF
#: (which argument, mask, value): the low 32 bits of the argument under the mask are the value.
Condition = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class When:
    """A call that depends on its arguments: with all conditions of any of ``cases`` this, else that."""

    cases: tuple[tuple[Condition, ...], ...]
    allowed: bool  #: in these cases, and not allowed in all others; or the other way round


def conditions(pid: int, *, cuts: bool) -> dict[str, When]:
    """Return the calls that depend on their arguments.

    Parameters
    ----------
    pid
        The process itself, which it may signal and limit.
    cuts
        Whether opening for reading may cut a file short; only Landlock of ABI 3 sees that.
    """
    own = (0, _WHOLE, pid)
    itself, its_group = (own,), (1, _WHOLE, 9)  # SIGKILL to its group hits itself as well
    by_it = When((((0, _WHOLE, 0),), itself), True)
    found = {
        # CLONE_THREAD; another process would leave every limit that is kept by process
        "clone": When((((0, 0x00010000, 0x00010000),),), True),
        # AF_UNIX, SOCK_STREAM: such a pair can be connected to nothing else, unlike datagrams
        "socketpair": When((((0, _WHOLE, 1), (1, 0xFF, 1)),), True),
        "kill": When((itself, ((0, _WHOLE, 0), its_group), ((0, _WHOLE, -pid & _WHOLE), its_group)), True),
        "tgkill": When((itself,), True),
        "rt_sigqueueinfo": When((itself,), True),
        "rt_tgsigqueueinfo": When((itself,), True),
        "prlimit64": by_it,
        "sched_setaffinity": by_it,
        # F_SETOWN, F_SETSIG, F_SETOWN_EX: a way to have the kernel signal others
        "fcntl": _never(1, 8, 10, 15),
        # FIOSETOWN, SIOCSPGRP; TIOCSTI, TIOCLINUX; FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR
        "ioctl": _never(1, 0x8901, 0x8902, 0x5412, 0x541C, 0x40086602, 0x401C5820),
        # PR_SET_DUMPABLE: hides a process from the eyes of the node; PR_SET_PTRACER, PR_SET_MM
        "prctl": _never(0, 4, 0x59616D61, 35),
    }
    if cuts:
        return found
    read_and_cut = os.O_ACCMODE | os.O_TRUNC
    return found | {
        "open": When((((1, read_and_cut, os.O_TRUNC),),), False),
        "openat": When((((2, read_and_cut, os.O_TRUNC),),), False),
        "openat2": When((), True),  # its flags are out of sight
        "truncate": When((), True),
    }


def _never(argument: int, *values: int) -> When:
    return When(tuple(((argument, _WHOLE, value),) for value in values), False)


def program(machine: str, rules: Mapping[str, When]) -> bytes:
    """Return the filter for a machine as the kernel takes it: instructions of 8 bytes."""
    architecture, _ = MACHINES[machine]
    unknown, refused = _return(_ERRNO | errno.ENOSYS), _return(_ERRNO | errno.EPERM)
    # Numbers mean other calls on another architecture, which a 64-bit process can switch to.
    parts = [_load(_ARCH_AT), _skip(architecture, if_equal=1), unknown, _load(_NUMBER_AT)]
    # The kernel remembers which calls are always allowed; for others it comes here, so they are first.
    for name, number in sorted(numbers(ALLOWED, machine).items(), key=lambda one: one[0] not in rules):
        when = rules.get(name, When(((),), True))
        parts += _only(number, [*_decide(when, refused)])
    for number in numbers(REFUSED, machine).values():
        parts += _only(number, [refused])
    return b"".join([*parts, unknown])


def _only(number: int, body: list[bytes]) -> list[bytes]:
    """Do this for one system call; the body ends with a return on every way."""
    return [_skip(number, if_not=len(body)), *body]


def _decide(when: When, refused: bytes) -> Iterable[bytes]:
    then, otherwise = (_return(_ALLOW), refused) if when.allowed else (refused, _return(_ALLOW))
    for case in when.cases:
        left = 3 * len(case) + 1  # instructions of this case
        for argument, mask, value in case:
            left -= 3
            yield _load(_ARGUMENTS_AT + 8 * argument)
            yield _instruction(_AND, mask)
            yield _skip(value, if_not=left)
        yield then
    yield otherwise


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _skip(value: int, *, if_equal: int = 0, if_not: int = 0) -> bytes:
    """Skip so many instructions, by what was loaded last."""
    return _instruction(_IF_EQUAL, value, if_equal, if_not)


def _return(action: int) -> bytes:
    return _instruction(_RETURN, action)


def _instruction(code: int, value: int, if_equal: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_equal, if_not, value)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def restrict(*, cuts: bool) -> str:
    """Apply the filter to all threads of this process; "" or why that was not possible.

    Cannot be undone. ``PR_SET_NO_NEW_PRIVS`` has to be set. ``cuts`` as in `conditions`.
    """
    machine = os.uname().machine
    if machine not in MACHINES:
        return f"no filter is known for {machine} processors"
    content = program(machine, conditions(os.getpid(), cuts=cuts))
    wanted = _Program(len(content) // 8, content)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    answer = libc.syscall(
        ctypes.c_long(_SYSTEM_CALL[machine]),
        ctypes.c_uint(_SET_MODE_FILTER),
        ctypes.c_uint(_ALL_THREADS),
        ctypes.byref(wanted),
    )
    if answer == 0:
        return ""
    if answer > 0:
        return f"thread {answer} could not be made to follow"
    said = errno.errorcode.get(ctypes.get_errno(), "an unknown error")
    return f"seccomp answers {said}; does the kernel lack it, or a container forbid it?"
