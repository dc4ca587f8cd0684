"""A peer made of bytes: it can stop anywhere and say anything (PS3.8 9.3)."""

from __future__ import annotations

import socket
import struct
from typing import Any

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def associate_rq(
    contexts: list[tuple[str, list[str]]],
    *,
    calling: bytes = b"RAW",
    called: bytes = b"RADNODE",
    max_length: int = 16384,
) -> bytes:
    """Return an A-ASSOCIATE-RQ that proposes contexts 1, 3, 5, ..."""
    items = _item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, transfers) in enumerate(contexts):
        subitems = _item(0x30, abstract.encode()) + b"".join(_item(0x40, t.encode()) for t in transfers)
        items += _item(0x20, struct.pack(">BBBB", (2 * number + 1) & 0xFF, 0, 0, 0) + subitems)
    user = _item(0x51, struct.pack(">L", max_length)) + _item(0x52, b"1.2.3.4")
    head = struct.pack(">HH", 1, 0) + called.ljust(16)[:16] + calling.ljust(16)[:16] + bytes(32)
    return pdu(0x01, head + items + _item(0x50, user))


def p_data(context: int, control: int, data: bytes) -> bytes:
    """Return a P-DATA-TF of one fragment. Control: bit 0 command, bit 1 last."""
    value = bytes([context, control]) + data
    return pdu(0x04, struct.pack(">L", len(value)) + value)


def command(field: int, *, elements: dict[int, bytes] | None = None, data_set: bool = False) -> bytes:
    """Return an encoded command set; ``elements`` by element number of group 0."""
    values = {
        0x0002: VERIFICATION.encode(),
        0x0100: struct.pack("<H", field),
        0x0110: struct.pack("<H", 1),
        0x0800: struct.pack("<H", 1 if data_set else 0x0101),
    } | (elements or {})
    body = b""
    for number, value in sorted(values.items()):
        value += b"\0" * (len(value) % 2)
        body += struct.pack("<HHL", 0, number, len(value)) + value
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def store_rq(sop_instance_uid: bytes, *, sop_class_uid: bytes = CT.encode()) -> bytes:
    return command(
        0x0001,
        elements={0x0002: sop_class_uid, 0x0700: struct.pack("<H", 0), 0x1000: sop_instance_uid},
        data_set=True,
    )


class RawPeer:
    """A TCP connection to the door."""

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU; (0, b"") when the connection was closed."""
        try:
            head = self._exactly(6)
            return head[0], self._exactly(int.from_bytes(head[2:6], "big"))
        except (ConnectionError, EOFError):
            return 0, b""

    def associate(self, contexts: list[tuple[str, list[str]]] | None = None, **options: Any) -> None:
        self.send(associate_rq(contexts or [(CT, [EXPLICIT])], **options))
        kind, _ = self.receive()
        assert kind == 0x02, f"expected A-ASSOCIATE-AC, got PDU type {kind}"

    def is_cut(self) -> bool:
        """Wait for the end of the connection; an A-ABORT may come first."""
        while True:
            kind, _ = self.receive()
            if kind in (0, 0x07):
                return True

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data


def status_in(body: bytes) -> int:
    """Return (0000,0900) of the response in the body of a P-DATA-TF."""
    encoded = body[6:]
    at = 0
    while at + 8 <= len(encoded):
        _, number, length = struct.unpack_from("<HHL", encoded, at)
        if number == 0x0900:
            return int(struct.unpack_from("<H", encoded, at + 8)[0])
        at += 8 + length
    raise AssertionError("the response has no status")
