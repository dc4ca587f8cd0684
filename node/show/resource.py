"""A resource: a path, a method, who answers, and what it takes and gives.

The table of all of them (`node.show.app`) makes the routes and the capabilities, so that what is said to
be served is what is served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

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


register_url_convertor("uid", _Uid())


def shown_by(request: Request) -> Shown:
    """Return what the resources see of the node."""
    shown: Shown = request.app.state.shown
    return shown


def here(request: Request, path: str) -> str:
    """Return the address of a path of ours as this caller reaches us: ``https://host:port/dicom-web/...``."""
    return f"{request.url.scheme}://{request.headers.get('host', '')}{path}"
