"""Group commit: what several threads ask for at once is done by one of them, in one transaction."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class _Request(Generic[Asked, Answer]):
    """What one thread asks for, and what it sleeps on until it is done or its turn to work has come."""

    __slots__ = ("answer", "asked", "bell", "error", "is_done")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.is_done = False
        self.bell = threading.Lock()
        self.bell.acquire()


class Together(Generic[Asked, Answer]):
    """Calls ``work`` with all that threads ask for while it is busy with what they asked before.

    Nobody waits for company: who comes alone is served alone.

    Parameters
    ----------
    work
        Takes what was asked and returns an answer to each, in the same order. When it raises, all
        of them have failed.
    alone
        What it may raise because of one of them: then it is called again for each alone, so that
        the one cannot spoil it for the others. Not what concerns all, such as a locked database:
        each would wait for it in turn.
    most
        That it is given at once.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Sequence[Answer]],
        *,
        alone: tuple[type[Exception], ...] = (),
        most: int = 64,
    ) -> None:
        self._work = work
        self._alone = alone
        self._most = most
        self._lock = threading.Lock()  #: over the two below
        self._waiting: list[_Request[Asked, Answer]] = []
        self._is_busy = False  #: somebody works, and will ring the first of those who wait then

    def do(self, asked: Asked) -> Answer:
        """Return the answer, or raise what ``work`` raised for this alone."""
        request: _Request[Asked, Answer] = _Request(asked)
        with self._lock:
            self._waiting.append(request)
            must_wait, self._is_busy = self._is_busy, True
        if must_wait:
            request.bell.acquire()
        if not request.is_done:
            self._serve()
        if request.error is not None:
            raise request.error
        return request.answer  # type: ignore[return-value]  # it is done, without an error

    def _serve(self) -> None:
        """Work for the first who wait, the caller among them, and ring them and the next to work."""
        with self._lock:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            for request, answer in zip(batch, self._work([r.asked for r in batch]), strict=True):
                request.answer = answer
        except self._alone as error:
            if len(batch) > 1:
                self._one_by_one(batch)
            else:
                batch[0].error = error
        except BaseException as error:  # each waits for its own, in its own thread
            for request in batch:
                request.error = copy.copy(error)
            if not isinstance(error, Exception):
                raise
        finally:
            with self._lock:
                following = self._waiting[:1]
                self._is_busy = bool(following)
            for request in batch:
                request.is_done = True
            for request in (*following, *batch):  # each for itself: to queue for a lock wakes one at a time
                request.bell.release()

    def _one_by_one(self, batch: Sequence[_Request[Asked, Answer]]) -> None:
        for request in batch:
            try:
                (request.answer,) = self._work([request.asked])
            except Exception as error:  # noqa: BLE001  it is raised where it belongs
                request.error = error
