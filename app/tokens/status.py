"""What may be told about a credential: everything but what it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from app.config.model import (
    CertificateCredential,
    ClientSecretCredential,
    FederatedTokenCredential,
    KeyVaultSignerCredential,
    ManagedIdentityCredential,
)
from app.tokens.credentials import describe
from app.tokens.failure import Cause

if TYPE_CHECKING:
    from app.config.model import Credential
    from app.tokens.held import Held
    from app.tokens.order import OrderedCredentials

State = Literal["active", "standby", "untried", "refused", "superseded"]


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """One credential of one application, in the configured order."""

    application: str
    position: int
    kind: str
    id: str
    """A certificate's SHA-1 thumbprint as the portal shows it; else where the secret comes from."""
    thumbprint_sha256: str | None
    state: State
    """`active`: the next request begins with it. `standby`: Entra took it before, or it waits
    behind the active one. `untried`: not asked yet. `refused`: put aside until `next_try`.
    `superseded`: something newer stands behind the same reference and is not proven yet.
    """
    expires_on: datetime | None
    """None where it cannot be known."""
    last_success: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    last_cause: Cause | None
    remedy: str | None
    next_try: datetime | None

    @property
    def active(self) -> bool:
        return self.state == "active"


def status_of(
    ordered: OrderedCredentials, held: Held, *, wall: float, monotonic: float
) -> CredentialStatus:
    material, failure = held.material, held.failure
    kind, where = kind_and_place(held.credential)
    wait_s = held.retry_at - monotonic
    return CredentialStatus(
        application=ordered.name,
        position=held.position,
        kind=material.kind if material else kind,
        id=material.id if material else where,
        thumbprint_sha256=material.thumbprint_sha256 if material else None,
        state=_state(ordered, held),
        expires_on=held.expires_on,
        last_success=_moment(held.succeeded_wall),
        last_error=failure.summary if failure else None,
        last_error_at=_moment(held.failed_wall) if failure else None,
        last_cause=failure.cause if failure else None,
        remedy=failure.remedy if failure else None,
        next_try=_moment(wall + wait_s) if held.aside and wait_s > 0 else None,
    )


def _state(ordered: OrderedCredentials, held: Held) -> State:
    if held is ordered.active():
        return "active"
    if held.aside:
        return "refused"
    if held.superseded:
        return "superseded"
    return "standby" if held.proven else "untried"


def _moment(wall: float | None) -> datetime | None:
    return None if wall is None else datetime.fromtimestamp(wall, UTC)


def kind_and_place(credential: Credential) -> tuple[str, str]:
    """What can be said of a credential before it is read."""
    match credential:
        case ClientSecretCredential(client_secret=reference):
            return "client_secret", describe(reference)
        case CertificateCredential(certificate=reference):
            return "certificate", describe(reference)
        case FederatedTokenCredential(federated_token=reference):
            return "federated_token", str(reference.file)
        case ManagedIdentityCredential(managed_identity=identity):
            return "managed_identity", str(identity.client_id or "system-assigned")
        case KeyVaultSignerCredential(key_vault_signer=name):
            return "key_vault_signer", f"the certificate {name.certificate} of {name.vault}"


ENDS_SOON = timedelta(days=14)


def trouble(status: CredentialStatus, now: datetime) -> str | None:
    """What somebody has to see to, in words that may stand where anybody reads: no id, no place.

    None for a credential that is as it should be.
    """
    which = f"{status.application} credentials[{status.position}] ({status.kind})"
    if status.last_cause is Cause.CREDENTIAL_REFUSED:
        return f"{which} is refused by Entra"
    if status.last_cause is Cause.CREDENTIAL_UNREADABLE:
        return f"{which} cannot be read" + (
            " again; the one read before is used" if status.active else ""
        )
    if status.expires_on is None or status.state == "superseded":
        return None
    if status.expires_on <= now:
        return f"{which} has expired on {status.expires_on:%Y-%m-%d}"
    if status.expires_on - now <= ENDS_SOON:
        return f"{which} expires on {status.expires_on:%Y-%m-%d}"
    return None


WARN_DAYS = (30, 14, 7, 1, 0)
"""A warning each, once; at 0 it has expired."""


def due_warning(expires_on: datetime, now: datetime, warned: int | None) -> int | None:
    """The threshold in days that was crossed and not warned of yet (`warned`: the last one)."""
    left = expires_on - now
    crossed = [days for days in WARN_DAYS if left <= timedelta(days=days)]
    if not crossed or (warned is not None and crossed[-1] >= warned):
        return None
    return crossed[-1]
