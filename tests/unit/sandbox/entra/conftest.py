"""An Entra without sockets, a clock that stands still, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.sandbox.credentials import self_signed_pem
from app.sandbox.entra import jws
from app.sandbox.entra.app import EntraApp
from app.sandbox.entra.directory import (
    ClientSecret,
    Directory,
    RegisteredApplication,
    RegisteredCertificate,
    Resource,
    Tenant,
)
from app.sandbox.entra.tokens import KeyRing

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@dataclass(frozen=True)
class Signer:
    """Someone with a key and its certificate, who signs what he likes."""

    pem: bytes = field(repr=False)

    @property
    def key(self) -> RSAPrivateKey:
        key = load_pem_private_key(self.pem, password=None)
        assert isinstance(key, RSAPrivateKey)
        return key

    @property
    def registered(self) -> RegisteredCertificate:
        return RegisteredCertificate.from_pem(self.pem)

    def sign(
        self, claims: dict[str, Any], *, header: dict[str, Any], algorithm: str = "PS256"
    ) -> str:
        return jws.sign(claims, self.key, header=header, algorithm=algorithm)

    def jwks(self, key_id: str) -> dict[str, Any]:
        return {"keys": [jws.to_jwk(self.key.public_key(), key_id=key_id)]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer(self_signed_pem(common_name="erp", now=NOON))


@pytest.fixture(scope="session")
def stranger() -> Signer:
    return Signer(self_signed_pem(common_name="stranger", now=NOON))


@pytest.fixture(scope="session")
def short_lived() -> Signer:
    """His certificate ends an hour after noon."""
    pem = self_signed_pem(common_name="short", now=NOON, valid_for=timedelta(hours=1))
    return Signer(pem)


@pytest.fixture(scope="session")
def key_ring() -> KeyRing:
    """Made once: a key of 2,048 bits takes its time."""
    return KeyRing()


@pytest.fixture
def application(signer: Signer) -> RegisteredApplication:
    return RegisteredApplication(
        client_id="5c2e9d10-0000-4000-8000-000000000001",
        name="erp",
        secrets=(ClientSecret(value="s3cret+/%", expires=NOON + timedelta(days=1)),),
        certificates=(signer.registered,),
    )


@pytest.fixture
def tenant(application: RegisteredApplication) -> Tenant:
    tenant = Tenant(tenant_id="8b1f7a52-0000-4000-8000-000000000001", domain="contoso.example")
    tenant.register(application)
    tenant.add_resource(Resource(uri="https://contoso.example"))
    tenant.add_resource(Resource(uri="api://broker", version="2.0"))
    return tenant


@pytest.fixture
def entra(tenant: Tenant, clock: Clock, key_ring: KeyRing) -> EntraApp:
    return EntraApp(
        directory=Directory(tenant),
        public_url="https://entra.example",
        clock=clock,
        keys=KeyRing(*key_ring.keys),
    )


@pytest.fixture
async def client(entra: EntraApp) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=entra)
    async with httpx2.AsyncClient(transport=transport, base_url="https://entra.example") as client:
        yield client


Ask = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture
def ask(client: httpx2.AsyncClient, tenant: Tenant, application: RegisteredApplication) -> Ask:
    """A good token request, with what a test changes in it; None leaves a parameter out."""

    async def ask(
        *, path: str | None = None, headers: dict[str, str] | None = None, **changes: str | None
    ) -> httpx2.Response:
        form: dict[str, str | None] = {
            "grant_type": "client_credentials",
            "client_id": application.client_id,
            "client_secret": "s3cret+/%",
            "scope": "https://contoso.example/.default",
            **changes,
        }
        return await client.post(
            path or f"/{tenant.tenant_id}/oauth2/v2.0/token",
            data={name: value for name, value in form.items() if value is not None},
            headers=headers,
        )

    return ask
