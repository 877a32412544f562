"""Pure: what a JWT says, read strictly, and whether that is meant for us and still true."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from app.identity.refusal import Unrecognised

if TYPE_CHECKING:
    from app.config.model import Issuer

LEEWAY_S: Final = 60.0
"""Clocks of two machines differ; by more, one of them is wrong."""

Claims = dict[str, Any]

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]+")

_OF_A_PERSON: Final = frozenset({"scp", "nonce", "at_hash", "c_hash"})
"""`scp`: delegated by a person (Entra). The others stand in ID tokens, which say who signed in."""

_ENTRA: Final = ("https://login.microsoftonline.", "https://sts.windows.net/")
"""An app-only token of Entra always names its client; `azp` in version 2, `appid` in 1."""


def segments(token: bytes) -> tuple[Claims, Claims]:
    """Header and unverified claims of a signed JWT in compact form. Raises `Unrecognised`.

    Keys that stand twice are refused: another reader might take the other one.
    """
    parts = token.decode("latin-1").split(".")
    if len(parts) != 3 or not parts[2]:
        raise Unrecognised("jwt-malformed")
    return read_object(_decoded(parts[0])), read_object(_decoded(parts[1]))


def read_object(content: bytes) -> Claims:
    """A JSON object (RFC 8259) without repeated keys or NaN. Raises `Unrecognised`."""
    try:
        value = json.loads(
            content.decode(), object_pairs_hook=_without_repeats, parse_constant=_refuse
        )
    except (ValueError, RecursionError):
        raise Unrecognised("jwt-malformed") from None
    if not isinstance(value, dict):
        raise Unrecognised("jwt-malformed")
    return value


def check_header(header: Claims) -> tuple[str, str | None]:
    """The algorithm and the key's id. Raises `Unrecognised` for headers that bring a key along.

    `jku`, `x5u`, `jwk` and `x5c` ask to believe a key that the token itself names; `crit` asks
    for an extension, of which the broker has none.
    """
    if header.keys() & {"jku", "x5u", "jwk", "x5c", "crit", "b64", "zip", "enc"}:
        raise Unrecognised("jwt-malformed")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
        raise Unrecognised("jwt-malformed")
    return algorithm, kid


def check_claims(claims: Claims, issuer: Issuer, *, now: float) -> float:
    """When the verified token ends, in seconds since 1970, leeway included.

    Raises `Unrecognised` where it is not for the broker, not valid now, or a person's.
    """
    if claims.get("iss") != issuer.issuer:
        raise Unrecognised("jwt-issuer-unknown")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(a, str) for a in audiences):
        raise Unrecognised("jwt-audience")
    if not set(audiences) & set(issuer.audiences):
        raise Unrecognised("jwt-audience")
    if "cnf" in claims:
        # Bound to a key that its sender must prove to hold (RFC 7800); as a mere bearer token it
        # is a stolen one.
        raise Unrecognised("jwt-claims")
    ends_at = _moment(claims, "exp")
    if ends_at is None:
        # A token without an end is a password (Kubernetes' legacy tokens have none).
        raise Unrecognised("jwt-claims")
    if now >= ends_at + LEEWAY_S:
        raise Unrecognised("jwt-expired")
    for name in ("nbf", "iat"):
        begins_at = _moment(claims, name)
        if begins_at is not None and begins_at > now + LEEWAY_S:
            raise Unrecognised("jwt-not-yet-valid")
    if issuer.app_only:
        _check_app_only(claims)
    return ends_at + LEEWAY_S


def _check_app_only(claims: Claims) -> None:
    if claims.keys() & _OF_A_PERSON or claims.get("idtyp", "app") != "app":
        raise Unrecognised("jwt-for-a-person")
    if claims["iss"].startswith(_ENTRA) and not claims.keys() & {"azp", "appid"}:
        raise Unrecognised("jwt-for-a-person")


def _moment(claims: Claims, name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unrecognised("jwt-claims")
    try:
        moment = float(value)
    except OverflowError:
        raise Unrecognised("jwt-claims") from None
    if not math.isfinite(moment):  # 1e999 is a number in JSON
        raise Unrecognised("jwt-claims")
    return moment


def _decoded(segment: str) -> bytes:
    if not _SEGMENT.fullmatch(segment):
        raise Unrecognised("jwt-malformed")
    try:
        return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        raise Unrecognised("jwt-malformed") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> Claims:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")
