"""The broker in a thread of the test's process, served as `token-broker serve` does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import uvicorn

from app.cli.serving import server_config
from app.main import BrokerApp, Running, create_app
from tests.path.reaching import PATIENCE_S, Reachable, free_port, until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from app.settings import Settings

__all__ = ["RunningBroker", "broker_in_thread", "free_port", "until"]

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class RunningBroker(Reachable):
    """One that a test can look into."""

    app: BrokerApp
    loop: asyncio.AbstractEventLoop
    server: uvicorn.Server

    @property
    def running(self) -> Running:
        assert self.app.running is not None
        return self.app.running

    def on_loop(self, work: Callable[[], T]) -> T:
        """Run it on the broker's own loop."""

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE_S)


@contextlib.contextmanager
def broker_in_thread(
    settings: Settings,
    *,
    port: int | None = None,
    tls: ssl.SSLContext | None = None,
    keys: dict[str, str] | None = None,
) -> Iterator[RunningBroker]:
    """`port` is chosen before, since the configuration has to name it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port or 0))
    listener.listen(1024)
    app = create_app(settings)
    config = server_config(settings, app)
    config.timeout_graceful_shutdown = 5
    server = uvicorn.Server(config)
    started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()

    async def serve() -> None:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            if task.done():
                task.result()
                raise RuntimeError("the broker stopped while it started")
            await asyncio.sleep(0.005)
        started.set_result(asyncio.get_running_loop())
        await task

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
                runner.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="broker", daemon=True)
    thread.start()
    try:
        loop = started.result(PATIENCE_S)
        path = settings.audit_url.get_secret_value().removeprefix("sqlite:///")
        yield RunningBroker(
            port=listener.getsockname()[1],
            app=app,
            loop=loop,
            audit_file=Path(path),
            server=server,
            tls=tls,
            keys=dict(keys or {}),
        )
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        listener.close()
        assert not thread.is_alive(), "the broker did not stop"
