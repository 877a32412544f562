"""Access tokens: signing them, and telling whether one is good for an audience."""

from __future__ import annotations

import hashlib
import random
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.sandbox.entra import jws

if TYPE_CHECKING:
    from app.sandbox.entra.directory import RegisteredApplication, Resource, Tenant

BACKDATED = timedelta(minutes=5)
"""`nbf` and `iat` lie this far back, as in Entra's own tokens, for clocks that are late."""

_LIFETIME_S = (3599, 5399)
"""Entra's default: random, 60 to 90 minutes (dataverse-reference 1.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """How long tokens live. Nothing set: as Entra does without a policy."""

    expires_in: timedelta | None = None
    refresh_in: timedelta | None = None
    """Said beside `expires_in`, as Entra does for tokens that live long."""

    def draw(self) -> timedelta:
        return self.expires_in or timedelta(seconds=random.randint(*_LIFETIME_S))


class SigningKey:
    def __init__(self, private_key: rsa.RSAPrivateKey) -> None:
        self._private_key = private_key
        self.public_key = private_key.public_key()
        der = self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = jws.b64url(hashlib.sha256(der).digest()[:20])

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def sign(self, claims: dict[str, Any]) -> str:
        header = {"kid": self.key_id, "x5t": self.key_id}
        return jws.sign(claims, self._private_key, header=header)


class KeyRing:
    """The keys that the JWKS shows; the newest signs."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = keys or (SigningKey.generate(),)

    def rotate(self) -> SigningKey:
        """Sign with a new key; tokens under the older ones stay good until `retire_old`."""
        newest = SigningKey.generate()
        self.keys = (*self.keys, newest)
        return newest

    def retire_old(self) -> None:
        self.keys = self.keys[-1:]

    def sign(self, claims: dict[str, Any]) -> str:
        return self.keys[-1].sign(claims)

    def verified_claims(self, token: str) -> dict[str, Any] | None:
        """None for what is malformed, of an unknown key, or not signed by it with RS256."""
        try:
            parsed = jws.read(token)
        except jws.Malformed:
            return None
        key = next((k for k in self.keys if k.key_id == parsed.header.get("kid")), None)
        if key is None or not parsed.signed_by(key.public_key, algorithms=frozenset({"RS256"})):
            return None
        return parsed.unverified_claims

    def jwks(self, *, issuer: str) -> dict[str, Any]:
        return {
            "keys": [
                jws.to_jwk(key.public_key, key_id=key.key_id, x5t=key.key_id, issuer=issuer)
                for key in self.keys
            ]
        }


def issuer(public_url: str, tenant_id: str, *, version: str) -> str:
    suffix = "v2.0" if version == "2.0" else ""
    return f"{public_url}/{tenant_id}/{suffix}"


def access_claims(
    *,
    tenant: Tenant,
    application: RegisteredApplication,
    resource: Resource,
    audience: str,
    by_certificate: bool,
    public_url: str,
    now: datetime,
    lifetime: timedelta,
) -> dict[str, Any]:
    """What an app-only token says, in the form (1.0 or 2.0) that the resource takes."""
    version = resource.version
    issued = int((now - BACKDATED).timestamp())
    own_issuer = issuer(public_url, tenant.tenant_id, version=version)
    acr = "2" if by_certificate else "1"
    claims: dict[str, Any] = {
        "aud": audience,
        "iss": own_issuer,
        "iat": issued,
        "nbf": issued,
        "exp": int((now + lifetime).timestamp()),
        "aio": secrets.token_urlsafe(24),
        "idtyp": "app",
        "oid": application.object_id,
        "rh": secrets.token_urlsafe(12),
        "sub": application.object_id,
        "tid": tenant.tenant_id,
        "uti": secrets.token_urlsafe(16),
        "ver": version,
    }
    if version == "2.0":
        claims |= {"azp": application.client_id, "azpacr": acr}
    else:
        claims |= {
            "appid": application.client_id,
            "appidacr": acr,
            "idp": own_issuer,
        }
    if application.roles:
        claims["roles"] = list(application.roles)
    return claims


def is_good_for(claims: dict[str, Any], audience: str, *, public_url: str, now: datetime) -> bool:
    """Ours, in time, and for that audience, trailing slashes aside."""
    stamp = now.astimezone(UTC).timestamp()
    return (
        str(claims.get("iss", "")).startswith(f"{public_url}/")
        and claims["nbf"] <= stamp < claims["exp"]
        and str(claims.get("aud", "")).rstrip("/").lower() == audience.rstrip("/").lower()
    )
