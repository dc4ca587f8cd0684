"""HTTP servers that behave as we ask them to, each on a free port of the loopback. Context managers."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

from pydicom import Dataset, dcmread


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    target: str  #: path and query
    headers: Mapping[str, str]  #: names in lower case
    body: bytes

    @property
    def parts(self) -> list[Dataset]:
        """The instances of a store request."""
        kind = self.headers["content-type"]
        assert re.match(r'multipart/related; type="application/dicom"; boundary=\w+$', kind)
        boundary = b"--" + kind.rpartition("=")[2].encode()
        start, *parts, end = self.body.split(boundary)
        assert (start, end) == (b"", b"--\r\n")
        found = []
        for part in parts:
            head, _, content = part.partition(b"\r\n\r\n")
            assert head == b"\r\nContent-Type: application/dicom"
            assert content.endswith(b"\r\n")
            found.append(dcmread(BytesIO(content[:-2])))
        return found

    @property
    def uids(self) -> list[str]:
        return [str(part.SOPInstanceUID) for part in self.parts]


@dataclass(frozen=True)
class Says:
    """What is answered."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = ()


class WebPeer:
    """Answers every request with ``answer(number, asked)``, the number counting from 1."""

    def __init__(
        self, answer: Callable[[int, Asked], Says] | Says, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.asked: list[Asked] = []
        self._answer = answer if callable(answer) else lambda _number, _asked: answer
        peer, turn = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                asked = Asked(
                    self.command,
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(length),
                )
                with turn:
                    peer.asked.append(asked)
                    number = len(peer.asked)
                says = peer._answer(number, asked)
                self.send_response(says.status)
                headers = {"Content-Length": str(len(says.body)), **dict(says.headers)}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(says.body)

            do_GET = do_POST = do_OPTIONS = _do

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.handle_error = lambda *_: None  # a caller may go whenever it likes
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/dicom-web"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> WebPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class RawPeer:
    """Lets ``talk`` do as it likes with every connection; for what no server should do."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._talk = talk
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._guarded, args=(connection,), daemon=True).start()

    def _guarded(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the other side may go away
            self._talk(connection)


def store_answer(
    stored: Mapping[str, int] | None = None,
    failed: Mapping[str, int | None] | None = None,
    others: tuple[int, ...] = (),
) -> bytes:
    """Return a Store Instances Response (PS3.18 I.2) in JSON: UID -> reason, 0 or None for none."""

    def item(uid: str, tag: str, reason: int | None) -> dict:
        found = {"00081155": {"vr": "UI", "Value": [uid]}}
        return found | ({tag: {"vr": "US", "Value": [reason]}} if reason else {})

    said: dict = {"00081190": {"vr": "UR", "Value": ["http://elsewhere.example/never-called"]}}
    if stored:
        said["00081199"] = {
            "vr": "SQ",
            "Value": [item(uid, "00081196", reason) for uid, reason in stored.items()],
        }
    if failed:
        said["00081198"] = {
            "vr": "SQ",
            "Value": [item(uid, "00081197", reason) for uid, reason in failed.items()],
        }
    if others:
        said["0008119A"] = {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [n]}} for n in others]}
    return json.dumps(said).encode()


def all_stored(_number: int, asked: Asked) -> Says:
    """Answer as an archive does that takes everything."""
    return Says(200, store_answer(dict.fromkeys(asked.uids, 0)), {"Content-Type": "application/dicom+json"})
