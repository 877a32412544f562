from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

ROOT = "https://contoso.crm4.dynamics.com/api/data/v9.2"
CONTOSO = "accounts(11111111-1111-1111-1111-111111111111)"
CONTACT = "contacts(22222222-2222-2222-2222-222222222222)"
NOWHERE = "accounts(99999999-9999-9999-9999-999999999999)"
EURO = "cccccccc-cccc-cccc-cccc-ccccccccccc1"


async def made(client: httpx2.AsyncClient, table: str, body: dict[str, Any]) -> str:
    answer = await client.post(table, json=body)
    assert answer.status_code == 204, answer.text
    where = answer.headers["odata-entityid"]
    assert where.startswith(f"{ROOT}/{table}(")
    return str(where)


async def read(client: httpx2.AsyncClient, target: str) -> dict[str, Any]:
    answer = await client.get(target)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_dataverse_fills_in_what_is_its_own(client: httpx2.AsyncClient) -> None:
    where = await made(client, "accounts", {"name": "New", "revenue": 5, "createdon": "x"})
    row = await read(client, where)
    me = (await read(client, "WhoAmI"))["UserId"]
    assert {k: row[k] for k in ("statecode", "statuscode", "createdon")} == {
        "statecode": 0,
        "statuscode": 1,
        "createdon": "2024-07-01T12:00:00Z",
    }
    assert (row["_ownerid_value"], row["_createdby_value"]) == (me, me)
    assert row["_transactioncurrencyid_value"] == EURO


async def test_names_and_addresses_are_composed(client: httpx2.AsyncClient) -> None:
    contact = await made(client, "contacts", {"firstname": "Ada", "lastname": "Byron"})
    assert (await read(client, contact))["fullname"] == "Ada Byron"
    await client.patch(contact, json={"lastname": "King"})
    assert (await read(client, contact))["fullname"] == "Ada King"
    await client.patch(CONTOSO, json={"address1_city": "Delft"})
    assert (await read(client, CONTOSO))["address1_composite"] == "Canal street 1\r\nDelft"


async def test_the_key_may_be_chosen(client: httpx2.AsyncClient) -> None:
    chosen = "12345678-0000-4000-8000-000000000000"
    where = await made(client, "accounts", {"accountid": chosen, "name": "Chosen"})
    assert where.endswith(f"accounts({chosen})")
    again = await client.post("accounts", json={"accountid": chosen, "name": "Chosen"})
    assert again.status_code == 412
    assert again.json()["error"]["message"] == "Cannot insert duplicate key."


async def test_a_representation_is_returned_where_preferred(client: httpx2.AsyncClient) -> None:
    answer = await client.post(
        "accounts?$select=name&$expand=createdby($select=fullname)",
        json={"name": "New"},
        headers={"Prefer": "return=representation"},
    )
    assert answer.status_code == 201
    assert "odata-entityid" not in answer.headers
    assert answer.headers["preference-applied"] == "return=representation"
    row = answer.json()
    assert row["@odata.context"] == f"{ROOT}/$metadata#accounts(name,createdby(fullname))/$entity"
    assert row["createdby"]["fullname"] == "# admin"


