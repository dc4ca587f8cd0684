"""Debian's Orthanc with its DICOMweb plugin."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pydicom
from pynetdicom import AE

from tests.harness import free_port, wait_until

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
#: Where Debian's packages put the plugin.
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def missing() -> str | None:
    """Return the Debian package that is not there, None when all are."""
    if PROGRAM is None:
        return "orthanc"
    return None if PLUGIN.exists() else "orthanc-dicomweb"


class Orthanc:
    """An empty Orthanc on the loopback, with its storage in ``folder``. A context manager.

    Parameters
    ----------
    servers
        Name -> URL of the DICOMweb servers that it knows as a client.
    """

    def __init__(self, folder: Path, servers: Mapping[str, str] = MappingProxyType({})) -> None:
        self._servers = {name: {"Url": url} for name, url in servers.items()}
        self._log = folder / "orthanc.log"
        self.port, self.dicom_port = free_port(), free_port()
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
            status, answer = self.ask("POST", "/instances", file.read_bytes())
            assert status == 200, f"{file.name}: Orthanc answers {status}: {answer[:300]!r}"

    def store_over_dimse(self, file: Path) -> str:
        """Send one DICOM file; return "" when it is taken, else why not, in a few words."""
        dataset = pydicom.dcmread(file)
        ae = AE()
        ae.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = ae.associate("127.0.0.1", self.dicom_port)
        if not association.is_established:
            return "it accepts no presentation context of this class"
        status = association.send_c_store(dataset).get("Status")
        association.release()
        if status != 0x0000:
            return f"status {status:04X}" if status is not None else "no answer"
        return "" if self.holds(file) else "it says success and does not have it"

    def store_over_stow(self, file: Path) -> str:
        """Store one DICOM file over DICOMweb; return "" when it is taken, else why not."""
        boundary = "tests"
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = head + file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        status, answer = self.ask("POST", "/dicom-web/studies", body, headers)
        if status != 200:
            return f"HTTP {status}"
        if json.loads(answer).get("00081198", {}).get("Value"):
            return "it names the instance among those that failed"
        return "" if self.holds(file) else "it says success and does not have it"

    def holds(self, file: Path) -> bool:
        """Whether it has the instance, with the data set as it was sent."""
        dataset = pydicom.dcmread(file)
        status, answer = self.ask("POST", "/tools/lookup", str(dataset.SOPInstanceUID).encode())
        found = [thing["ID"] for thing in json.loads(answer) if thing["Type"] == "Instance"]
        if status != 200 or len(found) != 1:
            return False
        kept = pydicom.dcmread(io.BytesIO(self.ask("GET", f"/instances/{found[0]}/file")[1]))
        return bool(kept == dataset)

    def held(self) -> list[pydicom.Dataset]:
        """Return every data set that it has."""
        files = [
            self.ask("GET", f"/instances/{one}/file")[1]
            for one in json.loads(self.ask("GET", "/instances")[1])
        ]
        return [pydicom.dcmread(io.BytesIO(file)) for file in files]

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, bytes]:
        """Ask its REST API; return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _is_up(self) -> bool:
        assert self._process.poll() is None, "Orthanc ended"
        try:
            return self.ask("GET", "/dicom-web/studies")[0] == 200
        except ConnectionError:
            return False

    def _config(self, folder: Path) -> dict[str, object]:
        return {
            "Name": "tests",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": True,
            "DicomAet": "ORTHANC",
            "DicomPort": self.dicom_port,
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {
                "Enable": True,
                "Root": "/dicom-web/",
                "EnableWado": False,
                "Servers": self._servers,
            },
        }
