"""The whole sandbox, started and stopped: Entra and one or two Dataverse environments.

Entra ─ its vault ─ managed identities       one address, over TLS
managed identities once more                 plain http, as App Service has them
each environment                             an address of its own, over TLS
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from app.sandbox import credentials, servers
from app.sandbox.configuration import BROKER_AUDIENCE, caller_keys, write_configuration
from app.sandbox.control import PREFIX as CONTROL_PREFIX
from app.sandbox.control import ControlApp
from app.sandbox.entra.app import Clock, EntraApp, utc_now
from app.sandbox.entra.directory import Directory, Resource, Tenant
from app.sandbox.entra.tokens import Lifetime
from app.sandbox.environments import Environment, make_environment
from app.sandbox.keyvault import RESOURCE as VAULT_RESOURCE
from app.sandbox.keyvault import KeyVaultApp
from app.sandbox.managed_identity import APP_SERVICE_PATH, IMDS_PATH, ManagedIdentityApp
from app.sandbox.tls import server_identity

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from app.sandbox.credentials import ApplicationCredentials
    from app.sandbox.dataverse.app import DataverseApp
    from app.sandbox.dataverse.protection import Limits
    from app.sandbox.exchange import Application, Receive, Scope, Send

__all__ = [
    "Environment",
    "Sandbox",
    "SandboxOptions",
    "Showing",
    "caller_keys",
    "running_sandbox",
    "sandbox_in_thread",
    "serve_sandbox",
    "write_configuration",
]


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """Port 0 lets the system choose. Environments are named as in the broker's configuration."""

    state_dir: Path
    entra_port: int = 0
    environment_ports: Mapping[str, int] = field(default_factory=lambda: {"contoso": 0})
    lifetime: Lifetime = field(default_factory=Lifetime)
    """Of tokens; as Entra draws it by itself."""
    limits: Limits | None = None
    """Of each environment's service protection; none by itself."""
    clock: Clock = utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What runs, and what is needed to use it."""

    entra_url: str
    managed_identity_url: str
    """Plain http; both protocols are behind `entra_url` too."""
    tenant_id: str
    ca_file: Path
    state_dir: Path
    entra: EntraApp
    tenant: Tenant
    key_vault: KeyVaultApp
    managed_identity: ManagedIdentityApp
    environments: Mapping[str, Environment]
    applications: Mapping[str, ApplicationCredentials]
    loop: asyncio.AbstractEventLoop = field(repr=False)

    @property
    def key_vault_url(self) -> str:
        return self.key_vault.public_url

    @property
    def environment_url(self) -> str:
        """The first environment's."""
        return next(iter(self.environments.values())).url

    @property
    def dataverse(self) -> DataverseApp:
        return next(iter(self.environments.values())).app

    def between_requests(self, work: Callable[[], Result]) -> Result:
        """Run it on the sandbox's own loop, from another thread.

        A store is not for several threads at once; faults, journals and Entra's directory are.
        """

        async def run() -> Result:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result()


@contextlib.asynccontextmanager
async def running_sandbox(options: SandboxOptions) -> AsyncIterator[Sandbox]:
    """Everything listens when the block begins, on loopback; nothing does afterwards."""
    identity = server_identity(options.state_dir)
    held, registered = credentials.make_applications(options.state_dir, now=options.clock())
    tenant = Tenant(tenant_id=credentials.TENANT_ID)
    for application in registered:
        tenant.register(application)
    tenant.add_resource(Resource(uri=BROKER_AUDIENCE, version="2.0"))
    with contextlib.ExitStack() as opened:
        entra_socket = opened.enter_context(servers.listen(options.entra_port))
        plain_socket = opened.enter_context(servers.listen())
        entra = EntraApp(
            directory=Directory(tenant),
            public_url=servers.address(entra_socket),
            clock=options.clock,
            lifetime=options.lifetime,
        )
        vault = _key_vault(entra, tenant, clock=options.clock)
        identities = (tenant.applications[credentials.MANAGED_IDENTITY_CLIENT_ID],)
        managed_identity = ManagedIdentityApp(entra=entra, tenant=tenant, assigned=identities)
        control = ControlApp(
            entra=entra,
            befalls={
                "entra": entra.faults,
                "key-vault": vault.faults,
                "managed-identity": managed_identity.faults,
            },
        )
        front = _front(entra, vault=vault, managed_identity=managed_identity, control=control)
        secure: list[tuple[Application, socket.socket]] = [(front, entra_socket)]
        environments = {}
        for name, port in options.environment_ports.items():
            listener = opened.enter_context(servers.listen(port))
            url = servers.address(listener)
            tenant.add_resource(Resource(uri=url))
            environment = make_environment(
                name=name, url=url, entra=entra, tenant=tenant, limits=options.limits
            )
            opened.callback(environment.app.store.close)
            environments[name] = environment
            secure.append((environment.app, listener))
        async with (
            servers.serving(*secure, context=identity.server_context()),
            servers.serving((managed_identity, plain_socket), context=None),
        ):
            yield Sandbox(
                entra_url=entra.public_url,
                managed_identity_url=servers.address(plain_socket, scheme="http"),
                tenant_id=tenant.tenant_id,
                ca_file=identity.ca_file,
                state_dir=options.state_dir,
                entra=entra,
                tenant=tenant,
                key_vault=vault,
                managed_identity=managed_identity,
                environments=environments,
                applications=held,
                loop=asyncio.get_running_loop(),
            )


def _key_vault(entra: EntraApp, tenant: Tenant, *, clock: Clock) -> KeyVaultApp:
    # Microsoft's clients refuse a challenge whose resource is no parent domain of the vault's
    # host, so that a foreign vault gets no token. Loopback's parent, read as a name, is this.
    parent = entra.public_url.replace("https://127.", "https://")
    for uri in (VAULT_RESOURCE, parent):
        tenant.add_resource(Resource(uri=uri))

    def verify(token: str) -> dict[str, Any] | None:
        return entra.verify(token, VAULT_RESOURCE) or entra.verify(token, parent)

    return KeyVaultApp(
        public_url=entra.public_url,
        authority=f"{entra.public_url}/{tenant.tenant_id}",
        verify=verify,
        clock=clock,
        challenge_resource=parent,
    )


def _front(
    entra: EntraApp,
    *,
    vault: KeyVaultApp,
    managed_identity: ManagedIdentityApp,
    control: ControlApp,
) -> Application:
    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith((APP_SERVICE_PATH, IMDS_PATH)):
            await managed_identity(scope, receive, send)
        elif path.startswith(("/secrets/", "/certificates/", "/keys/")):
            await vault(scope, receive, send)
        elif path.startswith(CONTROL_PREFIX):
            await control(scope, receive, send)
        else:
            await entra(scope, receive, send)

    return front


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """What someone who started the sandbox wants to see, once it runs."""

    sandbox: Sandbox
    configuration: Path
    """For BROKER_CONFIG."""
    keys_file: Path
    keys: Mapping[str, str] = field(repr=False)
    """API keys by caller."""


async def serve_sandbox(
    options: SandboxOptions, *, broker_url: str, show: Callable[[Showing], None]
) -> None:
    """Run until cancelled; `show` is called once, when everything listens and is written."""
    async with running_sandbox(options) as sandbox:
        directory = options.state_dir
        configuration = write_configuration(directory, sandbox, broker_url=broker_url)
        showing = Showing(
            sandbox=sandbox,
            configuration=configuration,
            keys_file=directory / "keys.json",
            keys=caller_keys(directory),
        )
        show(showing)
        await asyncio.Event().wait()


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