@pytest.mark.parametrize(
    "link",
    [
        "/contacts(22222222-2222-2222-2222-222222222222)",
        "contacts(22222222-2222-2222-2222-222222222222)",
        "/api/data/v9.2/contacts(22222222-2222-2222-2222-222222222222)",
        f"{ROOT}/contacts(22222222-2222-2222-2222-222222222222)",
        "/contacts(governmentid='2')",
    ],
)
async def test_a_lookup_is_bound(client: httpx2.AsyncClient, link: str) -> None:
    where = await made(client, "accounts", {"name": "B"})
    await client.patch(where, json={"primarycontactid@odata.bind": None})
    # The seeded account gives its contact up first: the lookup is an alternate key.
    await client.patch(
        "accounts(accountnumber='A-1002')", json={"primarycontactid@odata.bind": None}
    )
    bound = await client.patch(where, json={"primarycontactid@odata.bind": link})
    assert bound.status_code == 204, bound.text
    row = await read(client, where)
    assert row["_primarycontactid_value"] == "22222222-2222-2222-2222-222222222222"
    await client.patch(where, json={"primarycontactid": None})
    assert (await read(client, where))["_primarycontactid_value"] is None


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"nosuch": 1}, 400, "Invalid property 'nosuch' was found"),
        ({"_ownerid_value": "x"}, 400, "CRM do not support direct update of Entity Reference"),
        ({"nosuch@odata.bind": "/accounts(1)"}, 400, "An undeclared property 'nosuch'"),
        ({"name": 5}, 400, "Cannot convert the literal '5' to the expected type 'Edm.String'"),
        ({"revenue": "5"}, 400, "Edm.Decimal"),
        ({"numberofemployees": 2**31}, 400, "Edm.Int32"),
        ({"creditonhold": 1}, 400, "Edm.Boolean"),
        ({"industrycode": 2}, 400, "outside the valid range. Accepted Values: 1,6,7,12,33"),
        (
            {"name": "x" * 161},
            400,
            "of the 'account' entity exceeded the maximum allowed length of '160'.",
        ),
        (
            {"primarycontactid@odata.bind": "https://evil.example/api/data/v9.2/contacts(1)"},
            400,
            "not below",
        ),
        ({"primarycontactid@odata.bind": f"/{CONTOSO}"}, 400, "cannot be set"),
        (
            {"primarycontactid@odata.bind": f"/{NOWHERE.replace('accounts', 'contacts')}"},
            404,
            "contact With Id = 99999999-9999-9999-9999-999999999999 Does Not Exist",
        ),
        ({"primarycontactid@odata.bind": "$1"}, 400, "does not exist in the batch context"),
        ({"@odata.type": "Microsoft.Dynamics.CRM.contact"}, 400, "does not fit"),
        ({"ownerid@odata.bind": None}, 400, "cannot be emptied"),
    ],
)
async def test_a_body_is_refused_whole(
    client: httpx2.AsyncClient, body: dict[str, Any], status: int, message: str
) -> None:
    answer = await client.post("accounts", json={"accountnumber": "NEW", **body})
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]
    assert (await client.get("accounts(accountnumber='NEW')")).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"name":"\xff"}', b"name=x"])
async def test_a_body_that_is_no_object_is_refused(client: httpx2.AsyncClient, body: bytes) -> None:
    json = {"Content-Type": "application/json"}
    assert (await client.post("accounts", content=body, headers=json)).status_code == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.post("accounts", content=body, headers=form)).status_code == 415


async def test_annotations_that_clients_echo_are_dropped(client: httpx2.AsyncClient) -> None:
    answer = await client.patch(
        CONTOSO,
        json={
            "@odata.etag": 'W/"1"',
            "@odata.type": "#Microsoft.Dynamics.CRM.account",
            "name@OData.Community.Display.V1.FormattedValue": "x",
            "name": "Echo",
        },
    )
    assert answer.status_code == 204
    assert (await read(client, CONTOSO))["name"] == "Echo"


async def test_nested_rows_are_created_with_it(client: httpx2.AsyncClient) -> None:
    where = await made(
        client,
        "accounts",
        {
            "name": "Deep",
            "primarycontactid": {"firstname": "John", "lastname": "Smith"},
            "opportunity_customer_accounts": [
                {"name": "Opp", "Opportunity_Tasks": [{"subject": "Call"}]}
            ],
            "Account_Tasks@odata.bind": ["/tasks(aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaa1)"],
        },
    )
    row = await read(
        client,
        f"{where}?$select=name&$expand=primarycontactid($select=fullname),"
        "opportunity_customer_accounts($select=name),Account_Tasks($select=subject)",
    )
    assert row["primarycontactid"]["fullname"] == "John Smith"
    assert [o["name"] for o in row["opportunity_customer_accounts"]] == ["Opp"]
    assert [t["subject"] for t in row["Account_Tasks"]] == ["Task 1"]
    tasks = await read(
        client,
        "opportunities?$filter=name eq 'Opp'&$expand=Opportunity_Tasks($select=subject)",
    )
    assert tasks["value"][0]["Opportunity_Tasks"][0]["subject"] == "Call"


async def test_a_deep_insert_that_fails_leaves_nothing(client: httpx2.AsyncClient) -> None:
    answer = await client.post(
        "accounts", json={"name": "D", "primarycontactid": {"lastname": "Lost", "nosuch": 1}}
    )
    assert answer.status_code == 400
    found = await read(client, "contacts?$filter=lastname eq 'Lost'")
    assert found["value"] == []


