"""Attempts to take more than there is, and to be free again."""

from __future__ import annotations

import mmap
import os
import resource
from pathlib import Path

from tests.compute.malicious.target import Target, libc, raise_errno


def take_all_memory(_at: Target) -> object:
    return bytearray(64 << 30)


def take_all_memory_past_python(_at: Target) -> object:
    return mmap.mmap(-1, 64 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def write_a_huge_file(_at: Target) -> object:
    with Path("huge").open("wb") as file:
        return file.truncate(64 << 30)


def open_files_without_end(_at: Target) -> object:
    held = []
    try:
        while len(held) < 100_000:
            held.append(os.open("/dev/null", os.O_RDONLY))
        return True
    finally:
        for descriptor in held:
            os.close(descriptor)


def raise_its_limits(_at: Target) -> object:
    return resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def leave_the_filter(_at: Target) -> object:
    return libc.prctl(22, 0, 0, 0, 0) == 0 or raise_errno()
