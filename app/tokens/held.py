"""One configured credential, as it was read, and how it has fared."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.tokens.failure import Cause, Failure

if TYPE_CHECKING:
    from datetime import datetime

    from app.config.model import Credential
    from app.tokens.material import Material


@dataclass(slots=True, eq=False)
class Held:
    """One credential and how it has fared. Times are monotonic, but for those of `..._wall`."""

    credential: Credential
    position: int
    material: Material | None = field(default=None, repr=False)
    proven: bool = False
    superseded: bool = False
    """Something newer stands behind the same reference, and is not proven yet."""
    failures: int = 0
    failure: Failure | None = None
    retry_at: float = 0.0
    put_aside_at: float = 0.0
    succeeded_wall: float | None = None
    failed_wall: float | None = None
    looked_up_expiry: datetime | None = None
    """Where the secret itself does not tell, from Microsoft Graph."""
    look_up_at: float = 0.0
    warned_days: int | None = None
    """The last warning of its expiry that was given."""
    reading: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def aside(self) -> bool:
        return self.failures > 0

    @property
    def expires_on(self) -> datetime | None:
        own = self.material.expires_on if self.material else None
        return own or self.looked_up_expiry

    def readable(self) -> bool:
        """It can be read: where it could not, that is over. True where it may be tried again."""
        if self.failure is None or self.failure.cause is not Cause.CREDENTIAL_UNREADABLE:
            return False
        again = self.aside
        self.failures, self.failure, self.retry_at = 0, None, 0.0
        return again

    def renew(self, material: Material) -> None:
        """Something else stands behind the reference: what was known of it is over."""
        self.material = material
        self.proven = False
        self.failures = 0
        self.failure = None
        self.retry_at = 0.0
        self.looked_up_expiry = None
        self.look_up_at = 0.0
        self.warned_days = None