async def test_an_update_is_not_deep(client: httpx2.AsyncClient) -> None:
    answer = await client.patch(CONTOSO, json={"primarycontactid": {"lastname": "x"}})
    assert answer.status_code == 400
    assert "Deep update" in answer.json()["error"]["message"]


async def test_a_patch_without_conditions_upserts(client: httpx2.AsyncClient) -> None:
    created = await client.patch(NOWHERE, json={"name": "Made"})
    assert created.status_code == 204
    assert (await read(client, NOWHERE))["name"] == "Made"
    by_key = await client.patch("accounts(accountnumber='K-1')", json={"name": "By key"})
    where = by_key.headers["odata-entityid"]
    assert (await read(client, where))["accountnumber"] == "K-1"
    again = await client.patch("accounts(accountnumber='K-1')", json={"name": "Again"})
    assert again.headers["odata-entityid"] == where


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        (CONTOSO, {"If-Match": "*"}, 204),
        (NOWHERE, {"If-Match": "*"}, 404),
        (CONTOSO, {"If-None-Match": "*"}, 412),
        (NOWHERE, {"If-None-Match": "*"}, 204),
        (CONTOSO, {"If-None-Match": "null"}, 204),
        (CONTOSO, {"If-Match": 'W/"1"'}, 412),
        ("accounts(accountnumber='none')", {"If-Match": "*"}, 404),
    ],
)
async def test_a_patch_heeds_its_conditions(
    client: httpx2.AsyncClient, target: str, headers: dict[str, str], status: int
) -> None:
    answer = await client.patch(target, json={"description": "x"}, headers=headers)
    assert answer.status_code == status


async def test_versions_grow_and_are_compared(client: httpx2.AsyncClient) -> None:
    first = (await read(client, CONTOSO))["@odata.etag"]
    changed = await client.patch(CONTOSO, json={"name": "A"}, headers={"If-Match": first})
    assert changed.status_code == 204
    second = (await read(client, CONTOSO))["@odata.etag"]
    assert int(second[3:-1]) > int(first[3:-1])
    stale = await client.patch(CONTOSO, json={"name": "B"}, headers={"If-Match": first})
    assert stale.json()["error"] == {
        "code": "0x80060882",
        "message": "The version of the existing record doesn't match the RowVersion property "
        "provided.",
    }
    gone = await client.delete(CONTOSO, headers={"If-Match": first})
    assert gone.status_code == 412
    assert (await client.delete(CONTOSO, headers={"If-Match": second})).status_code == 204


async def test_an_alternate_key_is_unique(client: httpx2.AsyncClient) -> None:
    answer = await client.post("accounts", json={"name": "x", "accountnumber": "a-1001"})
    assert answer.status_code == 412
    assert answer.json()["error"]["code"] == "0x80060892"


async def test_deleting_empties_lookups_and_takes_children_along(
    client: httpx2.AsyncClient,
) -> None:
    assert (await client.delete(CONTOSO)).status_code == 204
    assert (await client.delete(CONTOSO)).status_code == 404
    child = await read(client, "accounts(accountnumber='A-1041')")
    assert child["_parentaccountid_value"] is None
    notes = await read(client, "annotations?$filter=subject eq 'Note 1'")
    assert notes["value"] == []


async def test_a_property_is_set_and_cleared(client: httpx2.AsyncClient) -> None:
    put = await client.put(f"{CONTOSO}/telephone1", json={"value": "112"})
    assert put.status_code == 204
    assert (await read(client, CONTOSO))["telephone1"] == "112"
    assert (await client.delete(f"{CONTOSO}/telephone1")).status_code == 204
    assert (await read(client, CONTOSO))["telephone1"] is None
    lookup = await client.put(f"{CONTOSO}/_primarycontactid_value", json={"value": None})
    assert lookup.status_code == 400
    assert (await client.put(f"{CONTOSO}/telephone1", json={})).status_code == 400


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("PATCH", "accounts", 405),
        ("POST", CONTOSO, 405),
        ("PUT", CONTOSO, 405),
        ("DELETE", "accounts", 405),
        ("HEAD", CONTOSO, 405),
        ("POST", "activitypointers", 400),
        ("DELETE", "activitypointers(aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaa1)", 400),
    ],
)
async def test_a_method_is_refused(
    client: httpx2.AsyncClient, method: str, target: str, status: int
) -> None:
    answer = await client.request(method, target, json={})
    assert answer.status_code == status


