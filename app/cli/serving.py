"""`token-broker serve`: uvicorn as the broker needs it, in this process or in several."""

from __future__ import annotations

import gc
import math
import signal
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.cli.outcome import ExitCode
from app.cli.settings import read_settings
from app.errors import Misconfigured
from app.main import create_app
from app.server.connection import Connection
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import FrameType

    from app.main import BrokerApp
    from app.settings import Settings
    from app.web.asgi import App, Message, Receive, Scope, Send

GRACE_S: Final = 50
"""How long requests may go on after SIGTERM. Kubernetes is told 60, a pause before included."""

KEEP_ALIVE_S: Final = 75
"""Longer than the 60 seconds after which load balancers drop an idle connection: the side that
sends requests should be the one that closes, or a request meets a closed connection."""

BACKLOG: Final = 4096
"""Connections that wait to be taken: Linux allows as many (net.core.somaxconn). Beyond, the system
drops attempts, and whoever tries again does so after one second, and then after three."""

COLLECT_AFTER: Final = (50_000, 20, 50)
"""Garbage collection, rarer: the path makes no cycles, and a pass over schemas stops the world."""


def serve(settings: Settings) -> ExitCode:
    """Until SIGTERM or Ctrl-C. What went wrong at the start stands in the log."""
    configure(level=settings.log_level, form=settings.log_format)
    if settings.workers == 1:
        app = create_app(settings)
        server = Server(server_config(settings, Settled(app)), app, drain_s=settings.drain_s)
        _end_by_itself(server)
        try:
            server.run()
        except SystemExit:
            return ExitCode.FAILED
        return ExitCode.DONE if server.started else ExitCode.FAILED
    # Each worker reads the settings anew: what it is handed over to must be picklable.
    config = server_config(settings, "app.cli.serving:worker", factory=True)
    try:
        listener = config.bind_socket()
    except SystemExit:
        return ExitCode.FAILED
    supervisor = Multiprocess(config, sockets=[listener])
    supervisor.run()
    failed = any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes)
    return ExitCode.FAILED if failed else ExitCode.DONE


class Server(uvicorn.Server):
    """Told to end, it denies readiness for a while before it stops to listen."""

    def __init__(self, config: uvicorn.Config, app: BrokerApp, *, drain_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_s = drain_s
        self._end_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.told_to_end()
        if self._drain_s and self._end_at == math.inf:
            self._end_at = time.monotonic() + self._drain_s
            return
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if time.monotonic() >= self._end_at:
            self.should_exit = True
        return await super().on_tick(counter)


def _end_by_itself(server: uvicorn.Server) -> None:
    """When all is done uvicorn raises the signal again that it was told to end by, so that the
    process dies of it. Whoever was told to end and did so has done well: exit code 0.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)


def worker() -> App:
    """The application of one worker process, which the supervisor starts by this name."""
    settings = read_settings()
    configure(level=settings.log_level, form=settings.log_format)
    return Settled(create_app(settings))


def server_config(settings: Settings, app: Any, *, factory: bool = False) -> uvicorn.Config:
    """Raises `Misconfigured` for a certificate that cannot be used."""
    _check_certificate(settings)
    return uvicorn.Config(
        app,
        factory=factory,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        interface="asgi3",
        # Its access log holds filter values, and its trust in forwarded headers is not ours:
        # BROKER_TRUSTED_PROXIES decides.
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
    )


def _check_certificate(settings: Settings) -> None:
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    if (certificate is None) != (key is None):
        raise Misconfigured(
            "setting-invalid", "BROKER_TLS_CERT_FILE and BROKER_TLS_KEY_FILE: set both, or none"
        )
    if certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise Misconfigured(
            "setting-invalid",
            f"BROKER_TLS_CERT_FILE and BROKER_TLS_KEY_FILE: {certificate} and {key} are no PEM"
            f" certificate and its key: {error.strerror or error}",
        ) from None


class Settled:
    """The app, and a collector that leaves alone what the start has made: it stays anyway."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "lifespan":
            return self._app(scope, receive, send)

        async def watched(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                gc.collect()
                gc.freeze()
                gc.set_threshold(*COLLECT_AFTER)
            await send(message)

        return self._app(scope, receive, watched)
