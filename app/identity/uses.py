"""How the identities of callers fare: when each was last used, and until when it is good."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from app.config.model import ApiKeyIdentity, CertificateIdentity, JwtIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from app.config.model import Caller, Identity
    from app.identity.caller import IdentityKind


@dataclass(slots=True)
class Use:
    """The one mutable thing of an identity. Whoever recognises it notes that here."""

    seen_as: str | None = None
    """The id of the key, or the token's subject: known once it was presented."""
    last_at: float | None = None
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class IdentityStatus:
    """For operators. `subject` is what the record shows once the identity was used."""

    kind: IdentityKind
    subject: str
    expires: datetime | None
    last_used: datetime | None


class Uses:
    """Outlives reloads: an identity that stays with its caller keeps its history."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str], Use] = {}

    def of(self, caller: str, identity: Identity) -> Use:
        return self._uses.setdefault((caller, _name_of(identity)), Use())

    def keep_only(self, callers: Mapping[str, Caller]) -> None:
        """Forget the identities that a new configuration no longer names."""
        named = {
            (name, _name_of(identity))
            for name, config in callers.items()
            for identity in config.identities
        }
        self._uses = {key: use for key, use in self._uses.items() if key in named}

    def statuses(self, caller: str, config: Caller) -> tuple[IdentityStatus, ...]:
        """In the configuration's order."""
        return tuple(_status(identity, self.of(caller, identity)) for identity in config.identities)


def _name_of(identity: Identity) -> str:
    """What makes it the same identity after a reload: not its expiry, say."""
    if isinstance(identity, ApiKeyIdentity):
        return identity.api_key.sha256
    return identity.model_dump_json()


def end_of(day: date | None) -> datetime | None:
    """The moment after the last on which a key with this `expires` is good."""
    if day is None:
        return None
    return datetime.combine(day + timedelta(days=1), time.min, tzinfo=UTC)


def _status(identity: Identity, use: Use) -> IdentityStatus:
    last_used = None if use.last_at is None else datetime.fromtimestamp(use.last_at, UTC)
    match identity:
        case ApiKeyIdentity(api_key=key):
            subject = use.seen_as or f"sha256:{key.sha256[:8]}"
            return IdentityStatus("api_key", subject, end_of(key.expires), last_used)
        case JwtIdentity(jwt=match):
            subject = use.seen_as or f"{match.issuer}:{match.claims.get('sub', '-')}"
            return IdentityStatus("jwt", subject, None, last_used)
        case CertificateIdentity(certificate=certificate):
            return IdentityStatus("certificate", certificate.san, None, last_used)
