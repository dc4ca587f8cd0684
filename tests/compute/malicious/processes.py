"""Attempts to start processes, and on those of others."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from pathlib import Path

from tests.compute.malicious.target import Target, call, libc, raise_errno


def fork(_at: Target) -> object:
    if os.fork() == 0:
        os._exit(0)
    return True


def fork_a_daemon(_at: Target) -> object:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.pause()
        os._exit(0)
    return True


def fork_a_bomb(_at: Target) -> object:
    for _ in range(20):
        os.fork()
    return True


def clone_past_python(_at: Target) -> object:
    number = 56 if os.uname().machine == "x86_64" else 220
    if call(number, ctypes.c_ulong(17), None, None, None, None) == 0:
        os._exit(0)
    return True


def run_a_program(_at: Target) -> object:
    return subprocess.run(["true"], check=False)


def run_a_shell(_at: Target) -> object:
    return os.system("true") == 0  # noqa: S605


def spawn_a_program(_at: Target) -> object:
    return os.posix_spawn("/bin/true", ["true"], {})


def become_a_program(_at: Target) -> object:
    return os.execv("/bin/true", ["true"])  # noqa: S606


def start_workers_of_its_own(_at: Target) -> object:
    import multiprocessing

    return multiprocessing.get_context("spawn").Process(target=print).start()


def read_the_environment_of_a_process(at: Target) -> object:
    return Path(f"/proc/{at.pid}/environ").read_bytes()


def read_the_memory_of_a_process(at: Target) -> object:
    return Path(f"/proc/{at.pid}/mem").open("rb")


def look_through_the_root_of_a_process(at: Target) -> object:
    return Path(f"/proc/{at.pid}/root{at.secret}").read_bytes()


def see_the_files_of_a_process(at: Target) -> object:
    return Path(f"/proc/{at.pid}/fd/0").readlink()


def copy_the_memory_of_a_process(at: Target) -> object:
    return libc.process_vm_readv(at.pid, None, 0, None, 0, 0) >= 0 or raise_errno()


def trace_a_process(at: Target) -> object:
    return libc.ptrace(16, at.pid, 0, 0) == 0 or raise_errno()


def limit_a_process(at: Target) -> object:
    return resource.prlimit(at.pid, resource.RLIMIT_NOFILE, (16, 16))


def slow_a_process_down(at: Target) -> object:
    return os.setpriority(os.PRIO_PROCESS, at.pid, 19)


def bind_a_process_to_a_processor(at: Target) -> object:
    return os.sched_setaffinity(at.pid, {0})


def escape_the_memory_killer(_at: Target) -> object:
    return Path("/proc/self/oom_score_adj").write_text("-1000")


def leave_the_process_group(_at: Target) -> object:
    return os.setpgid(0, 0)


def hide_from_the_node(_at: Target) -> object:
    return libc.prctl(4, 0, 0, 0, 0) == 0 or raise_errno()


def use_a_namespace_of_its_own(_at: Target) -> object:
    return libc.unshare(0x10000000) == 0 or raise_errno()
