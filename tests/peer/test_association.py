"""Associations that we ask for, with storescp of DCMTK at the other end, in TLS and without."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.presentation import build_context, build_role

from node.config import TlsTable
from node.errors import PeerRefused, PeerUnreachable
from node.peer.association import associated
from node.peer.tls import client_context
from tests.accept.conftest import make_ct
from tests.harness import free_port
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
    port = free_port()
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


class BrokenRecords:
    """TLS in front of a peer; of each record to the caller the first bytes come long before the rest."""

    HEAD = b"\x17\x03\x03"  # RFC 8446 5.2: every record of application data begins like this

    def __init__(self, pair, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        context.num_tickets = 0
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._go, server_side=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._peer = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        caller, _ = self._listener.accept()
        with caller, self._peer, self._listener:
            is_shaken, is_ahead = False, False
            while True:
                ready, _, _ = select.select([caller, self._peer], [], [])
                for one in ready:
                    data = one.recv(1 << 16)
                    if not data:
                        return
                    if one is self._peer:
                        self._tls.write(data)
                    else:
                        self._come.write(data)
                try:
                    if not is_shaken:
                        self._tls.do_handshake()
                        is_shaken = True
                    while True:
                        self._peer.sendall(self._tls.read())
                except ssl.SSLWantReadError:
                    pass
                if record := self._go.read():
                    caller.sendall(record.removeprefix(self.HEAD) if is_ahead else record)
                    is_ahead = is_shaken and record.startswith(self.HEAD)
                    if is_ahead:
                        caller.sendall(self.HEAD)


def test_half_a_record_does_not_keep_us_from_sending(certificates, ours):
    """What has come over TCP may be no data yet; who waits for the rest of it cannot ask for anything."""
    with RecordingPacs() as pacs:
        relay = BrokenRecords(certificates.server, pacs.port)
        with associated(
            "127.0.0.1", relay.port, "ARCHIVE", "RADNODE", VERIFICATION, timeout_s=3, tls=ours
        ) as association:
            begun = time.monotonic()
            assert [association.send_c_echo().Status for _ in range(3)] == [0] * 3
            assert time.monotonic() - begun < 2


class AskingPacs(RecordingPacs):
    """Asks us to hear of commitments, many times, over the association by which it is sent something."""

    def __init__(self, answers_after_s: float) -> None:
        super().__init__(sop_classes=[CTImageStorage], delay_s=answers_after_s)

    def _on_store(self, event) -> Dataset:
        threading.Thread(target=self._ask, args=(event.assoc, event.context.context_id), daemon=True).start()
        return super()._on_store(event)

    def _ask(self, association, context_id: int) -> None:
        for number in range(40):
            question = N_EVENT_REPORT()
            question.MessageID = number + 1
            question.AffectedSOPClassUID = "1.2.840.10008.1.20.1"
            question.AffectedSOPInstanceUID = "1.2.840.10008.1.20.1.1"
            question.EventTypeID = 1
            with contextlib.suppress(Exception):  # it is gone
                association.dimse.send_msg(question, context_id)
            time.sleep(0.001)


def test_a_peer_that_asks_something_of_us_is_hung_up_on():
    with AskingPacs(answers_after_s=3.0) as pacs:
        began = time.monotonic()
        with associated(
            "127.0.0.1", pacs.port, "ARCHIVE", "RADNODE", CONTEXTS, timeout_s=5.0, tls=None
        ) as association:
            assert "Status" not in association.send_c_store(make_ct())
        assert time.monotonic() - began < 3.0


def test_a_peer_that_asks_something_of_us_while_we_hang_up_does_not_hold_us():
    with AskingPacs(answers_after_s=0.0) as pacs:

        def several() -> None:
            for _ in range(20):
                with associated(
                    "127.0.0.1", pacs.port, "ARCHIVE", "RADNODE", CONTEXTS, timeout_s=2.0, tls=None
                ) as association:
                    association.send_c_store(make_ct())

        calling = threading.Thread(target=several, daemon=True)
        calling.start()
        calling.join(timeout=120.0)
        assert not calling.is_alive()


def test_a_peer_that_does_not_come_to_an_end_is_hung_up_on():
    with (
        RecordingPacs(sop_classes=[CTImageStorage]) as pacs,
        associated(
            "127.0.0.1", pacs.port, "ARCHIVE", "RADNODE", CONTEXTS, timeout_s=2.0, tls=None, most_bytes=1000
        ) as association,
    ):
        assert association.send_c_store(make_ct()).Status == 0
        assert any(is_over(association) for _ in range(20))


def is_over(association) -> bool:
    """Send an instance; say whether no answer came, or it could not even be sent any more."""
    try:
        return "Status" not in association.send_c_store(make_ct())
    except RuntimeError:
        return True
