"""The best of what there is, by what the caller likes (PS3.18 8.7)."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from node.show.media import DICOM, DICOM_JSON, DICOM_XML, OCTETS, RELATED, Offer, choose, parse, wanted
from node.show.resource import Problem

EXPLICIT, JLS, J2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
AS_STORED = Offer(RELATED, DICOM, JLS)
PLAIN = Offer(RELATED, DICOM, EXPLICIT)
FRAMES = [Offer(RELATED, "image/jls", JLS), Offer(RELATED, OCTETS, EXPLICIT)]
TEXTS = [Offer(DICOM_JSON), Offer("application/json"), Offer(RELATED, DICOM_XML)]


def request(accept: str | None, query: str = "") -> Request:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    return Request({"type": "http", "headers": headers, "query_string": query.encode()})


def chosen(accept: str | None, offers: list[Offer], query: str = "") -> Offer:
    return choose(wanted(request(accept, query)), offers)


@pytest.mark.parametrize(
    ("accept", "offers", "expected"),
    [
        (None, TEXTS, TEXTS[0]),
        ("*/*", TEXTS, TEXTS[0]),
        ("application/*", TEXTS, TEXTS[0]),
        ("application/json", TEXTS, TEXTS[1]),
        ("APPLICATION/DICOM+JSON", TEXTS, TEXTS[0]),
        ('multipart/related; type="application/dicom+xml"', TEXTS, TEXTS[2]),
        ("multipart/related; type=application/dicom+xml", TEXTS, TEXTS[2]),
        ("multipart/related;type=application/dicom+xml;q=0.5, application/json;q=0.7", TEXTS, TEXTS[1]),
        ("application/dicom+json;q=0, */*", TEXTS, TEXTS[1]),
        ("text/html, */*;q=0.1", TEXTS, TEXTS[0]),
        # What is stored where any will do, the default where none is said, one by its UID.
        ('multipart/related; type="application/dicom"; transfer-syntax=*', [AS_STORED, PLAIN], AS_STORED),
        ('multipart/related; type="application/dicom"', [AS_STORED, PLAIN], PLAIN),
        (
            f'multipart/related; type="application/dicom"; transfer-syntax={JLS}',
            [AS_STORED, PLAIN],
            AS_STORED,
        ),
        (
            f'multipart/related; type="application/dicom"; transfer-syntax="{EXPLICIT}"',
            [AS_STORED, PLAIN],
            PLAIN,
        ),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", FRAMES, FRAMES[1]),
        ("multipart/related; type=image/jls", FRAMES, FRAMES[0]),
        (
            f"multipart/related; type=image/jp2; transfer-syntax={J2K}, "
            "multipart/related; type=image/jls; q=0.9",
            FRAMES,
            FRAMES[0],
        ),
        ('multipart/related; type="*/*"; transfer-syntax=*', FRAMES, FRAMES[0]),
    ],
)
def test_what_is_liked_best_is_given(accept, offers, expected) -> None:
    assert chosen(accept, offers) == expected


def test_accept_in_the_query_goes_first() -> None:
    assert chosen("application/dicom+json", TEXTS, "accept=application/json") == TEXTS[1]
    assert chosen("application/dicom+json", TEXTS, "accept=text/html") == TEXTS[0]


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/dicom+json;q=0",
        f"multipart/related; type=application/dicom; transfer-syntax={J2K}",
        "image/*",
        "garbage",
        ";;;===",
        '"',
    ],
)
def test_when_nothing_fits_the_caller_hears_what_there_is(accept: str) -> None:
    with pytest.raises(Problem) as problem:
        chosen(accept, [Offer(DICOM_JSON), AS_STORED])
    assert problem.value.status == 406
    assert DICOM_JSON in str(problem.value) and f'type="{DICOM}"; transfer-syntax={JLS}' in str(problem.value)


@pytest.mark.parametrize("accept", ["a/b, " * 5000, "a/b," * 200])
def test_an_endless_list_is_a_bad_request(accept: str) -> None:
    with pytest.raises(Problem) as problem:
        chosen(accept, TEXTS)
    assert problem.value.status == 400


def test_what_stands_in_quotes_is_one_value() -> None:
    kind = parse('Multipart/Related; type="application/dicom"; boundary="a;b,c"; Q=0.5; junk')
    assert (kind.kind, kind.part, kind.quality) == (RELATED, DICOM, 0.5)
    assert kind.parameters["boundary"] == "a;b,c"


@pytest.mark.parametrize(
    ("q", "quality"), [("nonsense", 1.0), ("7", 1.0), ("-1", 1.0), ("nan", 1.0), ("0.125", 0.125)]
)
def test_a_strange_quality_does_no_harm(q: str, quality: float) -> None:
    assert parse(f"a/b;q={q}").quality == quality
