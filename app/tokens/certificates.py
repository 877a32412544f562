"""A certificate with its private key, from PEM or PFX, as MSAL takes it. Pure."""

from __future__ import annotations

import base64
import binascii
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import pkcs12

from app.tokens.hidden import Hidden

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

KEY_BITS_MIN = 2048
"""Entra's own minimum."""


class CertificateUnusable(ValueError):
    """Says what is wrong with it; never quotes it."""


@dataclass(frozen=True, slots=True)
class SigningCertificate:
    """An RSA key and the chain whose first certificate belongs to it."""

    key: Hidden[RSAPrivateKey] = field(repr=False, compare=False)
    chain_pem: str = field(repr=False)
    thumbprint: str
    """SHA-256 of the DER in hexadecimal, as `openssl x509 -fingerprint -sha256` shows it."""
    thumbprint_sha1: str
    """As the Azure portal shows it."""
    not_before: datetime
    not_after: datetime


def read_certificate(content: bytes, passphrase: str | None = None) -> SigningCertificate:
    """From a PEM (key and chain, in any order), a PFX, or a PFX in base64 as Key Vault gives it.

    Raises `CertificateUnusable`.
    """
    secret = passphrase.encode() if passphrase else None
    if b"-----BEGIN " in content:
        return _from_pem(content, secret)
    return _from_pfx(content, secret)


def _from_pem(content: bytes, passphrase: bytes | None) -> SigningCertificate:
    if b"CERTIFICATE-----" not in content:
        raise CertificateUnusable("it holds no certificate; put key and chain into one PEM")
    encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in content or b"4,ENCRYPTED" in content
    if encrypted and passphrase is None:
        raise CertificateUnusable("its key is encrypted, and no passphrase is configured")
    try:
        # A passphrase for a key that has none is an error of cryptography's, but none of ours.
        key = serialization.load_pem_private_key(content, passphrase if encrypted else None)
    except (ValueError, TypeError) as error:
        why = "or the passphrase is wrong" if encrypted else "or holds none"
        raise CertificateUnusable(f"its private key cannot be read, {why}") from error
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise CertificateUnusable("its certificate cannot be read") from error
    return _signing(key, certificates)


def _from_pfx(content: bytes, passphrase: bytes | None) -> SigningCertificate:
    for der in _der_candidates(content):
        try:
            key, leaf, others = pkcs12.load_key_and_certificates(der, passphrase)
        except (ValueError, TypeError):
            continue
        if key is None or leaf is None:
            raise CertificateUnusable("the PFX lacks the private key or its certificate")
        return _signing(key, [leaf, *others])
    raise CertificateUnusable(
        "it is neither PEM nor a PFX that opens; is the passphrase right?"
        if passphrase
        else "it is neither PEM nor a PFX that opens; does it need a passphrase?"
    )


def _der_candidates(content: bytes) -> list[bytes]:
    candidates = [content]
    with contextlib.suppress(binascii.Error):
        candidates.append(base64.b64decode(b"".join(content.split()), validate=True))
    return candidates


def _signing(key: PrivateKeyTypes, certificates: list[x509.Certificate]) -> SigningCertificate:
    if not isinstance(key, RSAPrivateKey):
        raise CertificateUnusable("its key is not RSA, which Entra asks for")
    if key.key_size < KEY_BITS_MIN:
        raise CertificateUnusable(f"its key has less than {KEY_BITS_MIN} bits")
    numbers = key.public_key().public_numbers()
    leaf = next((c for c in certificates if _numbers_of(c) == numbers), None)
    if leaf is None:
        raise CertificateUnusable("no certificate in it belongs to its private key")
    # MSAL takes the first certificate for the thumbprint; files come in both orders.
    chain = [leaf, *(c for c in certificates if c != leaf)]
    return SigningCertificate(
        key=Hidden(key),
        chain_pem="".join(
            c.public_bytes(serialization.Encoding.PEM).decode("ascii") for c in chain
        ),
        thumbprint=leaf.fingerprint(hashes.SHA256()).hex(),
        thumbprint_sha1=leaf.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - a name, not a proof
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _numbers_of(certificate: x509.Certificate) -> object:
    numbers = getattr(certificate.public_key(), "public_numbers", None)
    return numbers() if callable(numbers) else None
