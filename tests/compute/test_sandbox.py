"""What a confined process can and cannot do, asked of the kernel itself."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from node.compute.sandbox import Confinement, landlock, seccomp, syscalls
from node.compute.sandbox.probe import exposing, probe, unconfined
from tests.compute.malicious import TRIES

ROOT = Path(__file__).parents[2]

#: What does harm nowhere, and so can be tried by an unconfined process as well.
HARMLESS = """
    connect_over_tcp send_over_udp look_a_name_up listen_for_others send_to_a_unix_socket
    send_to_an_abstract_socket turn_a_pair_of_datagram_sockets_elsewhere open_a_netlink_socket
    read_a_secret list_a_folder read_the_list_of_users write_a_new_file append_to_a_file make_a_folder
    open_again_what_was_opened_as_a_path_only change_the_times_of_a_file
    cut_a_file_while_opening_it_for_reading cut_a_file
    read_a_secret_through_the_root_of_a_process take_a_file_by_a_hard_link take_a_file_by_a_symbolic_link
    leave_a_named_pipe fork clone_past_python run_a_program run_a_shell spawn_a_program
    read_the_environment_of_a_process see_the_files_of_a_process limit_a_process
    give_a_file_in_shared_memory write_a_huge_file
""".split()

needs_landlock = pytest.mark.skipif(landlock.version() < 1, reason="needs a kernel with Landlock")
needs_a_known_machine = pytest.mark.skipif(
    os.uname().machine not in syscalls.MACHINES, reason="needs an x86_64 or aarch64 processor"
)


def environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "TMPDIR": str(home), "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture
def target(tmp_path: Path) -> Iterator[dict[str, object]]:
    """A file, a folder, a process and sockets, as outside as those of the node."""
    folder = tmp_path / "data"
    (folder / "inner").mkdir(parents=True)
    secret = folder / "journal.sqlite"
    secret.write_bytes(b"canary")
    with ExitStack() as stack:
        victim = stack.enter_context(subprocess.Popen(["sleep", "60"], env={"SECRET": "canary"}))
        stack.callback(victim.kill)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        unix.bind(str(tmp_path / "socket"))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        abstract.bind(f"\0radnode-{victim.pid}")
        yield {
            "secret": str(secret),
            "folder": str(folder / "inner"),
            "pid": victim.pid,
            "tcp_port": tcp.getsockname()[1],
            "udp_port": udp.getsockname()[1],
            "unix_path": str(tmp_path / "socket"),
            "abstract": f"\0radnode-{victim.pid}",
        }
        assert victim.poll() is None, "the other process was ended"


def attempt(names: list[str], target: dict[str, object], home: Path, how: str) -> dict[str, str]:
    home.mkdir()
    done = run(home, "-m", "tests.compute.malicious", json.dumps(names), json.dumps(target), how)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@needs_landlock
@needs_a_known_machine
@pytest.mark.parametrize("version", [1, 2, 3, 5, 99])
def test_nothing_that_hostile_code_tries_succeeds(version: int, target, tmp_path: Path) -> None:
    """With this kernel's Landlock, and with that of older ones, which know less."""
    found = attempt(list(TRIES), target, tmp_path / "home", str(version))
    assert found.pop("said") == "kept from files, network, processes, signals"
    assert {name for name, stopped in found.items() if not stopped} == set()
    assert Path(target["secret"]).read_bytes() == b"canary"
    assert [*Path(target["folder"]).iterdir()] == []


