"""A small Key Vault: secrets, certificates, and keys that sign without ever leaving it.

Versions, the challenge, the errors and the two addresses of a certificate (public, and as a
secret with its key) are as in dataverse-reference 7.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    load_pem_private_key,
    pkcs12,
)

from app.sandbox.entra import jws
from app.sandbox.entra.faults import Faults, Scene
from app.sandbox.exchange import (
    BodyTooLong,
    Receive,
    Scope,
    Send,
    cut,
    header,
    json_answer,
    read_body,
    respond,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

RESOURCE = "https://vault.azure.net"

_PKCS12 = "application/x-pkcs12"
_PEM = "application/x-pem-file"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}


class VaultRefused(Exception):
    """Ends a request with one of Key Vault's errors."""

    def __init__(self, status: int, code: str, message: str, *, inner: str | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.content: dict[str, Any] = {"error": {"code": code, "message": message}}
        if inner is not None:
            self.content["error"]["innererror"] = {"code": inner}


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a secret or a certificate; a certificate also has key and public half."""

    version: str
    created: datetime
    value: str = field(repr=False)
    content_type: str | None
    expires: datetime | None = None
    enabled: bool = True
    key: RSAPrivateKey | None = field(default=None, repr=False)
    certificate: x509.Certificate | None = field(default=None, repr=False)


class KeyVaultApp:
    """One vault. `verify` says whose token this is, or None; whoever holds a good one may read.

    `challenge_resource` is what the 401 names: Microsoft's clients insist that the vault's host
    lies below it.
    """

    def __init__(
        self,
        *,
        public_url: str,
        authority: str,
        verify: Callable[[str], dict[str, Any] | None],
        clock: Callable[[], datetime],
        challenge_resource: str = RESOURCE,
    ) -> None:
        self.public_url = public_url.rstrip("/")
        self.faults = Faults()
        self.requests = 0
        """Those with a good token; challenges are not counted."""
        self.forbidden: frozenset[str] = frozenset()
        """Client ids that have a token but no role here."""
        self._authority = authority
        self._verify = verify
        self._clock = clock
        self._challenge_resource = challenge_resource
        self._secrets: dict[str, list[Version]] = {}
        self._certificates: dict[str, list[Version]] = {}

    def put_secret(self, name: str, value: str, *, expires: datetime | None = None) -> str:
        """A new version, the latest one; returns its id."""
        version = Version(
            version=uuid4().hex,
            created=self._clock(),
            value=value,
            content_type="text/plain",
            expires=expires,
        )
        self._secrets.setdefault(name, []).append(version)
        return version.version

    def put_certificate(self, name: str, pem: bytes, *, as_pem: bool = False) -> str:
        """Key and certificate from a PEM; `as_pem`: the form that its secret comes in."""
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, RSAPrivateKey):
            raise TypeError("the sandbox's vault keeps RSA keys only")
        certificate = x509.load_pem_x509_certificates(pem)[0]
        pfx = pkcs12.serialize_key_and_certificates(
            name.encode(), key, certificate, None, NoEncryption()
        )
        version = Version(
            version=uuid4().hex,
            created=self._clock(),
            value=pem.decode("ascii") if as_pem else base64.b64encode(pfx).decode("ascii"),
            content_type=_PEM if as_pem else _PKCS12,
            expires=certificate.not_valid_after_utc,
            key=key,
            certificate=certificate,
        )
        self._certificates.setdefault(name, []).append(version)
        self._secrets.setdefault(name, []).append(version)
        return version.version

    def disable(self, name: str) -> None:
        """The latest version of that secret: there, but not to be read."""
        versions = self._secrets[name]
        versions[-1] = replace(versions[-1], enabled=False)

    def delete(self, name: str) -> None:
        self._secrets.pop(name, None)
        self._certificates.pop(name, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            body = await read_body(receive)
            self._authorize(scope)
            fault = self.faults.meet(Scene, client_id=None)
            if fault is not None and await fault.happens():
                await (respond(send, fault.answer) if fault.answer else cut(scope, receive))
                return
            answer = json_answer(self._found(scope, body))
        except BodyTooLong:
            answer = json_answer({"error": {"code": "RequestTooLarge"}}, status=413)
        except VaultRefused as refused:
            answer = json_answer(
                refused.content, status=refused.status, headers=self._challenge(refused.status)
            )
        await respond(send, answer)

    def _challenge(self, status: int) -> tuple[tuple[str, str], ...]:
        if status != 401:
            return ()
        value = f'Bearer authorization="{self._authority}", resource="{self._challenge_resource}"'
        return (("www-authenticate", value),)

    def _authorize(self, scope: Scope) -> None:
        kind, _, token = (header(scope, "authorization") or "").partition(" ")
        if kind.lower() != "bearer" or not token:
            message = "AKV10000: Request is missing a Bearer or PoP token."
            raise VaultRefused(401, "Unauthorized", message)
        claims = self._verify(token)
        if claims is None:
            raise VaultRefused(401, "Unauthorized", "AKV10032: Invalid token.")
        self.requests += 1
        if claims.get("appid") in self.forbidden:
            message = "Caller is not authorized to perform action on resource."
            raise VaultRefused(403, "Forbidden", message, inner="ForbiddenByRbac")

    def _found(self, scope: Scope, body: bytes) -> Any:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if not query.get("api-version"):
            raise VaultRefused(400, "BadParameter", "api-version must be specified")
        # Microsoft's SDK asks for the latest version with an empty last segment.
        kind, *rest = scope["path"].strip("/").split("/")
        match (scope["method"], kind, *rest, *[""] * (3 - len(rest))):
            case "GET", "secrets", str(name), str(version), "" if name:
                return self._secret(name, version)
            case "GET", "certificates", str(name), str(version), "" if name:
                return self._certificate(name, version)
            case "GET", "keys", str(name), str(version), "" if name:
                return self._key(name, version)
            case "POST", "keys", str(name), "sign", "" if name:
                return self._signature(name, "", body)
            case "POST", "keys", str(name), str(version), "sign" if name:
                return self._signature(name, version, body)
            case _:
                raise VaultRefused(
                    404, "ResourceNotFound", "The sandbox's vault has no such address."
                )

    def _secret(self, name: str, version: str) -> Any:
        found = _version(self._secrets, name, version, kind="Secret")
        if not found.enabled:
            message = "Operation get is not allowed on a disabled secret."
            raise VaultRefused(403, "Forbidden", message, inner="SecretDisabled")
        content: dict[str, Any] = {
            "value": found.value,
            "contentType": found.content_type,
            "id": f"{self.public_url}/secrets/{name}/{found.version}",
            "attributes": _attributes(found),
            "tags": {},
        }
        if found.certificate is not None:
            content |= {"kid": self._key_id(name, found), "managed": True}
        return content

    def _certificate(self, name: str, version: str) -> Any:
        found = _version(self._certificates, name, version, kind="Certificate")
        assert found.certificate is not None
        der = found.certificate.public_bytes(Encoding.DER)
        return {
            "id": f"{self.public_url}/certificates/{name}/{found.version}",
            "kid": self._key_id(name, found),
            "sid": f"{self.public_url}/secrets/{name}/{found.version}",
            "x5t": jws.b64url(hashlib.sha1(der, usedforsecurity=False).digest()),
            "cer": base64.b64encode(der).decode("ascii"),
            "attributes": _attributes(found),
            "tags": {},
        }

    def _key(self, name: str, version: str) -> Any:
        found = _version(self._certificates, name, version, kind="Key")
        assert found.key is not None
        operations = {"key_ops": ["sign", "verify"]}
        jwk = jws.to_jwk(found.key.public_key(), key_id=self._key_id(name, found), **operations)
        del jwk["use"]
        return {"key": jwk, "attributes": _attributes(found), "tags": {}, "managed": True}

    def _signature(self, name: str, version: str, body: bytes) -> Any:
        found = _version(self._certificates, name, version, kind="Key")
        assert found.key is not None
        algorithm, digest = _sign_request(body)
        hashing = _HASHES[algorithm[2:]]
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if algorithm.startswith("PS"):
            scheme = padding.PSS(mgf=padding.MGF1(hashing), salt_length=hashing.digest_size)
        signature = found.key.sign(digest, scheme, utils.Prehashed(hashing))
        return {"kid": self._key_id(name, found), "value": jws.b64url(signature)}

    def _key_id(self, name: str, found: Version) -> str:
        return f"{self.public_url}/keys/{name}/{found.version}"


def _sign_request(body: bytes) -> tuple[str, bytes]:
    """The algorithm and the digest: the service signs a digest, never a message."""
    try:
        content = json.loads(body)
        algorithm, digest = content["alg"], jws.from_b64url(content["value"])
    except (ValueError, KeyError, TypeError, AttributeError, jws.Malformed):
        raise VaultRefused(400, "BadParameter", "Property 'value' has invalid value") from None
    known = isinstance(algorithm, str) and algorithm[:2] in {"RS", "PS"}
    if not known or algorithm[2:] not in _HASHES:
        raise VaultRefused(400, "BadParameter", "Property 'alg' has invalid value")
    if len(digest) != _HASHES[algorithm[2:]].digest_size:
        raise VaultRefused(400, "BadParameter", "Invalid length of 'value'")
    return algorithm, digest


def _version(versions: dict[str, list[Version]], name: str, version: str, *, kind: str) -> Version:
    """The one that is named, or the latest."""
    for found in reversed(versions.get(name, [])):
        if version in {"", found.version}:
            return found
    message = (
        f"A {kind.lower()} with (name/id) {name}/{version} was not found in this key vault. If you"
        f" recently deleted this {kind.lower()} you may be able to recover it using the correct"
        " recovery command."
    )
    raise VaultRefused(404, f"{kind}NotFound", message)


def _attributes(found: Version) -> dict[str, Any]:
    created = int(found.created.timestamp())
    attributes: dict[str, Any] = {
        "enabled": found.enabled,
        "created": created,
        "updated": created,
        "recoveryLevel": "Recoverable+Purgeable",
    }
    if found.expires is not None:
        attributes["exp"] = int(found.expires.timestamp())
    return attributes
