"""A resource: a path, a method, who answers, and what it takes and gives.

The table of all of them (`node.show.app`) makes the routes and the capabilities, so that what is said to
be served is what is served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from node.config import Config
from node.errors import NodeError
from node.journal import Journal

if TYPE_CHECKING:
    from node.show.origin import Origin
    from node.show.stow import Bring

DICOM_WEB = "/dicom-web"  #: where the services of PS3.18 begin

#: Kinds of work that have threads of their own: of one that has none left, the others feel nothing.
Lane = Literal["look", "take", "health"]

_T = TypeVar("_T")

Endpoint = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One transaction on one path.

    A plain function runs in a thread and may wait for a disk; a coroutine must never.
    """

    path: str  #: as Starlette writes it, with ``{study:uid}``
    method: str
    name: str  #: of the transaction, as PS3.18 calls it
    endpoint: Endpoint
    gives: tuple[str, ...] = ()  #: media types of what comes back, best first
    takes: tuple[str, ...] = ()  #: media types of what may be sent
    #: Query parameter -> what it does, in a few words. None is demanded.
    query: tuple[tuple[str, str], ...] = ()
    lane: Lane = "look"  #: whose threads a plain function takes

    @property
    def template(self) -> str:
        """The path as WADL and people write it: ``/studies/{study}``."""
        return compile_path(self.path)[1]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the resources see of the node; `request.app.state.shown`, or `shown_by`."""

    config: Config
    journal: Journal
    clock: Callable[[], datetime]  #: aware, UTC
    spare_bytes: Callable[[], int]  #: free disk above the reserve
    bring: Bring  #: takes in what STOW-RS brings
    origin: Origin | None = None  #: what is given from; None: nothing is


class Threads:
    """How many threads of the door each kind of work may hold, for one event loop."""

    def __init__(self) -> None:
        self._limits = {"take": CapacityLimiter(16), "health": CapacityLimiter(2)}

    async def run(self, lane: Lane, work: Callable[[], _T]) -> _T:
        """Do something that waits for disk or journal, in a thread."""
        return await to_thread.run_sync(work, limiter=self._limits.get(lane))


class Problem(NodeError):
    """A request cannot be answered as it was asked.

    Parameters
    ----------
    status
        Of HTTP.
    sentence
        For the caller; our own words, nothing that was sent and nothing about a patient.
    """

    code = "http"

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = dict(headers or {})


class _Uid(Convertor[str]):
    """A UID in a path (PS3.5 9.1); anything else is no such resource."""

    regex = r"(?![0-9.]{65})[0-9]+(?:\.[0-9]+)*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Number(Convertor[int]):
    """A whole number in a path that is not beyond all measure, as Starlette's own may be."""

    regex = "[0-9]{1,9}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("uid", _Uid())
register_url_convertor("number", _Number())


def shown_by(request: Request) -> Shown:
    """Return what the resources see of the node."""
    shown: Shown = request.app.state.shown
    return shown


def threads_of(request: Request) -> Threads:
    """Return the threads of the door that was asked."""
    threads: Threads = request.app.state.threads
    return threads


def here(request: Request, path: str) -> str:
    """Return the address of a path of ours as this caller reaches us: ``https://host:port/dicom-web/...``."""
    return f"{request.url.scheme}://{request.headers.get('host', '')}{path}"
