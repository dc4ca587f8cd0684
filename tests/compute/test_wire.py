"""The language between node and worker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.compute.wire import (
    LONGEST_MESSAGE,
    Unpacker,
    WireError,
    clean,
    error_from_wire,
    error_to_wire,
    pack,
)
from node.errors import (
    Cancelled,
    ComputeError,
    ConfigError,
    EncodeError,
    IllegalTransition,
    MemoryExceeded,
    NodeError,
    NodeStopping,
    TimedOut,
)
from pipelines.contract import InputRefused


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans())), st.integers(1, 20))
def test_messages_come_out_whole_however_the_pipe_cuts_them(messages, size):
    stream = b"".join(pack(message) for message in messages)
    unpacker = Unpacker()
    heard = []
    for start in range(0, len(stream), size):
        heard += unpacker.feed(stream[start : start + size])
    assert heard == messages


@pytest.mark.parametrize(
    "stream",
    [
        b"\xff\xff\xff\xff",
        (LONGEST_MESSAGE + 1).to_bytes(4, "big"),
        b"\0\0\0\2[]",
        b"\0\0\0\1x",
        b"\0\0\0\2\xff\xfe",
        b"\0\1\0\0" + b"[" * 65536,
    ],
)
def test_nonsense_is_recognised(stream):
    with pytest.raises(WireError):
        list(Unpacker().feed(stream))


def test_a_message_too_long_is_not_sent():
    with pytest.raises(WireError):
        pack({"text": "x" * LONGEST_MESSAGE})


@pytest.mark.parametrize("error", [TimedOut("Too slow."), MemoryExceeded("Too fat."), EncodeError("Bad.")])
def test_an_error_of_ours_arrives_as_itself(error: NodeError):
    back = error_from_wire(error_to_wire(error))
    assert type(back) is type(error)
    assert str(back) == str(error)


def test_a_refusal_arrives_with_its_code_and_sentence():
    back = error_from_wire(error_to_wire(InputRefused("slice-gap", "A gap.")))
    assert isinstance(back, InputRefused)
    assert (back.code, back.sentence) == ("slice-gap", "A gap.")


@pytest.mark.parametrize("error", [Cancelled(), NodeStopping(), ConfigError(), IllegalTransition()])
def test_what_only_the_node_decides_a_worker_cannot_say(error: NodeError):
    assert type(error_from_wire(error_to_wire(error))) is ComputeError


@pytest.mark.parametrize(
    "said", [{}, {"code": "never-heard-of"}, {"code": 5, "sentence": None}, {"code": ["x"]}]
)
def test_an_unknown_code_is_a_failure_all_the_same(said):
    assert type(error_from_wire(said)) is ComputeError


def test_foreign_text_is_made_harmless_and_short():
    assert clean("a\x1b[31m\nb\x00\u202e", 10) == "a [31m b  "
    assert clean("x" * 5000) == "x" * 1000 + "..."
