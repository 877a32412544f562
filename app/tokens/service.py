"""The stage's front: leases by application and resource, over configuration that changes."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from app.config.model import ClientSecretCredential
from app.tokens.cache import PATIENCE_S, Observer, Source, TokenCache
from app.tokens.clock import Clock, SystemClock
from app.tokens.credentials import CredentialReader
from app.tokens.failure import STOPPING, Cause, Failure
from app.tokens.graph import Graph, Unknown
from app.tokens.material import Registration
from app.tokens.order import OrderedCredentials
from app.tokens.status import CredentialStatus, due_warning, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from app.config.model import Application, Credential
    from app.tokens.cache import TokenOutcome
    from app.tokens.credentials import Secrets, Vaults
    from app.tokens.entra import Entra
    from app.tokens.lease import Lease
    from app.tokens.material import Identity, Material

T = TypeVar("T")

TICK_S = 5.0
"""How often renewals and probes are looked for."""

REREAD_S = 300.0
"""How often credentials are read again: a new version in a key vault tells nobody."""

LOOK_UP_S = 24 * 3600.0

UNKNOWN = Failure(
    cause=Cause.APPLICATION_UNKNOWN,
    meaning="no application of this name is configured",
    remedy="It may just have been removed from the configuration; try again.",
)

log = structlog.get_logger(__name__)


class ExpiryLookup(Protocol):
    async def secret_expiry(
        self, registration: Registration, material: Material, now: datetime, /
    ) -> datetime | Unknown:
        """When a client secret ends, or why nobody tells."""
        ...


def asks_graph(credential: Credential) -> bool:
    return isinstance(credential, ClientSecretCredential) and credential.expires == "graph"


class Unobserved:
    """For whoever counts nothing."""

    def token_request(self, application: str, outcome: TokenOutcome) -> None: ...


class TokenService:
    """Leases tokens. Made anywhere, used on one event loop; `aclose` ends what it has begun."""

    def __init__(
        self,
        applications: Mapping[str, Application],
        secrets: Secrets,
        *,
        entra: Entra,
        vaults: Vaults | None = None,
        graph: ExpiryLookup | None = None,
        clock: Clock | None = None,
        observer: Observer | None = None,
        fingerprint_key: bytes = b"",
        chance: Callable[[], float] = random.random,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._entra = entra
        self._vaults = vaults
        self._graph = graph or Graph(entra)
        self._clock = clock or SystemClock()
        self._chance = chance
        self._tasks: set[asyncio.Task[Any]] = set()
        self._housekeeping: asyncio.Task[None] | None = None
        self._closed = False
        self._reread_at = 0.0
        self._cache = TokenCache(
            clock=self._clock,
            chance=chance,
            spawn=self._spawn,
            observer=observer or Unobserved(),
            fingerprint_key=fingerprint_key,
            patience_s=patience_s,
        )
        self._applications: dict[str, OrderedCredentials] = {}
        self.reload(applications, secrets)

    # ---------------------------------------------------------------- leasing

    def lease_now(self, application: str, resource: str) -> Lease | None:
        """A good token that is at hand, without waiting; else None, and `lease` is for you."""
        source = self._applications.get(application)
        if source is None:
            return None
        return self._cache.lease_now(source.identity, resource, application)

    async def lease(self, application: str, resource: str) -> Lease:
        """A good token for `resource` (an environment's URL). Raises `TokenUnavailable`."""
        if self._closed:
            raise STOPPING.error(application, None)
        self.start()
        source = self._applications.get(application)
        if source is None:
            raise UNKNOWN.error(application, None)
        return await self._cache.lease(source, resource)

    def invalidate(self, lease: Lease) -> bool:
        """Dataverse answered 401 to this token. True where a second try with a new lease may
        help; False where the new one was refused as well.
        """
        source = self._applications.get(lease.application)
        return source is not None and self._cache.invalidate(source.identity, lease)

    def forget(self, application: str) -> int:
        """Drop this application's tokens, and try its refused credentials again at once.

        How many tokens were dropped. They stay valid until they expire: Entra cannot take them
        back, so whoever holds one may go on using it (disable the application user for that).
        """
        source = self._applications.get(application)
        if source is None:
            return 0
        source.reconsider()
        return self._cache.drop(lambda identity, _: identity == source.identity)

    @property
    def hits(self) -> int:
        return self._cache.hits

    @property
    def misses(self) -> int:
        return self._cache.misses

    # ---------------------------------------------------------- configuration

    def reload(self, applications: Mapping[str, Application], secrets: Secrets) -> None:
        """Use another configuration from now on. Call it on the loop that leases.

        Tokens stay where their identity and the credential that obtained them are still there.
        What was learned about a credential stays with it.
        """
        reader = CredentialReader(secrets, self._vaults)
        before = self._applications
        renamed = {old.identity: old for name, old in before.items() if name not in applications}
        self._applications = {
            name: OrderedCredentials(
                name,
                application,
                reader=reader,
                entra=self._entra,
                clock=self._clock,
                chance=self._chance,
                before=before.get(name) or renamed.get(Registration.of(application).identity),
            )
            for name, application in applications.items()
        }
        by_identity: dict[Identity, Source] = {}
        wanted: dict[Identity, set[Credential]] = {}
        for source in self._applications.values():
            by_identity.setdefault(source.identity, source)
            wanted.setdefault(source.identity, set()).update(source.application.credentials)
        self._cache.drop(
            lambda identity, credential: (
                identity not in wanted
                or (credential is not None and credential not in wanted[identity])
            )
        )
        self._cache.adopt(by_identity)
        for name, source in self._applications.items():
            if name not in before or before[name].application != source.application:
                self._cache.retry(source.identity)
        if self._housekeeping is not None:
            self._spawn(self._reread())

    # -------------------------------------------------------------- telling

    def status(self) -> list[CredentialStatus]:
        """Every credential of every application, in order; never a secret."""
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        return [
            status_of(source, held, wall=wall, monotonic=monotonic)
            for source in self._applications.values()
            for held in source.all()
        ]

    # ------------------------------------------------------------- background

    def start(self) -> None:
        """Begin the housekeeping, on the running loop. The first lease does it as well."""
        if self._housekeeping is None and not self._closed:
            self._housekeeping = self._spawn(self._keep_house())

    async def aclose(self) -> None:
        """End all that is under way: whoever waits gets `TokenUnavailable`."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._entra.aclose()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        # Owned here rather than in a TaskGroup: one flight that fails must not end the others.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._landed)
        return task

    def _landed(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("token.task_failed", error=type(error).__name__, exc_info=error)

    async def _keep_house(self) -> None:
        while True:
            if self._clock.monotonic() >= self._reread_at:
                self._reread_at = self._clock.monotonic() + REREAD_S
                self._spawn(self._reread())
            self._cache.sweep()
            for source in self._applications.values():
                if source.due_probe() is not None and not source.probing:
                    self._spawn(self._probe(source))
            await self._clock.sleep(TICK_S)

    async def _reread(self) -> None:
        """Read all credentials again, and warn of those that end soon."""
        sources = list(self._applications.values())
        for source, changed in zip(
            sources, await asyncio.gather(*(s.refresh() for s in sources)), strict=True
        ):
            if changed:
                self._cache.retry(source.identity)
            await self._look_up(source)
            self._warn(source)

    async def _look_up(self, source: OrderedCredentials) -> None:
        """Ask Graph when secrets end, where the configuration says so. Once a day."""
        now = self._clock.monotonic()
        for held in source.all():
            material = held.material
            if material is None or not held.proven or now < held.look_up_at:
                continue
            if not asks_graph(held.credential) or material.expires_on is not None:
                continue
            held.look_up_at = now + LOOK_UP_S
            found = await self._graph.secret_expiry(
                source.registration, material, datetime.fromtimestamp(self._clock.wall(), UTC)
            )
            if isinstance(found, datetime):
                held.looked_up_expiry = found
                continue
            log.warning(
                "credential.expiry_unknown",
                application=source.name,
                credential=material.id,
                reason=found.why,
                remedy=found.remedy,
            )

    async def _probe(self, source: OrderedCredentials) -> None:
        held, resource = source.due_probe(), source.last_resource
        if held is None or resource is None:
            return
        began = self._clock.monotonic()
        accepted = await source.probe(held)
        if accepted is not None and self._applications.get(source.name) is source:
            age_s = self._clock.monotonic() - began
            self._cache.install(source, resource, accepted, age_s=age_s)

    def _warn(self, source: OrderedCredentials) -> None:
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        for held in source.all():
            material = held.material
            if material is None or held.expires_on is None or held.superseded:
                continue
            days = due_warning(held.expires_on, now, held.warned_days)
            if days is not None:
                held.warned_days = days
                log.warning(
                    "credential.expiring",
                    application=source.name,
                    kind=material.kind,
                    credential=material.id,
                    expires_on=held.expires_on.isoformat(),
                    days=days,
                )
