"""Signatures of checkpoints and tombstones: Ed25519, or ECDSA on P-256 with SHA-256."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey


def key_id(key: PublicKey) -> str:
    """The first 128 bits of the SHA-256 of the key's SubjectPublicKeyInfo, base64url."""
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.urlsafe_b64encode(hashlib.sha256(spki).digest()[:16]).rstrip(b"=").decode()


class CheckpointSigner:
    """Signs with one private key."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._kid = key_id(key.public_key())

    def __repr__(self) -> str:
        return f"CheckpointSigner(kid={self._kid!r})"

    @property
    def public_key(self) -> PublicKey:
        return self._key.public_key()

    def sign(self, data: bytes) -> tuple[str, bytes]:
        if isinstance(self._key, Ed25519PrivateKey):
            return self._kid, self._key.sign(data)
        return self._kid, self._key.sign(data, ec.ECDSA(hashes.SHA256()))


class CheckpointKeys:
    """Checks against several public keys, so that keys can overlap."""

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self._keys = {key_id(key): key for key in keys}

    def verify(self, kid: str, data: bytes, signature: bytes) -> bool:
        key = self._keys[kid]
        try:
            if isinstance(key, Ed25519PublicKey):
                key.verify(signature, data)
            else:
                key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True
