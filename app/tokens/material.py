"""A credential as it was read at one moment: what MSAL takes, and what may be said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from app.config.model import Application
    from app.tokens.hidden import Hidden


class Identity(NamedTuple):
    """Whom the broker is towards Entra: the part of a cache key that no reload can give away.

    The authority stands beside the tenant: the same ids in another cloud are somebody else.
    """

    authority: str
    tenant_id: str
    client_id: str


class Registration(NamedTuple):
    """An app registration and how its authority is reached."""

    identity: Identity
    ca_file: Path | None = None

    @classmethod
    def of(cls, application: Application) -> Registration:
        return cls(
            Identity(
                application.authority, application.tenant_id.lower(), str(application.client_id)
            ),
            application.ca_file,
        )


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Material:
    """Either `msal_credential` or `obtain` is set.

    `fingerprint` changes when another secret or certificate stands behind the same reference. It
    never leaves this process: guesses of a secret could be tried against it.
    """

    kind: str
    id: str
    """What a person finds it by: a thumbprint as the portal shows it, or where it comes from."""
    fingerprint: str = field(repr=False)
    expires_on: datetime | None = None
    thumbprint_sha256: str | None = None
    msal_credential: Hidden[str | dict[str, Any]] | None = field(default=None, repr=False)
    obtain: Callable[[str], dict[str, Any]] | None = field(default=None, repr=False)
    """Blocking: a token answer for a resource, without a confidential client (a managed identity
    that is the application itself).
    """

    def __reduce__(self) -> NoReturn:
        raise TypeError("a credential is not pickled")
