from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

from app.sandbox.dataverse.rights import Rights, add_application_user, privilege_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.sandbox.dataverse.app import DataverseApp

    Open = Callable[[str], httpx2.AsyncClient]

pytestmark = pytest.mark.anyio

INES = "e39c5d16-675b-48d1-8e67-667427e9c084"
INES_ID = "44444444-4444-4444-4444-444444444442"
ROOT = "https://contoso.crm4.dynamics.com/api/data/v9.2"
LOADER = "aaaaaaaa-1111-4111-8111-000000000002"
STRANGER = "aaaaaaaa-1111-4111-8111-00000000000f"
DELEGATE = "aaaaaaaa-1111-4111-8111-000000000003"
NOT_A_MEMBER = {"code": "0x80072560", "message": "The user is not a member of the organization."}


@pytest.fixture
def open_as(app: DataverseApp) -> Open:
    def opened(application_id: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app),
            base_url=f"{ROOT}/",
            headers={"Authorization": f"Bearer {application_id}"},
        )

    return opened


async def test_an_application_without_a_user_is_no_member(open_as: Open) -> None:
    async with open_as(STRANGER) as stranger:
        answer = await stranger.get("WhoAmI")
    assert (answer.status_code, answer.json()["error"]) == (403, NOT_A_MEMBER)


async def test_disabling_a_user_works_at_once(client: httpx2.AsyncClient, open_as: Open) -> None:
    async with open_as(LOADER) as loader:
        me = (await loader.get("WhoAmI")).json()["UserId"]
        await client.patch(f"systemusers({me})", json={"isdisabled": True})
        refused = await loader.get("WhoAmI")
        await client.patch(f"systemusers({me})", json={"isdisabled": False})
        allowed = await loader.get("WhoAmI")
    assert (refused.status_code, refused.json()["error"]) == (403, NOT_A_MEMBER)
    assert allowed.status_code == 200


async def test_a_missing_privilege_is_told_in_dataverses_words(
    loader: httpx2.AsyncClient,
) -> None:
    me = (await loader.get("WhoAmI")).json()["UserId"]
    refused = await loader.delete("accounts(11111111-1111-1111-1111-111111111111)")
    assert refused.status_code == 403
    message = refused.json()["error"]["message"]
    assert message.startswith(f"Principal user (Id={me}, type=8, roleCount=1, privilegeCount=")
    assert message.endswith(
        f"is missing prvDeleteAccount privilege (Id={privilege_id('prvDeleteAccount')}) on OTC=1 "
        f"for entity 'account'. context.Caller={me}"
    )


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "accounts?$select=name", 200),
        ("GET", "accounts?$select=name&$expand=primarycontactid", 200),
        ("GET", "accounts?$select=name&$expand=Account_Tasks", 403),
        ("GET", "new_projects", 403),
        ("GET", "invoices?$orderby=_transactioncurrencyid_value", 200),
        ("GET", "accounts?$orderby=_ownerid_value", 403),
        ("GET", "RetrieveTotalRecordCount(EntityNames=['account'])", 200),
        ("GET", "RetrieveTotalRecordCount(EntityNames=['new_project'])", 403),
        ("GET", "savedqueries", 403),
        ("DELETE", "invoices(33333333-3333-3333-3333-333333333331)", 403),
    ],
)
async def test_rights_are_asked_for_each_table(
    loader: httpx2.AsyncClient, method: str, target: str, status: int
) -> None:
    assert (await loader.request(method, target)).status_code == status


async def test_binding_needs_append_to(loader: httpx2.AsyncClient) -> None:
    account = "/accounts(11111111-1111-1111-1111-111111111111)"
    allowed = await loader.post(
        "invoices", json={"name": "x", "customerid_account@odata.bind": account}
    )
    refused = await loader.post(
        "invoices",
        json={"name": "x", "ownerid@odata.bind": f"/systemusers({INES_ID})"},
    )
    assert (allowed.status_code, refused.status_code) == (204, 403)
    assert "prvAssignInvoice" in refused.json()["error"]["message"]


