"""The whole sandbox, started and stopped: Entra and one or two Dataverse environments."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.sandbox import credentials, servers
from app.sandbox.entra.app import Clock, EntraApp, utc_now
from app.sandbox.entra.directory import Directory, Resource, Tenant
from app.sandbox.entra.tokens import Lifetime
from app.sandbox.exchange import Application, Receive, Scope, Send, header, json_answer, respond
from app.sandbox.tls import server_identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from app.sandbox.credentials import ApplicationCredentials

BROKER_AUDIENCE = "api://dataverse-token-broker"
"""A resource of the emulated Entra for callers that prove themselves with its JWTs."""

VerifyToken = Callable[[str], "dict[str, Any] | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """Port 0 lets the system choose. Environments are named as in the broker's configuration."""

    state_dir: Path
    entra_port: int = 0
    environment_ports: Mapping[str, int] = field(default_factory=lambda: {"contoso": 0})
    lifetime: Lifetime = field(default_factory=Lifetime)
    clock: Clock = utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    name: str
    url: str
    app: Application


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What runs, and what is needed to use it."""

    entra_url: str
    tenant_id: str
    ca_file: Path
    state_dir: Path
    entra: EntraApp
    environments: Mapping[str, Environment]
    applications: Mapping[str, ApplicationCredentials]

    @property
    def environment_url(self) -> str:
        """The first environment's."""
        return next(iter(self.environments.values())).url

    @property
    def dataverse(self) -> Application:
        return next(iter(self.environments.values())).app


@contextlib.asynccontextmanager
async def running_sandbox(options: SandboxOptions) -> AsyncIterator[Sandbox]:
    """Everything listens when the block begins, on loopback over TLS; nothing does afterwards."""
    identity = server_identity(options.state_dir)
    held, registered = credentials.make_applications(options.state_dir, now=options.clock())
    tenant = Tenant(tenant_id=credentials.TENANT_ID)
    for application in registered:
        tenant.register(application)
    tenant.add_resource(Resource(uri=BROKER_AUDIENCE, version="2.0"))
    with contextlib.ExitStack() as sockets:
        entra_socket = sockets.enter_context(servers.listen(options.entra_port))
        entra_url = servers.address(entra_socket)
        entra = EntraApp(
            directory=Directory(tenant),
            public_url=entra_url,
            clock=options.clock,
            lifetime=options.lifetime,
        )
        sites: list[tuple[Application, Any]] = [(entra, entra_socket)]
        environments = {}
        for name, port in options.environment_ports.items():
            listener = sockets.enter_context(servers.listen(port))
            url = servers.address(listener)
            tenant.add_resource(Resource(uri=url))
            app = _dataverse(url, verify=functools.partial(entra.verify, audience=url))
            environments[name] = Environment(name=name, url=url, app=app)
            sites.append((app, listener))
        async with servers.serving(*sites, context=identity.server_context()):
            yield Sandbox(
                entra_url=entra_url,
                tenant_id=tenant.tenant_id,
                ca_file=identity.ca_file,
                state_dir=options.state_dir,
                entra=entra,
                environments=environments,
                applications=held,
            )


def _dataverse(url: str, *, verify: VerifyToken) -> Application:
    async def who_am_i(scope: Scope, _receive: Receive, send: Send) -> None:
        """Answers whoever holds a token for this environment."""
        kind, _, token = (header(scope, "authorization") or "").partition(" ")
        claims = verify(token) if kind.lower() == "bearer" else None
        if claims is None:
            challenge = (("www-authenticate", f"Bearer resource_id={url}/"),)
            await respond(send, json_answer({}, status=401, headers=challenge))
            return
        await respond(send, json_answer({"UserId": claims["oid"], "appid": claims["appid"]}))

    return who_am_i


@contextlib.contextmanager
def sandbox_in_thread(options: SandboxOptions | None = None) -> Iterator[Sandbox]:
    """The sandbox on an event loop of its own, for tests and tools that are synchronous.

    Without options it keeps its files in a temporary directory that goes with it.
    """
    with contextlib.ExitStack() as stack:
        if options is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-"))
            options = SandboxOptions(state_dir=Path(directory))
        started: concurrent.futures.Future[Sandbox] = concurrent.futures.Future()
        stop = threading.Event()
        thread = threading.Thread(
            target=_run_in_thread, args=(options, started, stop), name="sandbox", daemon=True
        )
        thread.start()
        try:
            yield started.result()
        finally:
            stop.set()
            thread.join()


def _run_in_thread(
    options: SandboxOptions, started: concurrent.futures.Future[Sandbox], stop: threading.Event
) -> None:
    async def run() -> None:
        async with running_sandbox(options) as sandbox:
            started.set_result(sandbox)
            await asyncio.to_thread(stop.wait)

    try:
        asyncio.run(run())
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)
