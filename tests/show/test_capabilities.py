"""What is said to be served is what is served (PS3.18 8.9, 10.2), and how the node is can be asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote
from xml.etree import ElementTree

import pytest

from node.errors import JournalUnavailable
from node.show.app import RESOURCES
from tests.harness import eventually
from tests.web_house import House

WADL = "{http://wadl.dev.java.net/2009/02}"


def told(document: bytes) -> set[tuple[str, str]]:
    """Return method and path of all that a WADL document tells."""
    root = ElementTree.fromstring(document)  # noqa: S314  our own
    return {
        (method.get("name"), "/" + resource.get("path"))
        for resource in root.iter(f"{WADL}resource")
        for method in resource.findall(f"{WADL}method")
    }


def served(house: House) -> set[tuple[str, str]]:
    """Return method and path of all routes but those that only tell what there is."""
    found = set()
    for route in house.app.app.routes:
        if route.methods != {"OPTIONS"}:
            found |= {(method, route.path_format) for method in route.methods}
    return found


@pytest.mark.parametrize("path", ["/", "/dicom-web", "/dicom-web/"])
def test_the_whole_tells_exactly_what_is_served(house: House, path: str) -> None:
    answer = house.ask("OPTIONS", path)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/vnd.sun.wadl+xml")
    assert told(answer.body) == served(house)


def test_each_resource_tells_of_itself(house: House) -> None:
    for path in {one.path for one in RESOURCES} - {"/"}:
        template = next(one.template for one in RESOURCES if one.path == path)
        answer = house.ask("OPTIONS", re.sub(r"{\w+}", "1", template))
        methods = {"OPTIONS"} | {one.method for one in RESOURCES if one.path == path}
        methods |= {"HEAD"} if "GET" in methods else set()
        assert told(answer.body) == {(method, template) for method in methods}
        assert set(answer.headers["allow"].split(", ")) == methods


def test_wadl_tells_media_types_and_parameters(house: House) -> None:
    root = ElementTree.fromstring(house.ask("OPTIONS", "/").body)  # noqa: S314
    assert root.find(f"{WADL}resources").get("base") == f"http://127.0.0.1:{house.port}/"
    store = next(m for m in root.iter(f"{WADL}method") if m.get("name") == "POST")
    taken = {one.get("mediaType") for one in store.find(f"{WADL}request")}
    assert 'multipart/related; type="application/dicom"' in taken
    resource = next(r for r in root.iter(f"{WADL}resource") if "{study}" in r.get("path"))
    assert {p.get("name") for p in resource.findall(f"{WADL}param")} >= {"study"}
    identifiers = [m.get("id") for m in root.iter(f"{WADL}method")]
    assert len(set(identifiers)) == len(identifiers)


def test_the_same_is_told_in_json(house: House) -> None:
    answer = house.ask("OPTIONS", "/", Accept="application/json")
    assert {(one["method"], one["path"]) for one in answer.json["resources"]} == {
        (one.method, one.template) for one in RESOURCES
    }


def test_what_is_not_done_is_not_allowed_and_what_is_not_there_is_not_found(house: House) -> None:
    answer = house.ask("DELETE", "/dicom-web/studies/1.2.3")
    assert answer.status == 405
    assert "POST" in answer.headers["allow"]
    assert answer.headers["content-type"] == "application/problem+json"
    for path in ("/dicom-web/nonsense", "/dicom-web/studies/", "//dicom-web/studies", "/healthz/"):
        assert house.ask("GET", path).status == 404


def test_the_front_page_says_what_this_is(house: House) -> None:
    answer = house.ask("GET", "/")
    assert answer.headers["content-type"].startswith("text/html")
    assert b"not for diagnosis" in answer.body
    assert house.ask("HEAD", "/").body == b""


def test_health_tells_that_the_node_is_well(house: House) -> None:
    answer = house.ask("GET", "/healthz")
    assert answer.status == 200
    assert answer.json["ready"] is answer.json["journal"] is answer.json["disk"] is True


def test_health_tells_of_a_full_disk(open_house: Callable[..., House]) -> None:
    answer = open_house(accept={"reserve_gb": 1e8}).ask("GET", "/healthz")
    assert answer.status == 503
    assert answer.json["disk"] is answer.json["ready"] is False and answer.json["journal"] is True


def test_health_tells_of_a_journal_that_does_not_answer(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_uid: str) -> None:
        raise JournalUnavailable

    monkeypatch.setattr(house.journal, "series", locked)
    answer = house.ask("GET", "/healthz")
    assert answer.status == 503 and answer.json["journal"] is False


def test_what_nobody_foresaw_is_a_sentence_and_no_trace(
    house: House, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def bug(_uid: str) -> None:
        raise KeyError("Canary^Patient")

    monkeypatch.setattr(house.journal, "series", bug)
    answer = house.ask("GET", "/healthz?PatientName=Canary")
    assert answer.status == 500
    assert "Canary" not in answer.body.decode() and "Traceback" not in answer.body.decode()
    said = "".join(capfd.readouterr())
    assert "Canary" not in said and "KeyError at" in said


def test_the_access_log_tells_the_template_and_nothing_of_what_was_asked(
    house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    house.ask("GET", "/dicom-web/studies/1.2.840.99?PatientName=Canary", User_Agent="Canary", X="Canary")
    house.ask("GET", "/Canary\x1b[31m%0aCanary".replace("\x1b", "%1b"))
    house.ask("CANARY", "/")
    said: list[str] = []
    assert eventually(lambda: said.extend(capfd.readouterr()) or "".join(said).count("answered") == 3)
    for asked in ("Canary", "CANARY", "1.2.840.99"):
        assert asked not in "".join(said)


NASTY = [
    "..%2f..%2f..%2fetc%2fpasswd",
    "%00",
    "1" * 5000,
    "1.2'%20OR%20'1'='1",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "{7*7}",
    "%ff%fe",
    "-1",
    "1.2.3",
    "99999999999999999999",
    "9" * 5000,
    "a%0d%0aX-Injected:%201",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_nonsense_in_path_and_query_is_never_our_own_error(house: House, nasty: str) -> None:
    for one in RESOURCES:
        asked = re.sub(r"{\w+}", nasty, one.template)
        valid = re.sub(r"{\w+}", "1.2.3", one.template)
        names = [name for name, _ in one.query] or ["x"]
        query = "&".join(f"{quote(name)}={nasty}" for name in [*names, "StudyDate", "00100010", nasty[:100]])
        for path in (asked, f"{valid}?{query}"):
            answer = house.ask(one.method, path)
            assert answer.status < 500, (one.method, path, answer.body)
            assert "x-injected" not in answer.headers
            assert b"<script" not in answer.body
