"""The broker on a port of loopback, in a thread of the test's process, served as `serve` does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn

from app.audit.record import Record, decode, is_record
from app.audit.sqlite_entries import read_entries
from app.cli.serving import server_config
from app.main import BrokerApp, Running, create_app
from tests.path.raw_http import RawAnswer, RawConnection, request_bytes

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from app.settings import Settings

T = TypeVar("T")

PATIENCE_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class RunningBroker:
    """A broker that answers, and ways to look into it."""

    port: int
    url: str
    app: BrokerApp
    loop: asyncio.AbstractEventLoop
    audit_file: Path
    server: uvicorn.Server
    tls: ssl.SSLContext | None = None
    """For those who speak to it."""
    keys: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def running(self) -> Running:
        assert self.app.running is not None
        return self.app.running

    def on_loop(self, work: Callable[[], T]) -> T:
        """Run it on the broker's own loop."""

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE_S)

    def connect(self) -> RawConnection:
        return RawConnection(self.port, tls=self.tls)

    def ask(
        self,
        method: str,
        target: str,
        *,
        caller: str | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | str | Any = None,
    ) -> RawAnswer:
        """One request on a connection of its own. JSON where `body` is neither text nor bytes."""
        sent = dict(headers or {})
        if caller is not None:
            sent.setdefault("Authorization", f"Bearer {self.keys[caller]}")
        if isinstance(body, str):
            body = body.encode()
        elif body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        with self.connect() as connection:
            connection.send(
                request_bytes(method, target, sent, body, host=f"127.0.0.1:{self.port}")
            )
            return connection.answer()

    def records(self) -> list[Record]:
        """All that is on record, oldest first."""
        entries = (entry for _, entry in read_entries(self.audit_file))
        return [decode(entry.body) for entry in entries if is_record(entry.body)]

    def records_of(self, request_id: str | None) -> list[Record]:
        return [r for r in self.records() if r.request_id == request_id]

    def until_recorded(self, request_id: str | None, *, count: int = 1) -> list[Record]:
        """Waits for what is recorded after the answer, or without one."""
        return until(lambda: found if len(found := self.records_of(request_id)) >= count else None)

    def until_ready(self) -> None:
        until(lambda: self.ask("GET", "/readyz").status == 200 or None)


def until(found: Callable[[], T | None], *, within_s: float = PATIENCE_S) -> T:
    """Ask again until there is something; a test that waits in vain says so."""
    due = time.monotonic() + within_s
    while True:
        result = found()
        if result is not None:
            return result
        if time.monotonic() > due:
            raise AssertionError(f"still not so after {within_s:g} s")
        time.sleep(0.01)


@contextlib.contextmanager
def broker_in_thread(
    settings: Settings,
    *,
    port: int | None = None,
    tls: ssl.SSLContext | None = None,
    keys: dict[str, str] | None = None,
    make: Callable[[Settings], BrokerApp] = create_app,
) -> Iterator[RunningBroker]:
    """`port` is chosen before, since the configuration has to name it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port or 0))
    listener.listen(1024)
    app = make(settings)
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
        actual = listener.getsockname()[1]
        scheme = "http" if settings.tls_cert_file is None else "https"
        path = settings.audit_url.get_secret_value().removeprefix("sqlite:///")
        yield RunningBroker(
            port=actual,
            url=f"{scheme}://127.0.0.1:{actual}",
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
