"""A clock that is moved by hand, an Entra that is scripted, and certificates to sign with."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydantic import SecretBytes

from app.config.model import (
    Application,
    ClientSecretCredential,
    Credential,
    EnvReference,
    FileReference,
    KeyVaultReference,
)
from app.errors import Misconfigured
from app.tokens.answers import Obtained
from app.tokens.failure import Cause, Failure
from app.tokens.hidden import Hidden
from app.tokens.remedies import REMEDIES
from app.tokens.wire import Unanswered

if TYPE_CHECKING:
    from app.tokens.credentials import CredentialReader
    from app.tokens.material import Material, Registration

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENANT = "8b1f7a52-0000-4000-8000-000000000001"
CLIENT = UUID("5c2e9d10-0000-4000-8000-000000000001")
CONTOSO = "https://contoso.crm4.dynamics.com"
FABRIKAM = "https://fabrikam.crm4.dynamics.com"

Answer = Obtained | Failure


class FakeClock:
    def __init__(self, now: datetime = NOON) -> None:
        self._wall = now.timestamp()
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def set_wall(self, by: timedelta) -> None:
        self._wall += by.total_seconds()

    async def sleep(self, seconds: float) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), done))
        await done

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking whoever sleeps, in order."""
        end = self._monotonic + seconds
        while True:
            await settle()
            if not self._sleepers or self._sleepers[0][0] > end:
                break
            at, _, done = heapq.heappop(self._sleepers)
            self._wall += at - self._monotonic
            self._monotonic = at
            if not done.done():
                done.set_result(None)
        self._wall += end - self._monotonic
        self._monotonic = end
        await settle()


async def settle() -> None:
    """Let everything run that can run now."""
    for _ in range(20):
        await asyncio.sleep(0)


class FakeSecrets:
    def __init__(self, **values: str | bytes) -> None:
        self.values = values

    def data(self, reference: EnvReference | FileReference | KeyVaultReference) -> SecretBytes:
        assert isinstance(reference, EnvReference)
        value = self.values.get(reference.env)
        if value is None:
            raise Misconfigured("secret-missing", f"the variable {reference.env} is not set")
        return SecretBytes(value if isinstance(value, bytes) else value.encode())


@dataclass
class FakeEntra:
    """Answers by secret: `answers[secret]` is a list that is used up, its last one stays."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    gate: asyncio.Event | None = None
    reads: int = 0
    closed: bool = False

    async def read(
        self, reader: CredentialReader, application: Application, credential: Credential
    ) -> Material | Failure:
        self.reads += 1
        try:
            return reader.read(application, credential)
        except Unanswered as unanswered:
            return unanswered.failure

    async def request(
        self, _registration: Registration, material: Material, resource: str
    ) -> Obtained | Failure:
        assert material.msal_credential is not None
        secret = material.msal_credential.open()
        assert isinstance(secret, str)
        self.asked.append((secret, resource))
        if self.gate is not None:
            await self.gate.wait()
        script = self.answers.get(secret)
        if script is None:
            return token(f"{secret}-{len(self.asked)}")
        return script.pop(0) if len(script) > 1 else script[0]

    async def aclose(self) -> None:
        self.closed = True


class Counted:
    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str]] = []

    def token_request(self, application: str, outcome: str) -> None:
        self.outcomes.append((application, outcome))


def token(
    name: str = "t", *, lifetime_s: float = 3600, refresh_in_s: float | None = None
) -> Obtained:
    return Obtained(Hidden(f"token.{name}"), lifetime_s, refresh_in_s)


def refused(aadsts: int, *, retry_after_s: float | None = None) -> Failure:
    known = REMEDIES[aadsts]
    return Failure(
        cause=known.cause,
        meaning=known.meaning,
        remedy=known.remedy,
        aadsts=aadsts,
        entra_error="invalid_client",
        retry_after_s=retry_after_s,
    )


def down(*, retry_after_s: float | None = None) -> Failure:
    return Failure(
        cause=Cause.ENTRA_UNREACHABLE,
        meaning="Entra answers with a fault",
        remedy="It is tried again by itself.",
        status=503,
        retry_after_s=retry_after_s,
    )


def secret_credential(name: str, *, expires: datetime | None = None) -> ClientSecretCredential:
    return ClientSecretCredential(
        client_secret=EnvReference(env=name), expires=expires.date() if expires else None
    )


def application(*credentials: Credential, client_id: UUID = CLIENT) -> Application:
    return Application(
        tenant_id=TENANT, client_id=client_id, credentials=credentials or (secret_credential("A"),)
    )


@dataclass(frozen=True)
class Issued:
    """A self-signed certificate and its key."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def issue(
    name: str = "erp", *, not_after: datetime = NOON + timedelta(days=365), bits: int = 2048
) -> Issued:
    key = rsa.generate_private_key(65537, bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_after - timedelta(days=730))
        .not_valid_after(not_after)
        .sign(key, hashes.SHA256())
    )
    return Issued(key, certificate)
