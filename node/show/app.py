"""The table of everything that is served over HTTP, and what surrounds each request.

A resource is a line of `RESOURCES`; routes and capabilities follow from it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import cast

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.config import ShowTable
from node.log import describe, get_log
from node.show import frames, metadata, query, rendered, stow, wado
from node.show.answer import answer_error
from node.show.auth import Admission
from node.show.capabilities import by_path, capabilities, front_page, health
from node.show.resource import DICOM_WEB, Resource, Shown, Threads, threads_of

log = get_log("show")

RESOURCES: tuple[Resource, ...] = (
    Resource(path="/", method="GET", name="FrontPage", endpoint=front_page, gives=("text/html",)),
    Resource(
        path="/healthz",
        method="GET",
        name="Health",
        endpoint=health,
        gives=("application/json",),
        lane="health",
    ),
    *stow.RESOURCES,
    *query.RESOURCES,
    *wado.RESOURCES,
    *metadata.RESOURCES,
    *frames.RESOURCES,
    *rendered.RESOURCES,
)

_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"})
#: On every answer: it is what it says it is, it is kept nowhere, and no page of others holds it.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def make_app(shown: Shown, resources: Sequence[Resource] = RESOURCES) -> ASGIApp:
    """Return the ASGI application."""
    table = shown.config.show
    everything = {"/": resources, DICOM_WEB: resources, f"{DICOM_WEB}/": resources}
    served: dict[str, Sequence[Resource]] = {DICOM_WEB: [], f"{DICOM_WEB}/": [], **by_path(resources)}
    app = Starlette(
        routes=[_route(path, at, everything.get(path, at)) for path, at in served.items()],
        middleware=[*_cors(table), Middleware(Admission, table=table)],
        exception_handlers={HTTPException: answer_error},
    )
    app.router.redirect_slashes = False
    app.state.shown, app.state.threads = shown, Threads()
    return Surrounding(app)


def _route(path: str, resources: Sequence[Resource], told: Sequence[Resource]) -> Route:
    """Return the route of one path: its methods, and OPTIONS, which tells of some resources."""
    by_method = {one.method: one for one in resources}

    async def answer(request: Request) -> Response:
        try:
            if request.method == "OPTIONS":
                return capabilities(request, told)
            resource = by_method["GET" if request.method == "HEAD" else request.method]
            endpoint = resource.endpoint
            if iscoroutinefunction(endpoint):
                endpoint = cast(Callable[[Request], Awaitable[Response]], endpoint)
                return await endpoint(request)
            work = partial(cast(Callable[[Request], Response], endpoint), request)
            return await threads_of(request).run(resource.lane, work)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001  the caller hears a sentence, our log the place
            return answer_error(request, error)

    return Route(path, answer, methods=[*by_method, "OPTIONS"])


def _cors(table: ShowTable) -> list[Middleware]:
    """Return what lets pages of other origins read from us: exactly those that [show] origins names."""
    if not table.origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=table.origins,
            allow_methods=["GET", "HEAD", "POST", "OPTIONS"],
            allow_headers=["Authorization", "Accept", "Content-Type"],
            expose_headers=["Content-Location", "Content-Type", "Warning", "WWW-Authenticate"],
        )
    ]


class Surrounding:
    """Sets the headers that every answer has, writes the access log, and lets no error out."""

    def __init__(self, app: Starlette) -> None:
        self.app = app  #: for tests, which walk its routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except ClientDisconnect:
            log.info("caller_left", route=_template(scope))
        except Exception as error:  # noqa: BLE001  half an answer is cut off by the server
            log.error("answer_broken", error=describe(error), route=_template(scope))
        finally:
            log.info(
                "answered",
                method=scope["method"] if scope["method"] in _METHODS else "other",
                route=_template(scope),
                status=status,
                seconds=round(time.monotonic() - begun, 3),
            )


def _template(scope: Scope) -> str:
    """Return the path as it stands in the table, never as it was asked for."""
    route = scope.get("route")
    return route.path_format if isinstance(route, Route) else "none"
