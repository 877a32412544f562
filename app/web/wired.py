"""What the addresses ask for, answered by the broker and what it walks on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.errors import BrokerError, NotGranted, Unavailable
from app.path.recording import AnswerCut, CallerLeft
from app.telemetry.metrics import (
    AuditState,
    ConfigurationState,
    CredentialExpiry,
    IdentityUse,
)
from app.tokens.status import trouble
from app.web.health import Check
from app.web.issuing import Issued

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from app.audit.journal import Journal
    from app.audit.record import Action
    from app.broker import Broker
    from app.config import model
    from app.config.current import Current
    from app.identity.authenticator import Authenticator
    from app.identity.caller import Caller
    from app.limits.limiter import Limiter
    from app.path.exchange import Exchange
    from app.path.world import World
    from app.tokens.service import TokenService
    from app.web.asgi import RequestHead
    from app.web.issuing import Credential
    from app.web.views import ApplicationView, CredentialView, IdentityUseView


@dataclass(frozen=True, slots=True)
class Door:
    """`Refusals`, `Admission` and `Visits`, by way of the broker."""

    broker: Broker
    action: Action = "proxy"
    """What requests are for that are refused before the broker sees them."""

    async def refuse(self, head: RequestHead, error: BrokerError) -> None:
        await self.broker.refuse(head, error, self.action)

    async def answered(self, head: RequestHead, *, status: int, bytes_out: int) -> None:
        exchange = self.broker.begin(head, self.action)
        exchange.bytes_out = bytes_out
        await self.broker.recording.conclude(exchange, status)

    async def admit(self, head: RequestHead) -> Admitted:
        exchange = await self.broker.admit(head)
        assert exchange.caller is not None
        return Admitted(self.broker, exchange, exchange.caller)


@dataclass(frozen=True, slots=True)
class Admitted:
    broker: Broker
    exchange: Exchange
    caller: Caller

    async def conclude(self, *, status: int | None, reason: str | None, bytes_out: int) -> None:
        exchange = self.exchange
        exchange.bytes_out = bytes_out
        if status is not None and status < 400:
            await self.broker.recording.conclude(exchange, status)
        else:
            failure = _failure(status, reason)
            await self.broker.recording.fail(exchange, failure, status=status)


def _failure(status: int | None, reason: str | None) -> Exception:
    code = reason or "internal-error"
    if status is None:
        return CallerLeft() if code == "caller-gone" else AnswerCut()
    if status >= 500:
        return Unavailable(code, code)
    return NotGranted(code, code)


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """`Issuer`: the environment's raw token, or one of the broker's own."""

    broker: Broker
    applications: Applications

    async def issue(
        self,
        head: RequestHead,
        *,
        environment: str | None,
        resource: str | None,
        credential: Credential | None = None,
    ) -> Issued:
        given = await self.broker.issue(
            head, environment=environment, resource=resource, credential=credential
        )
        application = given.application
        return Issued(
            access_token=given.access_token(),
            expires_on=given.expires_on,
            resource=given.resource,
            application=application,
            client_id=None if application is None else self.applications.client_id(application),
            issued_at=given.issued_at,
        )


@dataclass(frozen=True, slots=True)
class Applications:
    """The app registrations, their credentials and tokens."""

    world: World
    tokens: TokenService

    def client_id(self, application: str) -> str | None:
        found = self.world.standing.configuration.applications.get(application)
        return None if found is None else str(found.client_id)

    def applications(self) -> Sequence[ApplicationView]:
        # Pydantic's models are made at their import, and only management needs these.
        from app.web.views import ApplicationView, CredentialView  # noqa: PLC0415

        by_name: dict[str, list[CredentialView]] = {}
        for status in self.tokens.status():
            by_name.setdefault(status.application, []).append(
                CredentialView(
                    kind=status.kind,
                    id=status.id,
                    expires=status.expires_on,
                    in_use=status.active,
                    last_success=status.last_success,
                    last_error=status.last_error,
                    last_error_at=status.last_error_at,
                )
            )
        return tuple(
            ApplicationView(
                name=name,
                tenant_id=application.tenant_id,
                client_id=str(application.client_id),
                credentials=tuple(by_name.get(name, ())),
            )
            for name, application in self.world.standing.configuration.applications.items()
        )

    def forget_tokens(self, application: str) -> int | None:
        if application not in self.world.standing.configuration.applications:
            return None
        return self.tokens.forget(application)

    def expiries(self) -> Iterable[CredentialExpiry]:
        for status in self.tokens.status():
            # Two of one name, while a newer one is not proven yet, would be one series twice.
            if status.expires_on is not None and status.state != "superseded":
                yield CredentialExpiry(
                    status.application, status.kind, status.id, status.expires_on
                )


@dataclass(frozen=True, slots=True)
class Directory:
    """The callers, and how their identities fare."""

    world: World
    authenticator: Authenticator

    def configuration(self) -> model.Configuration:
        return self.world.standing.configuration

    def identities(self, caller: str) -> Sequence[IdentityUseView]:
        from app.web.views import IdentityUseView  # noqa: PLC0415 - as in `Applications`

        return tuple(
            IdentityUseView(
                kind=status.kind,
                subject=status.subject,
                expires=status.expires,
                last_used=status.last_used,
            )
            for status in self.authenticator.identities(caller)
        )

    def uses(self) -> Iterable[IdentityUse]:
        for caller in self.configuration().callers:
            for status in self.authenticator.identities(caller):
                yield IdentityUse(caller, status.subject, status.last_used, status.expires)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Told from what is known already."""

    current: Current
    world: World
    journal: Journal
    limits: Limiter
    tokens: TokenService
    ending: Callable[[], bool]

    def checks(self) -> Sequence[Check]:
        degraded = self.current.degraded
        checks = [
            Check(
                name="configuration",
                ok=True,
                degraded=degraded is not None,
                detail="" if degraded is None else "a newer one does not load; see the log",
            )
        ]
        if self.ending():
            checks.append(Check(name="end", ok=False, detail="told to end: nothing new, please"))
        if self.limits.degraded:
            detail = "Redis cannot be asked: each process keeps limits of its own"
            checks.append(Check(name="limits", ok=True, degraded=True, detail=detail))
        now = datetime.now(UTC)
        troubles = [said for s in self.tokens.status() if (said := trouble(s, now)) is not None]
        checks.append(
            Check(name="credentials", ok=True, degraded=bool(troubles), detail="; ".join(troubles))
        )
        status = self.journal.status()
        checks.append(Check(name="audit", ok=status.healthy, detail=status.reason or ""))
        for name, place in self.world.standing.places.items():
            failure = self.world.schema_failure(name)
            missing = place.schema is None
            checks.append(
                Check(
                    name=f"schema:{name}",
                    ok=not missing or self.world.waited_long_enough(),
                    degraded=missing or failure is not None,
                    detail=failure or ("not there yet" if missing else ""),
                )
            )
        return tuple(checks)

    def audit_state(self) -> AuditState:
        status = self.journal.status()
        return AuditState(
            records_total=status.entries, failures_total=status.lost, lag_seconds=status.lag_s
        )

    def configuration_state(self) -> ConfigurationState:
        return ConfigurationState(self.current.loaded_at, self.current.degraded is not None)
