"""A real door on a free port, with a stand-in for the flow that keeps and remembers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import Verification

from node.accept import Request, Spool, Store, accept
from node.accept.dimse import DimseDoor
from node.accept.syntaxes import decodable_syntaxes
from node.config import AcceptTable
from node.model import Instance
from tests.harness import being_received, eventually


class OpenDoor:
    """A door that is open, and what came through it."""

    def __init__(self, data: Path, **tables: Any) -> None:
        door = {"port": 0, **tables.pop("dimse", {})}
        of_door = {key: tables.pop(key) for key in ("tls", "on_commitment") if key in tables}
        config = AcceptTable.model_validate({"reserve_gb": 0, **tables, "dimse": door})
        self.data = data
        self.store = Store(data, config)
        self.kept: list[Instance] = []
        self.before_keeping: Callable[[], None] = lambda: None
        self.door = DimseDoor(config, "RADNODE", self.store, self.receive, decodable_syntaxes(), **of_door)
        self.port = self.door.start()

    def receive(self, spool: Spool, request: Request) -> Instance:
        self.before_keeping()
        instance = accept(spool, request, self.store, now=datetime.now(UTC))
        self.kept.append(instance)
        return instance

    def associations(self) -> int:
        return len(self.door._listener.associations())

    def spooled(self) -> list[Path]:
        return being_received(self.data)


@pytest.fixture
def open_door(tmp_path: Path) -> Iterator[Callable[..., OpenDoor]]:
    doors: list[OpenDoor] = []

    def open_one(**tables: Any) -> OpenDoor:
        doors.append(OpenDoor(tmp_path / f"data{len(doors)}", **tables))
        return doors[-1]

    yield open_one
    for door in doors:
        door.door.stop()
        assert eventually(lambda door=door: not door.spooled()), "something half received was left behind"
    assert eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("accept-")])


def make_ct(rows: int = 16, **changes: Any) -> Dataset:
    """Return a small CT instance; a value of None removes the attribute."""
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
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def encoded(ds: Dataset) -> bytes:
    """Return the data set alone, as pynetdicom sends it: explicit VR little endian."""
    return encode(ds, is_implicit_vr=False, is_little_endian=True) or b""


def data_set_offset(part10: bytes) -> int:
    """Return where the data set of a Part 10 file begins; needs the group length (PS3.10 7.1)."""
    return 132 + 12 + int.from_bytes(part10[140:144], "little")


def stored_data_set(instance: Instance) -> bytes:
    data = instance.path.read_bytes()
    return data[data_set_offset(data) :]


def echo(port: int, **options: Any) -> int | None:
    """Return the status of a C-ECHO from an honest peer, or None."""
    ae = AE("HONEST")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", port, **options)
    if not association.is_established:
        return None
    status = association.send_c_echo().get("Status")
    association.release()
    return status


def echoed_within(port: int, limit_s: float = 2.0) -> bool:
    started = time.monotonic()
    return echo(port) == 0 and time.monotonic() - started < limit_s


def send(port: int, *data_sets: Dataset, calling: str = "HONEST") -> list[Dataset]:
    """Send over one association; return the response data sets."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    for sop_class in {ds.SOPClassUID for ds in data_sets if "SOPClassUID" in ds} or {CTImageStorage}:
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port)
    assert association.is_established
    answers = [association.send_c_store(ds) for ds in data_sets]
    association.release()
    return answers
