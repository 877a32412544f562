"""What a token says of itself, read without trusting it: for whoever looks for a mistake.

Nothing is decided by this. Whether a token is good is for Dataverse and Entra to say.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class UnverifiedClaims:
    """None for what the token does not say, or says in a form that is none."""

    audience: str | None
    application_id: str | None
    """`appid` of a 1.0 token, `azp` of a 2.0 one."""
    tenant_id: str | None
    expires_on: datetime | None


def read_unverified(token: str) -> UnverifiedClaims | None:
    """None where the token is no JWT: Entra does not promise that its tokens are."""
    claims = unverified_payload(token)
    if claims is None:
        return None
    expires = claims.get("exp")
    return UnverifiedClaims(
        audience=_text(claims.get("aud")),
        application_id=_text(claims.get("appid")) or _text(claims.get("azp")),
        tenant_id=_text(claims.get("tid")),
        expires_on=_moment(expires),
    )


def unverified_payload(token: str) -> dict[str, Any] | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _moment(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        return None
