"""A small archive for the demo: takes what it is sent over DICOM and writes it to a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

CLASSES = (
    "1.2.840.10008.1.1",  # Verification
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.88.11",  # Basic Text SR
    "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
    "1.2.840.10008.5.1.4.1.1.7.4",  # Multi-frame True Color Secondary Capture
    "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF
)
SUCCESS = 0x0000
CANNOT_UNDERSTAND = 0xC000  # PS3.4 B.2.3


class Archive:
    """A Storage SCP that keeps every instance as ``<SOP Instance UID>.dcm``."""

    def __init__(self, folder: Path, ae_title: str = "ARCHIVE") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._ae = AE(ae_title)
        self._ae.supported_contexts = [
            build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for uid in CLASSES
        ]
        self._server: Any = None

    def start(self) -> int:
        """Listen on a free port of the loopback interface and return it."""
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()

    def received(self) -> list[Path]:
        """Return the files that have arrived whole."""
        return sorted(self.folder.glob("*.dcm"))

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if not re.fullmatch(r"[0-9.]{1,64}", uid):
            return CANNOT_UNDERSTAND
        partial = self.folder / f"{uid}.part"
        partial.write_bytes(event.encoded_dataset())
        partial.rename(self.folder / f"{uid}.dcm")
        return SUCCESS
