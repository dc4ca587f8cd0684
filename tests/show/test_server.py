"""The HTTP door keeps its limits whatever strangers do, and lets those in who have something to say."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from node.config import TlsTable
from node.errors import ConfigError
from node.peer.tls import server_context
from node.show.connection import LEAST_BYTES_PER_S, GuardedProtocol, Limits, is_too_slow
from node.show.multipart import Streamed
from node.show.resource import Problem
from node.show.server import _THREADS
from tests.certificates import Certificates
from tests.harness import eventually
from tests.web_house import RELATED, House, make_file, multipart

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {RELATED}\r\n".encode()


def is_closed_within(line: socket.socket, limit_s: float) -> bool:
    """Say whether the other side closes, whatever it says before."""
    line.settimeout(limit_s)
    until = time.monotonic() + limit_s
    try:
        while time.monotonic() < until:
            if not line.recv(65536):
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def is_served(house: House) -> bool:
    begun = time.monotonic()
    return house.ask("GET", "/healthz", timeout_s=5).status == 200 and time.monotonic() - begun < 2


@pytest.fixture
def hasty(open_house: Callable[..., House]) -> House:
    return open_house(show={"idle_timeout_s": 1.0, "max_connections": 8})


def in_tls(certificates: Certificates, door: str = "on") -> ssl.SSLContext:
    return server_context(in_table(certificates), door)


def in_table(certificates: Certificates) -> TlsTable:
    mine = certificates.server
    return TlsTable(certificate=mine.certificate, key=mine.key, authorities=certificates.authority)


@pytest.mark.parametrize("said", [b"", b"GET", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_head_that_does_not_come_to_its_end_is_not_waited_for(hasty: House, said: bytes) -> None:
    with hasty.connect() as line:
        line.sendall(said)
        assert is_closed_within(line, 4)
    assert is_served(hasty)


def test_a_head_that_drips_is_not_waited_for(hasty: House) -> None:
    with hasty.connect() as line:
        line.settimeout(0.1)
        begun = time.monotonic()
        with pytest.raises(OSError):
            for octet in GET * 10:
                line.sendall(bytes([octet]))
                time.sleep(0.1)
        assert time.monotonic() - begun < 5


def test_a_body_that_drips_is_cut_off_and_nothing_is_left_of_it(hasty: House) -> None:
    body = multipart(make_file(rows=64))
    with hasty.connect() as line:
        line.sendall(POST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:6000])
        assert eventually(hasty.spooled)
        begun = time.monotonic()
        with pytest.raises(OSError):
            for octet in body[6000:]:
                line.sendall(bytes([octet]))
                time.sleep(0.05)
        assert time.monotonic() - begun < 5
    assert eventually(lambda: not hasty.spooled())


def test_a_body_that_stands_still_is_told_so(hasty: House) -> None:
    with hasty.connect() as line:
        line.sendall(POST + b"Content-Length: 1000\r\n\r\n--x")
        line.settimeout(5)
        assert line.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_slow_body_that_moves_is_waited_for(hasty: House) -> None:
    body = multipart(make_file(rows=64))
    with hasty.connect() as line:
        line.sendall(POST + f"Content-Length: {len(body)}\r\n\r\n".encode())
        for at in range(0, len(body), 1000):
            line.sendall(body[at : at + 1000])
            time.sleep(0.3)
        assert line.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_caller_who_does_not_read_is_cut_off(open_house: Callable[..., House]) -> None:
    ended = threading.Event()

    def endless():
        try:
            for _ in range(100_000):
                yield bytes(65536)
        finally:
            ended.set()

    def answer(_request: Request) -> Response:
        return Streamed(endless())

    house = open_house(app=Starlette(routes=[Route("/", answer)]), show={"idle_timeout_s": 1.0})
    with house.connect() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended.wait(10), "what it was taken from stays open"
        assert eventually(lambda: not house.door._open)


@pytest.mark.parametrize("after", ["", "Connection: close\r\n"], ids=["kept", "closed"])
def test_a_caller_who_never_reads_the_rest_is_cut_off(open_house: Callable[..., House], after: str) -> None:
    def answer(_request: Request) -> Response:
        return Response(bytes(40_000))  # all of it is written, and some of that waits

    house = open_house(app=Starlette(routes=[Route("/", answer)]), show={"idle_timeout_s": 1.0})
    house.door._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", house.port))
        line.sendall(f"GET / HTTP/1.1\r\nHost: x\r\n{after}\r\n".encode())
        assert eventually(lambda: house.door._open, 2)
        assert eventually(lambda: not house.door._open, 8)


@pytest.mark.parametrize("after", ["", "Connection: close\r\n"], ids=["kept", "closed"])
def test_a_caller_who_reads_slowly_gets_it_all(open_house: Callable[..., House], after: str) -> None:
    def answer(_request: Request) -> Response:
        return Response(bytes(200_000))

    house = open_house(app=Starlette(routes=[Route("/", answer)]), show={"idle_timeout_s": 1.0})
    house.door._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # little waits in the kernel
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", house.port))
        line.sendall(f"GET / HTTP/1.1\r\nHost: x\r\n{after}\r\n".encode())
        count, begun = 0, time.monotonic()
        while count < 200_000 and (data := line.recv(4096)):
            count += len(data)
            time.sleep(0.06)
    assert count >= 200_000
    assert time.monotonic() - begun > 2


def test_a_long_answer_that_is_read_at_a_steady_rate_is_read_to_its_end(
    open_house: Callable[..., House],
) -> None:
    def answer(_request: Request) -> Response:
        return Streamed(bytes(1 << 18) for _ in range(100_000))

    house = open_house(app=Starlette(routes=[Route("/", answer)]), show={"idle_timeout_s": 1.0})
    with house.connect() as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(10):  # as much as is written at once, whenever we look: what waits is always the same
            count = 0
            while count < 1 << 20:
                data = line.recv((1 << 20) - count)
                assert data, "it was cut off"
                count += len(data)
            time.sleep(0.5)


def test_time_that_we_take_ourselves_is_not_the_callers(open_house: Callable[..., House]) -> None:
    def answer(_request: Request) -> Response:
        time.sleep(2.5)
        return PlainTextResponse("late")

    house = open_house(app=Starlette(routes=[Route("/", answer)]), show={"idle_timeout_s": 1.0})
    assert house.ask("GET", "/").body == b"late"


def test_those_who_only_connect_make_room_for_those_who_ask(hasty: House) -> None:
    idle = [hasty.connect() for _ in range(30)]
    try:
        assert all(is_served(hasty) for _ in range(5))
    finally:
        for line in idle:
            line.close()


def test_when_all_are_busy_one_more_is_told_to_come_later(open_house: Callable[..., House]) -> None:
    going = threading.Event()

    def answer(_request: Request) -> Response:
        going.wait(10)
        return PlainTextResponse("done")

    house = open_house(app=Starlette(routes=[Route("/", answer)]), show={"max_connections": 2})
    lines = [house.connect() for _ in range(2)]
    for line in lines:
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.3)
    with house.connect() as late:
        assert late.recv(4096).startswith(b"HTTP/1.1 503 ")
    going.set()
    for line in lines:
        assert line.recv(4096).startswith(b"HTTP/1.1 200 ")
        line.close()


def test_nobody_holds_more_than_his_share_of_the_places(open_house: Callable[..., House]) -> None:
    house = open_house(show={"max_connections": 8, "max_connections_per_peer": 3})
    begun = POST + b"Content-Length: 1000\r\n\r\n--x"
    lines = [house.connect() for _ in range(3)]
    for line in lines:
        line.sendall(begun)
    assert eventually(lambda: len(house.door._open) == 3 and not any(o.is_waiting for o in house.door._open))
    with house.connect() as one_more:
        assert one_more.recv(4096).startswith(b"HTTP/1.1 503 ")
    with socket.create_connection(("127.0.0.1", house.port), 20, ("127.0.0.2", 0)) as other:
        other.sendall(GET)
        assert other.recv(4096).startswith(b"HTTP/1.1 200 ")
    lines.pop().close()
    assert eventually(lambda: len(house.door._open) == 2)
    with house.connect(), house.connect() as last:  # the first of both only waits, and gives way
        last.sendall(GET)
        assert last.recv(4096).startswith(b"HTTP/1.1 200 ")
    for line in lines:
        line.close()


def test_those_who_look_keep_nobody_from_storing_and_health_from_being_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, waiting = threading.Event(), threading.Semaphore(0)

    def lease(_study: str) -> None:
        waiting.release()
        going.wait(60)
        raise Problem(410, "It is gone.")

    monkeypatch.setattr(house.origin, "lease", lease)
    lines = [house.connect() for _ in range(40)]
    try:
        for line in lines:
            line.sendall(b"GET /dicom-web/studies/1.2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(_THREADS):
            assert waiting.acquire(timeout=20)
        assert is_served(house)
        assert house.bring(make_file(), timeout_s=10).status == 200
    finally:
        going.set()
    for line in lines:
        assert line.recv(4096).startswith(b"HTTP/1.1 410 ")
        line.close()


def test_what_stumbles_over_one_connection_goes_on_with_the_others(
    hasty: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = GuardedProtocol.look

    def stumble(one: GuardedProtocol) -> None:
        if one.peer == "127.0.0.2":
            raise RuntimeError
        look(one)

    monkeypatch.setattr(GuardedProtocol, "look", stumble)
    with socket.create_connection(("127.0.0.1", hasty.port), 20, ("127.0.0.2", 0)) as other:
        assert is_closed_within(other, 5)
    with hasty.connect() as line:
        assert is_closed_within(line, 5)


def test_a_thousand_who_connect_and_leave_leave_nothing(house: House) -> None:
    for _ in range(1000):
        house.connect().close()
    assert is_served(house)
    assert eventually(lambda: not house.door._open and not house.door._greeted)


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"A-ASSOCIATE" + bytes(200) + b"\r\n\r\n",
    ],
    ids="tls path heads two-lengths negative chunk http2 dicom".split(),
)
def test_what_is_no_http_is_answered_with_bad_request_or_not_at_all(house: House, said: bytes) -> None:
    with house.connect() as line:
        line.settimeout(5)
        try:
            line.sendall(said)
            answer = line.recv(4096)
        except ConnectionError:
            answer = b""
        assert answer == b"" or answer.split()[1] in (b"400", b"404", b"421"), answer[:100]
        assert b"Traceback" not in answer
    assert is_served(house)


def test_the_server_does_not_tell_its_version(house: House) -> None:
    answer = house.ask("GET", "/healthz")
    assert answer.headers["server"] == "radnode"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "date" in answer.headers


def test_requests_may_follow_each_other_without_waiting(house: House) -> None:
    with house.connect() as line:
        line.sendall(GET * 3)
        heard = b""
        line.settimeout(5)
        while heard.count(b"HTTP/1.1 200 ") < 3:
            heard += line.recv(65536)


def test_what_is_under_way_ends_and_nobody_more_is_let_in(open_house: Callable[..., House]) -> None:
    house = open_house()
    idle = house.connect()
    body = multipart(make_file(rows=64))
    with house.connect() as line:
        line.sendall(POST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:-50])
        assert eventually(house.spooled)
        drained = []
        ending = threading.Thread(target=lambda: drained.append(house.door.drain(10, threading.Event())))
        ending.start()
        assert is_closed_within(idle, 5)
        assert eventually(lambda: not _connects(house))
        line.sendall(body[-50:])
        assert line.recv(4096).startswith(b"HTTP/1.1 200 ")
        ending.join()
    assert drained == [True]
    idle.close()


def test_what_does_not_end_in_time_is_left(open_house: Callable[..., House]) -> None:
    house = open_house()
    with house.connect() as line:
        line.sendall(POST + b"Content-Length: 1000\r\n\r\n--x")
        time.sleep(0.2)
        assert house.door.drain(0.3, threading.Event()) is False
        house.door.stop()
        assert is_closed_within(line, 5)


def _connects(house: House) -> bool:
    try:
        house.connect().close()
    except OSError:
        return False
    return True


def test_a_port_that_is_taken_is_told_with_its_table(house: House, open_house: Callable[..., House]) -> None:
    with pytest.raises(ConfigError, match=r"\[show\] port \d+ is taken by "):
        House(house.data.parent / "second", show={"port": house.port})


def test_openssl_speaks_to_the_door_in_tls_and_in_no_old_one(
    open_house: Callable[..., House], certificates: Certificates
) -> None:
    house = open_house(context=in_tls(certificates))

    def ask(*words: str) -> str:
        command = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{house.port}", *words]
        command += ["-CAfile", str(certificates.authority), "-verify_return_error"]
        closing = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        done = subprocess.run(command, input=closing, capture_output=True, timeout=20, check=False)
        return done.stdout.decode()

    assert ask().startswith("HTTP/1.1 200 ")
    assert ask("-tls1_2").startswith("HTTP/1.1 200 ")
    assert ask("-tls1_1") == ""


def test_a_silent_tls_client_holds_up_nobody_and_is_let_go(
    open_house: Callable[..., House], certificates: Certificates
) -> None:
    house = open_house(context=in_tls(certificates), show={"idle_timeout_s": 1.0, "max_connections": 8})
    silent = [house.connect() for _ in range(30)]
    trust = ssl.create_default_context(cafile=str(certificates.authority))
    for _ in range(5):
        line = http.client.HTTPSConnection("127.0.0.1", house.port, timeout=5, context=trust)
        begun = time.monotonic()
        line.request("GET", "/healthz")
        assert line.getresponse().status == 200
        assert time.monotonic() - begun < 2
        line.close()
    assert all(is_closed_within(line, 4) for line in silent)
    for line in silent:
        line.close()


def test_mutual_tls_lets_in_whom_the_authority_signed_for(
    open_house: Callable[..., House], certificates: Certificates
) -> None:
    def whose(request: Request) -> Response:
        return JSONResponse(request.state.certificate)

    app = Starlette(routes=[Route("/", whose)])
    house = open_house(context=in_tls(certificates, "mutual"), app=app)

    def ask(pair=None) -> bytes:
        trust = ssl.create_default_context(cafile=str(certificates.authority))
        if pair:
            trust.load_cert_chain(pair.certificate, pair.key)
        line = http.client.HTTPSConnection("127.0.0.1", house.port, timeout=5, context=trust)
        line.request("GET", "/")
        return line.getresponse().read()

    assert ask(certificates.client) == f'"{certificates.client.fingerprint}"'.encode()
    for bad in (None, certificates.stranger, certificates.expired):
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(bad)


def test_a_policy_may_ask_for_a_certificate(
    open_house: Callable[..., House], certificates: Certificates
) -> None:
    policies = {"scanner": {"certificates": [certificates.client.fingerprint]}}
    house = open_house(
        context=in_tls(certificates, "mutual"),
        accept={"policies": policies},
        show={"tls": "mutual"},
        tls=in_table(certificates).model_dump(),
    )

    def bring(pair) -> int:
        trust = ssl.create_default_context(cafile=str(certificates.authority))
        trust.load_cert_chain(pair.certificate, pair.key)
        line = http.client.HTTPSConnection("127.0.0.1", house.port, timeout=20, context=trust)
        line.request("POST", "/dicom-web/studies", multipart(make_file()), {"Content-Type": RELATED})
        return line.getresponse().status

    assert bring(certificates.client) == 200
    assert bring(certificates.other_client) == 403
    assert [one.policy for one in house.journal.series("1.2.3.2").instances] == ["scanner"]


def test_slowness_is_judged_by_the_callers_time_alone() -> None:
    limits = Limits(max_connections=1, head_timeout_s=10, idle_timeout_s=30)
    least = int(LEAST_BYTES_PER_S * 30)
    assert is_too_slow("head", 10, 10**9, limits) and not is_too_slow("head", 9.9, 0, limits)
    assert is_too_slow("body", 30, least - 1, limits) and not is_too_slow("body", 30, least, limits)
    assert is_too_slow("reading", 30, 0, limits) and not is_too_slow("body", 29, 0, limits)
    assert not is_too_slow("answer", 10**6, 0, limits)
