"""One signing key, and the keys for single purposes that are derived from it.

Nothing is signed with the key itself: each purpose gets a key of its own by HKDF (RFC 5869), so
that what one of them signs can never pass for another's. A second key in the file is accepted
and never used to sign: that is how keys overlap.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.errors import Misconfigured
from app.odata.seals import SealKey

_PEM = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )?PRIVATE KEY-----.*?-----END (?:[A-Z0-9]+ )?PRIVATE KEY-----\s*",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys by purpose; the first of each signs."""

    _secrets: tuple[bytes, ...] = field(repr=False)

    def seals(self) -> tuple[SealKey, ...]:
        derived = [_derive(s, "seals") for s in self._secrets]
        return tuple(SealKey(_id(key), key) for key in derived)

    def checkpoints(self) -> tuple[Ed25519PrivateKey, ...]:
        return tuple(
            Ed25519PrivateKey.from_private_bytes(_derive(s, "checkpoints")) for s in self._secrets
        )

    def broker_tokens(self) -> tuple[Ed25519PrivateKey, ...]:
        return tuple(
            Ed25519PrivateKey.from_private_bytes(_derive(s, "broker tokens")) for s in self._secrets
        )

    def fingerprints(self) -> bytes:
        return _derive(self._secrets[0], "fingerprints")


def _derive(secret: bytes, purpose: str) -> bytes:
    info = f"dataverse-token-broker {purpose}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret)


def _id(key: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(b"id" + key).digest()[:4]).decode().rstrip("=")


def read_keyring(pem: bytes) -> Keyring:
    """One or more PEM private keys without a passphrase. Raises `Misconfigured`."""
    secrets: list[bytes] = []
    for block in _PEM.findall(pem):
        try:
            key = serialization.load_pem_private_key(block, password=None)
            secrets.append(
                key.private_bytes(
                    serialization.Encoding.DER,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Misconfigured(
                "signing-key-invalid",
                "BROKER_SIGNING_KEY_FILE: a private key cannot be read; make one with"
                " 'openssl genpkey -algorithm ed25519'",
            ) from None
    if not secrets:
        raise Misconfigured(
            "signing-key-invalid",
            "BROKER_SIGNING_KEY_FILE: holds no PEM private key; make one with"
            " 'openssl genpkey -algorithm ed25519'",
        )
    return Keyring(tuple(secrets))


def new_key() -> bytes:
    """A fresh Ed25519 private key as PEM."""
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
