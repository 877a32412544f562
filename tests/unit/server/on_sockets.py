"""The server as uvicorn runs it, on loopback, in the loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import uvicorn

from app.sandbox import servers
from app.server.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from app.web.asgi import App


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: App, *, grace_s: int, **options: Any) -> AsyncIterator[int]:
    """The port, until the block ends; then the server is told to end, and must hold nothing."""
    listener = servers.listen()
    config = uvicorn.Config(
        app,
        http=Connection,
        lifespan="off",
        log_config=None,
        access_log=False,
        interface="asgi3",
        timeout_graceful_shutdown=grace_s,
        **options,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn offers nothing to wait for
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        assert server.server_state.tasks == set()
        assert server.server_state.connections == set()
