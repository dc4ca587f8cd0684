"""Attempts on files that are not a pipeline's own."""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
from pathlib import Path

from tests.compute.malicious.target import Target, call, libc


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
    return libc.mount(b"none", b".", b"tmpfs", 0, None) == 0


def change_the_root(_at: Target) -> object:
    return os.chroot(".")


def open_by_handle(_at: Target) -> object:
    return libc.open_by_handle_at(-1, ctypes.create_string_buffer(64), 0) >= 0


def give_a_file_in_shared_memory(_at: Target) -> object:
    return os.memfd_create("x")


def read_by_io_uring(_at: Target) -> object:
    return call(425, ctypes.c_uint(8), ctypes.create_string_buffer(256))
