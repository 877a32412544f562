from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app.sandbox.dataverse.app import DataverseApp
from app.sandbox.dataverse.rights import add_application_user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

URL = "https://contoso.crm4.dynamics.com"
API = f"{URL}/api/data/v9.2"
ADMIN = "aaaaaaaa-1111-4111-8111-000000000001"
LOADER = "aaaaaaaa-1111-4111-8111-000000000002"
STRANGER = "aaaaaaaa-1111-4111-8111-00000000000f"
NOON = datetime(2024, 7, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Someone:
    """The token is the application id: signatures are somebody else's."""

    application_id: str
    claims: Mapping[str, Any] = field(default_factory=dict)


def verify(token: str) -> Someone | None:
    return Someone(token) if len(token) == 36 else None


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def app() -> DataverseApp:
    app = DataverseApp(verify_token=verify, public_url=URL, clock=lambda: NOON)
    add_application_user(app.store, application_id=ADMIN, name="admin")
    add_application_user(
        app.store, application_id=LOADER, name="loader", roles=("Invoice Integration",)
    )
    return app


def client_of(app: DataverseApp, token: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app),
        base_url=f"{API}/",
        headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
    )


@pytest.fixture
async def client(app: DataverseApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, ADMIN) as client:
        yield client


@pytest.fixture
async def loader(app: DataverseApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, LOADER) as client:
        yield client
