"""From a configured credential to what MSAL takes. Blocking: it reads files, vaults, endpoints."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Protocol

from pydantic import SecretBytes  # noqa: TC002 - part of a Protocol that is read at run time

from app.config.model import (
    Application,
    CertificateCredential,
    ClientSecretCredential,
    Credential,
    EnvReference,
    FederatedTokenCredential,
    FileReference,
    KeyVaultReference,
    KeyVaultSignerCredential,
    ManagedIdentityCredential,
)
from app.errors import BrokerError
from app.tokens.assertions import signed_assertion, token_from_file
from app.tokens.certificates import CertificateUnusable, SigningCertificate, read_certificate
from app.tokens.failure import Cause, Failure
from app.tokens.hidden import Hidden
from app.tokens.managed_identity import ManagedIdentity
from app.tokens.material import Material
from app.tokens.wire import Unanswered

if TYPE_CHECKING:
    from app.config.model import KeyVaultKeyName, KeyVaultName
    from app.tokens.assertions import Signer

Reference = EnvReference | FileReference | KeyVaultReference


class Secrets(Protocol):
    """What the references of the configuration lead to."""

    def data(self, reference: Reference) -> SecretBytes:
        """Raises a `BrokerError` that names the reference and what is wrong with it."""
        ...


class VaultSecret(Protocol):
    @property
    def value(self) -> Hidden[str]: ...
    @property
    def version(self) -> str: ...
    @property
    def expires_on(self) -> datetime | None: ...


class VaultSigner(Protocol):
    """A certificate whose key stays in the vault."""

    @property
    def certificate(self) -> bytes:
        """DER."""
        ...

    @property
    def sign(self) -> Signer: ...


class Vaults(Protocol):
    """Key vaults, blocking. Both raise a `BrokerError` that says what is wrong."""

    def secret(self, name: KeyVaultName) -> VaultSecret: ...
    def signer(self, name: KeyVaultKeyName) -> VaultSigner: ...


def unreadable(meaning: str, remedy: str) -> Unanswered:
    return Unanswered(Failure(cause=Cause.CREDENTIAL_UNREADABLE, meaning=meaning, remedy=remedy))


class CredentialReader:
    """Reads credentials of any kind. `vaults` is None where the extra `azure` is not installed."""

    def __init__(self, secrets: Secrets, vaults: Vaults | None = None) -> None:
        self._secrets = secrets
        self._vaults = vaults

    def read(self, application: Application, credential: Credential) -> Material:
        """Raises `Unanswered` with what is wrong with it; never quotes it."""
        match credential:
            case ClientSecretCredential():
                return self._client_secret(credential)
            case CertificateCredential():
                return self._certificate(credential)
            case FederatedTokenCredential():
                return _federated_token(credential)
            case ManagedIdentityCredential():
                return _managed_identity(application, credential)
            case KeyVaultSignerCredential():
                return self._key_vault_signer(credential)

    def _client_secret(self, credential: ClientSecretCredential) -> Material:
        content, expires_on = self._resolve(credential.client_secret)
        where = describe(credential.client_secret)
        secret = _text(content, where)
        if isinstance(credential.expires, date):
            expires_on = datetime.combine(credential.expires, time.min, UTC)
        return Material(
            kind="client_secret",
            id=where,
            fingerprint=hashlib.sha256(secret.encode()).hexdigest(),
            expires_on=expires_on,
            msal_credential=Hidden(secret),
        )

    def _certificate(self, credential: CertificateCredential) -> Material:
        content, _ = self._resolve(credential.certificate)
        passphrase = None
        if credential.passphrase is not None:
            phrase, _ = self._resolve(credential.passphrase)
            passphrase = _text(phrase, describe(credential.passphrase))
        try:
            certificate = read_certificate(content.open(), passphrase)
        except CertificateUnusable as error:
            raise unreadable(
                f"the certificate in {describe(credential.certificate)} cannot be used: {error}",
                "Give a PEM with key and certificate, or a PFX.",
            ) from error
        return _of_certificate(certificate)

    def _key_vault_signer(self, credential: KeyVaultSignerCredential) -> Material:
        name = credential.key_vault_signer
        try:
            signer = self._need_vaults().signer(name)
            return signed_assertion(signer.certificate, signer.sign)
        except BrokerError as error:
            raise unreadable(
                error.detail, f"Check the certificate {name.certificate} of {name.vault}."
            ) from error

    def _resolve(self, reference: Reference) -> tuple[Hidden[bytes], datetime | None]:
        try:
            if isinstance(reference, KeyVaultReference) and self._vaults is not None:
                found = self._vaults.secret(reference.key_vault)
                return Hidden(found.value.open().encode()), found.expires_on
            return Hidden(self._secrets.data(reference).get_secret_value()), None
        except BrokerError as error:
            raise unreadable(error.detail, f"Check {describe(reference)}.") from error

    def _need_vaults(self) -> Vaults:
        if self._vaults is None:
            raise unreadable("key vaults cannot be used", "Install dataverse-token-broker[azure].")
        return self._vaults


def _text(content: Hidden[bytes], where: str) -> str:
    """Without the line end that editors and `echo` put behind it."""
    try:
        text = content.open().decode().strip("\r\n")
    except UnicodeDecodeError:
        # Not chained: its message quotes the bytes.
        raise unreadable(f"{where} is not text", "Put the secret's value there.") from None
    if not text:
        raise unreadable(f"{where} is empty", "Put the secret's value there.")
    return text


def describe(reference: Reference) -> str:
    match reference:
        case EnvReference(env=name):
            return f"the environment variable {name}"
        case FileReference(file=path):
            return f"the file {path}"
        case KeyVaultReference(key_vault=name):
            return f"the secret {name.name} of {name.vault}"


def _of_certificate(certificate: SigningCertificate) -> Material:
    return Material(
        kind="certificate",
        id=certificate.thumbprint_sha1.upper(),
        thumbprint_sha256=certificate.thumbprint,
        fingerprint=certificate.thumbprint,
        expires_on=certificate.not_after,
        # Without a `thumbprint` of ours, MSAL signs PS256 and names the certificate by x5t#S256.
        msal_credential=Hidden(
            {"private_key": certificate.key.open(), "public_certificate": certificate.chain_pem}
        ),
    )


def _federated_token(credential: FederatedTokenCredential) -> Material:
    path = credential.federated_token.file
    return Material(
        kind="federated_token",
        id=str(path),
        fingerprint=f"federated_token:{path}",
        # A callable, so that the file is read for each request: whoever renews it does not tell.
        msal_credential=Hidden({"client_assertion": lambda: token_from_file(path)}),
    )


def _managed_identity(application: Application, credential: ManagedIdentityCredential) -> Material:
    wanted = credential.managed_identity.client_id
    identity = ManagedIdentity(client_id=str(wanted) if wanted else None)
    name = identity.name
    if wanted == application.client_id:
        # The managed identity *is* the application: its own token is the application's.
        return Material(
            kind="managed_identity", id=name, fingerprint=f"direct:{name}", obtain=identity.obtain
        )
    # It stands for the application: its token proves who asks, through a federated credential on
    # the app registration. Whichever credential is used, the token is the same application's.
    audience = identity.exchange_audience(application.authority)
    return Material(
        kind="managed_identity",
        id=name,
        fingerprint=f"federated:{name}:{audience}",
        msal_credential=Hidden({"client_assertion": lambda: identity.assertion(audience)}),
    )