async def test_a_row_is_created_in_a_rows_collection(client: httpx2.AsyncClient) -> None:
    answer = await client.post(f"{CONTOSO}/contact_customer_accounts", json={"lastname": "In"})
    assert answer.status_code == 204
    row = await read(client, answer.headers["odata-entityid"])
    assert row["_parentcustomerid_value"] == "11111111-1111-1111-1111-111111111111"


# -------------------------------------------------------------------- associations


async def test_one_to_many_changes_the_child(client: httpx2.AsyncClient) -> None:
    link = {"@odata.id": f"{ROOT}/{CONTACT}"}
    added = await client.post(f"{CONTOSO}/contact_customer_accounts/$ref", json=link)
    assert added.status_code == 204
    child = await read(client, CONTACT)
    assert child["_parentcustomerid_value"] == "11111111-1111-1111-1111-111111111111"
    removed = await client.delete(
        f"{CONTOSO}/contact_customer_accounts(22222222-2222-2222-2222-222222222222)/$ref"
    )
    assert removed.status_code == 204
    assert (await read(client, CONTACT))["_parentcustomerid_value"] is None


async def test_a_single_reference_is_put_and_deleted(client: httpx2.AsyncClient) -> None:
    target = "contacts(22222222-2222-2222-2222-222222222221)/parentcustomerid_contact/$ref"
    put = await client.put(target, json={"@odata.id": CONTACT})
    assert put.status_code == 204
    row = await read(client, "contacts(22222222-2222-2222-2222-222222222221)")
    assert row["_parentcustomerid_value"] == CONTACT[9:-1]
    assert (await client.delete(target)).status_code == 204
    row = await read(client, "contacts(22222222-2222-2222-2222-222222222221)")
    assert row["_parentcustomerid_value"] is None


async def test_pairs_are_made_and_parted(client: httpx2.AsyncClient) -> None:
    target = "new_projects(55555555-5555-5555-5555-555555555551)/new_new_project_contact"
    link = {"@odata.id": "contacts(22222222-2222-2222-2222-222222222229)"}
    assert (await client.post(f"{target}/$ref", json=link)).status_code == 204
    twice = await client.post(f"{target}/$ref", json=link)
    assert twice.status_code == 412
    assert twice.json()["error"]["message"] == ("A record with matching key values already exists.")
    back = await read(
        client,
        "contacts(22222222-2222-2222-2222-222222222229)?$select=fullname&"
        "$expand=new_new_project_contact($select=new_name;$filter=new_code eq 'P-001')",
    )
    assert [p["new_name"] for p in back["new_new_project_contact"]] == ["Project 1"]
    parted = await client.delete(
        f"{target}/$ref", params={"$id": f"{ROOT}/contacts(22222222-2222-2222-2222-222222222229)"}
    )
    assert parted.status_code == 204
    rest = await read(client, f"{target}?$select=fullname")
    assert len(rest["value"]) == 2


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", f"{CONTOSO}/primarycontactid/$ref", {"@odata.id": CONTACT}, 405),
        ("PUT", f"{CONTOSO}/contact_customer_accounts/$ref", {"@odata.id": CONTACT}, 405),
        ("POST", f"{CONTOSO}/contact_customer_accounts/$ref", {}, 400),
        ("POST", f"{CONTOSO}/contact_customer_accounts/$ref", {"@odata.id": CONTOSO}, 400),
        ("DELETE", f"{CONTOSO}/contact_customer_accounts/$ref", None, 400),
        (
            "POST",
            f"{CONTOSO}/contact_customer_accounts/$ref",
            {"@odata.id": "https://evil.example/api/data/v9.2/contacts(1)"},
            400,
        ),
    ],
)
async def test_a_reference_is_refused(
    client: httpx2.AsyncClient, method: str, target: str, body: Any, status: int
) -> None:
    assert (await client.request(method, target, json=body)).status_code == status
