"""What is being read is not let go of: studies that somebody downloads outlast their retention.

Who reads takes a lease of a study; who removes asks for its end. Each waits for nobody: what is being
removed is gone for readers, and what is being read is removed another time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Leases:
    """Who reads what; may be used by any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: Counter[str] = Counter()
        self._ending: set[str] = set()

    def take(self, study_uid: str) -> bool:
        """Begin to read a study; False: it is being removed. Each taken is to be given back."""
        with self._lock:
            if study_uid in self._ending:
                return False
            self._readers[study_uid] += 1
            return True

    def give_back(self, study_uid: str) -> None:
        """End to read a study."""
        with self._lock:
            self._readers[study_uid] -= 1
            if not self._readers[study_uid]:
                del self._readers[study_uid]

    @contextmanager
    def ending(self, study_uid: str) -> Iterator[bool]:
        """Yield whether nobody reads a study; if so, nobody begins to until the block ends."""
        with self._lock:
            free = study_uid not in self._readers and study_uid not in self._ending
            if free:
                self._ending.add(study_uid)
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._ending.discard(study_uid)
