"""A lease: one access token, for as long as it may be used."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from app.tokens.hidden import Hidden

SAFETY_MARGIN = timedelta(seconds=30)
"""A token this close to its end is not sent: it could expire on the way."""

FINGERPRINT_CHARACTERS = 16
"""64 bits: enough to tell tokens apart in a log, useless to find one."""


def fingerprint_of(token: str, key: bytes = b"") -> str:
    """The beginning of the token's HMAC-SHA-256, safe to log.

    Without a key, replicas agree on it, and so does whoever holds the token: an auditor can match
    a token that was found somewhere with its record. A token is too random to be guessed back.
    """
    if key:
        digest = hmac.new(key, token.encode(), hashlib.sha256).hexdigest()
    else:
        digest = hashlib.sha256(token.encode()).hexdigest()
    return digest[:FINGERPRINT_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Lease:
    """A token for one resource, as one application. Make it with `Lease.of`."""

    hidden_token: Hidden[tuple[str, bytes]] = field(repr=False, compare=False)
    expires_on: datetime
    resource: str
    application: str
    fingerprint: str

    @classmethod
    def of(
        cls,
        token: str,
        *,
        expires_on: datetime,
        resource: str,
        application: str,
        fingerprint_key: bytes = b"",
    ) -> Lease:
        if expires_on.tzinfo is None:
            raise ValueError("expires_on must be aware")
        return cls(
            hidden_token=Hidden((token, b"Bearer " + token.encode("ascii"))),
            expires_on=expires_on.astimezone(UTC),
            resource=resource,
            application=application,
            fingerprint=fingerprint_of(token, fingerprint_key),
        )

    def authorization(self) -> bytes:
        """The Authorization header's value. Call it on the line that sends it."""
        return self.hidden_token.open()[1]

    def access_token(self) -> str:
        """The raw token, for a caller that may hold one. Call it on the line that sends it."""
        return self.hidden_token.open()[0]

    def is_good(self, now: datetime) -> bool:
        """Whether it can be sent now and still be valid when it arrives."""
        return now < self.expires_on - SAFETY_MARGIN

    def named(self, application: str) -> Lease:
        """The same token under another name: two names may stand for one app registration."""
        return replace(self, application=application)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease is not pickled: its token lives in the memory of one process")
