"""A sandbox with the broker in front of it, in one process: for `sandbox` and for the demo."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from pydantic import SecretStr

from app.cli.outcome import CouldNot
from app.main import BrokerApp, create_app
from app.sandbox import servers
from app.sandbox.run import SandboxOptions, caller_keys, running_sandbox, write_configuration
from app.sandbox.tls import server_identity
from app.settings import Settings

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path
    from typing import Literal

    from app.sandbox.run import Sandbox

_READY_S: Final = 30.0
_LOOK_S: Final = 0.005
_GRACE_S: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What listens, and what a client needs."""

    broker_url: str
    sandbox: Sandbox
    settings: Settings
    configuration: Path
    """For BROKER_CONFIG."""
    ca_file: Path
    keys: Mapping[str, str] = field(repr=False)
    """API keys by caller."""

    def client_context(self) -> ssl.SSLContext:
        """Trusts what listens here, and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca_file))


@contextlib.asynccontextmanager
async def broker_before_sandbox(
    options: SandboxOptions,
    *,
    port: int = 0,
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING",
) -> AsyncIterator[Front]:
    """Everything listens, and the broker is ready, when the block begins; nothing does afterwards.

    Both speak TLS with certificates of one CA. Raises `CouldNot` for a port that is taken.
    """
    directory = options.state_dir
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(_listen(port))
        sandbox = await _started(options, stack := contextlib.AsyncExitStack())
        async with stack:
            broker_url = servers.address(listener)
            configuration = write_configuration(directory, sandbox, broker_url=broker_url)
            settings = _settings(
                config=configuration,
                port=listener.getsockname()[1],
                state_dir=directory / "broker",
                audit_url=SecretStr(f"sqlite:///{(directory / 'audit.db').absolute()}"),
                log_level=log_level,
                log_format="console",
            )
            app = create_app(settings)
            await app.open()
            stack.push_async_callback(app.close)
            await _ready(app)
            async with _serving(app, listener, directory):
                yield Front(
                    broker_url=broker_url,
                    sandbox=sandbox,
                    settings=settings,
                    configuration=configuration,
                    ca_file=sandbox.ca_file,
                    keys=caller_keys(directory),
                )


def _settings(**own: Any) -> Settings:
    """Nothing of this machine's environment: its BROKER_ variables are another broker's."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    return Settings(**{**defaults, **own})


def _listen(port: int) -> socket.socket:
    try:
        return servers.listen(port)
    except OSError as error:
        raise _taken(port, error) from error


async def _started(options: SandboxOptions, stack: contextlib.AsyncExitStack) -> Sandbox:
    try:
        return await stack.enter_async_context(running_sandbox(options))
    except OSError as error:
        ports = (options.entra_port, *options.environment_ports.values())
        raise _taken(", ".join(str(port) for port in ports), error) from error


def _taken(port: object, error: OSError) -> CouldNot:
    return CouldNot(
        "port-taken", f"cannot listen on port {port}: {error.strerror}; name others, or 0 for any"
    )


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command: it stops more than this server."""
        yield


@contextlib.asynccontextmanager
async def _serving(app: BrokerApp, listener: socket.socket, directory: Path) -> AsyncIterator[None]:
    context = server_identity(directory).server_context()
    server = _Server(
        uvicorn.Config(
            app,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ssl_context_factory=lambda _config, _default: context,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn offers nothing to wait for
            await asyncio.sleep(_LOOK_S)
        yield
    finally:
        server.should_exit = True
        await asyncio.shield(task)


async def _ready(app: BrokerApp) -> None:
    """Until the schema of each environment is there. Raises `CouldNot` when that takes too long."""
    assert app.running is not None
    world = app.running.world
    for _ in range(round(_READY_S / _LOOK_S)):
        missing = [name for name, place in world.standing.places.items() if place.schema is None]
        if not missing:
            return
        await asyncio.sleep(_LOOK_S)
    why = "; ".join(world.schema_failure(name) or "no answer" for name in missing)
    raise CouldNot("not-ready", f"the schema of {', '.join(missing)} does not arrive: {why}")
