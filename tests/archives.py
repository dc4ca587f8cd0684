"""Archives to ask and to fetch from: Debian's Orthanc with its DICOMweb plugin, and scripted ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from node.config import Config
from tests.orthanc import Orthanc

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


class SetOrthanc(Orthanc):
    """An Orthanc with more in its configuration."""

    def __init__(self, folder: Path, more: Mapping[str, object]) -> None:
        self._more = more
        super().__init__(folder)

    def _config(self, folder: Path) -> dict[str, object]:
        return {**super()._config(folder), **self._more}


def make_known(orthanc: Orthanc, ae_title: str = "RADNODE", port: int = 1) -> None:
    """Let an Orthanc know whom it may answer, and where C-MOVE goes for that AE title."""
    modality = {"AET": ae_title, "Host": "127.0.0.1", "Port": port}
    status, answer = orthanc.ask("PUT", f"/modalities/{ae_title}", json.dumps(modality).encode())
    assert status == 200, answer


def dimse_source(orthanc: Orthanc, **more: Any) -> dict[str, Any]:
    """Return [sources.<name>] for an Orthanc, by DIMSE."""
    place = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port, "timeout_s": 10.0}
    return {"transport": "dimse", **place, **more}


def web_source(port: int, path: str = "/dicom-web", **more: Any) -> dict[str, Any]:
    """Return [sources.<name>] for a DICOMweb server on this machine."""
    return {"transport": "web", "url": f"http://127.0.0.1:{port}{path}", "timeout_s": 5.0, **more}


def config_with(source: Mapping[str, Any], **tables: Any) -> Config:
    """Return a configuration with one source, named "archive"."""
    return Config.model_validate({"sources": {"archive": source}, **tables})


class Asked(NamedTuple):
    """One request as a scripted server got it."""

    method: str
    path: str  #: with its query
    headers: Mapping[str, str]


#: Status, headers and content; a tuple of contents is sent piece by piece.
Page = tuple[int, Mapping[str, str], bytes]


@contextmanager
def scripted_web(answer: Callable[[Asked], Page]):
    """Run an HTTP server that answers as it is told; yield its port and what it was asked."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one = Asked("GET", self.path, dict(self.headers))
            asked.append(one)
            status, headers, body = answer(one)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def scripted_find(answer: Callable[[Any], Any], contexts: Sequence[str] = (STUDY_ROOT_FIND,)):
    """Run a C-FIND SCP whose handler is ``answer``; yield its port."""
    ae = AE(ae_title="ARCHIVE")
    ae.supported_contexts = [
        build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for uid in contexts
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def match(**values: Any) -> Dataset:
    """Return an Identifier of a C-FIND answer."""
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found
