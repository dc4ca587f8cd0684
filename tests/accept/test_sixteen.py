"""Sixteen associations at once: killed in the middle nothing acknowledged is missing; memory stays flat."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from tests.accept.conftest import data_set_offset, encoded, make_ct
from tests.accept.raw import RawPeer, p_data, status_in, store_rq
from tests.harness import NodeProcess, being_received, memory_mb

CONFIG = (
    '[node]\nae_title = "RADNODE"\n[accept]\nreserve_gb = 0.1\nmax_object_gb = 4\n'
    "[accept.dimse]\nport = 0\n[assemble]\nquiet_s = 3600\n"
)
#: Sent in pieces of this size, below the largest PDU of the configuration.
PIECE = bytes(1 << 16)


def held(folder: Path) -> dict[str, str]:
    """Return what journal and disk agree on: SOP Instance UID -> SHA-256 of its data set."""
    with sqlite3.connect(folder / "data" / "journal.sqlite") as journal:
        rows = journal.execute("SELECT sop_instance_uid, sha256, path FROM instance").fetchall()
    for uid, digest, path in rows:
        file = (folder / "data" / path).read_bytes()
        assert hashlib.sha256(file[data_set_offset(file) :]).hexdigest() == digest, uid
    return {uid: digest for uid, digest, _ in rows}


@pytest.mark.faults
@pytest.mark.long
def test_killed_amid_sixteen_associations_nothing_acknowledged_is_missing(tmp_path):
    node = NodeProcess(tmp_path / "node", CONFIG)
    node.start()
    acknowledged: dict[str, str] = {}
    enough = threading.Event()

    def send_until_it_dies(sender: int) -> None:
        ae = AE(f"SENDER{sender}")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", node.port)
        for number in range(1000):
            if not association.is_established:
                return
            ct = make_ct(64, SOPInstanceUID=f"1.2.3.{sender}.{number}", SeriesInstanceUID=f"1.2.3.{sender}")
            try:
                answer = association.send_c_store(ct)
            except (RuntimeError, ValueError):  # pynetdicom: it has ended
                return
            if answer.get("Status") == 0:
                acknowledged[ct.SOPInstanceUID] = hashlib.sha256(encoded(ct)).hexdigest()
            if len(acknowledged) > 150:
                enough.set()

    with ThreadPoolExecutor(16) as pool:
        ends = [pool.submit(send_until_it_dies, sender) for sender in range(1, 17)]
        assert enough.wait(60)
        os.kill(node.pid, signal.SIGKILL)
        node.wait_dead()
        for end in ends:
            end.result()
    assert len({uid.rpartition(".")[0] for uid in acknowledged}) > 8, "they were at it together"
    node.start()
    try:
        assert acknowledged.items() <= held(node.folder).items()
        assert not being_received(node.folder / "data")
    finally:
        node.stop()


def push(port: int, uid: str, megabytes: int) -> None:
    """Send one instance, piece by piece, without ever having it whole."""
    ct = make_ct(SOPInstanceUID=uid)
    del ct.PixelData
    head = encoded(ct) + b"\xe0\x7f\x10\x00OW\0\0" + (megabytes << 20).to_bytes(4, "little")
    with RawPeer(port, timeout_s=120) as peer:
        peer.associate()
        peer.send(p_data(1, 3, store_rq(uid.encode())) + p_data(1, 0, head))
        pieces = (megabytes << 20) // len(PIECE)
        for number in range(pieces):
            peer.send(p_data(1, 2 if number == pieces - 1 else 0, PIECE))
        assert status_in(peer.receive()[1]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("associations", "megabytes", "limit_mb"), [(1, 2000, 200), (16, 125, 500)])
def test_two_gigabytes_hardly_raise_the_memory_of_the_receiver(associations, megabytes, limit_mb, tmp_path):
    node = NodeProcess(tmp_path / "node", CONFIG)
    node.start()
    try:
        time.sleep(2)  # what is loaded after the start is not theirs
        before = memory_mb("VmRSS", node.pid)
        with ThreadPoolExecutor(associations) as pool:
            uids = [f"1.2.3.4.{number}" for number in range(associations)]
            list(pool.map(lambda uid: push(node.port, uid, megabytes), uids))
        assert memory_mb("VmHWM", node.pid) - before < limit_mb
    finally:
        node.stop()
