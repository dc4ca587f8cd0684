"""What hostile code of a pipeline may try, one function per attempt; `TRIES` names them all.

Each is given a `Target` and must not succeed: it raises, or returns "" where there is nothing to raise.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from node.compute.sandbox import confine, landlock

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


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
    found = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


# network


def connect_over_tcp(at: Target) -> object:
    return socket.create_connection(("127.0.0.1", at.tcp_port), timeout=5)


def send_over_udp(at: Target) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", at.udp_port))


def look_a_name_up(_at: Target) -> object:
    return socket.getaddrinfo("localhost", "domain", proto=socket.IPPROTO_TCP) and socket.socket()


def listen_for_others(_at: Target) -> object:
    return socket.create_server(("127.0.0.1", 0))


def send_to_a_unix_socket(at: Target) -> object:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", at.unix_path)


def send_to_an_abstract_socket(at: Target) -> object:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", at.abstract)


def turn_a_pair_of_datagram_sockets_elsewhere(at: Target) -> object:
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b"x", at.unix_path)


def turn_a_pair_of_sockets_elsewhere(at: Target) -> object:
    one, _ = socket.socketpair()
    return one.connect(at.unix_path)


def open_a_netlink_socket(_at: Target) -> object:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)


# files


def read_a_secret(at: Target) -> object:
    return at.secret.read_bytes()


def read_a_secret_through_the_root_of_a_process(at: Target) -> object:
    return Path(f"/proc/self/root{at.secret}").read_bytes()


def list_a_folder(at: Target) -> object:
    return [*at.folder.iterdir()]


def read_the_password_hashes(_at: Target) -> object:
    return Path("/etc/shadow").read_bytes()


def read_the_list_of_users(_at: Target) -> object:
    return Path("/etc/passwd").read_bytes()


def read_raw_memory(_at: Target) -> object:
    return Path("/dev/mem").open("rb")


def read_shared_memory(_at: Target) -> object:
    return Path("/dev/shm/canary").write_bytes(b"x")


def write_a_new_file(at: Target) -> object:
    return (at.folder / "new").write_bytes(b"x")


def overwrite_a_file(at: Target) -> object:
    return at.secret.write_bytes(b"x")


def append_to_a_file(at: Target) -> object:
    return at.secret.open("ab")


def cut_a_file(at: Target) -> object:
    return os.truncate(at.secret, 0)


def cut_a_file_while_opening_it_for_reading(at: Target) -> object:
    return os.open(at.secret, os.O_RDONLY | os.O_TRUNC)


def remove_a_file(at: Target) -> object:
    return at.secret.unlink()


def remove_a_folder(at: Target) -> object:
    return at.folder.rmdir()


def make_a_folder(at: Target) -> object:
    return (at.folder / "new-folder").mkdir()


def take_a_file_by_renaming_it(at: Target) -> object:
    return at.secret.rename("mine")


def put_a_file_elsewhere_by_renaming_it(at: Target) -> object:
    Path("mine").write_bytes(b"x")
    return Path("mine").rename(at.folder / "new")


def replace_a_file_by_renaming(at: Target) -> object:
    Path("mine").write_bytes(b"x")
    return Path("mine").replace(at.secret)


def take_a_file_by_a_hard_link(at: Target) -> object:
    return Path("mine-too").hardlink_to(at.secret)


def take_a_file_by_a_symbolic_link(at: Target) -> object:
    Path("alias").symlink_to(at.secret)
    return Path("alias").read_bytes()


def leave_a_named_pipe(_at: Target) -> object:
    return os.mkfifo("pipe")


def leave_a_device(_at: Target) -> object:
    return os.mknod("device", 0o600 | 0o020000, os.makedev(1, 3))


def leave_a_socket(_at: Target) -> object:
    return os.mknod("socket", 0o600 | 0o140000)


def open_again_what_was_opened_as_a_path_only(at: Target) -> object:
    held = os.open(at.secret, os.O_PATH)
    return os.open(f"/proc/self/fd/{held}", os.O_RDONLY)


def change_the_mode_of_a_file(at: Target) -> object:
    return at.secret.chmod(0)


def change_the_mode_of_a_library(_at: Target) -> object:
    with Path(os.__file__).open("rb") as file:
        return os.fchmod(file.fileno(), 0o777)


def change_the_owner_of_a_file(at: Target) -> object:
    return os.chown(at.secret, os.getuid(), os.getgid())


def change_the_times_of_a_file(at: Target) -> object:
    return os.utime(at.secret, (0, 0))


def set_an_attribute_of_a_file(at: Target) -> object:
    return os.setxattr(at.secret, "user.canary", b"x")


def make_a_file_immutable(_at: Target) -> object:
    with Path(os.__file__).open("rb") as file:
        return fcntl.ioctl(file, 0x40086602, (0x10).to_bytes(8, "little"))


def change_a_library(_at: Target) -> object:
    return Path(os.__file__).open("ab")


def change_code_of_the_node(_at: Target) -> object:
    return Path(str(sys.modules["node"].__file__)).open("ab")


def watch_a_folder(_at: Target) -> object:
    return call(294, ctypes.c_int(0)) if os.uname().machine == "x86_64" else call(26, ctypes.c_int(0))


def mount_something(_at: Target) -> object:
    return _libc.mount(b"none", b".", b"tmpfs", 0, None) == 0


def change_the_root(_at: Target) -> object:
    return os.chroot(".")


def open_by_handle(_at: Target) -> object:
    return _libc.open_by_handle_at(-1, ctypes.create_string_buffer(64), 0) >= 0


def give_a_file_in_shared_memory(_at: Target) -> object:
    return os.memfd_create("x")


def read_by_io_uring(_at: Target) -> object:
    return call(425, ctypes.c_uint(8), ctypes.create_string_buffer(256))


# processes


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
    return _libc.process_vm_readv(at.pid, None, 0, None, 0, 0) >= 0 or raise_errno()


def trace_a_process(at: Target) -> object:
    return _libc.ptrace(16, at.pid, 0, 0) == 0 or raise_errno()


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
    return _libc.prctl(4, 0, 0, 0, 0) == 0 or raise_errno()


def use_a_namespace_of_its_own(_at: Target) -> object:
    return _libc.unshare(0x10000000) == 0 or raise_errno()


# signals


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


# limits


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
    return _libc.prctl(22, 0, 0, 0, 0) == 0 or raise_errno()


def raise_errno() -> None:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


TRIES: dict[str, Callable[[Target], object]] = {
    name: made
    for name, made in list(globals().items())
    if callable(made)
    and getattr(made, "__module__", "") == __name__
    and name not in ("Target", "call", "raise_errno", "main")
}


def outcome(name: str, at: Target) -> str:
    """Try it; return "" if it succeeded, or what stopped it."""
    try:
        done = TRIES[name](at)
    except BaseException as error:  # noqa: BLE001
        code = getattr(error, "errno", None)
        return errno.errorcode.get(code, str(code)) if code else type(error).__name__
    finally:
        with contextlib.suppress(OSError):
            Path("mine").unlink()
    return "" if done is not False else "refused"


def main() -> None:
    """Try what the first argument lists at the second one's target; tell as JSON.

    The third is the version of Landlock to be confined with, or "free".
    """
    names, at = json.loads(sys.argv[1]), Target(**json.loads(sys.argv[2]))
    at = replace(at, secret=Path(at.secret), folder=Path(at.folder))
    said = ""
    if sys.argv[3] != "free":
        if (older := int(sys.argv[3])) < landlock.version():
            landlock.version = lambda: older
        said = str(confine(readable=[], writable=[Path.cwd()], memory_bytes=2 << 30, file_bytes=1 << 30))
    print(json.dumps({"said": said, **{name: outcome(name, at) for name in names}}))


if __name__ == "__main__":
    main()
