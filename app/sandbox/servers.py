"""uvicorn in this process, on loopback: started when the block begins, gone when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.sandbox.exchange import CUT, WRITE

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

    from app.sandbox.exchange import Application, Receive, Scope, Send

LOOPBACK = "127.0.0.1"

_GRACE_S = 1
_GOODBYE_S = 0.05
"""An idle client has this long to answer TLS's close; most pools only notice at their next use."""


class _UnrulyProtocol(HttpToolsProtocol):
    """Lets an application break HTTP, which ASGI has no words for."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {CUT: self._reset, WRITE: self.transport.write}
        self.scope["extensions"] = extensions

    def _reset(self) -> None:
        """A real RST where nothing was sent yet.

        In mid-answer only the end of TCP, without TLS's goodbye: a RST would take back from the
        peer what it has not read yet.
        """
        if not self.cycle.response_started:
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def shutdown(self) -> None:
        # A second close() would take asyncio's TLS transport the means to abort.
        if self.transport.is_closing():
            return
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(_GOODBYE_S, self.transport.abort)


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what runs, within the grace; then its connections are reset and it is told."""
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if tasks := list(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=_GRACE_S)
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            # Only once the reset is noticed: uvicorn would answer 500 for a cancelled task.
            await asyncio.sleep(_GOODBYE_S)
            for task in tasks:
                task.cancel()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever owns the process."""
        yield


def listen(port: int = 0) -> socket.socket:
    """A listening socket on loopback; port 0 lets the system choose.

    The port is known before the application is built, which needs its own address. Listening
    at once means that a client that is early waits instead of being refused.
    """
    # With its protocol named: asyncio switches Nagle's algorithm off only for sockets that say
    # they are TCP, and each answer of two writes would wait 40 ms for the peer's ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(2048)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def address(listener: socket.socket, *, scheme: str = "https") -> str:
    return f"{scheme}://{LOOPBACK}:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def serving(
    *sites: tuple[Application, socket.socket], context: ssl.SSLContext | None
) -> AsyncIterator[None]:
    """Serve until the block ends. Without a context: plain http."""
    servers = [_server(application, context) for application, _ in sites]
    tasks = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, (_, listener) in zip(servers, sites, strict=True)
    ]
    try:
        while not all(server.started for server in servers):
            for task in tasks:
                if task.done():
                    task.result()
                    raise RuntimeError("a server of the sandbox stopped while it started")
            await asyncio.sleep(0.005)
        yield
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.shield(asyncio.gather(*tasks))


def _server(application: Application, context: ssl.SSLContext | None) -> _Server:
    async def until_cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await application(scope, receive, send)

    config = uvicorn.Config(
        until_cancelled,
        http=_UnrulyProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ssl_context_factory=None if context is None else (lambda _config, _default: context),
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return _Server(config)
