"""How this machine reaches what is examined: its variables, its vaults, Entra, Dataverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config.secrets import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from pydantic import SecretBytes

    from app.config import model
    from app.config.secrets import Reference
    from app.dataverse.client import UpstreamClient
    from app.tokens.entra import MsalEntra
    from app.tokens.graph import Graph
    from app.tokens.key_vault import KeyVaults


@dataclass(frozen=True, slots=True)
class Surroundings:
    environ: Mapping[str, str]
    vaults: KeyVaults
    entra: MsalEntra
    graph: Graph
    connect: Callable[[model.Environment], UpstreamClient]
    now: Callable[[], datetime]

    def secrets(self) -> SecretsNow:
        return SecretsNow(self)

    async def aclose(self) -> None:
        await self.entra.aclose()
        self.vaults.close()


@dataclass(frozen=True, slots=True)
class SecretsNow:
    """References followed at the moment when they are asked for."""

    surroundings: Surroundings

    def data(self, reference: Reference) -> SecretBytes:
        return resolve(reference, environ=self.surroundings.environ, vault=self.surroundings.vaults)
