"""Group commit: what several threads ask for at once is done by one of them, in one transaction."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class _Request(Generic[Asked, Answer]):
    asked: Asked
    answer: Answer | None = None
    error: BaseException | None = None
    is_done: bool = False


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
        self._turn = threading.Lock()  #: who has it works, for itself and for all who wait
        self._waiting: list[_Request[Asked, Answer]] = []
        self._lock = threading.Lock()  #: over the list

    def do(self, asked: Asked) -> Answer:
        """Return the answer, or raise what ``work`` raised for this alone."""
        request: _Request[Asked, Answer] = _Request(asked)
        with self._lock:
            self._waiting.append(request)
        while not request.is_done:
            with self._turn:
                if not request.is_done:
                    self._serve()
        if request.error is not None:
            raise request.error
        return request.answer  # type: ignore[return-value]  # it is done, without an error

    def _serve(self) -> None:
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
            for request in batch:
                request.is_done = True

    def _one_by_one(self, batch: Sequence[_Request[Asked, Answer]]) -> None:
        for request in batch:
            try:
                (request.answer,) = self._work([request.asked])
            except Exception as error:  # noqa: BLE001  it is raised where it belongs
                request.error = error
