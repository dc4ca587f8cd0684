"""Nobody gets anything without showing who he is, where that is asked; no page of others gets anything."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import pytest
from starlette.routing import Route

from node.show.auth import OPEN, is_allowed, is_our_name
from tests.web_house import RELATED, House, make_file, multipart

TOKEN = "correct horse battery staple"  # noqa: S105  of nothing
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()
ORIGIN = "https://viewer.example"


@pytest.fixture
def guarded(open_house: Callable[..., House]) -> House:
    return open_house(show={"tokens": [OTHER, DIGEST]})


def every_route(house: House) -> list[tuple[str, str]]:
    """Return method and path of all that is served, from the table of routes itself."""
    routes = [route for route in house.app.app.routes if isinstance(route, Route)]
    assert len(routes) == len(house.app.app.routes), "a route of another kind: enumerate it too"
    filled = [(route, re.sub(r"{[^}]*}", "1.2.3", route.path)) for route in routes]
    return [(method, path) for route, path in filled for method in sorted(route.methods)]


WRONG = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer wrong"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": f"Bearer {DIGEST}"},
    {"Authorization": f"Bearer {TOKEN} more"},
    {"Authorization": "Bearer " + "x" * 5000},
]


@pytest.mark.parametrize("headers", WRONG, ids=lambda h: str(h)[:40])
def test_no_route_answers_without_a_token(guarded: House, headers: dict[str, str]) -> None:
    routes = every_route(guarded)
    assert ("POST", "/dicom-web/studies") in routes and ("GET", "/") in routes
    for method, path in routes:
        answer = guarded.ask(method, path, **headers)
        if path in OPEN:
            assert answer.status == 200
        else:
            assert (answer.status, method, path) == (401, method, path)
            assert answer.headers["www-authenticate"] == 'Bearer realm="radnode"'
    assert guarded.ask("GET", "/no/such/thing", **headers).status == 401, "what is there is nobody's business"


def test_a_token_beyond_all_measure_is_not_even_hashed() -> None:
    longest, longer = "x" * 4096, "x" * 4097
    digests = [hashlib.sha256(token.encode()).hexdigest() for token in (longest, longer)]
    assert is_allowed(f"Bearer {longest}", digests)
    assert not is_allowed(f"Bearer {longer}", digests)


def test_what_is_open_to_all_says_nothing_of_patients(guarded: House) -> None:
    assert guarded.bring(make_file(), Authorization=f"Bearer {TOKEN}").status == 200
    assert OPEN == ("/healthz",)
    assert set(guarded.ask("GET", "/healthz").json) == {"ready", "version", "journal", "disk"}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_opens_the_door(guarded: House, scheme: str) -> None:
    assert guarded.bring(make_file(), Authorization=f"{scheme} {TOKEN}").status == 200


def test_two_tokens_at_once_are_none(guarded: House) -> None:
    with guarded.connect() as line:
        shown = f"Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer x\r\n"
        line.sendall(f"GET / HTTP/1.1\r\nHost: localhost\r\n{shown}\r\n".encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_a_body_is_not_read_from_somebody_unknown(guarded: House) -> None:
    answer = guarded.ask("POST", "/dicom-web/studies", multipart(make_file()), Content_Type=RELATED)
    assert answer.status == 401
    assert not guarded.held("1.2.3.2")


def test_only_the_token_itself_is_the_token() -> None:
    assert is_allowed(f"Bearer {TOKEN}", [OTHER, DIGEST])
    assert not is_allowed(f"Bearer {TOKEN}", [OTHER])
    assert not is_allowed(f"Bearer {TOKEN}", [])
    assert not is_allowed(None, [DIGEST])
    assert not is_allowed("Bearer \udcff", [DIGEST])


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8042", "127.0.0.1", "127.0.0.1:1", "[::1]:80", "127.9.9.9"]
)
def test_names_of_the_loopback_are_ours(host: str) -> None:
    assert is_our_name(host)


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::1", "a@b"],
)
def test_other_names_are_not(host: str | None) -> None:
    assert not is_our_name(host)


def test_a_page_whose_name_leads_here_gets_nothing(house: House) -> None:
    for method, path in every_route(house):
        assert house.ask(method, path, Host="evil.example:80").status == 421
    assert house.ask("GET", "/healthz", Host="localhost").status == 200


def test_with_a_token_names_do_not_matter(guarded: House) -> None:
    answer = guarded.ask("GET", "/", Host="node.hospital.example", Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200


def test_pages_of_others_may_not_read_unless_they_are_named(house: House) -> None:
    answer = house.ask("GET", "/healthz", Origin=ORIGIN)
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    assert "access-control-allow-origin" not in house.ask("OPTIONS", "/dicom-web/studies", **asked).headers


def test_a_page_that_is_named_may_read(open_house: Callable[..., House]) -> None:
    house = open_house(show={"origins": [ORIGIN], "tokens": [DIGEST]})
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    before = house.ask("OPTIONS", "/dicom-web/studies", **asked)
    assert before.status == 200, "a browser asks without a token whether it may ask"
    assert before.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in before.headers["access-control-allow-headers"].lower()
    answer = house.ask("GET", "/", Origin=ORIGIN, Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200 and answer.headers["access-control-allow-origin"] == ORIGIN
    assert house.ask("GET", "/", Origin=ORIGIN).status == 401


@pytest.mark.parametrize(
    "origin", ["https://viewer.example.evil", "http://viewer.example", "null", "https://evil"]
)
def test_a_page_that_is_nearly_named_may_not(open_house: Callable[..., House], origin: str) -> None:
    house = open_house(show={"origins": [ORIGIN]})
    assert "access-control-allow-origin" not in house.ask("GET", "/healthz", Origin=origin).headers
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    assert "access-control-allow-origin" not in house.ask("OPTIONS", "/dicom-web/studies", **asked).headers
