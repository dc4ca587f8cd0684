"""HTTP as a client, against servers that are good, bad and hostile."""

from __future__ import annotations

import socket
import ssl
import time

import pytest

from node.config import TlsTable
from node.errors import PeerRefused, PeerUnreachable, SendError
from node.peer.tls import client_context, server_context
from node.peer.web import CHUNK_BYTES, Web
from tests.harness import free_port
from tests.web_peers import RawPeer, Says, WebPeer

PLENTY = 1 << 20
#: A hostile server must not hold us for longer than this; without our limits it would be for ever.
SOON_S = 15.0
HEAD = b"HTTP/1.1 200 OK\r\n"


def get(url: str, path: str = "/studies", *, timeout_s: float = 5.0, most_bytes: int = PLENTY, **more):
    return Web(url, timeout_s=timeout_s).ask("GET", path, most_bytes=most_bytes, **more)


def received(connection: socket.socket) -> bytes:
    """Return a request head."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    return head


def test_an_answer_comes_as_it_is():
    with WebPeer(Says(404, b"no", {"X-Why": "none"})) as peer:
        answer = get(peer.url, query={"PatientID": "a b&c", "limit": "1"})
        assert (answer.status, answer.body, answer.headers["x-why"]) == (404, b"no", "none")
        (asked,) = peer.asked
        assert asked.target == "/dicom-web/studies?PatientID=a%20b%26c&limit=1"


def test_a_query_may_name_a_key_twice():
    with WebPeer(Says(200)) as peer:
        get(peer.url, query=[("includefield", "a"), ("includefield", "b")])
        assert peer.asked[0].target.endswith("?includefield=a&includefield=b")


def test_nobody_is_asked_to_compress_and_no_cookie_is_kept():
    with WebPeer(Says(200, b"", {"Set-Cookie": "a=b"})) as peer:
        web = Web(peer.url, timeout_s=5)
        for _ in range(2):
            web.ask("GET", "/studies", most_bytes=PLENTY)
        for asked in peer.asked:
            assert asked.headers["accept-encoding"] == "identity"
            assert "cookie" not in asked.headers


def test_a_compressed_answer_is_not_unpacked():
    with (
        WebPeer(Says(200, b"\x1f\x8b...", {"Content-Encoding": "gzip"})) as peer,
        pytest.raises(PeerRefused, match="compresses its answers"),
    ):
        get(peer.url)


def test_a_redirect_is_an_answer_and_nobody_follows_it():
    with WebPeer(Says(200)) as elsewhere:
        with WebPeer(Says(307, b"", {"Location": f"{elsewhere.url}/studies"})) as peer:
            assert get(peer.url).status == 307
        assert elsewhere.asked == []


def test_the_environment_names_no_proxy(monkeypatch):
    with WebPeer(Says(200, b"from a proxy")) as proxy, WebPeer(Says(200, b"from the peer")) as peer:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert get(peer.url).body == b"from the peer"
        assert proxy.asked == []


def test_a_token_is_read_for_every_request(tmp_path):
    token = tmp_path / "token"
    with WebPeer(Says(200)) as peer:
        web = Web(peer.url, timeout_s=5, token_file=token)
        for value in ("first", "second.part=="):
            token.write_text(f"{value}\n")
            web.ask("GET", "/studies", most_bytes=PLENTY)
        assert [asked.headers["authorization"] for asked in peer.asked] == [
            "Bearer first",
            "Bearer second.part==",
        ]


@pytest.mark.parametrize("content", ["", "two words", "a\r\nX-Evil: b", "ü"])
def test_what_is_no_token_is_not_sent_and_not_told(tmp_path, content):
    token = tmp_path / "token"
    token.write_text(content)
    with WebPeer(Says(200)) as peer:
        with pytest.raises(PeerUnreachable, match="holds no bearer token") as told:
            Web(peer.url, timeout_s=5, token_file=token).ask("GET", "/studies", most_bytes=PLENTY)
        assert peer.asked == []
    assert "words" not in str(told.value)
    assert "Evil" not in str(told.value)


def test_a_token_file_that_is_not_there_is_told_by_name(tmp_path):
    with pytest.raises(PeerUnreachable, match=r"gone.token: No such file"):
        Web("http://127.0.0.1:1", timeout_s=1, token_file=tmp_path / "gone.token").ask(
            "GET", "/studies", most_bytes=1
        )


def test_no_token_goes_in_clear_text_beyond_this_machine(tmp_path):
    with pytest.raises(PeerRefused, match="use https"):
        Web("http://pacs.example/dicom-web", timeout_s=1, token_file=tmp_path / "token")
    Web("http://[::1]:8042/dicom-web", timeout_s=1, token_file=tmp_path / "token")


def test_a_url_with_a_port_that_there_is_not_is_told():
    with pytest.raises(PeerRefused, match="no port that there is"):
        Web("http://127.0.0.1:99999/dicom-web", timeout_s=1)


@pytest.mark.parametrize("path", ["studies", "/studies/../admin", "/studies//series", "/./studies", "/"])
def test_a_path_does_not_lead_out_of_the_service(path):
    with WebPeer(Says(200)) as peer:
        with pytest.raises(ValueError, match="a path has"):
            get(peer.url, path)
        assert peer.asked == []


def test_what_is_odd_in_a_path_is_quoted():
    with WebPeer(Says(200)) as peer:
        get(peer.url, "/studies/1?x=1#y HTTP/1.1\r\nX: y")
        assert peer.asked[0].target == "/dicom-web/studies/1%3Fx%3D1%23y%20HTTP/1.1%0D%0AX%3A%20y"


def test_an_answer_may_be_as_long_as_was_asked_and_no_longer():
    with WebPeer(Says(200, b"x" * 1000)) as peer:
        assert len(get(peer.url, most_bytes=1000).body) == 1000
        with pytest.raises(PeerRefused, match="more than is read"):
            get(peer.url, most_bytes=999)


def test_an_answer_is_read_in_pieces():
    with (
        WebPeer(Says(200, b"x" * (3 * CHUNK_BYTES + 1))) as peer,
        Web(peer.url, timeout_s=5).stream("GET", "/studies", most_bytes=PLENTY) as stream,
    ):
        sizes = [len(chunk) for chunk in stream.chunks()]
    assert max(sizes) <= CHUNK_BYTES
    assert sum(sizes) == 3 * CHUNK_BYTES + 1


def test_pieces_are_sent_with_a_length_or_in_chunks():
    with WebPeer(Says(200)) as peer:
        web = Web(peer.url, timeout_s=5)
        pieces = [b"ab", b"", b"cd"]
        web.ask("POST", "/studies", body=iter(pieces), headers={"Content-Length": "4"}, most_bytes=0)
        assert peer.asked[0].body == b"abcd"
        assert "transfer-encoding" not in peer.asked[0].headers


def test_a_file_that_cannot_be_read_is_not_blamed_on_the_peer():
    def pieces():
        yield b"ab"
        raise OSError(5, "Input/output error")

    with WebPeer(Says(200)) as peer, pytest.raises(SendError, match="cannot be read: Input/output") as told:
        Web(peer.url, timeout_s=2).ask(
            "POST", "/studies", body=pieces(), headers={"Content-Length": "4"}, most_bytes=0
        )
    assert not isinstance(told.value, PeerUnreachable)


def test_who_answers_before_he_has_heard_everything_is_understood():
    """A server that takes no more than so much says 413 and hangs up."""

    def talk(connection):
        received(connection)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.2)

    pieces = (bytes(CHUNK_BYTES) for _ in range(2000))
    with RawPeer(talk) as peer:
        answer = Web(peer.url, timeout_s=5).ask(
            "POST", "/studies", body=pieces, headers={"Content-Length": str(2000 * CHUNK_BYTES)}, most_bytes=0
        )
    assert answer.status == 413


@pytest.mark.parametrize("size", [b"-1", b"-5"])
def test_a_chunk_below_zero_does_not_fill_the_memory(size):
    """The library reads it to the end of the connection, all at once."""
    served = []

    def talk(connection):
        received(connection)
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n")
        for _ in range(500):
            connection.sendall(bytes(CHUNK_BYTES))
            served.append(CHUNK_BYTES)

    with RawPeer(talk) as peer, pytest.raises(PeerRefused, match="more than is read"):
        get(peer.url)
    assert sum(served) < 20 * PLENTY


def _one_by_one(data: bytes):
    def talk(connection):
        received(connection)
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    return talk


def _say(*parts: bytes, then_wait_s: float = 0.0):
    def talk(connection):
        received(connection)
        for part in parts:
            connection.sendall(part)
        time.sleep(then_wait_s)

    return talk


def _for_ever(part: bytes, before: bytes = b""):
    def talk(connection):
        received(connection)
        connection.sendall(before)
        while True:
            connection.sendall(part)
            time.sleep(0.01)

    return talk


def _deaf(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    time.sleep(SOON_S)


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(lambda connection: time.sleep(SOON_S), id="says nothing"),
        pytest.param(_say(), id="hangs up at once"),
        pytest.param(_say(b"SSH-2.0-OpenSSH_9.2\r\n"), id="is another service"),
        pytest.param(_say(HEAD + b"Content-Length: 100\r\n\r\nshort"), id="ends too soon"),
        pytest.param(_say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n40\r\nshort"), id="ends in a chunk"),
        pytest.param(_say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"), id="ends after one"),
        pytest.param(_say(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc"), id="a chunk of no size"),
        pytest.param(_say(HEAD + b"Content-Length: 9\r\n\r\nshort", then_wait_s=SOON_S), id="stands still"),
        pytest.param(_one_by_one(HEAD + b"X-Slow: " + b"x" * 5000), id="drips its head"),
        pytest.param(
            _one_by_one(HEAD + b"Content-Length: 5000\r\n\r\n" + b"x" * 5000), id="drips its content"
        ),
        pytest.param(_for_ever(b"HTTP/1.1 100 Continue\r\n\r\n"), id="goes on continuing"),
        pytest.param(_for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), id="continues fast"),
        pytest.param(_for_ever(b"X-Header: x\r\n", HEAD), id="has no end of headers"),
        pytest.param(_for_ever(b"x" * 10_000, HEAD + b"X: "), id="has one endless header"),
        pytest.param(
            _for_ever(b"1" * 10_000, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"), id="an endless chunk size"
        ),
        pytest.param(
            _for_ever(b"X: y\r\n" * 1000, HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"),
            id="many trailers",
        ),
        pytest.param(
            _for_ever(b"X: y\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"), id="endless trailers"
        ),
    ],
)
def test_a_bad_server_holds_nobody(talk):
    begun = time.monotonic()
    with RawPeer(talk) as peer, pytest.raises(PeerUnreachable) as told:
        get(peer.url, timeout_s=0.4)
    assert time.monotonic() - begun < SOON_S / 2
    assert peer.url in str(told.value)


def test_a_server_that_does_not_listen_holds_nobody():
    pieces = (bytes(CHUNK_BYTES) for _ in range(2000))
    begun = time.monotonic()
    with RawPeer(_deaf) as peer, pytest.raises(PeerUnreachable, match="took too long"):
        Web(peer.url, timeout_s=0.4).ask(
            "POST", "/studies", body=pieces, headers={"Content-Length": str(2000 * CHUNK_BYTES)}, most_bytes=0
        )
    assert time.monotonic() - begun < SOON_S / 2


def test_time_that_we_take_ourselves_is_not_counted():
    """What comes is written to disk piece by piece, and the disk may be slow."""
    with (
        WebPeer(Says(200, b"x" * (20 * CHUNK_BYTES))) as peer,
        Web(peer.url, timeout_s=0.2).stream("GET", "/studies", most_bytes=2 * PLENTY) as stream,
    ):
        total = 0
        for chunk in stream.chunks():
            total += len(chunk)
            time.sleep(0.05)  # 1 s in all, more than the peer would be given
    assert total == 20 * CHUNK_BYTES


def test_nobody_there_and_nobody_of_that_name():
    port = free_port()
    with pytest.raises(PeerUnreachable, match="cannot be reached: Connection refused"):
        get(f"http://127.0.0.1:{port}")
    with pytest.raises(PeerUnreachable, match="cannot be reached"):
        get("http://nobody.invalid", timeout_s=2)


def over_tls(certificates, pair, door="on", ours=None):
    theirs = TlsTable(certificate=pair.certificate, key=pair.key, authorities=certificates.authority)
    mine = TlsTable(
        certificate=ours and ours.certificate, key=ours and ours.key, authorities=certificates.authority
    )
    with WebPeer(Says(200, b"well"), tls=server_context(theirs, door)) as peer:
        web = Web(peer.url, timeout_s=5, tls=client_context(mine))
        return web.ask("GET", "/studies", most_bytes=PLENTY)


def test_https_to_who_is_believed(certificates):
    assert over_tls(certificates, certificates.server).body == b"well"
    assert over_tls(certificates, certificates.server, "mutual", certificates.client).body == b"well"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("stranger", "leads to no authority that we believe"),
        ("expired", "has ended"),
        ("not_yet", "does not hold yet"),
        ("elsewhere", "names another host"),
    ],
)
def test_https_to_who_is_not(certificates, name, why):
    with pytest.raises(PeerUnreachable, match=why):
        over_tls(certificates, getattr(certificates, name))


def test_https_to_who_wants_our_certificate(certificates):
    # its last words may be lost where it hangs up at once
    with pytest.raises(PeerUnreachable, match=r"it wants our certificate|does not accept our certificate"):
        over_tls(certificates, certificates.server, "mutual")


def test_https_where_nobody_speaks_it(certificates):
    with WebPeer(Says(200)) as peer, pytest.raises(PeerUnreachable, match="it does not speak TLS"):
        Web(
            peer.url.replace("http:", "https:"),
            timeout_s=5,
            tls=client_context(TlsTable(authorities=certificates.authority)),
        ).ask("GET", "/studies", most_bytes=PLENTY)


def test_https_without_saying_whom_we_believe_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="needs a TLS context"):
        Web("https://127.0.0.1", timeout_s=1)
    assert isinstance(ssl.create_default_context(), ssl.SSLContext)
