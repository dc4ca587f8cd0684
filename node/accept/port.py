"""Says whose a port is that we wanted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"  #: state of a listening socket in /proc/net/tcp


def owner_of(port: int) -> str:
    """Return who listens on a TCP port, e.g. ``"storescp (process 4711)"``, as far as we may know.

    Reads /proc; another user's processes hide their sockets from us.
    """
    inodes = _inodes(port)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # not ours to see, or gone
            if any(_target(link) in inodes for link in (process / "fd").iterdir()):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"{name} (process {process.name})"
    return "another program"


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""  # closed meanwhile


def _inodes(port: int) -> set[str]:
    """Return the sockets that listen on the port, as /proc/<pid>/fd names them."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (Path("/proc/net") / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue  # no IPv6, or no /proc
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found
