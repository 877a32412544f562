"""Tokens in use: one flight a key, renewed in the background, served as long as they are good.

A key is an identity (authority, tenant, client id) and a resource, whichever credential obtained
the token. Everything happens on the event loop, so there are no locks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol

import structlog
from cachetools import LRUCache

from app.tokens.failure import BY_CREDENTIAL, NEEDS_REPAIR, STOPPING, Cause, Failure
from app.tokens.lease import SAFETY_MARGIN, Lease
from app.tokens.order import Accepted, Rejected
from app.tokens.retry import REFUSED, TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from app.config.model import Credential
    from app.tokens.clock import Clock
    from app.tokens.material import Identity

KEYS_MAX = 10_000
"""Applications times environments come from configuration; this bounds what a bug could add."""

PATIENCE_S = 15.0
"""How long a caller waits for a token. The request goes on, and his next try finds it."""

RENEW_AT = 0.5
"""The share of a token's life after which it is renewed. Early costs one small request; late
shortens the outage of Entra that nobody notices.
"""

JITTER = 0.1
"""The share of a token's life over which renewals are spread."""

IDLE_AFTER = timedelta(hours=24)
"""A token that nobody used for so long is let go. A nightly job finds its token warm."""

INVALIDATIONS_MAX = 10
INVALIDATIONS_WITHIN_S = 60.0
"""So many tokens of one key are replaced in this time. Where Dataverse goes on refusing, the token
is not what is wrong, and asking Entra for each request would hammer it."""

RETRY_WHEN_SLOW_S = 5.0

log = structlog.get_logger(__name__)


def slow(patience_s: float) -> Failure:
    return Failure(
        cause=Cause.ENTRA_UNREACHABLE,
        meaning=f"Entra has not answered within {patience_s:g} s; the request goes on",
        remedy="Try again shortly.",
    )


