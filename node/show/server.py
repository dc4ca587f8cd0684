"""The HTTP door: a port, a bounded number of connections, and an event loop in a thread of its own.

uvicorn speaks HTTP; who is let in, for how long, and how it ends, is decided here. A connection counts
from the moment it is accepted, during the TLS handshake too, which has the same deadline as the head of a
request. When all places are taken, who has waited longest without asking anything makes room; so those
who only connect cannot keep out those who have something to say. Nobody has more than his share of them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from email.utils import formatdate
from functools import partial
from typing import cast

import anyio.to_thread
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from node.config import ShowTable
from node.log import describe, get_log
from node.port import listen_on
from node.show.connection import GuardedProtocol, Limits, last_word

log = get_log("show")

_MAX_HEAD_BYTES = 16 << 10
_HEAD_TIMEOUT_S = 10.0
_TLS_FAREWELL_S = 2.0
_THREADS = 24  #: for those who look; more than ever wait for pixels to be decoded
_TICK_S = 0.5
_LOOK_S = 0.02


class WebDoor:
    """Listens for HTTP.

    Parameters
    ----------
    table
        [show].
    app
        Answers; see `node.show.app.make_app`.
    tls
        None: plain HTTP.
    """

    def __init__(self, table: ShowTable, app: ASGIApp, tls: ssl.SSLContext | None = None) -> None:
        self._table = table
        self._tls = tls
        self._limits = Limits(
            max_connections=table.max_connections,
            head_timeout_s=min(_HEAD_TIMEOUT_S, table.idle_timeout_s),
            idle_timeout_s=table.idle_timeout_s,
        )
        self._config = Config(
            app,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=[("server", "radnode")],
            timeout_keep_alive=int(_HEAD_TIMEOUT_S),
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        )
        self._state = ServerState()
        self._greeted: dict[asyncio.Task[None], str] = {}  #: these do not speak HTTP yet -> address
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        self._thread: threading.Thread | None = None

    @property
    def _open(self) -> list[GuardedProtocol]:
        return cast(list[GuardedProtocol], list(self._state.connections))

    def start(self) -> int:
        """Listen, and return the port.

        Raises
        ------
        ConfigError
            The address is not ours or the port is taken; says by whom.
        """
        listening = listen_on(self._table.host, self._table.port, "show")
        listening.setblocking(False)
        self._socket = listening
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listening, ready), name="show", daemon=True)
        self._thread.start()
        ready.wait()
        return int(listening.getsockname()[1])

    def drain(self, within_s: float, hurry: threading.Event) -> bool:
        """Take nobody more, and let the requests under way end; return whether all did."""
        self._tell(self._closing.set)
        end = time.monotonic() + within_s
        while self._open or self._greeted:
            if time.monotonic() >= end or hurry.wait(_LOOK_S):
                return False
        return True

    def stop(self) -> None:
        """Close now; requests under way are cut off."""
        self._tell(self._closing.set)
        self._tell(self._ended.set)
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def _tell(self, act: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act)  # type: ignore[arg-type]

    def _run(self, listening: socket.socket, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve(listening, ready))

    async def _serve(self, listening: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_stumbled)
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        self._config.load()
        accepting = asyncio.create_task(self._accept(listening))
        ticking = asyncio.create_task(self._tick())
        ready.set()
        await self._closing.wait()
        accepting.cancel()
        listening.close()
        for greeting in list(self._greeted):
            greeting.cancel()
        for one in self._open:
            one.leave()
        await self._ended.wait()
        ticking.cancel()
        for one in self._open:
            one.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.sleep(0)  # what was cut off and cancelled hears of it

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:  # out of descriptors: those who only wait hold some
                log.warning("connection_lost", error=describe(error))
                self._make_room()
                await asyncio.sleep(0.05)
                continue
            peer = str(address[0])
            if not self._has_room(peer):
                log.warning("connection_refused", host=peer, reason="all connections are taken")
                _send_away(connection, is_plain=self._tls is None)
                continue
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            greeting = asyncio.create_task(self._greet(connection))
            self._greeted[greeting] = peer
            greeting.add_done_callback(self._no_longer_greeted)

    async def _greet(self, connection: socket.socket) -> None:
        """Make a connection speak HTTP, in TLS if that is asked; others go on meanwhile."""
        timeouts = {}
        if self._tls is not None:
            timeouts["ssl_handshake_timeout"] = self._limits.head_timeout_s
            timeouts["ssl_shutdown_timeout"] = _TLS_FAREWELL_S
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                partial(self._begin, asyncio.current_task()), connection, ssl=self._tls, **timeouts
            )
        except (OSError, asyncio.CancelledError) as error:  # of TLS too, and too late
            connection.close()
            log.info("connection_not_made", error=type(error).__name__)

    def _begin(self, greeting: asyncio.Task[None] | None) -> GuardedProtocol:
        made = GuardedProtocol(self._config, self._state, self._limits)
        made.once_made = partial(self._no_longer_greeted, greeting)  # it counts once, not twice
        return made

    def _no_longer_greeted(self, greeting: asyncio.Task[None] | None) -> None:
        if greeting is not None:
            self._greeted.pop(greeting, None)

    def _has_room(self, peer: str) -> bool:
        """Say whether one more may come from an address, if need be in place of one who only waits."""
        its_own = sum(one.peer == peer for one in self._open) + sum(
            one == peer for one in self._greeted.values()
        )
        if its_own >= self._table.max_connections_per_peer:
            return self._make_room(peer)
        return len(self._open) + len(self._greeted) < self._limits.max_connections or self._make_room()

    def _make_room(self, peer: str | None = None) -> bool:
        """End the connection that has waited longest without asking; say whether there was one.

        Parameters
        ----------
        peer
            One from this address; None: from any.
        """
        waiting = [one for one in self._open if one.is_waiting and peer in (None, one.peer)]
        greeted = [task for task, one in self._greeted.items() if peer in (None, one)]
        if waiting:
            min(waiting, key=lambda one: one.since).end(503)
        elif greeted:
            greeted[0].cancel()
        return bool(waiting or greeted)

    async def _tick(self) -> None:
        """Keep the date of answers, and look at every connection now and then."""
        while True:
            date = formatdate(time.time(), usegmt=True).encode("ascii")
            self._state.default_headers = [(b"date", date), *self._config.encoded_headers]
            for one in self._open:
                try:
                    one.look()
                except Exception as error:  # noqa: BLE001  the deadlines of all others go on
                    log.error("server_stumbled", error=describe(error))
                    one.transport.abort()
            await asyncio.sleep(_TICK_S)


def _send_away(connection: socket.socket, *, is_plain: bool) -> None:
    try:
        connection.setblocking(False)
        if is_plain:
            connection.send(last_word(503))
    except OSError:
        pass  # he is gone already
    finally:
        connection.close()


def _stumbled(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log what went wrong outside of a request, by its place."""
    error = context.get("exception")
    if isinstance(error, BaseException) and not isinstance(error, OSError):  # peers break off as they like
        log.error("server_stumbled", error=describe(error))
