"""Composition root: builds everything from the settings, opens it, closes it again.

create_app(settings)    the ASGI app that a server runs; its lifespan opens and closes
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import structlog

from app.audit.audit import audit_at
from app.audit.keys import CheckpointSigner
from app.audit.url import is_postgres
from app.broker import Broker
from app.config.current import Current
from app.config.references import vault_references
from app.config.watching import Watcher
from app.errors import BrokerError
from app.identity.authenticator import Authenticator
from app.identity.broker_tokens import ALGORITHM, BrokerTokens
from app.limits.limiter import Limiter
from app.limits.local import LocalCounts
from app.limits.members import Members
from app.limits.pauses import Pauses
from app.limits.redis import RedisCounts
from app.limits.scheduler import Scheduler
from app.limits.strangers import Strangers
from app.path.asking import AskedEnvironment
from app.path.carrying import Carrier
from app.path.connecting import connect
from app.path.giving import Giver
from app.path.judging import Judge
from app.path.recording import Recording
from app.path.reloading import Reading, Refuse, Reload
from app.path.sending import Sender
from app.path.shelf import SchemaFolder
from app.path.signing_key import keyring_at
from app.path.surroundings import RequestSurroundings
from app.path.world import World
from app.telemetry.metrics import Metrics
from app.telemetry.shares import ShareState
from app.tokens.entra import MsalEntra
from app.tokens.key_vault import KeyVaults
from app.tokens.lease import fingerprint_of
from app.tokens.service import TokenService
from app.web.dialects import Dialects
from app.web.discovery import Discovery
from app.web.dispatch import Dispatcher
from app.web.health import Health
from app.web.late import Late
from app.web.managed_identity import ManagedIdentity
from app.web.oauth import OAuth
from app.web.problems import status_of
from app.web.proxy import Proxy
from app.web.recorded import Recorded
from app.web.tokens import Tokens
from app.web.wired import Applications, Directory, Door, Readiness, TokenIssuer

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from app.audit.audit import Audit
    from app.audit.forwarder import Sink
    from app.path.keyring import Keyring
    from app.settings import Settings
    from app.web.asgi import App, Receive, Scope, Send

log = structlog.get_logger()

SIGNING_KEY = "signing-key.pem"


def program_version() -> str:
    try:
        return version("dataverse-token-broker")
    except PackageNotFoundError:
        return "0"


@dataclass(slots=True)
class Running:
    """All that is open while the app runs."""

    broker: Broker
    world: World
    tokens: TokenService
    audit: Audit
    authenticator: Authenticator
    current: Current
    metrics: Metrics
    judge: Judge
    watcher: Watcher
    broker_tokens: BrokerTokens
    limits: Limiter
    shares: Scheduler
    members: Members
    dispatcher: App | None = None
    ending: bool = False
    """Told to end, and still serving."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class BrokerApp:
    """The ASGI app. What it is made of is opened when the server starts it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.running: Running | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not a coroutine around another one: each costs every request something.
        if scope["type"] == "lifespan":
            return self._lifespan(receive, send)
        running = self.running
        assert running is not None, "the server did not run the lifespan"
        assert running.dispatcher is not None
        return running.dispatcher(scope, receive, send)

    def told_to_end(self) -> None:
        """From now on readiness is denied."""
        if self.running is not None:
            self.running.ending = True

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.open()
        except BrokerError as error:
            log.error("start.failed", code=error.code, error=error.detail)  # noqa: TRY400
            await send({"type": "lifespan.startup.failed", "message": error.detail})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def open(self) -> None:
        """Raises `BrokerError` for settings or a configuration that cannot be used."""
        self.running = await _open(self._settings)

    async def close(self) -> None:
        """Everything that was opened, in the other direction: the record last."""
        running, self.running = self.running, None
        if running is None:
            return
        for task in running.tasks:
            task.cancel()
        await asyncio.gather(*running.tasks, return_exceptions=True)
        await running.world.aclose()
        await running.tokens.aclose()
        await running.members.aclose()
        await running.limits.aclose()
        await running.audit.aclose()


def create_app(settings: Settings) -> BrokerApp:
    return BrokerApp(settings)


async def _open(settings: Settings) -> Running:
    vaults = KeyVaults()
    reading = Reading(settings.config, vaults)
    loaded = await asyncio.to_thread(reading)
    keyring = await asyncio.to_thread(open_keyring, settings)
    metrics = Metrics(version=program_version())
    broker_tokens = BrokerTokens(keyring.broker_tokens())
    authenticator = Authenticator(
        trusted_proxies=settings.trusted_proxies, broker_tokens=broker_tokens
    )
    authenticator.reload(loaded)
    configuration = loaded.configuration
    tokens = TokenService(
        configuration.applications,
        loaded.secrets,
        entra=MsalEntra(),
        vaults=vaults,
        observer=metrics,
        fingerprint_key=keyring.fingerprints(),
    )
    world = World(
        connect=connect,
        metadata=lambda name, config, client: AskedEnvironment(
            name, config, client, tokens, lambda: world.standing.configuration
        ),
        shelf=SchemaFolder(settings.state_dir / "schemas"),
    )
    await world.reload(loaded)
    audit = audit_at(
        settings.audit_url.get_secret_value(),
        signer=CheckpointSigner(keyring.checkpoints()[0]),
        program=program_version(),
        retention=settings.audit_retention,
        anchor_file=settings.audit_anchor_file,
        sinks=_sinks(settings),
        shared=settings.workers > 1,
    )
    await audit.start()
    current = Current(loaded, datetime.now(UTC))
    reading.known = vault_references(configuration)
    judge = Judge(keyring.seals)
    shared = _shared_counts(settings)
    members = Members(shared, alone=settings.workers)
    pauses = Pauses(shared)
    shares = Scheduler(members=members, paused=pauses.tell)
    sender = Sender(tokens, shares, metrics)
    metrics.watch_shares(lambda: _share_states(shares, sender))
    limits = Limiter(LocalCounts(workers=settings.workers), shared)
    broker = Broker(
        world=world,
        identity=authenticator,
        judge=judge,
        carrier=Carrier(sender),
        giver=Giver(tokens, broker_tokens, partial(fingerprint_of, key=keyring.fingerprints())),
        limits=limits,
        strangers=Strangers(),
        recording=Recording(audit.journal, metrics, status_of),
        surroundings=RequestSurroundings(settings.trusted_proxies),
    )
    watcher = Watcher(
        settings.config,
        reading,
        on_loaded=Reload(world, tokens, authenticator, current, reading),
        on_failed=Refuse(current),
    )
    running = Running(
        broker,
        world,
        tokens,
        audit,
        authenticator,
        current,
        metrics,
        judge,
        watcher,
        broker_tokens=broker_tokens,
        limits=limits,
        shares=shares,
        members=members,
    )
    running.dispatcher = _addresses(running)
    tokens.start()
    running.tasks.append(asyncio.get_running_loop().create_task(watcher.run(loaded)))
    running.tasks.append(asyncio.get_running_loop().create_task(limits.keep()))
    running.tasks.append(asyncio.get_running_loop().create_task(members.keep(shares.divide)))
    running.tasks.append(asyncio.get_running_loop().create_task(pauses.keep(shares.pause)))
    log.info(
        "broker.started",
        version=program_version(),
        callers=len(configuration.callers),
        environments=len(configuration.environments),
    )
    return running


def _addresses(running: Running) -> App:
    broker, world, tokens, audit = running.broker, running.world, running.tokens, running.audit
    metrics = running.metrics
    door = Door(broker)
    applications = Applications(world, tokens)
    directory = Directory(world, running.authenticator)
    readiness = Readiness(
        running.current,
        world,
        audit.journal,
        running.limits,
        tokens,
        ending=lambda: running.ending,
    )
    metrics.watch_audit(readiness.audit_state)
    metrics.watch_sinks(audit.lags)
    metrics.watch_configuration(readiness.configuration_state)
    metrics.watch_credentials(applications.expiries)
    metrics.watch_identities(directory.uses)
    # Within the record: who is not known does not make it.
    management = Recorded(
        Late(partial(_management, running, directory, applications)), admission=door
    )
    issuer, token_door = TokenIssuer(broker, applications), Door(broker, "token")
    admin_door = Door(broker, "admin")
    return Dispatcher(
        proxy=Proxy(broker, refusals=door),
        tokens=Tokens(issuer, refusals=token_door),
        health=Health(readiness=readiness, metrics=metrics),
        management=management,
        refusals=door,
        in_flight=metrics,
        dialects=Dialects(
            oauth=OAuth(issuer, refusals=token_door),
            managed_identity=ManagedIdentity(issuer, refusals=token_door),
            discovery=Discovery(
                public_url=lambda: world.standing.configuration.public_url,
                keys=running.broker_tokens,
                visits=admin_door,
                refusals=admin_door,
                algorithms=(ALGORITHM,),
            ),
        ),
    )


def _management(running: Running, directory: Directory, applications: Applications) -> App:
    # FastAPI, its routes and their models are a ninth of the process and a fifth of its start,
    # and no caller of the Web API or of a token endpoint needs them.
    from app.web.explaining import Explainer  # noqa: PLC0415
    from app.web.management import management_app  # noqa: PLC0415
    from app.web.openapi.document import openapi_json  # noqa: PLC0415

    return management_app(
        directory=directory,
        records=running.audit.reader,
        applications=applications,
        explainer=Explainer(running.world, running.judge),
        openapi=openapi_json,
    )


# ------------------------------------------------------------------- parts


def _sinks(settings: Settings) -> list[Sink]:
    url = settings.audit_webhook_url
    if not (settings.audit_stdout or url or any(name.startswith("OTEL_") for name in os.environ)):
        return []
    # They bring an HTTP client along, which takes 3 MiB.
    from app.audit.sinks import sinks_of  # noqa: PLC0415

    return sinks_of(
        stdout=sys.stdout.buffer if settings.audit_stdout else None,
        webhook_url=None if url is None else url.get_secret_value(),
        environment=os.environ,
    )


def _share_states(shares: Scheduler, sender: Sender) -> list[ShareState]:
    states: list[ShareState] = []
    for lane in shares.states():
        left = sender.limits_left(lane.application, lane.environment)
        states.append(
            ShareState(
                lane.application,
                lane.environment,
                lane.running,
                lane.waiting,
                lane.concurrency_limit,
                lane.paused_s,
                left.requests,
                left.execution_time_s,
            )
        )
    return states


def _shared_counts(settings: Settings) -> RedisCounts | None:
    url = settings.redis_url
    return None if url is None else RedisCounts(url.get_secret_value())


def open_keyring(settings: Settings) -> Keyring:
    """The signing key that is given, or the one that the state folder keeps.

    Raises `Misconfigured` where it cannot be read, or must be shared and is not.
    """
    given = settings.signing_key_file
    in_postgres = is_postgres(settings.audit_url.get_secret_value())
    return keyring_at(
        given or settings.state_dir / SIGNING_KEY,
        made=given is None,
        shared=settings.workers > 1 or in_postgres,
    )