def test_the_same_tries_succeed_where_nobody_is_confined(target, tmp_path: Path) -> None:
    found = attempt(HARMLESS, target, tmp_path / "home", "free")
    del found["said"]
    assert {name: stopped for name, stopped in found.items() if stopped} == {}


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_every_system_call_has_one_number_and_one_answer(machine: str) -> None:
    allowed, refused = (syscalls.numbers(table, machine) for table in (syscalls.ALLOWED, syscalls.REFUSED))
    assert not allowed.keys() & refused.keys()
    every = [*allowed.values(), *refused.values()]
    assert len(every) == len(set(every))
    assert seccomp.conditions(1, cuts=False).keys() <= allowed.keys() | {"open"}


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"needs Debian's linux-libc-dev, with {HEADERS[machine]}")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", HEADERS[machine].read_text())
    known = {"newfstatat" if name == "fstatat" else name: int(number) for name, number in defined}
    ours = syscalls.numbers(syscalls.ALLOWED + syscalls.REFUSED, machine)
    younger = {"mseal", "fchmodat2", "futex_wake", "futex_wait", "futex_requeue"}  # than some headers
    assert ours.keys() - known.keys() <= younger
    assert {name for name, number in ours.items() if known.get(name, number) != number} == set()


def judge(content: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Run a filter as the kernel would; return its answer."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    at = loaded = 0
    while True:
        code, if_equal, if_not, value = struct.unpack_from("<HBBI", content, 8 * at)
        at += 1
        match code:
            case 0x20:
                loaded = struct.unpack_from("<I", data, value)[0]
            case 0x54:
                loaded &= value
            case 0x15:
                at += if_equal if loaded == value else if_not
            case 0x06:
                return value


@pytest.mark.parametrize("machine", syscalls.MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "errno_"),
    [
        ("read", (0,), None),
        ("socket", (2, 1), 1),
        ("clone3", (), 38),
        ("io_uring_setup", (), 38),
        ("memfd_create", (), 38),
        ("clone", (0x10000 | 0x100,), None),
        ("clone", (17,), 1),
        ("kill", (4711, 9), None),
        ("kill", (4712, 9), 1),
        ("kill", (0, 9), None),
        ("kill", (0, 15), 1),
        ("kill", (0xFFFFFFFF, 9), 1),
        ("kill", (2**32 - 4711, 9), None),
        ("socketpair", (1, 1 | 0o2000000), None),
        ("socketpair", (1, 2), 1),
        ("socketpair", (2, 1), 1),
        ("fcntl", (0, 2), None),
        ("fcntl", (0, 8), 1),
        ("ioctl", (0, 0x5412), 1),
        ("ioctl", (0, 0xC0104652), None),
        ("prctl", (15,), None),
        ("prctl", (4,), 1),
        ("openat", (0, 0, os.O_RDONLY), None),
        ("openat", (0, 0, os.O_WRONLY | os.O_TRUNC), None),
        ("openat", (0, 0, os.O_RDONLY | os.O_TRUNC), 1),
        ("truncate", (), 1),
    ],
)
def test_the_filter_answers_on_every_machine(machine: str, name: str, arguments, errno_: int | None) -> None:
    others = {"clone3": 435, "io_uring_setup": 425, "memfd_create": {"x86_64": 319, "aarch64": 279}[machine]}
    number = (others | syscalls.numbers(syscalls.ALLOWED + syscalls.REFUSED, machine))[name]
    content = seccomp.program(machine, seccomp.conditions(4711, cuts=False))
    answer = judge(content, syscalls.MACHINES[machine][0], number, *arguments)
    assert answer == (0x7FFF0000 if errno_ is None else 0x00050000 | errno_)
    assert judge(content, 0x40000003, number, *arguments) == 0x00050000 | 38  # of 32-bit programs


def test_what_is_not_kept_is_told_with_the_reason() -> None:
    found = Confinement(files="this kernel has no Landlock", network="", processes="", signals="")
    assert not found.is_whole
    assert (
        str(found)
        == "kept from network, processes, signals; not kept from files (this kernel has no Landlock)"
    )


