"""Work that is spread over the processors by threads, with the order of errors kept."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

_Item = TypeVar("_Item")

#: No more threads than this, however many processors there are: others load as well.
MOST_THREADS: Final = 16
#: Items per thread that are taken from their source before they are needed.
AHEAD: Final = 2


def spread(act: Callable[[_Item], None], items: Iterable[_Item], *, at_once: bool = True) -> None:
    """Do something for every item, a few at once or one after the other.

    Threads pay only where the work lets go of Python's lock for milliseconds; else they cost half as
    much again. Items are taken in this thread. Of several errors the one of the first item is raised,
    whichever thread was faster; an error of the source itself comes after those of the items before it.
    """
    threads = min(len(os.sched_getaffinity(0)), MOST_THREADS)
    if threads == 1 or not at_once:
        for item in items:
            act(item)
        return
    under_way: deque[Future[None]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    source = iter(items)
    try:
        while True:
            try:
                item = next(source)
            except BaseException as error:
                while under_way:
                    under_way.popleft().result()
                if isinstance(error, StopIteration):
                    return
                raise
            under_way.append(pool.submit(act, item))
            if len(under_way) >= AHEAD * threads:
                under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
