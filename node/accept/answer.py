"""The one request that comes thousands of times, and its answer: taken apart and put together at once.

The same as pynetdicom's, which goes by way of data sets and takes ten times as long; whatever is
unusual is left to it.
"""

from __future__ import annotations

import struct
from io import BytesIO

from pydicom.config import IGNORE
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_STORE

_HEAD = struct.Struct("<HHI")  #: PS3.7 6.3.1: group, element number, length; implicit VR little endian
_SHORT = struct.Struct("<HHIH")  #: an element of a command set with a 16 bit value
_COMMAND_FIELD, _DATA_SET_TYPE = 0x0100, 0x0800
#: What a C-STORE-RQ holds (PS3.7 9.3.1.1), less what a C-MOVE adds.
_USUAL = frozenset({0x0000, 0x0002, _COMMAND_FIELD, 0x0110, 0x0700, _DATA_SET_TYPE, 0x1000})
_C_STORE_RQ, _NO_DATA_SET = 0x0001, 0x0101
_UID_LETTERS = b"0123456789."


def elements_of(command: bytes) -> dict[int, bytes]:
    """Return the elements of a command set (PS3.7 6.3.1) by number; none if it cannot be read."""
    values: dict[int, bytes] = {}
    at = 0
    while at + _HEAD.size <= len(command):
        group, number, length = _HEAD.unpack_from(command, at)
        at += _HEAD.size
        if group or number in values:
            return {}
        values[number] = command[at : at + length]
        at += length
    return values if at == len(command) else {}


def decode_request(values: dict[int, bytes]) -> C_STORE | None:
    """Return a C-STORE-RQ (PS3.7 9.3.1.1) whose data set follows; None for all that is unusual."""
    if (
        values.keys() != _USUAL
        or _number(values, _COMMAND_FIELD) != _C_STORE_RQ
        or _number(values, _DATA_SET_TYPE) == _NO_DATA_SET
        or _number(values, 0x0700) > 2
    ):
        return None
    uids = [values[number].rstrip(b"\0") for number in (0x0002, 0x1000)]
    if any(not 0 < len(uid) <= 64 or uid.strip(_UID_LETTERS) for uid in uids):
        return None
    request = C_STORE()
    request.MessageID = _number(values, 0x0110)
    request.Priority = _number(values, 0x0700)
    request.DataSet = BytesIO()  # it must have one to be valid
    # Not by its setters, which judge each again: that takes longer than all the rest.
    request._affected_sop_class_uid, request._affected_sop_instance_uid = (
        UID(uid.decode("ascii"), validation_mode=IGNORE) for uid in uids
    )
    return request


def encode_success(request: C_STORE) -> bytes:
    """Return the command set of the C-STORE-RSP that says Success (PS3.7 9.3.1.2)."""
    body = b"".join(
        (
            _uid(0x0002, str(request.AffectedSOPClassUID)),
            _SHORT.pack(0, _COMMAND_FIELD, 2, 0x8001),
            _SHORT.pack(0, 0x0120, 2, request.MessageID),
            _SHORT.pack(0, _DATA_SET_TYPE, 2, _NO_DATA_SET),
            _SHORT.pack(0, 0x0900, 2, 0),
            _uid(0x1000, str(request.AffectedSOPInstanceUID)),
        )
    )
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _number(values: dict[int, bytes], number: int) -> int:
    return int.from_bytes(values[number], "little")


def _uid(number: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return _HEAD.pack(0, number, len(value)) + value
