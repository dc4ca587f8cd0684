"""DCMTK's storage SCP, with TLS or without."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from tests.certificates import Certificates, Pair
from tests.harness import eventually, program


class Storescp:
    """DCMTK's storage SCP in a process of its own. A context manager.

    Parameters
    ----------
    folder
        Made for what it receives; what it says goes beside.
    options
        As its command takes them.
    port
        0: any that is free.
    """

    def __init__(self, folder: Path, *options: str | Path, port: int = 0) -> None:
        storescp = program("storescp")
        with socket.create_server(("127.0.0.1", port)) as probe:
            self.port = probe.getsockname()[1]
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.log = folder.with_name(f"{folder.name}.log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [storescp, "-v", "-od", folder, *options, str(self.port)], stdout=log, stderr=log
            )
        self._wait()

    def _wait(self) -> None:
        """Wait until it listens, without calling it: a call would be one that it logs."""
        listening = f":{self.port:04X} 00000000:0000 0A"
        assert eventually(lambda: listening in Path("/proc/net/tcp").read_text().upper(), 20), (
            self.log.read_text()
        )

    def stored(self) -> list[Path]:
        """Return the files of what it has received."""
        return sorted(self.folder.iterdir())

    def __enter__(self) -> Storescp:
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.wait()


def tls_options(
    certificates: Certificates, pair: Pair | None = None, authority: Path | None = None
) -> list[str]:
    """Return what makes it speak TLS and ask who calls."""
    pair = pair or certificates.server
    return ["+tls", str(pair.key), str(pair.certificate), "+cf", str(authority or certificates.authority)]
