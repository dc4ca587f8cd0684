"""Attempts to end or disturb other processes."""

from __future__ import annotations

import fcntl
import os
import signal

from tests.compute.malicious.target import Target


def kill_a_process(at: Target) -> object:
    return os.kill(at.pid, signal.SIGKILL)


def kill_everything(_at: Target) -> object:
    return os.kill(-1, signal.SIGKILL)


def stop_its_group(_at: Target) -> object:
    return os.killpg(os.getpgrp(), signal.SIGCONT)


def kill_by_descriptor(at: Target) -> object:
    return signal.pidfd_send_signal(os.pidfd_open(at.pid), signal.SIGKILL)


def have_the_kernel_signal_a_process(at: Target) -> object:
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(reader, fcntl.F_SETOWN, at.pid)
        fcntl.fcntl(reader, 10, signal.SIGKILL)  # F_SETSIG
        fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
        return os.write(writer, b"x")
    finally:
        os.close(reader)
        os.close(writer)
