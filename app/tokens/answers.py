"""What an answer of Entra's says: a token, or why there is none. Pure.

Nothing of an answer is quoted but its numbers and its `error` word: descriptions repeat what was
sent, and a malformed answer may hold a token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from app.tokens.failure import Cause, Failure
from app.tokens.hidden import Hidden
from app.tokens.lease import SAFETY_MARGIN
from app.tokens.remedies import remedy_for

TOKEN_CHARACTERS_MAX = 64 * 1024
"""Longer than any header that Dataverse accepts."""

LIFETIME_MAX_S = 28 * 3600
"""The longest that Entra issues, under continuous access evaluation; anything above is nonsense."""

_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""b64token (RFC 6750, 2.1): what may stand in an Authorization header."""

_ERROR_WORD = re.compile(r"[A-Za-z_]{1,64}")
_CODE = re.compile(r"AADSTS(\d{4,9})")
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Obtained:
    """A token as Entra gave it, its times relative to when it was asked for."""

    token: Hidden[str] = field(repr=False, compare=False)
    lifetime_s: float
    refresh_in_s: float | None = None


def malformed(meaning: str) -> Failure:
    return Failure(
        cause=Cause.ENTRA_MALFORMED,
        meaning=f"Entra's answer cannot be read: {meaning}",
        remedy="It is tried again by itself. If it stays: is there a proxy between the broker "
        "and the authority, and does authority name an Entra?",
    )


def read_token(answer: object) -> Obtained | Failure:
    """Judge a token answer that MSAL passed on; a 200 proves nothing."""
    if not isinstance(answer, dict):
        return malformed("it is no JSON object")
    token = answer.get("access_token")
    if not isinstance(token, str) or not token:
        return malformed("it has no access_token")
    if len(token) > TOKEN_CHARACTERS_MAX or not _BEARER.fullmatch(token):
        return malformed("its access_token is none that a header can carry")
    kind = answer.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        return malformed("its token_type is not Bearer")
    lifetime_s = _seconds(answer.get("expires_in"))
    if lifetime_s is None or lifetime_s > LIFETIME_MAX_S:
        return malformed("its expires_in is missing or out of range")
    if lifetime_s <= SAFETY_MARGIN.total_seconds():
        return malformed("its token is as good as expired")
    return Obtained(
        token=Hidden(token),
        lifetime_s=lifetime_s,
        refresh_in_s=_seconds(answer.get("refresh_in")),
    )


def _seconds(value: object) -> float | None:
    """A whole number above zero; the v1 endpoint and managed identities write it as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return None
    return float(value)


def read_refusal(
    answer: object, *, status: int | None, retry_after_s: float | None = None
) -> Failure:
    """Explain an error answer, whatever it consists of."""
    members: dict[Any, Any] = answer if isinstance(answer, dict) else {}
    aadsts = _aadsts(members)
    error = members.get("error")
    if not isinstance(error, str) or not _ERROR_WORD.fullmatch(error):
        error = None
    trace_id = members.get("trace_id")
    if not isinstance(trace_id, str) or not _GUID.fullmatch(trace_id):
        trace_id = None
    known = remedy_for(aadsts=aadsts, error=error, status=status)
    return Failure(
        cause=known.cause,
        meaning=known.meaning,
        remedy=known.remedy,
        aadsts=aadsts,
        entra_error=error,
        status=status,
        trace_id=trace_id,
        retry_after_s=retry_after_s,
    )


def _aadsts(members: dict[Any, Any]) -> int | None:
    codes = members.get("error_codes")
    if isinstance(codes, list) and codes:
        first = codes[0]
        if isinstance(first, int) and not isinstance(first, bool) and 0 < first < 10**9:
            return first
    description = members.get("error_description")
    found = _CODE.search(description) if isinstance(description, str) else None
    return int(found[1]) if found else None
