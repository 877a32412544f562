"""Signing and checking the broker's own tokens with joserfc.

A module of its own, since joserfc costs a twentieth of a second: it is imported with the first
token, and not with the broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from app.identity.broker_tokens import ALGORITHM
from app.identity.pinned import pinned

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Signatures:
    """What one Ed25519 key signs, in compact form (RFC 7515, RFC 8037)."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._private = OKPKey.import_key(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        self._public = OKPKey.import_key(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )

    def sign(self, header: dict[str, str], content: bytes) -> str:
        registry = pinned(ALGORITHM)
        return jws.serialize_compact(header, content, self._private, registry=registry)

    def content(self, token: bytes) -> bytes | None:
        """What was signed; None where the signature is not this key's."""
        try:
            return jws.deserialize_compact(token, self._public, registry=pinned(ALGORITHM)).payload
        except (JoseError, ValueError, TypeError):
            return None
