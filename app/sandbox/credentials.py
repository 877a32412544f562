"""The applications that live in the sandbox, and what they prove themselves with."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from app.sandbox.entra.directory import ClientSecret, RegisteredApplication, RegisteredCertificate
from app.sandbox.tls import write_private

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

TENANT_ID = "8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9012"

WITH_SECRET = "erp-invoices"  # noqa: S105 - a name
WITH_CERTIFICATE = "erp-reporting"
OF_LEGACY_JOB = "erp-legacy"
"""Its tokens are handed out, so it is nobody else's."""
ADMINISTRATOR = "platform-admin"

CLIENT_IDS = {
    WITH_SECRET: "5c2e9d10-7f3a-4b8c-8d6e-1a2b3c4d5e01",
    WITH_CERTIFICATE: "5c2e9d10-7f3a-4b8c-8d6e-1a2b3c4d5e02",
    OF_LEGACY_JOB: "5c2e9d10-7f3a-4b8c-8d6e-1a2b3c4d5e03",
    ADMINISTRATOR: "5c2e9d10-7f3a-4b8c-8d6e-1a2b3c4d5e0a",
}
MANAGED_IDENTITY = "managed-identity"
MANAGED_IDENTITY_CLIENT_ID = "5c2e9d10-7f3a-4b8c-8d6e-1a2b3c4d5e04"

YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """One key and certificate, in both forms that applications keep them in."""

    pem_file: Path
    """Private key, then certificate."""
    pfx_file: Path
    pfx_passphrase: str = field(repr=False)
    certificate: x509.Certificate = field(repr=False)

    @property
    def thumbprint(self) -> str:
        """SHA-1 in hexadecimal, as portals show it and MSAL takes it."""
        return RegisteredCertificate(self.certificate).thumbprint().hex().upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationCredentials:
    """What someone who runs as this application has to hand."""

    name: str
    tenant_id: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    secret_expires: datetime | None = None
    certificate: CertificateFiles | None = None


def make_applications(
    directory: Path, *, now: datetime
) -> tuple[dict[str, ApplicationCredentials], tuple[RegisteredApplication, ...]]:
    """Both sides: what the applications hold, and what the directory knows of it."""
    held: dict[str, ApplicationCredentials] = {}
    registered = []
    for name, client_id in CLIENT_IDS.items():
        application = RegisteredApplication(client_id=client_id, name=name)
        if name == WITH_CERTIFICATE:
            files = certificate_files(directory, common_name=name, now=now)
            application.certificates = (RegisteredCertificate(files.certificate),)
            credentials = ApplicationCredentials(
                name=name, tenant_id=TENANT_ID, client_id=client_id, certificate=files
            )
        else:
            secret = secrets.token_urlsafe(30)
            application.secrets = (ClientSecret(value=secret, expires=now + YEAR),)
            credentials = ApplicationCredentials(
                name=name,
                tenant_id=TENANT_ID,
                client_id=client_id,
                client_secret=secret,
                secret_expires=now + YEAR,
            )
        held[name] = credentials
        registered.append(application)
    registered.append(
        RegisteredApplication(client_id=MANAGED_IDENTITY_CLIENT_ID, name=MANAGED_IDENTITY)
    )
    return held, tuple(registered)


def certificate_files(directory: Path, *, common_name: str, now: datetime) -> CertificateFiles:
    """Take the PEM that is there while it is good, or make one; write the PFX beside it."""
    pem_file, pfx_file = directory / f"{common_name}.pem", directory / f"{common_name}.pfx"
    pem = pem_file.read_bytes() if pem_file.exists() else b""
    if not pem or not RegisteredCertificate.from_pem(pem).is_current(now):
        pem = self_signed_pem(common_name=common_name, now=now)
        write_private(pem_file, pem)
    key = load_pem_private_key(pem, password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    certificate = x509.load_pem_x509_certificate(pem)
    passphrase = secrets.token_urlsafe(12)
    pfx = pkcs12.serialize_key_and_certificates(
        common_name.encode(), key, certificate, None, BestAvailableEncryption(passphrase.encode())
    )
    write_private(pfx_file, pfx)
    return CertificateFiles(
        pem_file=pem_file, pfx_file=pfx_file, pfx_passphrase=passphrase, certificate=certificate
    )


def self_signed_pem(*, common_name: str, now: datetime, valid_for: timedelta = YEAR) -> bytes:
    """An RSA key (PKCS#8) and its own certificate, good from an hour ago."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + valid_for)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
