from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.sandbox.entra import jws

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx2

    from app.sandbox.entra.app import EntraApp
    from app.sandbox.entra.directory import Tenant

    Ask = Callable[..., Awaitable[httpx2.Response]]

pytestmark = pytest.mark.anyio

BASE = "https://entra.example"


async def test_the_metadata_leads_to_the_other_addresses(
    client: httpx2.AsyncClient, tenant: Tenant, ask: Ask
) -> None:
    path = f"/{tenant.tenant_id}/v2.0/.well-known/openid-configuration"
    content = (await client.get(path)).json()
    assert content["issuer"] == f"{BASE}/{tenant.tenant_id}/v2.0"
    assert content["token_endpoint"] == f"{BASE}/{tenant.tenant_id}/oauth2/v2.0/token"
    assert content["authorization_endpoint"].startswith(BASE)
    assert (await ask(path=content["token_endpoint"].removeprefix(BASE))).status_code == 200
    assert (await client.get(content["jwks_uri"])).json()["keys"]


async def test_the_old_metadata_names_the_old_addresses(
    client: httpx2.AsyncClient, tenant: Tenant
) -> None:
    content = (await client.get(f"/{tenant.domain}/.well-known/openid-configuration")).json()
    assert content["issuer"] == f"{BASE}/{tenant.tenant_id}/"
    assert content["token_endpoint"] == f"{BASE}/{tenant.domain}/oauth2/token"
    assert content["jwks_uri"] == f"{BASE}/{tenant.domain}/discovery/keys"


async def test_the_keys_verify_a_token(
    client: httpx2.AsyncClient, tenant: Tenant, ask: Ask
) -> None:
    answer = await client.get(f"/{tenant.tenant_id}/discovery/v2.0/keys")
    (jwk,) = answer.json()["keys"]
    assert jwk["issuer"] == f"{BASE}/{tenant.tenant_id}/v2.0"
    key = jws.from_jwk(jwk)
    assert key is not None
    token = jws.read((await ask()).json()["access_token"])
    assert token.header["kid"] == jwk["kid"]
    assert token.signed_by(key, algorithms=frozenset({"RS256"}))


async def test_instance_discovery_knows_this_host(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/common/discovery/instance?api-version=1.1")
    (entry,) = answer.json()["metadata"]
    assert entry["aliases"] == ["entra.example"]


async def test_an_unknown_tenant_is_90002_in_discovery_too(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/nowhere.example/v2.0/.well-known/openid-configuration")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_tenant")


async def test_other_addresses_are_not_there(
    client: httpx2.AsyncClient, tenant: Tenant, entra: EntraApp
) -> None:
    assert (await client.get(f"/{tenant.tenant_id}/oauth2/v2.0/authorize")).status_code == 404
    assert (await client.put(f"/{tenant.tenant_id}/discovery/keys")).status_code == 405
    assert entra.token_requests == 0
