"""Multipart is read however it is cut, and written so that others read it (RFC 2046, RFC 2387)."""

from __future__ import annotations

import email
import email.policy
import random

import pytest

from node.multipart import Begun, Ended, MultipartError, Reader
from node.show.multipart import Part, related, written

PARTS = [b"first", b"", b"\r\n", b"a\r\n--not-b\r\n--", bytes(range(256)) * 40, b"--b", b"\r\n--", b"\r"]


def body(parts: list[bytes], *, preamble: bytes = b"", epilogue: bytes = b"\r\n") -> bytes:
    """Return a body with the boundary "b="."""
    begun = preamble + b"--b=\r\n" if not preamble else preamble + b"\r\n--b=\r\n"
    return begun + b"\r\n--b=\r\n".join(b"A: 1\r\n\r\n" + part for part in parts) + b"\r\n--b=--" + epilogue


def read(data: bytes, cuts: list[int]) -> tuple[list[bytes], Reader]:
    """Return the whole parts that come of a body which is cut at some places."""
    reader, whole, part = Reader("b="), [], b""
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        for event in reader.feed(data[begin:end]):
            if isinstance(event, Begun):
                part = b""
            elif isinstance(event, Ended):
                whole.append(part)
            else:
                part += event
    return whole, reader


def test_parts_are_the_same_wherever_the_body_is_cut() -> None:
    data = body(PARTS)
    dice = random.Random(20261121)
    every = list(range(1, len(data)))
    for cuts in [[], every, *(sorted(dice.sample(every, dice.randrange(1, 60))) for _ in range(100))]:
        whole, reader = read(data, cuts)
        assert whole == PARTS
        assert reader.is_whole


@pytest.mark.parametrize("cut", range(1, len(body([b"x", b"yz"]))))
def test_each_single_cut_gives_the_same(cut: int) -> None:
    assert read(body([b"x", b"yz"]), [cut])[0] == [b"x", b"yz"]


def test_preamble_epilogue_padding_and_folded_heads_are_understood() -> None:
    assert read(body([b"x"], preamble=b"This is a message", epilogue=b"\r\nand more --b=\r\n"), [])[0] == [
        b"x"
    ]
    data = b"--b= \t\r\nContent-Type: application/dicom;\r\n  charset=x\r\n\r\nbody\r\n--b=--"
    begun = next(iter(Reader("b=").feed(data)))
    assert begun == Begun({"content-type": "application/dicom; charset=x"})


def test_a_part_without_head_or_body_is_a_part() -> None:
    assert read(b"--b=\r\n\r\nonly body\r\n--b=\r\nA: 1\r\n\r\n--b=--", [])[0] == [b"only body", b""]


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 10_000,
        b"--b=x\r\n",
        b"--b=" + b" " * 1000,
        b"--b=\r\n" + b"A: " + b"x" * 10_000,
        b"--b=\r\n" + b"A: 1\r\n" * 5_000 + b"\r\n",
        b"--b=\r\nno header\r\n\r\n",
        b"--b=\r\n: no name\r\n\r\n",
    ],
    ids="no-boundary behind-boundary endless-padding long-line long-head no-colon no-name".split(),
)
def test_what_is_no_multipart_is_found_out_before_it_fills_the_memory(data: bytes) -> None:
    with pytest.raises(MultipartError):
        read(data, [])
    with pytest.raises(MultipartError):
        read(data, list(range(1, len(data))))


@pytest.mark.parametrize("boundary", ["", "x" * 201, "a b", 'a"b', "a\r\nb", "ü"])
def test_a_boundary_that_none_may_be_is_refused(boundary: str) -> None:
    with pytest.raises(MultipartError):
        Reader(boundary)


def test_a_body_that_was_cut_is_not_whole() -> None:
    data = body([b"x", b"y"])
    assert not read(data[:-8], [])[1].is_whole


def test_little_is_held_back_of_a_long_part() -> None:
    reader = Reader("b=")
    list(reader.feed(b"--b=\r\n\r\n"))
    for _ in range(100):
        given = b"".join(reader.feed(b"\r\n--b" + b"x" * 100_000))
        assert len(given) > 99_000


def test_what_is_written_is_read_by_others() -> None:
    parts = [
        Part(
            media_type="application/dicom", body=b"\r\n--x\r\n" * 100, transfer_syntax="1.2.840.10008.1.2.1"
        ),
        Part(media_type="application/octet-stream", body=iter([b"a", b"", b"b" * 100_000]), location="/x/1"),
    ]
    answer = related(parts, "application/dicom")
    kind = answer.headers["content-type"]
    boundary = kind.partition("boundary=")[2]
    whole = email.message_from_bytes(
        f"Content-Type: {kind}\r\n\r\n".encode() + b"".join(written(parts[:1], boundary)),
        policy=email.policy.HTTP,
    )
    assert whole.get_param("type") == "application/dicom"
    (one,) = whole.iter_parts()
    assert one.get_param("transfer-syntax") == "1.2.840.10008.1.2.1"
    text = b"".join(written(parts[1:], "z"))
    head, _, rest = text.partition(b"\r\n\r\n")
    assert b"Content-Location: /x/1" in head
    assert rest == b"a" + b"b" * 100_000 + b"\r\n--z--\r\n"


def test_what_is_written_is_read_by_ourselves() -> None:
    text = b"".join(written([Part(media_type="x/y", body=part) for part in PARTS], "b="))
    assert read(text, list(range(1, len(text))))[0] == PARTS


def test_no_two_answers_have_the_same_boundary() -> None:
    kinds = {related([], "x/y").headers["content-type"] for _ in range(100)}
    assert len(kinds) == 100
