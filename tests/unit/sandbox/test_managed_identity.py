from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app.sandbox.entra import faults
from app.sandbox.entra.app import EntraApp
from app.sandbox.entra.directory import Directory, RegisteredApplication, Resource, Tenant
from app.sandbox.entra.tokens import KeyRing, Lifetime
from app.sandbox.managed_identity import ManagedIdentityApp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RESOURCE = "https://contoso.example"
SYSTEM, USER = "5c2e9d10-0000-4000-8000-000000000001", "5c2e9d10-0000-4000-8000-000000000002"


@pytest.fixture(scope="module")
def keys() -> KeyRing:
    return KeyRing()


@pytest.fixture
def identity(keys: KeyRing) -> ManagedIdentityApp:
    tenant = Tenant(tenant_id="8b1f7a52-0000-4000-8000-000000000001")
    assigned = tuple(
        tenant.register(RegisteredApplication(client_id=client_id, name=client_id))
        for client_id in (SYSTEM, USER)
    )
    tenant.add_resource(Resource(uri=RESOURCE))
    entra = EntraApp(
        directory=Directory(tenant),
        public_url="https://entra.example",
        clock=lambda: NOON,
        keys=keys,
        lifetime=Lifetime(expires_in=timedelta(seconds=3600)),
    )
    return ManagedIdentityApp(entra=entra, tenant=tenant, assigned=assigned)


@pytest.fixture
async def client(identity: ManagedIdentityApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=identity), base_url="http://169.254.169.254"
    ) as client:
        yield client


def app_service(identity: ManagedIdentityApp, **changes: Any) -> dict[str, Any]:
    params = {"api-version": "2019-08-01", "resource": RESOURCE, **changes}
    return {
        "url": "/msi/token",
        "params": {name: value for name, value in params.items() if value is not None},
        "headers": {"X-IDENTITY-HEADER": identity.identity_header},
    }


def imds(**changes: Any) -> dict[str, Any]:
    params = {"api-version": "2018-02-01", "resource": RESOURCE, **changes}
    return {
        "url": "/metadata/identity/oauth2/token",
        "params": {name: value for name, value in params.items() if value is not None},
        "headers": {"Metadata": "true"},
    }


async def test_both_protocols_answer_with_what_every_sdk_needs(
    client: httpx2.AsyncClient, identity: ManagedIdentityApp
) -> None:
    for request in (app_service(identity), imds(), imds() | {"url": imds()["url"] + "/"}):
        answer = await client.get(**request)
        assert answer.status_code == 200
        content = answer.json()
        claims = identity._entra.verify(content["access_token"], RESOURCE)
        assert claims is not None
        assert claims["appid"] == SYSTEM
        assert content == {
            "access_token": content["access_token"],
            "token_type": "Bearer",
            "expires_in": "3600",
            "not_before": "1772366100",
            "expires_on": "1772370000",
            "resource": RESOURCE,
            "client_id": SYSTEM,
        }
        # .NET takes whichever of the two comes last.
        assert list(content).index("expires_in") < list(content).index("expires_on")


async def test_a_workload_may_choose_among_its_identities(
    client: httpx2.AsyncClient, identity: ManagedIdentityApp
) -> None:
    chosen = identity.assigned[1]
    for choice in ({"client_id": USER.upper()}, {"object_id": chosen.object_id}):
        for request in (app_service(identity, **choice), imds(**choice)):
            assert (await client.get(**request)).json()["client_id"] == USER


async def test_app_service_wants_its_header(
    client: httpx2.AsyncClient, identity: ManagedIdentityApp
) -> None:
    for headers in ({}, {"X-IDENTITY-HEADER": "guess"}):
        answer = await client.get(**(app_service(identity) | {"headers": headers}))
        assert answer.status_code == 401
        assert set(answer.json()) == {"statusCode", "message", "correlationId"}


@pytest.mark.parametrize(
    "changes",
    [
        {"api-version": None},
        {"api-version": "2017-09-01"},
        {"resource": None},
        {"resource": "https://elsewhere.example"},
        {"client_id": "5c2e9d10-0000-4000-8000-00000000dead"},
    ],
)
async def test_app_service_refuses_in_its_own_shape(
    client: httpx2.AsyncClient, identity: ManagedIdentityApp, changes: dict[str, Any]
) -> None:
    answer = await client.get(**app_service(identity, **changes))
    assert answer.status_code == 400
    assert set(answer.json()) == {"statusCode", "message", "correlationId"}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"api-version": None}, "invalid_request"),
        ({"resource": None}, "invalid_request"),
        ({"resource": "https://elsewhere.example"}, "invalid_resource"),
        ({"client_id": "5c2e9d10-0000-4000-8000-00000000dead"}, "invalid_request"),
    ],
)
async def test_imds_refuses_in_its_own_shape(
    client: httpx2.AsyncClient, changes: dict[str, Any], error: str
) -> None:
    answer = await client.get(**imds(**changes))
    assert answer.status_code == 400
    content = answer.json()
    assert set(content) == {"error", "error_description"}
    assert content["error"] == error


@pytest.mark.parametrize("headers", [{}, {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"}])
async def test_imds_refuses_what_was_forwarded_or_tricked_into_it(
    client: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.get(**(imds() | {"headers": headers}))
    assert answer.json()["error"] == "invalid_request"


async def test_other_addresses_and_methods_are_not_there(
    client: httpx2.AsyncClient, identity: ManagedIdentityApp
) -> None:
    assert (await client.get("/metadata/instance")).status_code == 404
    assert (await client.post("/msi/token")).status_code == 404
    assert identity.requests == 0


async def test_a_managed_identity_can_be_told_to_fail(
    client: httpx2.AsyncClient, identity: ManagedIdentityApp
) -> None:
    identity.faults.add(faults.throttled(times=1))
    assert (await client.get(**imds())).status_code == 429
    assert (await client.get(**imds())).status_code == 200
