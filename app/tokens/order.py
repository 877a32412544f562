"""The credentials of one application, in order: which one is used, which are put aside, and why.

    configured order ──► proven ones first ──► untried ──► put aside, where their time has come
                              │ refused                         ▲
                              └──────── put aside ──────────────┘

A request tries them in that order until one is accepted, so callers notice nothing. A credential
that is new, or was put aside, is not preferred until a probe outside any caller's request has
shown that Entra takes it. Where another secret appears behind the same reference, the old one
is held until the new one is proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from app.tokens.answers import Obtained
from app.tokens.failure import BY_CREDENTIAL, Cause, Failure
from app.tokens.held import Held
from app.tokens.material import Material, Registration
from app.tokens.retry import REFUSED, TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.config.model import Application, Credential
    from app.tokens.clock import Clock
    from app.tokens.credentials import CredentialReader
    from app.tokens.entra import Entra

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A token, and the configured credential that Entra took for it."""

    obtained: Obtained
    credential: Credential


@dataclass(frozen=True, slots=True)
class Rejected:
    """No credential gave a token. `wait_s`: when one is tried again; None: the asker decides."""

    failure: Failure
    wait_s: float | None


class OrderedCredentials:
    """One application's. Lives on the event loop."""

    def __init__(
        self,
        name: str,
        application: Application,
        *,
        reader: CredentialReader,
        entra: Entra,
        clock: Clock,
        chance: Callable[[], float],
        before: OrderedCredentials | None = None,
    ) -> None:
        self.name = name
        self.application = application
        self.registration = Registration.of(application)
        self.identity = self.registration.identity
        self.last_resource: str | None = None
        self.probing = False
        self._reader = reader
        self._entra = entra
        self._clock = clock
        self._chance = chance
        self._held: list[Held] = []
        known = list(before.all()) if before and before.identity == self.identity else []
        for position, credential in enumerate(application.credentials):
            kept = [held for held in known if held.credential == credential]
            for held in kept:
                held.position = position
            self._held += kept or [Held(credential, position)]
        if known and before is not None:
            self.last_resource = before.last_resource

    # ---------------------------------------------------------------- reading

    def all(self) -> tuple[Held, ...]:
        return tuple(self._held)

    def holds(self, credential: Credential) -> bool:
        return credential in self.application.credentials

    def active(self) -> Held | None:
        """The one that the next request begins with, where one is proven."""
        return next((held for held in self._held if held.proven), None)

    def candidates(self) -> list[Held]:
        """In which order a request tries them now."""
        now = self._clock.monotonic()
        ready = [held for held in self._held if held.retry_at <= now]
        # A stable sort: within each group the configured order stays.
        return sorted(ready, key=lambda held: (not held.proven, held.aside))

    def due_probe(self) -> Held | None:
        """The one that would be preferred to the active one, if a probe shows that it works."""
        now = self._clock.monotonic()
        for held in self._held:
            if held.proven:
                return None
            if held.retry_at <= now and self.active() is not None:
                return held
        return None

    # ----------------------------------------------------------------- asking

    async def obtain(self, resource: str) -> Accepted | Rejected:
        """A new token by the first credential that Entra accepts."""
        self.last_resource = resource
        for held in self.candidates():
            result = await self._try(held, resource)
            if isinstance(result, Obtained):
                return Accepted(result, held.credential)
            if result.cause not in BY_CREDENTIAL:
                return Rejected(result, None)
        now = self._clock.monotonic()
        return Rejected(
            self._failure_of_all(),
            max(0.0, min((held.retry_at for held in self._held), default=now) - now),
        )

    async def probe(self, held: Held) -> Accepted | None:
        """Try one that is not in use, outside any caller's request."""
        if self.probing or self.last_resource is None:
            return None
        self.probing = True
        try:
            result = await self._try(held, self.last_resource)
        finally:
            self.probing = False
        if isinstance(result, Obtained):
            return Accepted(result, held.credential)
        if result.cause not in BY_CREDENTIAL:
            # Says nothing about the credential, but a probe a tick would be too many.
            held.retry_at = self._clock.monotonic() + REFUSED.first_s
        return None

    def _failure_of_all(self) -> Failure:
        return next(
            (held.failure for held in self._held if held.failure is not None),
            Failure(
                cause=Cause.CREDENTIAL_UNREADABLE,
                meaning="none of its credentials can be used now",
                remedy="Look at the credentials' status.",
            ),
        )

    async def _try(self, held: Held, resource: str) -> Obtained | Failure:
        began = self._clock.monotonic()
        result = await self._material_of(held)
        if isinstance(result, Failure):
            self._put_aside(held, result, began)
            return result
        answer = await self._entra.request(self.registration, result, resource)
        if isinstance(answer, Obtained):
            self._accept(held)
        elif answer.cause in BY_CREDENTIAL:
            self._put_aside(held, answer, began)
        return answer

    async def _material_of(self, held: Held) -> Material | Failure:
        if held.material is not None and not held.aside:
            return held.material  # Before the lock: a slow vault holds up nobody who needs it not.
        async with held.reading:
            if held.material is not None and not held.aside:
                return held.material
            # One that was put aside is read again: somebody may have repaired it in its place.
            read = await self._entra.read(self._reader, self.application, held.credential)
            if isinstance(read, Failure):
                return read
            if held.material is not None and held.material.fingerprint == read.fingerprint:
                return held.material  # The same object, so that its MSAL client is found again.
            if held.material is not None:
                held.renew(read)
            held.material = read
            return read

    def _accept(self, held: Held) -> None:
        held.proven = True
        held.failures = 0
        held.failure = None
        held.retry_at = 0.0
        held.succeeded_wall = self._clock.wall()
        self._drop_superseded()

    def _drop_superseded(self) -> None:
        proven = [held.credential for held in self._held if held.proven and not held.superseded]
        self._held = [
            held for held in self._held if not (held.superseded and held.credential in proven)
        ]

    def _put_aside(self, held: Held, failure: Failure, began: float) -> None:
        if held.put_aside_at > began:
            return  # Another resource's request met the same refusal; it counts once.
        now = self._clock.monotonic()
        held.proven = False
        held.failures += 1
        held.failure = failure
        held.failed_wall = self._clock.wall()
        held.put_aside_at = now
        backoff = REFUSED if failure.cause is Cause.CREDENTIAL_REFUSED else TRANSIENT
        wait_s = max(backoff.wait_s(held.failures, self._chance()), failure.retry_after_s or 0.0)
        held.retry_at = now + wait_s
        if held.superseded:
            self._held = [other for other in self._held if other is not held]
        log.warning(
            "credential.refused",
            application=self.name,
            kind=held.material.kind if held.material else None,
            credential=held.material.id if held.material else None,
            position=held.position,
            reason=failure.summary,
            remedy=failure.remedy,
            retry_in_s=round(wait_s, 1),
        )

    # ---------------------------------------------------------------- changes

    async def refresh(self) -> bool:
        """Read all credentials again. True where that changes what can be expected of them."""
        changed = False
        self._drop_superseded()
        for held in list(self._held):
            if held.superseded:
                continue
            async with held.reading:
                read = await self._entra.read(self._reader, self.application, held.credential)
                if isinstance(read, Failure):
                    self._note_unreadable(held, read)
                elif held.material is None:
                    held.material = read
                elif held.material.fingerprint != read.fingerprint:
                    changed = True
                    self._succeed(held, read)
                if not isinstance(read, Failure):
                    changed = held.readable() or changed
        return changed

    def _note_unreadable(self, held: Held, failure: Failure) -> None:
        """What was read before goes on being used; the status tells of the failure."""
        held.failure = failure
        held.failed_wall = self._clock.wall()

    def _succeed(self, held: Held, material: Material) -> None:
        if not held.proven:
            held.renew(material)
            return
        successor = Held(held.credential, held.position, material=material)
        held.superseded = True
        at = self._held.index(held)
        self._held.insert(at, successor)

    def reconsider(self) -> None:
        """Let those that were put aside be tried at once: an operator has repaired something."""
        for held in self._held:
            held.retry_at = 0.0
