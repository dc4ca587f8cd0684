"""Contexts against each other and against openssl; what cannot be used is told by its key in [tls]."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta

import pytest

from node.config import TlsTable
from node.errors import ConfigError
from node.peer.tls import client_context, expiring, fingerprint, reason_of, server_context

NOW = datetime.now(UTC)


def table(certificates, pair=None, authorities=None) -> TlsTable:
    return TlsTable(
        certificate=pair.certificate if pair else None,
        key=pair.key if pair else None,
        authorities=authorities or certificates.authority,
    )


class Server:
    """Shakes hands once, says a word, and remembers how it went."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.error: OSError | None = None
        self.fingerprint = ""
        self._context = context
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(10)
        try:
            with self._context.wrap_socket(connection, server_side=True) as shaken:
                self.fingerprint = fingerprint(shaken)
                shaken.sendall(b"hello")
                shaken.recv(1)
        except OSError as error:
            self.error = error
        finally:
            self._listener.close()

    def ended(self) -> Server:
        self._thread.join(10)
        return self


def call(port: int, context: ssl.SSLContext, host: str = "127.0.0.1") -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as shaken,
    ):
        return shaken.recv(5)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("which", ["server", "chained"])
def test_a_server_that_our_authority_signed_and_that_names_the_host_is_believed(which, host, certificates):
    server = Server(server_context(table(certificates, getattr(certificates, which)), "on"))
    assert call(server.port, client_context(table(certificates)), host) == b"hello"
    assert server.ended().fingerprint == ""


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("stranger", "its certificate leads to no authority that we believe"),
        ("expired", "its certificate has ended"),
        ("not_yet", "its certificate does not hold yet"),
        ("elsewhere", "its certificate names another host"),
    ],
)
def test_a_server_that_is_not_to_be_believed_is_not_spoken_to(which, reason, certificates):
    server = Server(server_context(table(certificates, getattr(certificates, which)), "on"))
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        call(server.port, client_context(table(certificates)))
    assert reason_of(caught.value) == reason
    assert reason_of(server.ended().error) == "it does not accept our certificate"


def test_a_caller_is_known_by_the_fingerprint_of_its_certificate(certificates):
    server = Server(server_context(table(certificates, certificates.server), "mutual"))
    assert call(server.port, client_context(table(certificates, certificates.client))) == b"hello"
    assert server.ended().fingerprint == certificates.client.fingerprint


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        (None, "it showed no certificate"),
        ("stranger", "its certificate leads to no authority that we believe"),
        ("expired", "its certificate has ended"),
        ("not_yet", "its certificate does not hold yet"),
    ],
)
def test_a_caller_without_a_certificate_to_believe_does_not_come_in(which, reason, certificates):
    server = Server(server_context(table(certificates, certificates.server), "mutual"))
    pair = getattr(certificates, which) if which else None
    with pytest.raises(OSError) as caught:
        assert call(server.port, client_context(table(certificates, pair)))  # TLS 1.3 tells it late
    assert reason_of(server.ended().error) == reason
    assert "certificate" in reason_of(caught.value)


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_openssl_cannot_talk_us_down_to_an_old_version(version, certificates):
    server = Server(server_context(table(certificates, certificates.server), "on"))
    done = openssl("s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect", f"127.0.0.1:{server.port}")
    assert done.returncode != 0
    assert reason_of(server.ended().error) == "it knows no TLS from 1.2 on"


@pytest.mark.parametrize(
    "cipher", ["AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"]
)
def test_openssl_finds_no_cipher_suite_without_forward_secrecy_and_authentication(cipher, certificates):
    server = Server(server_context(table(certificates, certificates.server), "on"))
    done = openssl("s_client", "-tls1_2", "-cipher", cipher, "-connect", f"127.0.0.1:{server.port}")
    assert done.returncode != 0
    assert reason_of(server.ended().error) == "it has no cipher suite in common with us"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "ECDHE-RSA-AES128-GCM-SHA256"),
        (["-tls1_3"], "TLSv1.3"),
        ([], "TLSv1.3"),
    ],
)
def test_openssl_finds_what_the_profile_asks_for(options, expected, certificates):
    server = Server(server_context(table(certificates, certificates.server), "on"))
    done = openssl(
        "s_client", *options, "-connect", f"127.0.0.1:{server.port}", "-CAfile", str(certificates.authority)
    )
    assert expected in done.stdout
    assert "Verify return code: 0 (ok)" in done.stdout


def openssl(*words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: apt-get install openssl")
    return subprocess.run(["openssl", *words], input="", capture_output=True, text=True, timeout=20)


def test_a_peer_that_is_in_the_file_of_authorities_itself_is_believed(certificates):
    server = Server(server_context(table(certificates, certificates.stranger), "on"))
    pinned = client_context(table(certificates, authorities=certificates.stranger.certificate))
    assert call(server.port, pinned) == b"hello"


def test_without_authorities_those_of_the_system_are_believed_and_ours_is_not_one(certificates):
    server = Server(server_context(table(certificates, certificates.server), "on"))
    with pytest.raises(ssl.SSLCertVerificationError):
        call(server.port, client_context(TlsTable()))


def test_what_cannot_be_used_is_told_by_its_key(certificates, tmp_path):
    good = certificates.server
    nothing, text = tmp_path / "nothing.crt", tmp_path / "text.crt"
    text.write_text("no certificate")
    locked = tmp_path / "locked.key"
    locked.write_bytes(good.key.read_bytes())
    locked.chmod(0o644)
    key_of_another_kind, secret = certificates.client.key, tmp_path / "secret.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", good.key, "-out", secret, "-passout", "pass:abcd"], check=True
    )

    def complaint(certificate=good.certificate, key=good.key, authorities=certificates.authority) -> str:
        tls = TlsTable(certificate=certificate, key=key, authorities=authorities)
        with pytest.raises(ConfigError) as caught:
            server_context(tls, "mutual")
        return str(caught.value)

    assert complaint(certificate=nothing).endswith("nothing.crt' cannot be read: No such file or directory.")
    assert complaint(certificate=text).endswith("text.crt' holds no certificate in PEM.")
    assert "[tls] key" in complaint(key=nothing)
    assert "is not the key of certificate" in complaint(key=key_of_another_kind)
    assert "is not the key of certificate" in complaint(
        certificate=certificates.ending.certificate, key=certificates.client.key
    )
    assert "open to every user" in complaint(key=locked)
    assert "has a password" in complaint(key=secret)
    assert complaint(key=text).endswith("text.crt' holds no private key in PEM.")
    assert complaint(authorities=text).startswith("[tls] authorities =")
    assert complaint(authorities=None) == '[tls] authorities are needed where a door has tls = "mutual".'
    assert complaint(certificate=None) == "[tls] certificate and key are needed where a door speaks TLS."


def test_a_certificate_that_ends_soon_is_complained_about(certificates):
    assert expiring(table(certificates, certificates.server), NOW) == ""
    told = expiring(table(certificates, certificates.ending), NOW)
    assert told.startswith("[tls] certificate = ")
    assert re.search(rf"'ending' ends on {NOW + timedelta(days=10):%Y-%m-%d}, in (9|10) days; renew it", told)
    assert "ended on" in expiring(table(certificates, certificates.expired), NOW)
    assert "does not hold before" in expiring(table(certificates, certificates.not_yet), NOW)
    assert "authorities" in expiring(table(certificates), NOW + timedelta(days=380))
    assert expiring(TlsTable(), NOW) == ""
