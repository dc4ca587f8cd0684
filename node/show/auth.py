"""Who may ask: bearer tokens (RFC 6750), and the names under which a loopback door may be called.

The configuration holds only digests of tokens. With ``tls = "mutual"`` nobody gets as far as this without
a certificate that [tls] authorities signed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from node.config import ShowTable
from node.show.answer import refusal

OPEN = ("/healthz",)  #: what anybody may ask; it says nothing about patients
_LONGEST_TOKEN = 4096
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="radnode"'}  #: RFC 9110 11.6.1: a 401 must carry one


def is_allowed(authorization: str | None, digests: Collection[str]) -> bool:
    """Say whether the value of Authorization shows one of the tokens.

    Every digest is compared to its end, so the time it takes tells nothing.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or len(token) > _LONGEST_TOKEN:
        return False
    shown = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
    return sum(hmac.compare_digest(shown, digest) for digest in digests) > 0


def is_our_name(host: str | None, origins: Collection[str] = ()) -> bool:
    """Say whether a Host is one under which a door on the loopback may be called.

    A page of somebody else whose name was made to resolve to 127.0.0.1 (DNS rebinding) carries that name.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", *(urlsplit(origin).hostname for origin in origins)):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class Admission:
    """Lets only those in who may ask."""

    def __init__(self, app: ASGIApp, table: ShowTable) -> None:
        self._app = app
        self._tokens = table.tokens
        self._origins = table.origins
        self._names_count = not table.tokens and (table.host == "localhost" or is_our_name(table.host))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for the application where somebody may not ask it."""
        headers = Headers(scope=scope)
        if self._names_count and not is_our_name(headers.get("host"), self._origins):
            answer = refusal(421, "This node answers on the loopback only, to names of the loopback.")
        elif self._tokens and scope["path"] not in OPEN and not is_allowed(self._said(headers), self._tokens):
            answer = refusal(401, "Show a bearer token of this node in Authorization.", _CHALLENGE)
        else:
            await self._app(scope, receive, send)
            return
        await answer(scope, receive, send)

    @staticmethod
    def _said(headers: Headers) -> str | None:
        said = headers.getlist("authorization")
        return said[0] if len(said) == 1 else None
