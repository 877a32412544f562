"""JWTs: signature and claims checked once, remembered by hash; whose they are decided each time."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from joserfc import jws
from joserfc.errors import JoseError

from app.identity.caller import Caller, IdentityRef
from app.identity.claims import check_claims, check_header, read_object, segments
from app.identity.jwks import Jwks
from app.identity.matching import Matching
from app.identity.pinned import pinned
from app.identity.refusal import Unrecognised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.config.model import Caller as CallerConfig
    from app.config.model import Configuration, Issuer
    from app.identity.claims import Claims
    from app.identity.jwks import VerifyingKey
    from app.identity.uses import Uses

REMEMBERED_MAX: Final = 4096
"""Tokens, some hundred bytes each: ten times the callers that one process serves."""

REMEMBERED_S: Final = 3600.0
"""A key that its issuer withdrew stops counting within the hour, however long its tokens live."""

SUBJECT_SHOWN: Final = 200


@dataclass(slots=True)
class _Trusted:
    """An issuer of the configuration that counts."""

    name: str
    config: Issuer
    jwks: Jwks
    matching: Matching


@dataclass(frozen=True, slots=True)
class _Verified:
    """Of a token that was checked: what decides whose it is, and until when it counts."""

    issuer: str
    claims: Claims = field(repr=False)
    identity: IdentityRef
    until: float


class Jwts:
    """The tokens of the configuration's issuers."""

    def __init__(self, uses: Uses) -> None:
        self._uses = uses
        self._issuers: dict[str, _Trusted] = {}
        """By the `iss` of their tokens."""
        self._verified: dict[bytes, _Verified] = {}

    def reload(self, configuration: Configuration) -> None:
        """Keep keys and verifications of issuers that have not changed in any way."""
        issuers = {
            config.issuer: self._trusted(name, config, configuration.callers)
            for name, config in configuration.issuers.items()
        }
        unchanged = {iss for iss, new in issuers.items() if self._is_as_before(iss, new)}
        self._verified = {
            digest: verified
            for digest, verified in self._verified.items()
            if verified.issuer in unchanged
        }
        self._issuers = issuers

    def _trusted(self, name: str, config: Issuer, callers: Mapping[str, CallerConfig]) -> _Trusted:
        known = self._issuers.get(config.issuer)
        jwks = known.jwks if known is not None and known.config == config else Jwks(config)
        return _Trusted(name, config, jwks, Matching(callers, name, self._uses))

    def _is_as_before(self, iss: str, new: _Trusted) -> bool:
        known = self._issuers.get(iss)
        # Where other claims decide now, those that were remembered are not enough.
        return (
            known is not None
            and (known.name, known.config) == (new.name, new.config)
            and known.matching.claims >= new.matching.claims
        )

    def remembered(self, token: bytes, *, now: float) -> Caller | None:
        """The caller of a token that was verified before; None for one to be verified."""
        verified = self._verified.get(sha256(token).digest())
        if verified is None or now >= verified.until:
            return None
        return self._caller(verified, now=now)

    async def caller(self, token: bytes, *, now: float) -> Caller:
        """Whose token this is. Raises `Unrecognised` or `IssuerUnavailable`."""
        caller = self.remembered(token, now=now)
        if caller is not None:
            return caller
        header, unverified_claims = segments(token)
        algorithm, kid = check_header(header)
        iss = unverified_claims.get("iss")
        trusted = self._issuers.get(iss) if isinstance(iss, str) else None
        if trusted is None:
            raise Unrecognised("jwt-issuer-unknown")
        if algorithm not in trusted.config.algorithms:
            raise Unrecognised("jwt-algorithm")
        key = await trusted.jwks.find(kid, algorithm)
        if self._issuers.get(trusted.config.issuer) is not trusted:
            # A reload came while the keys were fetched: today's rules, from the start.
            return await self.caller(token, now=now)
        claims = _signed_claims(token, key, algorithm)
        _check_key_is_of_issuer(key, claims)
        until = check_claims(claims, trusted.config, now=now)
        verified = _Verified(
            issuer=trusted.config.issuer,
            claims={name: claims[name] for name in trusted.matching.claims if name in claims},
            identity=IdentityRef("jwt", f"{trusted.name}:{_subject(claims)}"),
            until=min(until, now + REMEMBERED_S),
        )
        caller = self._caller(verified, now=now)
        # Only what is somebody's, or any other application of the tenant could fill the memory.
        while len(self._verified) >= REMEMBERED_MAX:
            # The oldest: callers that are still there have it verified once more.
            del self._verified[next(iter(self._verified))]
        self._verified[sha256(token).digest()] = verified
        return caller

    def _caller(self, verified: _Verified, *, now: float) -> Caller:
        found = self._issuers[verified.issuer].matching.caller(verified.claims)
        found.use.seen_as = verified.identity.id
        found.use.last_at = now
        return Caller(found.name, verified.identity, found.config)


def _signed_claims(token: bytes, key: VerifyingKey, algorithm: str) -> Claims:
    try:
        signed = jws.deserialize_compact(token, key.key, registry=pinned(algorithm))
    except (JoseError, ValueError, TypeError):
        raise Unrecognised("jwt-signature") from None
    if signed.payload is None:
        raise Unrecognised("jwt-malformed")
    return read_object(signed.payload)


def _check_key_is_of_issuer(key: VerifyingKey, claims: Claims) -> None:
    """Entra signs for all tenants with few keys; where a key names its issuer, that counts.

    Version 1 tokens have an issuer on another host than the keys name, so hosts must be equal
    first (Entra, "Access tokens": validate the signing key issuer).
    """
    if key.issuer is None:
        return
    iss = str(claims.get("iss"))
    named = key.issuer.replace("{tenantid}", str(claims.get("tid")))
    if named.split("/")[:3] == iss.split("/")[:3] and named != iss:
        raise Unrecognised("jwt-key-unknown")


def _subject(claims: Mapping[str, Any]) -> str:
    """For the record: who the issuer says it is, without what could deface a log."""
    for claim in ("sub", "azp", "appid", "oid"):
        value = claims.get(claim)
        if isinstance(value, str) and value:
            shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)
            return shown if len(shown) <= SUBJECT_SHOWN else shown[:SUBJECT_SHOWN] + "…"
    return "-"
