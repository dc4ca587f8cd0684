"""Listens on a port, or says whose it is."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from pathlib import Path

from node.errors import ConfigError

_LISTEN = "0A"  #: state of a listening socket in /proc/net/tcp


def listen_on(host: str, port: int, table: str = "accept.dimse") -> socket.socket:
    """Return a socket that listens.

    Parameters
    ----------
    table
        Of the configuration, where host and port stand.

    Raises
    ------
    ConfigError
        The address is not ours or the port is taken; says by whom.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, ValueError) as error:  # ValueError: no name at all, as socket sees it
        raise ConfigError(_why_not(host, port, table, error)) from error


def _why_not(host: str, port: int, table: str, error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return (
            f"[{table}] port {port} is taken by {owner_of(port)}. Stop that program or choose another port."
        )
    if number == errno.EACCES:
        return f"[{table}] port {port} may only be opened by root. Choose one above 1023."
    reason = (error.strerror if isinstance(error, OSError) else "") or "this is no address"
    return (
        f"[{table}] cannot listen on host {host!r}, port {port}: {reason}. Name an address of this machine."
    )


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
