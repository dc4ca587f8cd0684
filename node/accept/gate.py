"""Many who bring something, or one alone who takes something away.

A file that has aged out may be sent again at that moment, and lies under the same name: it would
be stored, acknowledged, and then removed. So what arrives and what leaves never overlap.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """A lock that many share, or one has alone. Who wants it alone goes before new comers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharers = 0
        self._is_claimed = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Be inside together with others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_claimed)
            self._sharers += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharers -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until all have left, and keep the others out."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_claimed)
            self._is_claimed = True
            self._changed.wait_for(lambda: self._sharers == 0)
        try:
            yield
        finally:
            with self._changed:
                self._is_claimed = False
                self._changed.notify_all()
