"""The one answer that is given thousands of times, put together at once."""

from __future__ import annotations

import struct
from typing import Any

from pynetdicom.dimse_primitives import C_STORE

_SHORT = struct.Struct("<HHIH")  #: PS3.7 6.3.1: an element of a command set with a 16 bit value


def encode_success(primitive: Any) -> bytes | None:
    """Return the command set of a C-STORE-RSP that says Success (PS3.7 9.3.1.2); None for all others.

    The same bytes as pynetdicom's, which makes them by way of a data set in ten times the time.
    """
    message_id = primitive.MessageIDBeingRespondedTo
    if type(primitive) is not C_STORE or message_id is None or primitive.Status != 0:
        return None
    sop_class_uid, sop_instance_uid = primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID
    if sop_class_uid is None or sop_instance_uid is None:
        return None
    if getattr(primitive, "ErrorComment", None) or getattr(primitive, "OffendingElement", None):
        return None
    body = b"".join(
        (
            _uid(0x0002, sop_class_uid),
            _SHORT.pack(0, 0x0100, 2, 0x8001),  # Command Field: C-STORE-RSP
            _SHORT.pack(0, 0x0120, 2, message_id),
            _SHORT.pack(0, 0x0800, 2, 0x0101),  # Command Data Set Type: none
            _SHORT.pack(0, 0x0900, 2, 0),
            _uid(0x1000, sop_instance_uid),
        )
    )
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _uid(number: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value
