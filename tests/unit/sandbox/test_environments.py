"""Entra and Dataverse together: whose token opens what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app.sandbox.credentials import CLIENT_IDS
from app.sandbox.entra.app import EntraApp
from app.sandbox.entra.directory import Directory, RegisteredApplication, Resource, Tenant
from app.sandbox.entra.tokens import KeyRing
from app.sandbox.environments import make_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.anyio

URL = "https://contoso.example"
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Clock:
    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def tenant() -> Tenant:
    tenant = Tenant(tenant_id="8b1f7a52-0000-4000-8000-000000000001")
    for name, client_id in CLIENT_IDS.items():
        tenant.register(RegisteredApplication(client_id=client_id, name=name))
    tenant.register(RegisteredApplication(client_id="nobody", name="nobody"))
    tenant.add_resource(Resource(uri=URL))
    tenant.add_resource(Resource(uri="https://fabrikam.example"))
    return tenant


@pytest.fixture(scope="module")
def entra(tenant: Tenant, clock: Clock) -> EntraApp:
    return EntraApp(
        directory=Directory(tenant),
        public_url="https://entra.example",
        clock=clock,
        keys=KeyRing(),
    )


@pytest.fixture(scope="module")
def client_of(entra: EntraApp, tenant: Tenant) -> Callable[[str], httpx2.AsyncClient]:
    environment = make_environment(name="contoso", url=URL, entra=entra, tenant=tenant, limits=None)

    def client(name: str, audience: str = URL) -> httpx2.AsyncClient:
        application = tenant.application(CLIENT_IDS.get(name, name))
        resource = tenant.resource(audience)
        assert application is not None
        assert resource is not None
        issued = entra.issue(tenant=tenant, application=application, resource=resource)
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=environment.app),
            base_url=f"{URL}/api/data/v9.2/",
            headers={"authorization": f"Bearer {issued.access_token}"},
        )

    return client


@pytest.fixture
async def loader(client_of: Callable[..., httpx2.AsyncClient]) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of("erp-invoices") as client:
        yield client


async def test_a_loader_reads_accounts_and_writes_invoices(loader: httpx2.AsyncClient) -> None:
    accounts = await loader.get("accounts?$select=name&$top=1")
    assert accounts.status_code == 200
    account_id = accounts.json()["value"][0]["accountid"]
    invoice = {
        "name": "Invoice",
        "totalamount": 12.5,
        "customerid_account@odata.bind": f"/accounts({account_id})",
    }
    created = await loader.post("invoices", json=invoice)
    assert created.status_code == 204
    changed = await loader.patch(
        created.headers["odata-entityid"], json={"name": "Changed"}, headers={"if-match": "*"}
    )
    assert changed.status_code == 204
    assert (await loader.get("$metadata")).status_code == 200


async def test_a_loader_may_not_delete(loader: httpx2.AsyncClient) -> None:
    invoice = (await loader.get("invoices?$select=name&$top=1")).json()["value"][0]["invoiceid"]
    refused = await loader.delete(f"invoices({invoice})")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "0x80040220")


@pytest.mark.parametrize(
    ("name", "status"), [("erp-reporting", 403), ("erp-legacy", 403), ("platform-admin", 204)]
)
async def test_the_others_read_and_the_administrator_writes_too(
    client_of: Callable[..., httpx2.AsyncClient], name: str, status: int
) -> None:
    async with client_of(name) as client:
        assert (await client.get("contacts?$select=fullname&$top=1")).status_code == 200
        written = await client.post("accounts", json={"name": "New"})
    assert written.status_code == status


async def test_an_application_without_a_user_is_no_member(
    client_of: Callable[..., httpx2.AsyncClient],
) -> None:
    async with client_of("nobody") as client:
        refused = await client.get("WhoAmI")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "0x80072560")


async def test_a_token_for_elsewhere_or_of_yesterday_opens_nothing(
    client_of: Callable[..., httpx2.AsyncClient], clock: Any, tenant: Tenant
) -> None:
    async with client_of("erp-reporting", audience="https://fabrikam.example") as client:
        refused = await client.get("WhoAmI")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == (
        f"Bearer authorization_uri=https://entra.example/{tenant.tenant_id}/oauth2/authorize, "
        f"resource_id={URL}/"
    )
    async with client_of("erp-reporting") as client:
        assert (await client.get("WhoAmI")).status_code == 200
        clock.now = datetime(2026, 3, 2, tzinfo=UTC)
        try:
            assert (await client.get("WhoAmI")).status_code == 401
        finally:
            clock.now = NOON
