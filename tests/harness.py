"""A node under test: always the real command in a process of its own, with its own data folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from node.journal import Journal

#: Several nodes run at once, so each takes a free port for HTTP; a file that names one is overruled.
FREE_PORTS = {"RADNODE_SHOW__PORT": "0"}
RADNODE = Path(sys.executable).with_name("radnode")
PATIENCE_S = 120.0


def wait_until(is_so: Callable[[], Any], what: str, within_s: float = PATIENCE_S) -> Any:
    """Return the first true answer; fail, naming ``what``, when none comes in time."""
    if answer := eventually(is_so, within_s):
        return answer
    raise AssertionError(f"{what}: not within {within_s:.0f} s")


def eventually(is_so: Callable[[], Any], within_s: float = 10.0) -> Any:
    """Return the first true answer, or the one at the end of the time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if answer := is_so():
            return answer
        time.sleep(0.02)
    return is_so()


def program(name: str) -> str:
    """Return where a program of DCMTK is; skip the test where it is not."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is missing: apt-get install dcmtk")
    return path


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether somebody listens on a port of this machine; whoever does is called."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def memory_mb(what: str, pid: int | str = "self") -> float:
    """Return what the kernel tells of a process' memory, in megabytes: "VmRSS" as it is, "VmHWM" its peak.

    Not of getrusage(2), whose peak begins at the memory of who started the program.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) * 1024 / 1e6


def forget_peak() -> None:
    """Let the peak of this process begin at the memory that it has now (proc(5): clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def being_received(data: Path) -> list[Path]:
    """Return the files of objects that are on their way into a data folder; most have no name."""
    nameless = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # closed meanwhile
            path = link.readlink()
            if path.is_relative_to(data / "instances") and path.name.endswith(" (deleted)"):
                nameless.append(path)
    return [*data.glob("instances/*/*.part"), *nameless]


class NodeProcess:
    """``radnode serve`` on free ports."""

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "node.toml"
        self.config.write_text(config, encoding="utf-8")
        self.log = folder / "node.log"
        self.port = 0
        self.web = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self, env: Mapping[str, str] | None = None, *, stderr: IO[bytes] | None = None) -> None:
        """Start it and wait until it is ready; what it logs goes to ``self.log``, or to ``stderr``."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [RADNODE, "serve", "--config", self.config],
                stdout=subprocess.PIPE,
                stderr=stderr or log,
                text=True,
                env={**os.environ, **FREE_PORTS, **(env or {})},
            )
        line = self._process.stdout.readline()
        assert line.startswith("ready"), f"the node did not start: {self.log.read_text()[-2000:]}"
        ports = dict(word.split("=") for word in line.split()[1:])
        self.port, self.web = int(ports.get("dimse", 0)), int(ports.get("web", 0))

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_dead(self) -> None:
        wait_until(lambda: not self.is_running(), "the node dies")

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        if self.is_running():
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE_S)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.is_running():
            self._process.kill()
        self._process.wait()

    def run(self, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another radnode command against this node."""
        done = subprocess.run(
            [RADNODE, *words, "--config", self.config],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env={**os.environ, **FREE_PORTS},
        )
        assert not ok or done.returncode == 0, done.stderr
        return done

    def status(self) -> dict[str, Any]:
        """Return what ``radnode status --json`` prints, without the cost of a process."""
        journal = Journal.open(self.folder / "data", create=False)
        try:
            return journal.status()
        finally:
            journal.close()

    def wait_idle(self) -> dict[str, Any]:
        """Wait until nothing arrives, computes or sends any more; return the status."""

        def idle() -> dict[str, Any] | None:
            now = self.status()
            open_jobs = any(now["jobs"][state] for state in ("queued", "computing", "sending"))
            busy = now["arriving"] or now["unfollowed"] or open_jobs
            return None if busy or not now["series"] else now

        return wait_until(idle, "the node comes to rest")