class Source(Protocol):
    """An application's credentials."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> Identity: ...
    def holds(self, credential: Credential) -> bool:
        """Whether this credential is still one of them."""
        ...

    async def obtain(self, resource: str) -> Accepted | Rejected: ...


TokenOutcome = Literal["issued", "refused", "unreachable"]


class Observer(Protocol):
    def token_request(self, application: str, outcome: TokenOutcome) -> None:
        """Entra was asked for a token: what came of it."""
        ...


@dataclass(slots=True, eq=False)
class Entry:
    """What is known for one key. `..._wall` are seconds since 1970, other times monotonic."""

    source: Source = field(repr=False)
    resource: str
    lease: Lease | None = None
    credential: Credential | None = field(default=None, repr=False)
    good_until: float = 0.0
    good_until_wall: float = 0.0
    renew_at: float = 0.0
    used: bool = True
    last_used: float = 0.0
    flight: asyncio.Task[Lease | Failure] | None = field(default=None, repr=False)
    failure: Failure | None = None
    failures: int = 0
    retry_at: float = 0.0
    invalidated: tuple[float, ...] = ()
    """When Dataverse refused a token of this key, lately."""


class TokenCache:
    """Holds the tokens of this process, in its memory and nowhere else."""

    def __init__(
        self,
        *,
        clock: Clock,
        chance: Callable[[], float],
        spawn: Callable[[Coroutine[None, None, Lease | Failure]], asyncio.Task[Lease | Failure]],
        observer: Observer,
        fingerprint_key: bytes = b"",
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.hits = 0
        self.misses = 0
        self._clock = clock
        self._wall = clock.wall
        self._monotonic = clock.monotonic
        self._chance = chance
        self._spawn = spawn
        self._observer = observer
        self._fingerprint_key = fingerprint_key
        self._patience_s = patience_s
        self._entries: LRUCache[tuple[Identity, str], Entry] = LRUCache(maxsize=KEYS_MAX)

    # ---------------------------------------------------------------- leasing

    def lease_now(self, identity: Identity, resource: str, name: str) -> Lease | None:
        """A good token that is at hand. The hot path: no await, no allocation but the key."""
        try:
            entry = self._entries[identity, resource]
        except KeyError:
            return None
        lease = entry.lease
        if (
            lease is None
            or self._monotonic() >= entry.good_until
            or self._wall() >= entry.good_until_wall
        ):
            return None
        entry.used = True
        self.hits += 1
        return lease if lease.application == name else lease.named(name)

    async def lease(self, source: Source, resource: str) -> Lease:
        """A good token, asked for where none is at hand. Raises `TokenUnavailable`.

        However many ask at once, Entra is asked once; whoever stops waiting stops nobody else.
        """
        at_hand = self.lease_now(source.identity, resource, source.name)
        if at_hand is not None:
            return at_hand
        self.misses += 1
        entry = self._entry(source, resource)
        now = self._monotonic()
        if entry.flight is None:
            if entry.failure is not None and now < entry.retry_at:
                raise entry.failure.error(source.name, entry.retry_at - now)
            entry.flight = self._spawn(self._fly(entry))
        flight = entry.flight
        await asyncio.wait({flight}, timeout=self._patience_s)
        if not flight.done():
            raise slow(self._patience_s).error(source.name, RETRY_WHEN_SLOW_S)
        if flight.cancelled():
            raise STOPPING.error(source.name, None)
        outcome = flight.result()
        if isinstance(outcome, Failure):
            raise outcome.error(source.name, max(entry.retry_at - self._monotonic(), 0.0))
        return outcome if outcome.application == source.name else outcome.named(source.name)

    def _entry(self, source: Source, resource: str) -> Entry:
        key = (source.identity, resource)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(source, resource, last_used=self._monotonic())
        entry.source = source
        entry.used = True
        return entry

    # ----------------------------------------------------------------- flying

    async def _fly(self, entry: Entry) -> Lease | Failure:
        # Before the request: however long it takes, the token is never thought to live longer.
        wall, began = self._wall(), self._monotonic()
        try:
            result = await entry.source.obtain(entry.resource)
        finally:
            entry.flight = None
        if isinstance(result, Accepted):
            self._observer.token_request(entry.source.name, "issued")
            if not entry.source.holds(result.credential):
                # A reload took the credential away meanwhile. Who waited asked before that.
                return self._lease_of(entry, result, wall)
            return self._install(entry, result, wall, began)
        refused = result.failure.cause in NEEDS_REPAIR | BY_CREDENTIAL
        self._observer.token_request(entry.source.name, "refused" if refused else "unreachable")
        return self._fail(entry, result)

    def install(self, source: Source, resource: str, result: Accepted, *, age_s: float) -> None:
        """Keep a token that was obtained outside a flight, `age_s` ago at most."""
        entry = self._entry(source, resource)
        self._install(entry, result, self._wall() - age_s, self._monotonic() - age_s)

    def _install(self, entry: Entry, result: Accepted, wall: float, began: float) -> Lease:
        life_s = result.obtained.lifetime_s
        margin_s = SAFETY_MARGIN.total_seconds()
        entry.lease = lease = self._lease_of(entry, result, wall)
        entry.credential = result.credential
        entry.good_until = began + life_s - margin_s
        entry.good_until_wall = wall + life_s - margin_s
        first_s = min(result.obtained.refresh_in_s or life_s * RENEW_AT, life_s - margin_s)
        spread_s = min(life_s * JITTER, life_s - margin_s - first_s)
        entry.renew_at = began + first_s + spread_s * self._chance()
        entry.failure = None
        entry.failures = 0
        entry.retry_at = 0.0
        log.info(
            "token.renewed",
            application=entry.source.name,
            resource=entry.resource,
            fingerprint=lease.fingerprint,
            lifetime_s=round(life_s),
        )
        return lease

    def _lease_of(self, entry: Entry, result: Accepted, wall: float) -> Lease:
        return Lease.of(
            result.obtained.token.open(),
            expires_on=datetime.fromtimestamp(wall + result.obtained.lifetime_s, UTC),
            resource=entry.resource,
            application=entry.source.name,
            fingerprint_key=self._fingerprint_key,
        )

    def _fail(self, entry: Entry, result: Rejected) -> Failure:
        failure = result.failure
        entry.failures += 1
        entry.failure = failure
        wait_s = result.wait_s
        if wait_s is None:
            backoff = REFUSED if failure.cause in NEEDS_REPAIR else TRANSIENT
            wait_s = backoff.wait_s(entry.failures, self._chance())
            wait_s = max(wait_s, failure.retry_after_s or 0.0)
        entry.retry_at = entry.renew_at = self._monotonic() + wait_s
        log.warning(
            "token.failed",
            application=entry.source.name,
            resource=entry.resource,
            cause=failure.cause.value,
            reason=failure.summary,
            remedy=failure.remedy,
            retry_in_s=round(wait_s, 1),
            token_good_for_s=max(0, round(entry.good_until - self._monotonic()))
            if entry.lease
            else 0,
        )
        return failure

    # ------------------------------------------------------------- background

    def sweep(self) -> None:
        """Begin the renewals that are due. Called every few seconds."""
        now = self._monotonic()
        for entry in list(self._entries.values()):
            if entry.used:
                entry.used, entry.last_used = False, now
            if entry.lease is None or entry.flight is not None or now < entry.renew_at:
                continue
            if now >= entry.good_until or now - entry.last_used > IDLE_AFTER.total_seconds():
                continue  # The next caller, if there is one, asks for a new one.
            entry.flight = self._spawn(self._fly(entry))

    # ---------------------------------------------------------------- endings

    def invalidate(self, identity: Identity, lease: Lease) -> bool:
        """Dataverse refused this token (401). True where another try with a new one makes sense.

        Once for each token: whoever comes with one that is already replaced gets the replacement.
        """
        entry = self._entries.get((identity, lease.resource))
        if entry is None or entry.lease is None or entry.lease.fingerprint != lease.fingerprint:
            return True
        now = self._monotonic()
        lately = tuple(t for t in entry.invalidated if now - t < INVALIDATIONS_WITHIN_S)
        if len(lately) >= INVALIDATIONS_MAX:
            return False
        entry.invalidated = (*lately, now)
        entry.lease = None
        return True

    def drop(self, unwanted: Callable[[Identity, Credential | None], bool]) -> int:
        """Forget the tokens of identities and credentials that are not wanted any longer."""
        gone = [
            (key, entry)
            for key, entry in list(self._entries.items())
            if unwanted(key[0], entry.credential)
        ]
        for key, _ in gone:
            del self._entries[key]
        return sum(entry.lease is not None for _, entry in gone)

    def retry(self, identity: Identity) -> None:
        """Something about this identity has changed: failures of before do not count."""
        for key, entry in list(self._entries.items()):
            if key[0] == identity and entry.failure is not None:
                entry.failure, entry.failures, entry.retry_at = None, 0, 0.0
                entry.renew_at = 0.0

    def adopt(self, sources: Mapping[Identity, Source]) -> None:
        """Let entries renew themselves by the credentials that are configured now."""
        for key, entry in list(self._entries.items()):
            entry.source = sources.get(key[0], entry.source)
