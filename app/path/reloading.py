"""A configuration that changed: read, swapped in, or refused while the last one stays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from app.config.loading import load
from app.config.references import vault_references

if TYPE_CHECKING:
    from pathlib import Path

    from app.config import model
    from app.config.current import Current
    from app.config.loaded import Loaded
    from app.errors import BrokerError
    from app.identity.authenticator import Authenticator
    from app.path.world import World
    from app.tokens.key_vault import KeyVaults
    from app.tokens.service import TokenService

log = structlog.get_logger()


@dataclass(slots=True)
class Reading:
    """Reads the configuration. A vault that is down keeps none from being used whose references
    are known, and at the start every one is: the stage of the tokens asks vaults by itself, and
    another credential may work meanwhile. What is new must be there, or the last good one stays.
    """

    config: Path
    vaults: KeyVaults
    known: frozenset[model.KeyVaultReference] | None = None

    def __call__(self) -> Loaded:
        loaded = load(self.config, vault=self.vaults, may_stay_unread=self._is_known)
        for unread in loaded.unread:
            log.warning("configuration.secret_unread", reason=unread)
        return loaded

    def _is_known(self, reference: model.KeyVaultReference) -> bool:
        return self.known is None or reference in self.known


@dataclass(frozen=True, slots=True)
class Reload:
    """Swaps a configuration in: grants first, since only they can refuse."""

    world: World
    tokens: TokenService
    authenticator: Authenticator
    current: Current
    reading: Reading

    async def __call__(self, loaded: Loaded) -> None:
        await self.world.reload(loaded)
        self.tokens.reload(loaded.configuration.applications, loaded.secrets)
        self.authenticator.reload(loaded)
        self.current.replace(loaded, at=datetime.now(UTC))
        self.reading.known = vault_references(loaded.configuration)
        log.info("configuration.loaded", version=loaded.version)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Keeps the last good one, and says why."""

    current: Current

    async def __call__(self, error: BrokerError) -> None:
        self.current.degrade(error, at=datetime.now(UTC))
        log.error("configuration.refused", code=error.code, error=error.detail)