LIBRARIES = """
import sys
from pathlib import Path
from node.compute.sandbox import confine
said = confine(readable=[], writable=[Path.cwd()], memory_bytes=8 << 30, file_bytes=1 << 30)
import nibabel, numpy, scipy.ndimage, skimage.measure, threading, torch
import monai.bundle, monai.inferers, monai.networks.nets, monai.transforms
image = torch.rand(1, 1, 24, 24, 24)
network = monai.networks.nets.UNet(3, 1, 2, (4, 8), (2,))
with torch.no_grad():
    print(monai.inferers.SlidingWindowInferer((16, 16, 16))(image, network).shape)
torch.jit.trace(network, image).save("model.ts")
print(torch.jit.load("model.ts")(image).shape)
torch.save(network.state_dict(), "model.pt")
torch.load("model.pt", weights_only=True)
nibabel.save(nibabel.Nifti1Image(image[0, 0].numpy(), numpy.eye(4)), "image.nii.gz")
print(monai.transforms.LoadImage()("image.nii.gz").shape)
print(skimage.measure.label(scipy.ndimage.gaussian_filter(image[0, 0].numpy(), 1) > 0.5).shape)
numpy.linalg.svd(numpy.ones((200, 200)))
thread = threading.Thread(target=print, args=("thread",))
thread.start()
thread.join()
torch.set_num_threads(2)
print(float(torch.rand(300, 300).matmul(torch.eye(300)).sum()) > 0)
"""


def test_the_libraries_of_pipelines_work_inside(tmp_path: Path) -> None:
    done = run(tmp_path, "-W", "ignore", "-c", LIBRARIES)
    assert done.returncode == 0, done.stderr
    shape = "torch.Size([1, 2, 24, 24, 24])"
    assert done.stdout.split("\n")[:6] == [
        shape,
        shape,
        "torch.Size([24, 24, 24])",
        "(24, 24, 24)",
        "thread",
        "True",
    ]


THREADED = """
import threading
from pathlib import Path
from node.compute.sandbox import confine
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(confine(readable=[], writable=[]))
"""


@needs_landlock
@needs_a_known_machine
def test_a_process_that_has_threads_already_is_not_called_confined(tmp_path: Path) -> None:
    assert "not kept from files (2 threads were running already" in run(tmp_path, "-c", THREADED).stdout


WORDS = """
import json, os, socket, subprocess, sys
from pathlib import Path
from node.compute.sandbox import confine
confine(readable=[], writable=[Path.cwd()])
def said(attempt):
    try:
        attempt()
    except OSError as error:
        return f"{type(error).__name__}: {error}"
socket.socketpair()
print(json.dumps([
    said(lambda: socket.create_connection(("example.org", 443))),
    said(lambda: subprocess.run(["nvidia-smi", "-L"])),
    said(os.fork),
    said(lambda: open("/etc/shadow")),
]))
"""


@needs_landlock
@needs_a_known_machine
def test_a_refusal_says_what_a_pipeline_tried(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", WORDS)
    assert json.loads(done.stdout) == [
        "PermissionError: [Errno 1] a pipeline may not use the network (socket.getaddrinfo 'example.org')",
        "PermissionError: [Errno 1] a pipeline may not start processes (subprocess.Popen 'nvidia-smi')",
        "PermissionError: [Errno 1] a pipeline may not start processes (os.fork)",
        "PermissionError: [Errno 13] Permission denied: '/etc/shadow'",
    ]


@needs_landlock
@needs_a_known_machine
def test_the_machine_is_asked_by_trying(tmp_path: Path) -> None:
    assert probe(tmp_path / "data").is_whole


@needs_a_known_machine
def test_a_data_folder_where_every_pipeline_may_read_is_told() -> None:
    assert exposing(Path("/usr/local/radnode/data")) == Path("/usr")
    assert "the data folder lies in /usr" in probe(Path("/usr/local/radnode/data")).files


def test_pipelines_from_outside_need_isolation_that_is_whole_unless_an_operator_says_otherwise() -> None:
    whole = Confinement(files="", network="", processes="", signals="")
    lacking = Confinement(files="this kernel has no Landlock", network="", processes="", signals="")
    assert unconfined("required", ["vendor"], whole) == ""
    assert unconfined("required", [], lacking) == ""
    assert unconfined("best", ["vendor"], lacking) == ""
    said = unconfined("required", ["vendor"], lacking)
    assert said.startswith("vendor: pipelines from outside are not run here unless the kernel shuts them in")
    assert said.endswith("not kept from files (this kernel has no Landlock)")
