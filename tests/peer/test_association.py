"""Associations that we ask for, with storescp of DCMTK at the other end, in TLS and without."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.presentation import build_context, build_role

from node.config import TlsTable
from node.errors import PeerRefused, PeerUnreachable
from node.peer.association import associated
from node.peer.tls import client_context
from tests.accept.conftest import make_ct
from tests.peers import DeafPacs, RecordingPacs, RejectingPacs
from tests.storescp import Storescp, tls_options

CONTEXTS = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
VERIFICATION = [build_context("1.2.840.10008.1.1", ExplicitVRLittleEndian)]


def store(port: int, tls, host="127.0.0.1", *, contexts=CONTEXTS, timeout_s=5.0) -> int:
    with associated(host, port, "ARCHIVE", "RADNODE", contexts, timeout_s=timeout_s, tls=tls) as association:
        return association.send_c_store(make_ct()).Status


@pytest.fixture
def ours(certificates):
    return client_context(
        TlsTable(
            certificate=certificates.client.certificate,
            key=certificates.client.key,
            authorities=certificates.authority,
        )
    )


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_storescp_takes_an_object_over_tls_where_both_show_a_certificate(
    host, profile, certificates, ours, tmp_path
):
    with Storescp(tmp_path / "scp", *tls_options(certificates), profile) as scp:
        assert store(scp.port, ours, host) == 0
        assert len(scp.stored()) == 1


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("stranger", "its certificate leads to no authority that we believe"),
        ("expired", "its certificate has ended"),
        ("elsewhere", "its certificate names another host"),
    ],
)
def test_nothing_is_sent_to_who_cannot_show_that_he_is_the_host_we_called(
    which, told, certificates, ours, tmp_path
):
    with Storescp(tmp_path / "scp", *tls_options(certificates, getattr(certificates, which))) as scp:
        with pytest.raises(PeerUnreachable, match=f"ARCHIVE at .* cannot be reached by TLS: {told}"):
            store(scp.port, ours)
        assert not scp.stored()
        assert "Association Received" not in scp.log.read_text()


def test_a_peer_that_does_not_believe_us_is_told_apart(certificates, tmp_path):
    with Storescp(tmp_path / "scp", *tls_options(certificates)) as scp:
        for pair in (None, certificates.stranger):
            tls = TlsTable(
                authorities=certificates.authority,
                certificate=pair and pair.certificate,
                key=pair and pair.key,
            )
            with pytest.raises(PeerUnreachable, match="our certificate"):
                store(scp.port, client_context(tls))
        assert not scp.stored()


def test_a_peer_without_tls_is_not_spoken_to_without_it(ours, tmp_path):
    with Storescp(tmp_path / "scp") as scp:
        with pytest.raises(PeerUnreachable, match="by TLS: it"):
            store(scp.port, ours)
        assert not scp.stored()
        assert store(scp.port, None) == 0


def test_a_peer_that_is_silent_in_the_handshake_is_given_up_in_time(ours):
    with DeafPacs() as deaf:
        begun = time.monotonic()
        with pytest.raises(PeerUnreachable):
            store(deaf.port, ours, timeout_s=0.5)
        assert time.monotonic() - begun < 3


def test_a_peer_that_drips_in_the_handshake_is_given_up_in_time(ours):
    listener = socket.create_server(("127.0.0.1", 0))

    def drip():
        connection, _ = listener.accept()
        with connection:
            for byte in b"\x16\x03\x03\x40\x00" + bytes(200):
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
                time.sleep(0.1)

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(PeerUnreachable):
        store(listener.getsockname()[1], ours, timeout_s=0.5)
    assert time.monotonic() - begun < 3
    thread.join()
    listener.close()


def test_who_nobody_listens_to_cannot_be_reached(ours):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for tls in (None, ours):
        with pytest.raises(PeerUnreachable, match=r"ARCHIVE at 127\.0\.0\.1:"):
            store(port, tls)


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        ((1, 1, 3), PeerRefused, "calling AE title not recognised"),
        ((1, 1, 7), PeerRefused, "called AE title not recognised"),
        ((2, 3, 2), PeerUnreachable, "local limit exceeded"),
    ],
)
def test_a_rejection_is_told_in_words_and_only_one_that_may_pass_is_tried_again(answer, error, told):
    with RejectingPacs(*answer) as pacs, pytest.raises(error, match=told):
        store(pacs.port, None)


def test_a_peer_that_takes_nothing_of_what_is_proposed_is_named_with_it():
    with RecordingPacs() as pacs, pytest.raises(PeerRefused, match="CT Image Storage"):
        store(pacs.port, None)


def test_an_association_may_last_longer_than_any_step_of_it():
    with RecordingPacs(sop_classes=[CTImageStorage], delay_s=0.3) as pacs:
        with associated(
            "127.0.0.1", pacs.port, "ARCHIVE", "RADNODE", CONTEXTS, timeout_s=0.6, tls=None
        ) as association:
            assert [association.send_c_store(make_ct()).Status for _ in range(6)] == [0] * 6
        assert association.is_released


def test_an_error_in_the_block_aborts_the_association():
    with RecordingPacs() as pacs:
        with (
            pytest.raises(KeyError),
            associated(
                "127.0.0.1", pacs.port, "ARCHIVE", "RADNODE", VERIFICATION, timeout_s=5, tls=None
            ) as association,
        ):
            raise KeyError
        assert association.is_aborted


def test_roles_are_proposed_and_the_answer_is_known():
    ae = AE("ARCHIVE")
    ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        role, port = build_role(CTImageStorage, scp_role=True), server.server_address[1]
        with associated(
            "127.0.0.1", port, "ARCHIVE", "RADNODE", CONTEXTS, timeout_s=5, tls=None, roles=[role]
        ) as association:
            assert association.accepted_contexts[0].as_scp
    finally:
        server.shutdown()


def test_a_session_ticket_that_comes_in_between_does_not_keep_us_from_sending(certificates, ours):
    """TLS 1.3: what OpenSSL's server sends after the handshake is no data of the peer's."""
    code = (
        "import ssl, socket, sys, time\n"
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
        "context.load_cert_chain(*sys.argv[1:3])\n"
        "context.num_tickets = 20\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "print(listener.getsockname()[1], flush=True)\n"
        "connection, _ = listener.accept()\n"
        "shaken = context.wrap_socket(connection, server_side=True)\n"
        "print(len(shaken.recv(16)), flush=True)\n"
        "time.sleep(0.3)\n"
        "shaken.sendall(bytes([3, 0, 0, 0, 0, 4, 0, 1, 1, 7]))\n"
        "time.sleep(5)\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, certificates.server.certificate, certificates.server.key],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with pytest.raises(PeerRefused, match="called AE title"):
            store(int(server.stdout.readline()), ours)
        assert server.stdout.readline() == "16\n"
    finally:
        server.kill()
        server.wait()
