"""Work that goes wrong in every way a pipeline can; `work` runs inside a worker process."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from node.compute.wire import pack
from node.errors import EncodeError, FindingsInvalid
from pipelines.contract import InputRefused

CALLS = {"here": 0}  # tells a warm worker from a fresh one


def work(payload: dict[str, Any], device: str, report: Callable[[str, float], None]) -> dict[str, Any]:
    """Do what the payload says under "do"."""
    CALLS["here"] += 1
    report("begin", 0.0)
    answer = TOYS[payload["do"]](payload, report)
    return {"pid": os.getpid(), "device": device, "calls": CALLS["here"]} | (answer or {})


def ok(_payload, report):
    report("half", 0.5)
    return {"environment": dict(os.environ), "cwd": str(Path.cwd()), "umask": os.umask(0o077)}


def echo(payload, _report):
    return {"length": len(payload["text"]), "end": payload["text"][-5:]}


def refuse(_payload, _report):
    raise InputRefused("slice-gap", "There is a gap of 5 mm after slice 12.")


def raise_error(_payload, _report):
    raise ValueError("PATIENT^CANARY was here")


def raise_base(_payload, _report):
    raise BaseException("PATIENT^CANARY was here")


def raise_node(_payload, _report):
    raise EncodeError("The object would be wrong.")


def raise_invalid(_payload, _report):
    raise FindingsInvalid("The label map\x1b[31m has the wrong shape.\n")


def exit_zero(_payload, _report):
    sys.exit(0)


def exit_at_once(_payload, _report):
    os._exit(3)


def segfault(_payload, _report):
    ctypes.string_at(0)


def abort(_payload, _report):
    os.abort()


def illegal(_payload, _report):
    os.kill(os.getpid(), signal.SIGILL)


def kill_self(_payload, _report):
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(payload, _report):
    time.sleep(payload["seconds"])


def hang(_payload, _report):
    """Hang in native code with the interpreter held, deaf to SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    ctypes.PyDLL(None).sleep(600)


def eat_memory(_payload, _report):
    hoard = []
    while True:
        hoard.append(b"\1" * (50 << 20))
        time.sleep(0.02)


def be_short_of_memory(_payload, _report):
    raise MemoryError


def eat_memory_in_a_child(_payload, _report):
    code = "import time; a = [b'x' * (50 << 20) for _ in range(40)]; time.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=False)


def leave_child(_payload, _report):
    return {"child": subprocess.Popen(["sleep", "600"]).pid}


def leave_daemon(_payload, _report):
    return {"child": subprocess.Popen(["sleep", "600"], start_new_session=True).pid}


def hang_with_children(payload, report):
    Path(payload["note"]).write_text(
        f"{os.getpid()} {leave_child(payload, report)['child']} {leave_daemon(payload, report)['child']}"
    )
    hang(payload, report)


def fork_without_exec(_payload, _report):
    """Leave a forked copy of the worker, which holds all of its pipes."""
    child = os.fork()
    if child == 0:
        signal.pause()
    return {"child": child}


def hand(_payload, _report):
    """Read what was given, try to change it, and leave something to be taken."""
    (given,) = Path("..", "given").iterdir()
    said = (given / "note").read_text()
    spoilt = []
    for change in (
        lambda: (given / "note").write_text("spoilt"),
        lambda: (given / "note").unlink(),
        lambda: (given / "more").touch(),
        lambda: given.rename("stolen"),
        lambda: os.link(given / "note", "mine"),
    ):
        try:
            change()
        except OSError:
            continue
        spoilt.append(change.__code__.co_firstlineno)
    Path("taken").mkdir()
    Path("taken", "note").write_text(said.upper())
    return {"spoilt": spoilt}


def hand_and_die(payload, report):
    hand(payload, report)
    os.abort()


def see(_payload, _report):
    return {"cuda": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": os.environ["OMP_NUM_THREADS"]}


def pry(payload, _report):
    """Try what would be worth something to whoever got hold of this process; tell what could be done."""
    data, sources = Path(payload["data"]), [Path(source) for source in payload["sources"]]
    (instance,) = (file for source in sources for file in source.glob("*/*"))
    tries = {f"read {name}": (data / name).read_bytes for name in payload["secrets"]}
    tries |= {f"change {name}": partial((data / name).open, "ab") for name in payload["secrets"]}
    tries |= {
        "change its instances": lambda: instance.write_bytes(b"x"),
        "remove its instances": instance.unlink,
        "list the results": lambda: [*(data / "results").iterdir()],
        "use the network": socket.socket,
        "start a program": lambda: subprocess.run(["true"], check=False),
        "look at the node": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "read its instances": instance.read_bytes,
        "write into its own folder": Path("note").touch,
    }
    return {"could": [name for name, attempt in tries.items() if _could(attempt)]}


def _could(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def leave_files(_payload, _report):
    folder = Path(tempfile.mkdtemp())
    (folder / "leftover").write_bytes(b"x" * 1000)
    (Path.cwd() / "another").write_bytes(b"x")
    return {"folder": str(folder)}


def remove_home(_payload, _report):
    shutil.rmtree(Path.cwd())


def leave_thread(_payload, _report):
    threading.Thread(target=time.sleep, args=(600,), daemon=False).start()


def print_much(_payload, _report):
    line = b"\x1b[31mgarbage\x07 " * 100 + b"\n"
    for _ in range((100 << 20) // len(line)):
        os.write(1, line)
    os.write(2, b"\x1b]0;title\x07the last line\n")


def print_and_die(_payload, _report):
    print_much(_payload, _report)
    os.abort()


def _pipes() -> list[int]:
    """Find the pipe to the node by looking, as hostile code could."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        number = int(entry.name)
        if number > 2 and os.path.exists(entry) and "pipe:" in os.readlink(entry):  # noqa: PTH110, PTH115
            found.append(number)
    return found


def talk_nonsense(_payload, _report):
    for number in _pipes():
        try:
            os.write(number, b"\xff\xff\xff\xffnonsense")
        except OSError:
            continue
    time.sleep(60)


def answer_twice(_payload, _report):
    """Answer, and the next task as well."""
    content = pack({"result": {"pid": os.getpid(), "calls": CALLS["here"]}})
    for number in _pipes():
        try:
            os.write(number, content * 2)
        except OSError:
            continue
    time.sleep(60)


def close_pipes(_payload, _report):
    for number in _pipes():
        os.close(number)
    time.sleep(60)


def answer_badly(_payload, _report):
    return {"unserializable": object()}


def answer_hugely(_payload, _report):
    return {"text": "x" * (20 << 20)}


def report_nonstop(_payload, report):
    for index in range(200_000):
        report("work", index / 200_000)
    report("done", float("1e9"))


def garble_arguments(_payload, report):
    report("\x1b[2Jstep\n" * 100, -5)


TOYS = {name: toy for name, toy in list(globals().items()) if callable(toy) and name not in ("work", "Path")}
