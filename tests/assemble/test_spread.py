from __future__ import annotations

import os
import threading
import time

import pytest

from node.assemble import spread as module
from node.assemble.spread import spread


def slowly_failing(item: int) -> None:
    if item == 2:
        time.sleep(0.2)
        raise ValueError("second")
    if item == 3:
        raise ValueError("third")


@pytest.fixture(params=[1, 4])
def processors(request, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(request.param)))
    return request.param


def test_everything_is_done_once(processors):
    done: list[int] = []
    spread(done.append, iter(range(100)))
    assert sorted(done) == list(range(100))


def test_the_error_of_the_first_item_is_raised_whichever_thread_was_faster(processors):
    with pytest.raises(ValueError, match="second"):
        spread(slowly_failing, range(1, 50))


def test_an_error_of_the_source_comes_after_those_of_the_items_before_it(processors):
    def source():
        yield from (1, 2)
        raise KeyError("source")

    with pytest.raises(ValueError, match="second"):
        spread(slowly_failing, source())
    with pytest.raises(KeyError):
        spread(lambda item: None, source())


def test_only_a_few_items_are_taken_ahead(processors):
    lock, alive, most = threading.Lock(), 0, 0

    def source():
        nonlocal alive, most
        for item in range(60):
            with lock:
                alive += 1
                most = max(most, alive)
            yield item

    def act(item: int) -> None:
        nonlocal alive
        time.sleep(0.002)
        with lock:
            alive -= 1

    spread(act, source())
    assert most <= module.AHEAD * processors + 1


def test_no_thread_is_left_behind(processors):
    before = threading.active_count()
    with pytest.raises(ValueError):
        spread(slowly_failing, range(50))
    assert threading.active_count() == before


def test_what_would_not_gain_by_threads_is_done_in_this_one(processors):
    threads = set()
    spread(lambda item: threads.add(threading.get_ident()), range(20), at_once=False)
    assert threads == {threading.get_ident()}
