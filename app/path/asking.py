"""What an environment says of itself, asked as an application that is granted there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from app.dataverse.metadata import EnvironmentMetadata, MetadataRefused
from app.errors import Misconfigured
from app.tokens.failure import TokenUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from app.config import model
    from app.dataverse.client import UpstreamClient
    from app.errors import BrokerError
    from app.tokens.lease import Lease

T = TypeVar("T")


class Tokens(Protocol):
    async def lease(self, application: str, resource: str) -> Lease: ...

    def invalidate(self, lease: Lease) -> bool: ...


@dataclass(slots=True)
class AskedEnvironment:
    """One environment's $metadata. `configuration` is the one that counts when it is asked."""

    name: str
    environment: model.Environment
    client: UpstreamClient
    tokens: Tokens
    configuration: Callable[[], model.Configuration]
    _lease: Lease | None = None

    async def csdl(self) -> bytes:
        return await self._asked(lambda source: source.csdl())

    async def table_ids(self) -> Mapping[str, str]:
        """MetadataId (lower case) to logical name."""
        found = await self._asked(lambda source: source.definitions())
        return {str(d.metadata_id).lower(): d.logical_name for d in found}

    async def _asked(self, ask: Callable[[EnvironmentMetadata], Awaitable[T]]) -> T:
        """As the first application; where that one gets no token, or may not, as the next: its
        callers are not the only ones who need the schema.
        """
        failed: BrokerError | None = None
        for application in self._applications():
            try:
                return await self._asked_as(application, ask)
            except (TokenUnavailable, MetadataRefused) as error:
                failed = failed or error
        raise failed or Misconfigured(
            "schema-unasked", f"no grant names an application for {self.name}"
        )

    async def _asked_as(
        self, application: str, ask: Callable[[EnvironmentMetadata], Awaitable[T]]
    ) -> T:
        """Once more with a new token where the environment refuses the one that it got."""
        source = EnvironmentMetadata(
            self.client,
            partial(self._token, application),
            environment_url=self.environment.url,
            api_version=self.environment.api_versions[0],
        )
        try:
            return await ask(source)
        except MetadataRefused as refused:
            lease = self._lease
            if refused.status != 401 or lease is None or not self.tokens.invalidate(lease):
                raise
        return await ask(source)

    def _applications(self) -> tuple[str, ...]:
        callers = self.configuration().callers.values()
        grants = [g for caller in callers for g in caller.grants if g.environment == self.name]
        return tuple(dict.fromkeys(a for grant in grants for a in grant.applications))

    async def _token(self, application: str) -> str:
        self._lease = await self.tokens.lease(application, self.environment.url)
        return self._lease.access_token()