@pytest.mark.parametrize("header", [{"CallerObjectId": INES}, {"MSCRMCallerID": INES_ID}])
async def test_a_delegate_acts_as_another(
    app: DataverseApp, open_as: Open, header: dict[str, str]
) -> None:
    add_application_user(
        app.store,
        application_id=DELEGATE,
        name="delegate",
        roles=("Delegate", "Basic User"),
    )
    async with open_as(DELEGATE) as delegate:
        own = (await delegate.get("WhoAmI")).json()["UserId"]
        as_ines = await delegate.get("WhoAmI", headers=header)
        made = await delegate.post("accounts", json={"name": "x"}, headers=header)
        row = (await delegate.get(made.headers["odata-entityid"])).json()
    assert as_ines.json()["UserId"] == INES_ID
    assert row["_createdby_value"] == INES_ID
    assert row["_createdonbehalfby_value"] == own


async def test_acting_as_another_needs_the_privilege(loader: httpx2.AsyncClient) -> None:
    refused = await loader.get("WhoAmI", headers={"CallerObjectId": INES})
    assert refused.status_code == 403
    assert "prvActOnBehalfOfAnotherUser" in refused.json()["error"]["message"]


async def test_impersonation_never_adds_rights(app: DataverseApp, open_as: Open) -> None:
    add_application_user(app.store, application_id=DELEGATE, name="delegate", roles=("Delegate",))
    async with open_as(DELEGATE) as delegate:
        answer = await delegate.get("accounts", headers={"CallerObjectId": INES})
    assert answer.status_code == 403


async def test_an_application_user_is_provisioned_over_the_web_api(
    client: httpx2.AsyncClient, open_as: Open
) -> None:
    units = await client.get("businessunits?$filter=_parentbusinessunitid_value eq null")
    unit = units.json()["value"][0]["businessunitid"]
    made = await client.post(
        "systemusers",
        json={
            "applicationid": STRANGER,
            "businessunitid@odata.bind": f"/businessunits({unit})",
        },
    )
    user = made.headers["odata-entityid"]
    role = await client.post(
        "roles", json={"name": "Reader", "businessunitid@odata.bind": f"/businessunits({unit})"}
    )
    found = await client.get("privileges?$filter=name eq 'prvReadAccount'")
    granted = await client.post(
        f"{role.headers['odata-entityid']}/Microsoft.Dynamics.CRM.AddPrivilegesRole",
        json={
            "Privileges": [
                {"PrivilegeId": found.json()["value"][0]["privilegeid"], "Depth": "Global"}
            ]
        },
    )
    assert granted.status_code == 204
    link = {"@odata.id": role.headers["odata-entityid"]}
    given = await client.post(f"{user}/systemuserroles_association/$ref", json=link)
    assert given.status_code == 204
    held = await client.get(f"{user}/Microsoft.Dynamics.CRM.RetrieveUserPrivileges")
    assert [p["PrivilegeName"] for p in held.json()["RolePrivileges"]] == ["prvReadAccount"]
    access = await client.get(
        f"{user}/Microsoft.Dynamics.CRM.RetrievePrincipalAccess(Target=@p1)"
        "?@p1={'@odata.id':'accounts(11111111-1111-1111-1111-111111111111)'}"
    )
    assert access.json()["AccessRights"] == "ReadAccess"
    async with open_as(STRANGER) as stranger:
        assert (await stranger.get("accounts/$count")).status_code == 200
        assert (await stranger.get("contacts/$count")).status_code == 403
        await client.delete(
            f"{user}/systemuserroles_association/$ref", params={"$id": link["@odata.id"]}
        )
        assert (await stranger.get("accounts/$count")).status_code == 403


def test_a_role_that_is_not_there_cannot_be_given(app: DataverseApp) -> None:
    with pytest.raises(ValueError, match="no security role is named 'Nosuch'"):
        add_application_user(app.store, application_id=STRANGER, name="x", roles=("Nosuch",))
    row = app.store.one("SELECT 1 FROM systemuser WHERE applicationid = ?", (STRANGER,))
    assert row is None


def test_rights_are_remembered_until_they_change(app: DataverseApp) -> None:
    rights = Rights(app.store)
    first = rights.user_of(LOADER)
    assert rights.user_of(LOADER) is first
    add_application_user(app.store, application_id=STRANGER, name="x")
    assert rights.user_of(LOADER) is not first
