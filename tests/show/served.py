"""What a node holds, served on a free port: the real store, journal, index and door in this process."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dicomweb_client.api import DICOMwebClient

from node.accept import Store, accept, spool_file
from node.config import Config
from node.journal import Journal
from node.model import Instance
from node.show import Shown, WebDoor, make_app
from node.show.origin import Develop, Origin


@dataclass
class Answer:
    """What came over HTTP."""

    status: int
    headers: dict[str, str]  #: names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def sentence(self) -> str:
        return str(self.json["detail"])


class Served:
    """A data folder whose origin server runs; a context manager."""

    def __init__(self, data: Path, develop: Develop | None = None, decodable: Collection[str] = ()) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.config = Config.model_validate(
            {"node": {"data": data}, "accept": {"reserve_gb": 0}, "show": {"enabled": True, "port": 0}}
        )
        self.store = Store(data, self.config.accept)
        self.journal = Journal.open(data.resolve())
        self.origin = Origin(self.journal, self.store.leases, develop, decodable)
        shown = Shown(
            config=self.config,
            journal=self.journal,
            clock=lambda: datetime.now(UTC),
            spare_bytes=self.store.spare_bytes,
            bring=None,
            origin=self.origin,
        )
        self.door = WebDoor(self.config.show, make_app(shown))
        self.port = 0

    def __enter__(self) -> Served:
        self.origin.start()
        self.port = self.door.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.door.stop()
        self.origin.stop()
        self.journal.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    @property
    def client(self) -> DICOMwebClient:
        return DICOMwebClient(self.url)

    def hold(self, *files: Path, at: datetime | None = None) -> list[Instance]:
        """Take files into custody."""
        held = []
        for file in files:
            spool, request = spool_file(file, self.store)
            instance = accept(spool, request, self.store, now=at or datetime.now(UTC))
            self.journal.record(instance)
            held.append(instance)
        return held

    def get(
        self,
        path: str,
        accept: str | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Answer:
        """Ask for a path below /dicom-web."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(
                method, f"/dicom-web{path}", headers={**headers, **({"Accept": accept} if accept else {})}
            )
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def stream(self, path: str, accept: str) -> Iterator[bytes]:
        """Yield what comes of a path below /dicom-web, piece by piece."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", f"/dicom-web{path}", headers={"Accept": accept})
            answer = connection.getresponse()
            while piece := answer.read(1 << 16):
                yield piece
        finally:
            connection.close()

    def hang_up(self, path: str) -> None:
        """Ask for a path below /dicom-web and go away without listening."""
        with socket.create_connection(("127.0.0.1", self.port)) as line:
            line.sendall(f"GET /dicom-web{path} HTTP/1.1\r\nHost: node\r\n\r\n".encode())


def parts_of(answer: Answer) -> list[tuple[dict[str, str], bytes]]:
    """Return headers and body of each part of a multipart answer."""
    boundary = answer.headers["content-type"].split("boundary=")[1].strip('"').encode()
    pieces = answer.body.split(b"--" + boundary)
    assert pieces[-1].strip() == b"--", "the answer is not whole"
    parts = []
    for piece in pieces[1:-1]:
        head, _, body = piece.partition(b"\r\n\r\n")
        lines = [line.partition(b": ") for line in head.strip().splitlines()]
        assert body.endswith(b"\r\n")
        parts.append(({k.decode().lower(): v.decode() for k, _, v in lines}, body[:-2]))
    return parts


def texts(rows: Iterable[Mapping[str, Any]], tag: str) -> list[Any]:
    """Return the first value of an attribute in each row."""
    return [(row.get(tag, {}).get("Value") or [None])[0] for row in rows]
