from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import SendError
from node.model import ResultObject
from node.send import in_order


def thing(uid: str, *refers_to: str) -> ResultObject:
    return ResultObject(
        kind="sr-text",
        sop_instance_uid=uid,
        sop_class_uid="1.2",
        series_uid="1.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=Path(f"{uid}.dcm"),
        sha256="",
        refers_to=refers_to,
    )


def uids(*things: ResultObject) -> list[str]:
    return [one.sop_instance_uid for one in in_order(things)]


def test_what_is_referred_to_goes_first_and_all_else_stays_as_given():
    assert uids(thing("text", "seg"), thing("pdf"), thing("seg"), thing("sr", "seg")) == [
        "pdf",
        "seg",
        "text",
        "sr",
    ]


def test_a_reference_to_what_is_not_sent_now_does_not_matter():
    assert uids(thing("sr", "delivered-earlier"), thing("seg")) == ["sr", "seg"]


def test_nothing_gives_nothing():
    assert in_order([]) == ()


def test_a_circle_is_an_error_in_words():
    with pytest.raises(SendError, match="circle"):
        in_order([thing("a", "b"), thing("b", "a")])


@given(st.lists(st.sets(st.integers(0, 7)), max_size=8), st.randoms())
def test_every_order_without_circles_is_kept(references, random):
    made = [
        thing(str(number), *(str(n) for n in others if n < number))
        for number, others in enumerate(references)
    ]
    random.shuffle(made)
    sent: set[str] = set()
    for one in in_order(made):
        assert set(one.refers_to) <= sent
        sent.add(one.sop_instance_uid)
    assert len(sent) == len(made)
