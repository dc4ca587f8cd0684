"""Debian's Orthanc with its DICOMweb plugin: the archive that a viewer reads from."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
from pathlib import Path

from tests.harness import wait_until

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
#: Where Debian's packages put the plugin.
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def missing() -> str | None:
    """Return the Debian package that is not there, None when all are."""
    if PROGRAM is None:
        return "orthanc"
    return None if PLUGIN.exists() else "orthanc-dicomweb"


class Orthanc:
    """An empty Orthanc on the loopback, with its storage in ``folder``. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "orthanc.log"
        self.port = _free_port()
        config = folder / "orthanc.json"
        config.write_text(json.dumps(self._config(folder)), encoding="utf-8")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([PROGRAM, config], stdout=log, stderr=log)

    def __enter__(self) -> Orthanc:
        try:
            wait_until(self._is_up, "Orthanc answers", within_s=30)
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}: {self._log.read_text()[-2000:]}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def store(self, *files: Path) -> None:
        """Upload DICOM files; every one must be taken."""
        for file in files:
            status, answer = self._ask("POST", "/instances", file.read_bytes())
            assert status == 200, f"{file.name}: Orthanc answers {status}: {answer[:300]!r}"

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _is_up(self) -> bool:
        assert self._process.poll() is None, "Orthanc ended"
        try:
            return self._ask("GET", "/dicom-web/studies")[0] == 200
        except ConnectionError:
            return False

    def _config(self, folder: Path) -> dict[str, object]:
        return {
            "Name": "viewer tests",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": False,
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
