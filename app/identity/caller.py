"""Who is calling, once that is certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.config.model import Caller as CallerConfig

IdentityKind = Literal["api_key", "jwt", "certificate", "broker_token"]


@dataclass(frozen=True, slots=True)
class IdentityRef:
    """By which of its identities a caller came: what the record shows, never a secret.

    `id` is the id part of an API key, `issuer:subject` of a JWT, the name in a certificate.
    """

    kind: IdentityKind
    id: str


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller of the configuration, proved. Held no longer than the request that it made."""

    name: str
    identity: IdentityRef
    config: CallerConfig
