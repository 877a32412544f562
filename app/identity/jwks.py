"""The public keys of one issuer, fetched over HTTP and kept while the issuer is away."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from app.config.words import document_url
from app.identity.refusal import IssuerUnavailable, Unrecognised

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from joserfc.jwk import Key

    from app.config.model import Issuer

log = structlog.get_logger(__name__)

REFRESH_INTERVAL_S: Final = 60.0
"""However many unknown `kid`s strangers send, the issuer is asked no oftener."""

FIRST_INTERVAL_S: Final = 5.0
"""While there is no key at all, nobody can be recognised, so it is tried sooner."""

STALE_AFTER_S: Final = 3600.0
"""A key that the issuer withdrew is believed no longer than that, while the issuer answers."""

TIMEOUT_S: Final = 5.0
DOCUMENT_BYTES_MAX: Final = 512 * 1024
KEYS_MAX: Final = 100

_RSA_BITS_MIN: Final = 2048
_FAMILIES: Final = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
"""Key type and curve that each algorithm needs (RFC 7518, 3.1; RFC 8037; RFC 9864)."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key of an issuer, and what its JWK says that it is for."""

    kid: str | None
    family: tuple[str, str | None]
    algorithm: str | None
    issuer: str | None
    """Entra's multi-tenant key sets say for which issuer each key signs."""
    key: Key

    def suits(self, algorithm: str) -> bool:
        needed = _FAMILIES[algorithm]
        return self.family == needed and self.algorithm in {None, algorithm}


