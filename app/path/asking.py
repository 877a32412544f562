"""What an environment says of itself, asked as the first application that is granted there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from app.dataverse.metadata import EnvironmentMetadata, MetadataRefused
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from app.config import model
    from app.dataverse.client import UpstreamClient
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
        """Once more with a new token where the environment refuses the one that it got."""
        source = EnvironmentMetadata(
            self.client,
            self._token,
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

    async def _token(self) -> str:
        for caller in self.configuration().callers.values():
            for grant in caller.grants:
                if grant.environment == self.name:
                    application = grant.applications[0]
                    self._lease = await self.tokens.lease(application, self.environment.url)
                    return self._lease.access_token()
        raise Misconfigured("schema-unasked", f"no grant names an application for {self.name}")
