"""TLS at the DIMSE door: DCMTK and openssl as honest callers, bytes as the others."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import subprocess
import threading
import time

import pydicom
import pytest
import structlog
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context

from node.config import TlsTable
from node.errors import ConfigError
from node.peer.association import associated
from node.peer.tls import client_context
from tests.accept.conftest import encoded, make_ct, stored_data_set
from tests.accept.raw import CT, EXPLICIT, VERIFICATION, RawPeer, associate_rq, pdu
from tests.accept.test_dimse import FAST
from tests.harness import eventually, program

CONTEXTS = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
ECHO = [build_context(VERIFICATION, ExplicitVRLittleEndian)]


@pytest.fixture
def tls_door(open_door, certificates):
    def open_one(door="on", *, pair=None, **tables):
        pair = pair or certificates.server
        tls = TlsTable(certificate=pair.certificate, key=pair.key, authorities=certificates.authority)
        tables["dimse"] = {"tls": door, **tables.get("dimse", {})}
        return open_door(tls=tls, **tables)

    return open_one


def options(certificates, pair) -> list[str]:
    if pair is None:
        return ["+tla", "+cf", str(certificates.authority)]
    return ["+tls", str(pair.key), str(pair.certificate), "+cf", str(certificates.authority)]


def context(certificates, pair=None) -> ssl.SSLContext:
    return client_context(
        TlsTable(
            certificate=pair and pair.certificate,
            key=pair and pair.key,
            authorities=certificates.authority,
        )
    )


def echo(port: int, tls: ssl.SSLContext, calling: str = "HONEST") -> int:
    with associated("127.0.0.1", port, "RADNODE", calling, ECHO, timeout_s=5, tls=tls) as association:
        return association.send_c_echo().Status


@pytest.fixture
def refused():
    """Return what the door logs of TLS that came to nothing."""
    with structlog.testing.capture_logs() as lines:

        def reasons() -> list[str]:
            return [line["reason"] for line in lines if line["event"] == "tls_refused"]

        yield reasons


@pytest.mark.parametrize(("door", "client"), [("on", None), ("on", "client"), ("mutual", "client")])
@pytest.mark.parametrize("pair", ["server", "chained"])
def test_dcmtk_echoes_and_stores_over_tls(door, client, pair, tls_door, certificates, tmp_path):
    open_door = tls_door(door, pair=getattr(certificates, pair))
    who = options(certificates, client and getattr(certificates, client))
    address = ["127.0.0.1", str(open_door.port)]
    assert subprocess.run([program("echoscu"), *who, *address], env=FAST, timeout=20).returncode == 0
    files = []
    for number in range(5):
        files.append(tmp_path / f"{number}.dcm")
        make_ct(rows=256, InstanceNumber=number).save_as(files[-1], enforce_file_format=True)
    done = subprocess.run([program("storescu"), *who, *address, *files], env=FAST, timeout=30)
    assert done.returncode == 0
    assert sorted(map(stored_data_set, open_door.kept)) == sorted(encoded(pydicom.dcmread(f)) for f in files)


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_dcmtk_agrees_on_a_cipher_suite_in_each_of_its_profiles(profile, tls_door, certificates):
    door = tls_door()
    who = options(certificates, None)
    done = subprocess.run([program("echoscu"), *who, profile, "127.0.0.1", str(door.port)], timeout=20)
    assert done.returncode == 0


def test_openssl_sees_our_certificate_and_no_old_version(tls_door, certificates, refused):
    door = tls_door()

    def s_client(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{door.port}", *words],
            input="",
            capture_output=True,
            text=True,
            timeout=20,
        )

    seen = s_client("-CAfile", str(certificates.authority), "-verify_return_error")
    assert "CN = server" in seen.stdout
    assert "TLSv1.3" in seen.stdout
    assert s_client("-tls1_1", "-cipher", "ALL:@SECLEVEL=0").returncode != 0
    assert eventually(lambda: refused() == ["it knows no TLS from 1.2 on"])


def test_five_kinds_of_strangers_are_told_apart_and_none_of_them_holds_anybody_up(
    tls_door, certificates, refused
):
    door = tls_door("mutual", dimse={"request_timeout_s": 1.0})
    honest = context(certificates, certificates.client)

    def shake(pair=None, **limits) -> None:
        plain = socket.create_connection(("127.0.0.1", door.port), timeout=5)
        unsure = context(certificates, pair)
        for name, value in limits.items():
            setattr(unsure, name, value)
        with contextlib.suppress(OSError), unsure.wrap_socket(plain, server_hostname="127.0.0.1") as shaken:
            shaken.sendall(associate_rq([(CT, [EXPLICIT])]))
            assert not shaken.recv(1), "it was let in"
        plain.close()

    def old() -> None:
        subprocess.run(
            [
                "openssl",
                "s_client",
                "-connect",
                f"127.0.0.1:{door.port}",
                "-tls1",
                "-cipher",
                "ALL:@SECLEVEL=0",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
        )

    def garbage() -> None:
        with RawPeer(door.port) as peer:
            peer.send(associate_rq([(CT, [EXPLICIT])]))  # DICOM without TLS
            assert peer.socket.recv(100)[:1] in (b"", b"\x15")  # nothing, or a TLS alert

    cases = {
        "it does not speak TLS": garbage,
        "it knows no TLS from 1.2 on": old,
        "it showed no certificate": shake,
        "its certificate leads to no authority that we believe": lambda: shake(certificates.stranger),
        "its certificate has ended": lambda: shake(certificates.expired),
    }
    with RawPeer(door.port) as silent, RawPeer(door.port) as hello:
        hello.send(client_hello())
        begun = time.monotonic()
        for reason, stranger in cases.items():
            stranger()
            assert eventually(lambda reason=reason: refused()[-1:] == [reason]), (reason, refused())
            assert echo(door.port, honest) == 0
        assert hello.is_cut()
        assert silent.is_cut()
        assert time.monotonic() - begun < 10
    assert eventually(lambda: refused().count("it did not finish in time") == 2)
    assert not door.kept
    assert len(set(refused())) == 6


def client_hello() -> bytes:
    """Return what OpenSSL would begin with."""
    out = ssl.MemoryBIO()
    shaking = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        shaking.do_handshake()
    return out.read()


def test_a_hundred_that_begin_and_go_no_further_keep_nobody_out(tls_door, certificates):
    door = tls_door(dimse={"request_timeout_s": 3.0})
    honest = context(certificates)
    hello = client_hello()
    crowd = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(100)]
    try:
        for number, one in enumerate(crowd):
            with contextlib.suppress(OSError):  # who came first has made room
                one.sendall(hello[: 1 + number % len(hello)])
        begun = time.monotonic()
        for _ in range(5):
            assert echo(door.port, honest) == 0
        assert time.monotonic() - begun < 3
    finally:
        for one in crowd:
            one.close()


def test_one_who_drips_is_let_go_and_holds_nobody_up(tls_door, certificates, refused):
    door = tls_door(dimse={"request_timeout_s": 1.0})
    with RawPeer(door.port) as peer:

        def drip() -> None:
            with contextlib.suppress(OSError):
                for byte in client_hello():
                    peer.send(bytes([byte]))
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        assert echo(door.port, context(certificates)) == 0
        assert peer.is_cut()
        thread.join()
    assert refused() == ["it did not finish in time"]


def test_after_the_handshake_the_request_must_come_in_time_and_be_one(tls_door, certificates):
    door = tls_door(dimse={"request_timeout_s": 0.7})
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n", pdu(0x01, b"")[:4] + struct.pack(">L", 1 << 30)[:2]):
        plain = socket.create_connection(("127.0.0.1", door.port), timeout=5)
        with context(certificates).wrap_socket(plain, server_hostname="127.0.0.1") as shaken:
            shaken.sendall(said)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                answer = shaken.recv(100)
                assert answer[:1] in (b"", b"\x07")  # nothing, or A-ABORT
    assert echo(door.port, context(certificates)) == 0
    assert door.associations() == 0 or eventually(lambda: door.associations() == 0)


def test_a_policy_may_ask_for_a_certificate(tls_door, certificates):
    door = tls_door(
        "mutual",
        policies={
            "ct": {"calling": ["CT1"], "certificates": [certificates.client.fingerprint]},
            "mr": {"calling": ["MR1"]},
        },
    )
    first, other = (context(certificates, pair) for pair in (certificates.client, certificates.other_client))
    assert echo(door.port, first, "CT1") == 0
    assert echo(door.port, other, "MR1") == 0
    with pytest.raises(Exception, match="calling AE title not recognised"):
        echo(door.port, other, "CT1")


def test_objects_of_many_records_and_slow_senders_arrive_whole(tls_door, certificates):
    door = tls_door(dimse={"max_pdu_bytes": 1 << 20})
    large = make_ct(rows=2048)
    with associated(
        "127.0.0.1", door.port, "RADNODE", "HONEST", CONTEXTS, timeout_s=10, tls=context(certificates)
    ) as association:
        for ds in (large, make_ct(), make_ct(rows=512)):
            assert association.send_c_store(ds).Status == 0
            time.sleep(0.3)
    assert door.kept[0].size_bytes == len(encoded(large))
    assert stored_data_set(door.kept[0]) == encoded(large)


def test_a_door_that_cannot_speak_tls_is_not_opened(open_door, certificates, tmp_path):
    for key in (tmp_path / "none.key", certificates.client.key):
        with pytest.raises(ConfigError, match=r"\[tls\] key"):
            open_door(tls=TlsTable(certificate=certificates.server.certificate, key=key), dimse={"tls": "on"})
