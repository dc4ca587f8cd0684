"""HTTP as a client (RFC 9110): one connection per exchange, which ends in bounded time and size.

What is not done, on purpose: no redirects (a peer does not choose whom we call), no retries (who
calls decides), no cookies, no compressed answers, and no proxy, whatever the environment says: the
host that is spoken with is the one in the configuration.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from node import IMPLEMENTATION_VERSION_NAME
from node.errors import PeerRefused, PeerUnreachable, SendError
from node.peer.patience import CHUNK_BYTES, Patience
from node.peer.tls import reason_of

LONGEST_TOKEN = 16_384

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 2.1

Query = Mapping[str, str] | Sequence[tuple[str, str]]


class WebAnswer(NamedTuple):
    """What a peer answered; whether that is well is for the caller to say."""

    status: int
    headers: Mapping[str, str]  #: names in lower case
    body: bytes


class WebStream:
    """An answer whose content is still to come."""

    def __init__(
        self, response: HTTPResponse, place: str, most_bytes: int, moved: Callable[[int], None]
    ) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self._response = response
        self._place = place
        self._left_bytes = most_bytes
        self._moved = moved

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces of at most `CHUNK_BYTES`.

        Raises
        ------
        PeerUnreachable
            It broke off, or came too slowly.
        PeerRefused
            There is more of it than was asked for, or it is compressed.
        """
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise PeerRefused(
                f"{self._place} compresses its answers; switch that off there, or in its proxy."
            )
        while chunk := self._read():
            self._moved(len(chunk))
            self._left_bytes -= len(chunk)
            if self._left_bytes < 0:
                raise PeerRefused(
                    f"{self._place} answered {self.status} with more than is read of such an answer."
                )
            yield chunk

    def _read(self) -> bytes:
        with _told(self._place, "broke off in the middle of its answer"):
            # Not `read`: the library would read a chunk that says to have -1 bytes to its end, at once.
            return self._response.read1(CHUNK_BYTES, decode_content=False)


class Web:
    """A service at a URL of the configuration.

    Parameters
    ----------
    url
        http or https, a host, and the path that all others are below.
    timeout_s
        For the connection, and for any standstill after it. As a whole an exchange may take a few
        times this, and what is moved may take its time at `node.peer.patience.SLOWEST_BYTES_PER_S`.
    token_file
        Holds a bearer token (RFC 6750); read for every request, so that it may be replaced.
    tls
        Whom we believe and who we are; needed for https.

    Raises
    ------
    PeerRefused
        A token would go over the network in clear text, or the URL has no port that there is.
    """

    def __init__(
        self, url: str, *, timeout_s: float, token_file: Path | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url)
        self.place = url.rstrip("/")
        self._host, self._base = parts.hostname or "", parts.path.rstrip("/")
        self._secure, self._tls = parts.scheme == "https", tls
        self._timeout_s, self._token_file = timeout_s, token_file
        try:
            self._port = parts.port or (443 if self._secure else 80)
        except ValueError as error:
            raise PeerRefused(f"{url} has no port that there is; correct the url.") from error
        if self._secure and tls is None:
            raise ValueError("https needs a TLS context")
        if token_file and not self._secure and not _is_loopback(self._host):
            raise PeerRefused(f"{url} is not encrypted, so no token is sent there; use https.")

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        most_bytes: int,
    ) -> WebAnswer:
        """Do one exchange; see `stream` for what it raises, beside `WebStream.chunks`."""
        with self.stream(
            method, path, query=query, headers=headers, body=body, most_bytes=most_bytes
        ) as stream:
            return WebAnswer(stream.status, stream.headers, b"".join(stream.chunks()))

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        most_bytes: int,
    ) -> Iterator[WebStream]:
        """Send a request; hold its answer open for as long as the block runs.

        Parameters
        ----------
        path
            Below the URL, with a slash in front; it is quoted here.
        body
            Without a Content-Length among ``headers`` pieces go in chunked transfer coding.
        most_bytes
            Of the answer's content.

        Raises
        ------
        PeerUnreachable
            No connection, no trust, no answer, or none in time; or there is no token in the file.
        """
        place = f"{self.place}{path}"
        target = self._base + _quoted(path) + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        said = {"User-Agent": IMPLEMENTATION_VERSION_NAME, "Connection": "close", **self._authorized()}
        said |= headers or {}
        body = body if body is None or isinstance(body, bytes) else _pieces(body)
        with closing(self._connection()) as connection:
            with _told(self.place, "cannot be reached"):
                connection.connect()
            connection.sock = patience = Patience(connection.sock, self._timeout_s)
            with _told(place, "broke the connection"):
                try:
                    connection.request(
                        method, target, body, said, preload_content=False, decode_content=False
                    )
                except TimeoutError:
                    raise
                except OSError as error:  # it may have said why, before it stopped to listen
                    response = _said_before(connection, error)
                else:
                    response = connection.getresponse()
            try:
                yield WebStream(response, place, most_bytes, patience.moved)
            finally:
                response.close()

    def _connection(self) -> HTTPConnection:
        if self._secure:
            return HTTPSConnection(self._host, self._port, timeout=self._timeout_s, ssl_context=self._tls)
        return HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _authorized(self) -> Mapping[str, str]:
        if self._token_file is None:
            return {}
        try:
            with self._token_file.open("rb") as file:
                token = file.read(LONGEST_TOKEN).decode("ascii", "replace").strip()
        except OSError as error:
            raise PeerUnreachable(
                f"The token for {self.place} cannot be read from {self._token_file}: {error.strerror}."
            ) from error
        if not _TOKEN.fullmatch(token):
            raise PeerUnreachable(f"{self._token_file} holds no bearer token for {self.place}.")
        return {"Authorization": f"Bearer {token}"}


def _said_before(connection: HTTPConnection, error: OSError) -> HTTPResponse:
    """Return the answer of a peer that did not want to hear all of the request, if there is one."""
    try:
        return connection.getresponse()
    except (OSError, HTTPError, HTTPException):
        raise error from None


def _pieces(body: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what is sent; an error in reading it is not taken for one of the connection."""
    try:
        yield from body
    except OSError as error:
        raise SendError(f"What was to be sent cannot be read: {error.strerror}.") from error


@contextmanager
def _told(place: str, what: str) -> Iterator[None]:
    """Turn whatever a connection can raise into `PeerUnreachable`."""
    try:
        yield
    except (OSError, HTTPError, HTTPException) as error:
        raise PeerUnreachable(f"{place} {_why(error, what)}") from error


def _why(error: BaseException, what: str) -> str:
    """Return the rest of a sentence: never the words of the error, which may quote what was sent."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    for one in causes:
        if isinstance(one, OSError) and (told := reason_of(one)):
            return f"{what}: {told}."
        if isinstance(one, socket.gaierror):
            return f"{what}: nobody knows its name."
        if isinstance(one, TimeoutError):
            return f"{what}: it took too long."
        if isinstance(one, OSError) and one.errno:
            return f"{what}: {os.strerror(one.errno)}."
    return f"{what}, or what it said is no HTTP."


def _quoted(path: str) -> str:
    """Return a path for a request line; what comes from elsewhere cannot lead out of the service."""
    if not path.startswith("/") or {"", ".", ".."} & set(path[1:].split("/")):
        raise ValueError("a path has a slash in front and names between slashes")
    return quote(path)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
