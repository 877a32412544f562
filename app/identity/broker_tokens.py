"""Tokens of the broker's own: signed for a caller here, and read here when it comes with one.

A broker token says who its caller is and, where it was asked for one environment's base, where
it may go; what it may do there is decided by the configuration of the moment, each time. It is a
JWT as RFC 9068 has them.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.identity.caller import Caller, IdentityRef
from app.identity.claims import LEEWAY_S, read_object
from app.identity.refusal import Unrecognised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from app.config.model import Caller as CallerConfig
    from app.config.model import Configuration
    from app.identity.signatures import Signatures

LIFETIME: Final = timedelta(minutes=15)
"""Long enough that client libraries keep it (MSAL keeps nothing below five minutes), short enough
that a stolen one is soon worth nothing.
"""

ALGORITHM: Final = "EdDSA"

REMEMBERED_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key, and the first segment that every token signed with it begins with."""

    kid: str
    head: bytes
    public: bytes
    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> TokenKey:
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        thumbprint = sha256(_compact(_jwk(public))).digest()  # RFC 7638
        kid = _encoded(thumbprint).decode("ascii")
        return cls(kid, _encoded(_compact(_header(kid))), public, private)

    def jwk(self) -> dict[str, str]:
        return {**_jwk(self.public), "kid": self.kid, "use": "sig", "alg": ALGORITHM}


@dataclass(frozen=True, slots=True)
class _Verified:
    """What a token said whose signature and time were checked."""

    subject: str
    environment: str | None
    token_id: str
    until: float


class BrokerTokens:
    """The first key signs; all of them are believed, so that a key is changed without a gap."""

    def __init__(self, keys: tuple[Ed25519PrivateKey, ...]) -> None:
        self._keys = tuple(TokenKey.of(key) for key in keys)
        self._by_head = {key.head: key for key in self._keys}
        self._signing: dict[str, Signatures] = {}
        self._public_url = ""
        self._callers: Mapping[str, CallerConfig] = {}
        self._verified: dict[bytes, _Verified] = {}
        self._narrowed: dict[tuple[str, str], CallerConfig] = {}

    def reload(self, configuration: Configuration) -> None:
        """Whoever is no caller any more, or another's name, opens nothing from now on."""
        if configuration.public_url != self._public_url:
            self._verified.clear()
        self._public_url = configuration.public_url
        self._callers = configuration.callers
        self._narrowed = {}

    def jwks(self) -> bytes:
        """The public keys as a JWK Set (RFC 7517)."""
        return _compact({"keys": [key.jwk() for key in self._keys]})

    # ---------------------------------------------------------------- giving

    def audience(self, environment: str | None) -> str:
        """The URL that a token is good for: the broker's, or an environment's base at it."""
        if environment is None:
            return self._public_url
        return f"{self._public_url}/environments/{environment}"

    def give(
        self, caller: str, *, environment: str | None, token_id: str, now: datetime
    ) -> tuple[str, datetime]:
        """A fresh token and its end. `token_id` is the id of the record that tells of it."""
        issued_at = int(now.timestamp())
        ends_at = issued_at + int(LIFETIME.total_seconds())
        claims = {
            "iss": self._public_url,
            "aud": self.audience(environment),
            "sub": caller,
            "client_id": caller,
            "iat": issued_at,
            "exp": ends_at,
            "jti": token_id,
        }
        key = self._keys[0]
        token = self._signatures(key).sign(_header(key.kid), _compact(claims))
        return token, datetime.fromtimestamp(ends_at, UTC)

    # --------------------------------------------------------------- reading

    def are(self, token: bytes) -> bool:
        """Whether the token claims to be one of these: nobody else's begins like them."""
        return token.partition(b".")[0] in self._by_head

    def remembered(self, token: bytes, *, now: float) -> Caller | None:
        """The caller of a token that was verified before; None for one to be verified."""
        verified = self._verified.get(sha256(token).digest())
        if verified is None or now >= verified.until:
            return None
        return self._caller(verified)

    def caller(self, token: bytes, *, now: float) -> Caller:
        """Whose token this is. Raises `Unrecognised`."""
        caller = self.remembered(token, now=now)
        if caller is not None:
            return caller
        verified = self._read(token, now=now)
        caller = self._caller(verified)
        while len(self._verified) >= REMEMBERED_MAX:
            del self._verified[next(iter(self._verified))]
        self._verified[sha256(token).digest()] = verified
        return caller

    def _read(self, token: bytes, *, now: float) -> _Verified:
        key = self._by_head.get(token.partition(b".")[0])
        if key is None:
            raise Unrecognised("jwt-key-unknown")
        content = self._signatures(key).content(token)
        if content is None:
            raise Unrecognised("jwt-signature")
        claims = read_object(content)
        if claims["iss"] != self._public_url:
            # The same key under another configuration: a copy of this broker, elsewhere.
            raise Unrecognised("jwt-issuer-unknown")
        if now >= claims["exp"]:
            raise Unrecognised("jwt-expired")
        if claims["iat"] > now + LEEWAY_S:
            raise Unrecognised("jwt-not-yet-valid")
        return _Verified(
            claims["sub"], self._environment(claims["aud"]), claims["jti"], claims["exp"]
        )

    def _signatures(self, key: TokenKey) -> Signatures:
        found = self._signing.get(key.kid)
        if found is None:
            from app.identity.signatures import Signatures  # noqa: PLC0415 - see there

            found = self._signing[key.kid] = Signatures(key.private)
        return found

    def _environment(self, audience: str) -> str | None:
        if audience == self._public_url:
            return None
        base = f"{self._public_url}/environments/"
        if not audience.startswith(base):
            raise Unrecognised("jwt-audience")
        return audience.removeprefix(base)

    def _caller(self, verified: _Verified) -> Caller:
        name, environment = verified.subject, verified.environment
        config = self._callers.get(name)
        if config is None:
            raise Unrecognised("caller-unknown")
        if config.disabled:
            raise Unrecognised("caller-disabled", caller=name)
        if environment is not None:
            config = self._in_one_environment(name, config, environment)
        return Caller(name, IdentityRef("broker_token", verified.token_id), config)

    def _in_one_environment(
        self, name: str, config: CallerConfig, environment: str
    ) -> CallerConfig:
        """What is left of a caller there: other environments are closed, and roles reach all."""
        narrowed = self._narrowed.get((name, environment))
        if narrowed is None:
            grants = tuple(g for g in config.grants if g.environment == environment)
            narrowed = config.model_copy(
                update={"grants": grants, "default_environment": None, "roles": ()}
            )
            self._narrowed[name, environment] = narrowed
        return narrowed


def _header(kid: str) -> dict[str, str]:
    return {"alg": ALGORITHM, "kid": kid, "typ": "at+jwt"}


def _jwk(public: bytes) -> dict[str, str]:
    """The members that the thumbprint is made of, in its order (RFC 8037, 2)."""
    return {"crv": "Ed25519", "kty": "OKP", "x": _encoded(public).decode("ascii")}


def _compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