class Jwks:
    """One issuer's keys. `find` is the only way to one; it asks the issuer when it must."""

    def __init__(self, issuer: Issuer, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._monotonic = monotonic
        self._keys: tuple[VerifyingKey, ...] | None = None
        self._fetched_at = float("-inf")
        self._attempted_at = float("-inf")
        self._failed = False
        self._flight = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None
        """Held, since the event loop holds tasks weakly; it answers its own errors."""

    async def find(self, kid: str | None, algorithm: str) -> VerifyingKey:
        """The one key that may have signed this. Raises `Unrecognised` or `IssuerUnavailable`."""
        key = self._known(kid, algorithm)
        if key is None:
            await self._refresh()
            key = self._known(kid, algorithm)
        elif self._monotonic() - self._fetched_at > STALE_AFTER_S:
            self._renew()
        if key is None:
            if self._failed:
                raise IssuerUnavailable(retry_after_s=int(self._interval()))
            raise Unrecognised("jwt-key-unknown")
        return key

    def _known(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        suitable = [key for key in self._keys or () if key.suits(algorithm)]
        if kid is not None:
            suitable = [key for key in suitable if key.kid == kid]
        # Several would mean to try one after the other until one fits: refused.
        return suitable[0] if len(suitable) == 1 else None

    def _interval(self) -> float:
        return REFRESH_INTERVAL_S if self._keys is not None else FIRST_INTERVAL_S

    def _renew(self) -> None:
        """Refresh beside the request: with a key at hand nobody waits for a slow issuer."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._refresh())

    async def _refresh(self) -> None:
        async with self._flight:
            previous = self._attempted_at
            if self._monotonic() - previous < self._interval():
                return
            # Of no use before the first JWT, and 3 MiB; imported beside the loop, since it takes
            # as long as a hundred requests.
            await asyncio.to_thread(import_module, "httpx2")
            import httpx2  # noqa: PLC0415

            self._attempted_at = self._monotonic()
            try:
                self._keys = await self._fetch()
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, RecursionError) as e:
                self._failed = True
                # The kind is enough: a message can quote what the other side sent.
                log.warning(
                    "issuer.keys_failed", issuer=self._issuer.issuer, error=type(e).__name__
                )
            except asyncio.CancelledError:
                # The request that waited went away; the next one may ask at once.
                self._attempted_at = previous
                raise
            else:
                self._failed = False
                self._fetched_at = self._monotonic()
                log.info("issuer.keys_fetched", issuer=self._issuer.issuer, keys=len(self._keys))

    async def _fetch(self) -> tuple[VerifyingKey, ...]:
        import httpx2  # noqa: PLC0415 - there by now, as in `_refresh`

        # Reading a bundle of CAs takes tens of milliseconds; each time, since it may have changed.
        tls = await asyncio.to_thread(self._tls_context)
        async with httpx2.AsyncClient(verify=tls, timeout=TIMEOUT_S) as client:
            async with asyncio.timeout(2 * TIMEOUT_S):
                uri = self._issuer.jwks_uri or await self._discover(client)
                document = await self._get(client, uri)
        entries = document.get("keys")
        if not isinstance(entries, list) or len(entries) > KEYS_MAX:
            raise ValueError("the key set has no list of keys")
        keys = tuple(key for entry in entries if (key := _read_key(entry)) is not None)
        if not keys:
            raise ValueError("the key set has no usable key")
        return keys

    async def _discover(self, client: httpx2.AsyncClient) -> str:
        """OpenID Connect Discovery 1.0, 4: the document must speak for this very issuer."""
        base = self._issuer.issuer.rstrip("/")
        document = await self._get(client, f"{base}/.well-known/openid-configuration")
        uri = document.get("jwks_uri")
        if document.get("issuer") != self._issuer.issuer or not isinstance(uri, str):
            raise ValueError("the discovery document is another issuer's, or has no jwks_uri")
        return document_url(uri)

    async def _get(self, client: httpx2.AsyncClient, uri: str) -> dict[str, Any]:
        """One JSON object. Redirects are not followed, so that no answer chooses the host."""
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if self._issuer.token_file is not None and self._may_have_token(uri):
            token = await asyncio.to_thread(self._issuer.token_file.read_text)
            headers["authorization"] = f"Bearer {token.strip()}"
        content = bytearray()
        async with client.stream("GET", uri, headers=headers) as answer:
            if answer.status_code != 200:
                raise ValueError(f"status {answer.status_code}")
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > DOCUMENT_BYTES_MAX:
                    raise ValueError("the document is too long")
        document = json.loads(content)
        if not isinstance(document, dict):
            raise ValueError("the document is no object")  # noqa: TRY004 - it came over the wire
        return document

    def _may_have_token(self, uri: str) -> bool:
        """Only for places that the configuration names: a discovery document may name any."""
        if uri == self._issuer.jwks_uri:
            return True
        own, asked = urlsplit(self._issuer.issuer), urlsplit(uri)
        return (own.scheme, own.netloc) == (asked.scheme, asked.netloc)

    def _tls_context(self) -> ssl.SSLContext:
        if self._issuer.ca_file is not None:
            return ssl.create_default_context(cafile=self._issuer.ca_file)
        import httpx2  # noqa: PLC0415 - there by now, as in `_refresh`

        return httpx2.create_ssl_context()


def _read_key(entry: Any) -> VerifyingKey | None:
    """None for what cannot check a signature here: symmetric, private, short or unknown keys.

    One such key makes no set unusable: issuers add kinds that older readers do not know.
    """
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    public = {name: entry[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in entry}
    kid, algorithm, issuer = entry.get("kid"), entry.get("alg"), entry.get("issuer")
    if not all(value is None or isinstance(value, str) for value in (kid, algorithm, issuer)):
        return None
    try:
        match public.get("kty"):
            case "RSA":
                # Checked before joserfc sees it, which only warns.
                if _bits(public["n"]) < _RSA_BITS_MIN:
                    return None
                key: Key = RSAKey.import_key(public)
                family: tuple[str, str | None] = ("RSA", None)
            case "EC":
                key = ECKey.import_key(public)
                family = ("EC", public["crv"])
            case "OKP":
                key = OKPKey.import_key(public)
                family = ("OKP", public["crv"])
            case _:
                return None
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return VerifyingKey(kid, family, algorithm, issuer, key)


def _bits(number: str) -> int:
    """The length of a base64url number without its leading zeros."""
    padded = number + "=" * (-len(number) % 4)
    return int.from_bytes(base64.urlsafe_b64decode(padded)).bit_length()
