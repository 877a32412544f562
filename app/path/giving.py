"""A token for a caller that may have it: leased from Entra, or signed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from app.path.issuing import RawToken, Resources
from app.tokens.hidden import Hidden

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from app.config.model import Configuration
    from app.path.exchange import Exchange
    from app.path.issuing import Order
    from app.path.standing import Standing
    from app.tokens.lease import Lease


class Tokens(Protocol):
    """Where Dataverse's tokens come from."""

    def lease_now(self, application: str, resource: str) -> Lease | None: ...

    async def lease(self, application: str, resource: str) -> Lease: ...


class BrokerTokens(Protocol):
    """Tokens of the broker's own."""

    def audience(self, environment: str | None) -> str: ...

    def give(
        self, caller: str, *, environment: str | None, token_id: str, now: datetime
    ) -> tuple[str, datetime]:
        """A token and its end."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """A token on its way to the caller, its record durable."""

    hidden_token: Hidden[str] = field(repr=False)
    expires_on: datetime
    resource: str
    application: str | None
    """None for a broker token: it stands for the caller, not for an app registration."""
    issued_at: datetime

    def access_token(self) -> str:
        """Call it on the line that sends it."""
        return self.hidden_token.open()


class Giver:
    def __init__(
        self, tokens: Tokens, broker_tokens: BrokerTokens, fingerprint: Callable[[str], str]
    ) -> None:
        self._tokens = tokens
        self._broker_tokens = broker_tokens
        self._fingerprint = fingerprint
        self._known: tuple[Configuration, Resources] | None = None

    def resources(self, configuration: Configuration) -> Resources:
        """Built once for each configuration: with a thousand environments it takes a while."""
        if self._known is None or self._known[0] is not configuration:
            self._known = configuration, Resources(configuration)
        return self._known[1]

    async def give(self, order: Order, standing: Standing, exchange: Exchange) -> Given:
        """The token; its fingerprint goes on record. Raises `TokenUnavailable`."""
        if isinstance(order.wanted, RawToken):
            return await self._raw(order, standing, exchange)
        return self._own(order, exchange)

    async def _raw(self, order: Order, standing: Standing, exchange: Exchange) -> Given:
        assert order.environment is not None
        assert order.application is not None
        resource = standing.places[order.environment].resource
        lease = self._tokens.lease_now(order.application, resource)
        if lease is None:
            lease = await self._tokens.lease(order.application, resource)
        exchange.token_fingerprint = lease.fingerprint
        return Given(
            Hidden(lease.access_token()),
            expires_on=lease.expires_on,
            resource=lease.resource,
            application=order.application,
            issued_at=exchange.time,
        )

    def _own(self, order: Order, exchange: Exchange) -> Given:
        assert exchange.caller is not None
        token, expires_on = self._broker_tokens.give(
            exchange.caller.name,
            environment=order.environment,
            token_id=exchange.id,
            now=exchange.time,
        )
        exchange.token_fingerprint = self._fingerprint(token)
        return Given(
            Hidden(token),
            expires_on=expires_on,
            resource=self._broker_tokens.audience(order.environment),
            application=None,
            issued_at=exchange.time,
        )
