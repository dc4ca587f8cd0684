"""The HTTP door with store and journal behind it, in this process, on a free port."""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from starlette.types import ASGIApp

from node import flow
from node.accept import Request, Spool, Store, StowDoor, decodable_syntaxes
from node.config import Config
from node.journal import Journal
from node.model import Instance
from node.show import Origin, Shown, WebDoor, make_app
from tests.harness import being_received

BOUNDARY = "a-boundary-of-ours"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@dataclass(frozen=True)
class Answer:
    """What the door said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def values(self, tag: str) -> list[Any]:
        """Return the values of an element of a DICOM JSON answer."""
        return self.json.get(tag, {}).get("Value", [])


class House:
    """A node without its loops: what comes over HTTP is stored and journalled."""

    def __init__(
        self,
        data: Path,
        *,
        accept: Mapping[str, Any] | None = None,
        show: Mapping[str, Any] | None = None,
        context: ssl.SSLContext | None = None,
        app: ASGIApp | None = None,
        **tables: Any,
    ) -> None:
        self.config = Config.model_validate(
            {
                "node": {"data": str(data)},
                "accept": {"reserve_gb": 0, **(accept or {})},
                "show": {"port": 0, **(show or {})},
                **tables,
            }
        )
        self.data = data
        self.store = Store(data, self.config.accept)
        self.journal = Journal.open(data)
        self.before_receiving: Callable[[], None] = lambda: None
        self.stow = StowDoor(self.config.accept, "RADNODE", self.store, self._receive, decodable_syntaxes())
        self.origin = Origin(self.journal, self.store.leases, None, ())
        self.shown = Shown(
            config=self.config,
            journal=self.journal,
            clock=lambda: datetime.now(UTC),
            spare_bytes=self.store.spare_bytes,
            bring=self.stow,
            origin=self.origin,
        )
        self.app = app or make_app(self.shown)
        self.door = WebDoor(self.config.show, self.app, context)
        self.origin.start()
        self.port = self.door.start()

    def close(self) -> None:
        self.door.stop()
        self.origin.stop()
        self.journal.close()

    def __enter__(self) -> House:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        timeout_s: float = 30.0,
        **headers: str,
    ) -> Answer:
        """Ask over a connection of its own; underscores in names of headers become hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            told = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=told)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers.items()), answer.read())
        finally:
            connection.close()

    def bring(self, *files: bytes, study: str = "", **headers: str) -> Answer:
        """Store over STOW-RS."""
        path = "/dicom-web/studies" + (f"/{study}" if study else "")
        return self.ask("POST", path, multipart(*files), Content_Type=RELATED, **headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def held(self, series_uid: str) -> set[str]:
        series = self.journal.series(series_uid)
        return {one.sop_instance_uid for one in series.instances} if series else set()

    def spooled(self) -> list[Path]:
        return being_received(self.data)

    def _receive(self, spool: Spool, request: Request) -> Instance:
        self.before_receiving()
        node = SimpleNamespace(store=self.store, journal=self.journal, clock=lambda: datetime.now(UTC))
        return flow.receive(spool, request, node)


def multipart(
    *files: bytes, boundary: str = BOUNDARY, head: str = "Content-Type: application/dicom"
) -> bytes:
    """Return a whole multipart body."""
    begin = f"--{boundary}\r\n{head}\r\n\r\n".encode()
    return b"".join(begin + file + b"\r\n" for file in files) + f"--{boundary}--\r\n".encode()


def make_file(rows: int = 16, **changes: Any) -> bytes:
    """Return a small CT instance as a PS3.10 file; a value of None removes the attribute.

    Elements of the file meta information are changed there alone.
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid(prefix="2.25.")
    ds.StudyInstanceUID = "1.2.3.1"
    ds.SeriesInstanceUID = "1.2.3.2"
    ds.PatientName = "Canary^Patient"
    ds.PatientID = "CANARY-ID"
    ds.Modality = "CT"
    ds.Rows = ds.Columns = rows
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 1
    ds.PixelData = bytes(range(256)) * (rows * rows * 2 // 256)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = changes.get("SOPInstanceUID") or ds.SOPInstanceUID
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        elif not hasattr(ds.file_meta, keyword):
            setattr(ds, keyword, value)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True, implicit_vr=False, little_endian=True)
    whole = file.getvalue()
    for keyword in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID"):
        if keyword in changes:  # pydicom would write none that is wrong
            whole = whole.replace(_uid(getattr(ds.file_meta, keyword)), _uid(changes[keyword]), 1)
    return whole


def _uid(uid: str) -> bytes:
    """Return a UID as it stands in a file, with VR and length."""
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return b"UI" + len(value).to_bytes(2, "little") + value


def uid_of(file: bytes) -> str:
    """Return the SOP Instance UID of a PS3.10 file."""
    import pydicom

    return str(pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True).SOPInstanceUID)
