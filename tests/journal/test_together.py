"""Many threads, few transactions; each gets its own answer or its own error."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from node.journal.together import Together


def test_one_that_comes_alone_is_served_alone() -> None:
    seen: list[list[int]] = []

    def work(asked: Sequence[int]) -> list[int]:
        seen.append(list(asked))
        return [2 * n for n in asked]

    assert Together(work).do(21) == 42
    assert seen == [[21]]


def test_those_who_come_while_it_is_busy_are_served_together_and_get_their_own_answers() -> None:
    seen: list[list[int]] = []
    busy, go_on = threading.Event(), threading.Event()

    def work(asked: Sequence[int]) -> list[int]:
        seen.append(list(asked))
        busy.set()
        assert go_on.wait(10)
        return [2 * n for n in asked]

    together = Together(work, most=8)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(together.do, 0)
        assert busy.wait(10)
        others = {n: pool.submit(together.do, n) for n in range(1, 13)}
        while len(together._waiting) < len(others):
            pass
        go_on.set()
        assert first.result(10) == 0
        assert {n: one.result(10) for n, one in others.items()} == {n: 2 * n for n in others}
    assert [len(batch) for batch in seen] == [1, 8, 4]


def test_what_fails_for_one_fails_for_nobody_else() -> None:
    busy, go_on = threading.Event(), threading.Event()

    def work(asked: Sequence[int]) -> list[int]:
        busy.set()
        assert go_on.wait(10)
        if 3 in asked:
            raise ValueError("three")
        return list(asked)

    together = Together(work, alone=(ValueError,))
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(together.do, 0)
        assert busy.wait(10)
        others = {n: pool.submit(together.do, n) for n in range(1, 6)}
        while len(together._waiting) < len(others):
            pass
        go_on.set()
        assert first.result(10) == 0
        assert [others[n].result(10) for n in (1, 2, 4, 5)] == [1, 2, 4, 5]
        with pytest.raises(ValueError, match="three"):
            others[3].result(10)


def test_what_concerns_all_is_told_to_all_at_once() -> None:
    busy, go_on, called = threading.Event(), threading.Event(), []

    def work(asked: Sequence[int]) -> list[int]:
        called.append(len(asked))
        busy.set()
        assert go_on.wait(10)
        if 0 in asked:
            return list(asked)
        raise OSError("the disk is away")

    together = Together(work, alone=(ValueError,))
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(together.do, 0)
        assert busy.wait(10)
        others = [pool.submit(together.do, n) for n in range(1, 6)]
        while len(together._waiting) < len(others):
            pass
        go_on.set()
        assert first.result(10) == 0
        errors = [one.exception(10) for one in others]
    assert [str(error) for error in errors] == ["the disk is away"] * 5
    assert len({id(error) for error in errors}) == 5, "each thread raises its own"
    assert called == [1, 5]
