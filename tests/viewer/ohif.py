"""The OHIF viewer: its published build from npm, served beside an archive's DICOMweb."""

from __future__ import annotations

import http.client
import json
import mimetypes
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.viewer import npm

VERSION = "3.13.2"
#: Of the tarball that npm gives for this version: another one would be another viewer.
SHA256 = "b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1"

#: One data source on the page's own origin, and no dialogue between a thumbnail and its picture.
CONFIG = {
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    "showStudyList": False,
    "maxNumberOfWebWorkers": 1,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": False,
    "showLoadingIndicator": True,
    "disableConfirmationPrompts": True,
    "measurementTrackingMode": "simplified",
    "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "archive",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "archive",
            "configuration": {
                "friendlyName": "Archive",
                "name": "archive",
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "qidoSupportsIncludeField": False,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "supportsReject": False,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}


def fetch(cache: Path) -> Path:
    """Return the folder of the viewer's build, downloaded into ``cache`` the first time.

    Raises
    ------
    npm.NotFetched
        npm is missing or cannot reach its registry.
    """
    return npm.fetch(cache, "@ohif/app", VERSION, SHA256, wanted=_is_needed) / "dist"


def _is_needed(name: str) -> bool:
    """Left out is what is large and never asked for here: ONNX runtime, microscopy, source maps."""
    folder, _, rest = name.partition("/")
    spare = rest.startswith(("ort/", "dicom-microscopy-viewer/")) or rest.endswith(".map")
    return folder == "dist" and not spare


class Site:
    """The viewer on a free loopback port; ``/dicom-web`` goes to an archive. A context manager.

    Parameters
    ----------
    study_list
        Whether the viewer begins with a list of the studies of the archive.
    """

    def __init__(self, dist: Path, archive_port: int, *, study_list: bool = False) -> None:
        config = CONFIG | {"showStudyList": study_list}
        about = {"dist": dist.resolve(), "archive_port": archive_port, "config": config}
        handler = type("Handler", (_Handler,), about)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    dist: Path
    archive_port: int
    config: dict[str, object]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/dicom-web"):
            self._pass_on()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", f"window.config = {json.dumps(self.config)};".encode())
        else:
            file = (self.dist / path.lstrip("/")).resolve()
            if not file.is_relative_to(self.dist) or not file.is_file():
                file = self.dist / "index.html"  # the viewer routes its own addresses
            self._answer(
                200, mimetypes.guess_type(file.name)[0] or "application/octet-stream", file.read_bytes()
            )

    def _pass_on(self) -> None:
        archive = http.client.HTTPConnection("127.0.0.1", self.archive_port, timeout=60)
        try:
            names = ("Accept", "Host")
            archive.request("GET", self.path, headers={n: self.headers[n] for n in names if self.headers[n]})
            answer = archive.getresponse()
            self._answer(answer.status, answer.getheader("Content-Type") or "", answer.read())
        finally:
            archive.close()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        # Isolated, so that the page may share memory with its workers.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the page was closed meanwhile

    def log_message(self, *_: object) -> None:
        """Say nothing: pytest has its own report."""
