"""Signed JWTs in compact form (RFC 7515, RFC 7519), read as forgivingly as Entra reads them.

A strict library would refuse what real clients send: MSAL pads `x5t`, writes times as floats
and breaks the lines of `x5c` (dataverse-reference 1.3). Only RSA, which is all Entra takes.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    RSAPublicNumbers,
)

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
_PADDINGS: dict[str, padding.AsymmetricPadding] = {"RS256": padding.PKCS1v15(), "PS256": _PSS}


class Malformed(Exception):
    """Not a compact JWS with a JSON header and JSON claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unverified:
    """A token whose signature nobody has looked at yet."""

    header: dict[str, Any]
    unverified_claims: dict[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def signed_by(self, key: RSAPublicKey, *, algorithms: frozenset[str]) -> bool:
        algorithm = self.header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in algorithms:
            return False
        try:
            key.verify(self.signature, self.signed, _PADDINGS[algorithm], hashes.SHA256())
        except InvalidSignature:
            return False
        return True


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_b64url(text: str) -> bytes:
    """Padded or not. Raises `Malformed`."""
    bare = text.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed from error


def read(token: str) -> Unverified:
    """Raises `Malformed`, also for a header with `crit`: whoever cannot honour it refuses."""
    try:
        head, body, signature = token.split(".")
    except ValueError as error:
        raise Malformed from error
    header = _json_object(head)
    if "crit" in header:
        raise Malformed
    return Unverified(
        header=header,
        unverified_claims=_json_object(body),
        signed=f"{head}.{body}".encode("ascii"),
        signature=from_b64url(signature),
    )


def _json_object(part: str) -> dict[str, Any]:
    try:
        value = json.loads(from_b64url(part))
    except (ValueError, RecursionError) as error:
        raise Malformed from error
    if not isinstance(value, dict):
        raise Malformed
    return value


def sign(
    claims: dict[str, Any], key: RSAPrivateKey, *, header: dict[str, Any], algorithm: str = "RS256"
) -> str:
    head = b64url(_compact({"typ": "JWT", "alg": algorithm, **header}))
    signed = f"{head}.{b64url(_compact(claims))}"
    signature = key.sign(signed.encode("ascii"), _PADDINGS[algorithm], hashes.SHA256())
    return f"{signed}.{b64url(signature)}"


def _compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def to_jwk(key: RSAPublicKey, *, key_id: str, **members: Any) -> dict[str, Any]:
    numbers = key.public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "kid": key_id,
        "n": _number(numbers.n),
        "e": _number(numbers.e),
        **members,
    }


def _number(value: int) -> str:
    return b64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def from_jwk(jwk: dict[str, Any]) -> RSAPublicKey | None:
    """None for a key of another kind, which a JWKS may well hold."""
    if jwk.get("kty") != "RSA":
        return None
    n = int.from_bytes(from_b64url(jwk["n"]), "big")
    e = int.from_bytes(from_b64url(jwk["e"]), "big")
    return RSAPublicNumbers(e, n).public_key()
