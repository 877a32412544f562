from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

CONTOSO = "accounts(11111111-1111-1111-1111-111111111111)"


async def test_a_token_is_asked_for(client: httpx2.AsyncClient) -> None:
    answer = await client.get("WhoAmI", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401
    assert answer.content == b""
    assert answer.headers["www-authenticate"] == (
        "Bearer authorization_uri=https://login.microsoftonline.com/"
        "aaaaaaaa-0000-0000-0000-000000000001/oauth2/authorize, "
        "resource_id=https://contoso.crm4.dynamics.com/"
    )


@pytest.mark.parametrize("spelling", ["WhoAmI", "WhoAmI()"])
async def test_who_am_i_has_two_spellings(client: httpx2.AsyncClient, spelling: str) -> None:
    answer = await client.get(spelling)
    assert answer.status_code == 200
    assert set(answer.json()) == {"@odata.context", "BusinessUnitId", "UserId", "OrganizationId"}


async def test_pages_are_followed_by_absolute_links(client: httpx2.AsyncClient) -> None:
    wants = {"Prefer": "odata.maxpagesize=25"}
    link = "accounts?$select=name&$orderby=name desc"
    seen: list[str] = []
    sizes: list[int] = []
    while link:
        answer = (await client.get(link, headers=wants)).json()
        sizes.append(len(answer["value"]))
        seen += [row["name"] for row in answer["value"]]
        link = answer.get("@odata.nextLink", "")
        assert not link or link.startswith("https://contoso.crm4.dynamics.com/api/data/v9.2/acc")
    assert sizes == [25, 25, 10]
    assert len(set(seen)) == 60
    assert seen == sorted(seen, key=str.lower, reverse=True)


async def test_a_row_is_created_changed_and_deleted(client: httpx2.AsyncClient) -> None:
    created = await client.post("accounts", json={"name": "New"})
    assert created.status_code == 204
    where = created.headers["odata-entityid"]
    changed = await client.patch(
        where, json={"name": "Newer"}, headers={"Prefer": "return=representation"}
    )
    assert changed.status_code == 200
    assert changed.json()["name"] == "Newer"
    assert (await client.delete(where)).status_code == 204
    assert (await client.get(where)).status_code == 404


async def test_the_bootstrap_of_microsofts_client_is_answered(client: httpx2.AsyncClient) -> None:
    answer = await client.get(
        "EntityDefinitions?%24select=LogicalName%2CEntitySetName%2CPrimaryIdAttribute"
        "&%24filter=LogicalName+eq+%27account%27"
    )
    (found,) = answer.json()["value"]
    assert found["EntitySetName"] == "accounts"
    assert found["PrimaryIdAttribute"] == "accountid"


async def test_metadata_is_well_formed(client: httpx2.AsyncClient) -> None:
    answer = await client.get("$metadata")
    assert answer.headers["content-type"] == "application/xml"
    names = {e.get("Name") for e in ET.fromstring(answer.content).iter()}  # noqa: S314
    assert {"account", "accounts", "new_project", "systemuserroles_association"} <= names


async def test_a_missing_privilege_is_named(loader: httpx2.AsyncClient) -> None:
    allowed = await loader.get("accounts?$select=name")
    refused = await loader.get("new_projects?$select=new_name")
    assert (allowed.status_code, refused.status_code) == (200, 403)
    error = refused.json()["error"]
    assert error["code"] == "0x80040220"
    assert "is missing prvReadnew_Project privilege" in error["message"]
