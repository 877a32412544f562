"""Nobody we know: one answer to the stranger, the true reason for the record."""

from __future__ import annotations

from typing import Final, Literal

from app.errors import Unauthenticated, Unavailable

Reason = Literal[
    "no-credential",
    "malformed-credential",
    "credential-too-long",
    "unknown-key",
    "expired-key",
    "caller-disabled",
    "caller-unknown",
    "caller-name",
    "broker-token",
    "jwt-malformed",
    "jwt-issuer-unknown",
    "jwt-algorithm",
    "jwt-key-unknown",
    "jwt-signature",
    "jwt-audience",
    "jwt-expired",
    "jwt-not-yet-valid",
    "jwt-claims",
    "jwt-for-a-person",
    "jwt-matches-nobody",
    "jwt-matches-several",
    "certificate-malformed",
    "certificate-matches-nobody",
    "certificate-matches-several",
]

DETAIL: Final = (
    "No credential that the broker knows: send Authorization: Bearer with an API key or a JWT, "
    "or X-API-Key."
)
"""The same words whatever was wrong: they must not tell whether the caller exists."""


class Unrecognised(Unauthenticated):
    """`reason` and `caller` are for the log and the record; they never reach the answer.

    `caller` is set only where the credential is genuine: an expired key, a disabled caller.
    """

    def __init__(self, reason: Reason, *, caller: str | None = None) -> None:
        super().__init__("unauthenticated", DETAIL)
        self.reason = reason
        self.caller = caller


class IssuerUnavailable(Unavailable):
    """The keys of an issuer cannot be had, so its tokens can be neither believed nor refused."""

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__(
            "issuer-unavailable",
            "The issuer of this token cannot be asked for its keys; try again, or use an API key.",
            retry_after_s=retry_after_s,
        )
