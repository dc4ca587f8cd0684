"""What hostile code is after, and how it goes past Python."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


@dataclass(frozen=True)
class Target:
    """What is to be kept from harm."""

    secret: Path  #: a file outside
    folder: Path  #: a folder outside
    pid: int  #: another process of the same user
    tcp_port: int
    udp_port: int
    unix_path: str  #: of a datagram socket that listens
    abstract: str  #: the same without a file


def call(number: int, *arguments: Any) -> int:
    """Make a system call past Python."""
    found = int(libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


def raise_errno() -> None:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
