from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

ROOT = "https://contoso.crm4.dynamics.com/api/data/v9.2"
ONE = "11111111-1111-1111-1111-111111111111"
CONTOSO = f"accounts({ONE})"
EURO = "cccccccc-cccc-cccc-cccc-ccccccccccc1"
ALL = {"Prefer": 'odata.include-annotations="*"'}


async def get(client: httpx2.AsyncClient, target: str, **headers: str) -> dict[str, Any]:
    answer = await client.get(target, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_row_comes_with_what_was_not_asked_for(client: httpx2.AsyncClient) -> None:
    row = await get(client, f"{CONTOSO}?$select=name,revenue,address1_city,new_contractfile")
    etag = row.pop("@odata.etag")
    assert etag.startswith('W/"')
    assert row == {
        "@odata.context": (
            f"{ROOT}/$metadata#accounts(name,revenue,address1_city,new_contractfile)/$entity"
        ),
        "name": "Contoso",
        "revenue": row["revenue"],
        "address1_city": "Lyon",
        "new_contractfile": None,
        "_transactioncurrencyid_value": EURO,
        "address1_composite": "Canal street 1\r\nLyon",
        "new_contractfile_name": None,
        "accountid": ONE,
    }


async def test_without_select_every_column_comes_back(client: httpx2.AsyncClient) -> None:
    row = await get(client, CONTOSO)
    assert {"creditlimit", "new_riskscore", "_ownerid_value", "statecode"} <= set(row)


async def test_a_user_has_two_keys(client: httpx2.AsyncClient) -> None:
    row = await get(client, f"{CONTOSO}?$select=name&$expand=createdby($select=fullname)")
    user = "44444444-4444-4444-4444-444444444441"
    assert row["createdby"] == {
        "fullname": "System Administrator",
        "systemuserid": user,
        "ownerid": user,
    }


async def test_formatted_values_and_lookups_are_annotated(client: httpx2.AsyncClient) -> None:
    row = await get(
        client,
        f"{CONTOSO}?$select=statecode,creditlimit,createdon,_ownerid_value,new_channels",
        **ALL,
    )
    formatted = "OData.Community.Display.V1.FormattedValue"
    assert row[f"statecode@{formatted}"] == "Active"
    assert row[f"creditlimit@{formatted}"].startswith("€")
    assert row[f"createdon@{formatted}"].startswith("1/9/2024 ")
    assert row[f"new_channels@{formatted}"] == "Web; Phone"
    assert row[f"_ownerid_value@{formatted}"] == "System Administrator"
    crm = "_ownerid_value@Microsoft.Dynamics.CRM"
    assert row[f"{crm}.lookuplogicalname"] == "systemuser"
    assert row[f"{crm}.associatednavigationproperty"] == "ownerid"


async def test_only_the_annotations_asked_for_come_back(client: httpx2.AsyncClient) -> None:
    row = await get(
        client,
        f"{CONTOSO}?$select=statecode,_ownerid_value",
        Prefer='odata.include-annotations="Microsoft.Dynamics.CRM.lookuplogicalname"',
    )
    assert sorted(k for k in row if "@" in k) == [
        "@odata.context",
        "@odata.etag",
        "_ownerid_value@Microsoft.Dynamics.CRM.lookuplogicalname",
    ]


async def test_a_polymorphic_lookup_says_where_it_leads(client: httpx2.AsyncClient) -> None:
    page = await get(client, "invoices?$select=_customerid_value&$orderby=createdon&$top=5", **ALL)
    crm = "_customerid_value@Microsoft.Dynamics.CRM"
    assert [row[f"{crm}.lookuplogicalname"] for row in page["value"]] == [
        "account",
        "account",
        "account",
        "account",
        "contact",
    ]
    assert page["value"][4][f"{crm}.associatednavigationproperty"] == "customerid_contact"


async def test_a_collection_is_expanded_with_a_link_even_when_complete(
    client: httpx2.AsyncClient,
) -> None:
    page = await get(
        client,
        f"accounts?$select=name&$filter=accountid eq {ONE}"
        "&$expand=primarycontactid($select=fullname),"
        "contact_customer_accounts($select=fullname;$orderby=fullname desc;$top=1)",
    )
    (row,) = page["value"]
    assert page["@odata.context"] == (
        f"{ROOT}/$metadata#accounts(name,primarycontactid(fullname),"
        "contact_customer_accounts(fullname))"
    )
    assert row["primarycontactid"] == {
        "fullname": "Bram Bakker",
        "contactid": "22222222-2222-2222-2222-222222222221",
    }
    (contact,) = row["contact_customer_accounts"]
    assert contact.pop("@odata.etag")
    assert contact == {
        "fullname": "Bram Fischer",
        "_parentcustomerid_value": ONE,
        "contactid": "22222222-2222-2222-2222-22222222f061",
    }
    link = row["contact_customer_accounts@odata.nextLink"]
    assert link == (
        f"{ROOT}/accounts({ONE})/contact_customer_accounts"
        "?$select=fullname&$orderby=fullname%20desc&$top=1"
    )
    again = await get(client, link)
    assert [c["fullname"] for c in again["value"]] == ["Bram Fischer"]


async def test_nested_expands_page_their_collections(client: httpx2.AsyncClient) -> None:
    page = await get(
        client,
        f"accounts?$select=name&$filter=accountid eq {ONE}&$expand="
        "contact_customer_accounts($select=fullname;$expand=createdby($select=fullname))",
        Prefer="odata.maxpagesize=1",
    )
    (row,) = page["value"]
    (contact,) = row["contact_customer_accounts"]
    assert set(contact) == {"fullname", "contactid", "createdby"}
    rest = await get(client, row["contact_customer_accounts@odata.nextLink"])
    assert [c["contactid"] for c in rest["value"]] == ["22222222-2222-2222-2222-22222222f061"]


@pytest.mark.parametrize(
    ("expand", "message"),
    [
        ("nosuch", "Could not find a property named 'nosuch'"),
        ("Account_Tasks/$ref", "Expand with $ref is only supported on lookup type"),
        ("primarycontactid($orderby=fullname)", "Only $select and $filter clause"),
        ("Account_Tasks($top=1;$expand=createdby)", "Only $select and $filter clause"),
        ("Account_Tasks($skip=1)", "is not valid in a $select or $expand expression"),
        ("ownerid($select=fullname)", "'fullname' on type 'Microsoft.Dynamics.CRM.principal'"),
        (",".join(["createdby"] * 16), "greater than the allowed limit of 15"),
    ],
)
async def test_an_expand_is_refused(client: httpx2.AsyncClient, expand: str, message: str) -> None:
    answer = await client.get(f"accounts?$expand={expand}")
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


async def test_references_are_expanded_as_links(client: httpx2.AsyncClient) -> None:
    row = await get(client, f"{CONTOSO}?$select=name&$expand=primarycontactid/$ref")
    assert row["primarycontactid"] == {
        "@odata.id": f"{ROOT}/contacts(22222222-2222-2222-2222-222222222221)"
    }


async def test_an_owner_comes_as_what_it_is(client: httpx2.AsyncClient) -> None:
    row = await get(client, "contacts(22222222-2222-2222-2222-222222222221)/ownerid")
    assert row["@odata.type"] == "#Microsoft.Dynamics.CRM.systemuser"
    assert row["fullname"] == "System Administrator"


async def test_activities_of_all_kinds_are_in_one_set(client: httpx2.AsyncClient) -> None:
    every = await get(client, "activitypointers?$select=activitytypecode")
    assert {r["activitytypecode"] for r in every["value"]} == {"task", "phonecall"}
    tasks = await get(client, "activitypointers/Microsoft.Dynamics.CRM.task?$select=scheduledend")
    assert len(tasks["value"]) == 24


async def test_a_lookup_is_sorted_by_name(client: httpx2.AsyncClient) -> None:
    page = await get(
        client,
        "accounts?$select=_primarycontactid_value&$orderby=_primarycontactid_value desc&$top=9",
        **ALL,
    )
    note = "_primarycontactid_value@OData.Community.Display.V1.FormattedValue"
    found = [row[note] for row in page["value"]]
    assert found == sorted(found, key=str.lower, reverse=True)


async def test_pages_by_a_column_with_nulls_lose_no_row(client: httpx2.AsyncClient) -> None:
    for direction in ("asc", "desc"):
        link = f"accounts?$select=description&$orderby=description {direction}"
        seen: list[str] = []
        while link:
            page = await get(client, link, Prefer="odata.maxpagesize=7")
            seen += [row["accountid"] for row in page["value"]]
            link = page.get("@odata.nextLink", "")
        assert len(seen) == len(set(seen)) == 60


async def test_top_is_ignored_beside_a_page_size(client: httpx2.AsyncClient) -> None:
    page = await get(client, "accounts?$select=name&$top=3", Prefer="odata.maxpagesize=10")
    assert len(page["value"]) == 10
    alone = await get(client, "accounts?$select=name&$top=3")
    assert len(alone["value"]) == 3
    assert "@odata.nextLink" not in alone


async def test_count_counts_all_that_fit_the_filter(client: httpx2.AsyncClient) -> None:
    page = await get(client, "accounts?$select=name&$count=true&$top=2&$filter=statecode eq 1")
    assert (page["@odata.count"], len(page["value"])) == (6, 2)


@pytest.mark.parametrize(
    ("target", "number"),
    [
        ("accounts/$count", 60),
        ("accounts/$count?$filter=statecode eq 1", 6),
        (f"{CONTOSO}/contact_customer_accounts/$count", 2),
    ],
)
async def test_a_count_is_text_with_a_byte_order_mark(
    client: httpx2.AsyncClient, target: str, number: int
) -> None:
    answer = await client.get(target)
    assert answer.headers["content-type"] == "text/plain"
    assert answer.content == b"\xef\xbb\xbf" + str(number).encode()


async def test_a_property_is_read_alone(client: httpx2.AsyncClient) -> None:
    assert await get(client, f"{CONTOSO}/name") == {
        "@odata.context": f"{ROOT}/$metadata#accounts({ONE})/name",
        "value": "Contoso",
    }
    raw = await client.get(f"{CONTOSO}/creditonhold/$value")
    assert (raw.headers["content-type"], raw.text) == ("text/plain", "false")
    empty = await client.get(f"{CONTOSO}/_parentaccountid_value")
    assert (empty.status_code, empty.content) == (204, b"")


async def test_references_are_read(client: httpx2.AsyncClient) -> None:
    single = await get(client, f"{CONTOSO}/primarycontactid/$ref")
    assert single["@odata.id"] == f"{ROOT}/contacts(22222222-2222-2222-2222-222222222221)"
    many = await get(client, f"{CONTOSO}/contact_customer_accounts/$ref")
    assert [r["@odata.id"] for r in many["value"]] == [
        f"{ROOT}/contacts(22222222-2222-2222-2222-222222222221)",
        f"{ROOT}/contacts(22222222-2222-2222-2222-22222222f061)",
    ]


async def test_an_empty_lookup_has_no_content(client: httpx2.AsyncClient) -> None:
    assert (await client.get(f"{CONTOSO}/parentaccountid")).status_code == 204


@pytest.mark.parametrize(
    ("target", "status", "code", "message"),
    [
        (
            "accounts(99999999-9999-9999-9999-999999999999)",
            404,
            "0x80040217",
            "account With Id = 99999999-9999-9999-9999-999999999999 Does Not Exist",
        ),
        (
            "accounts(accountnumber='none')",
            404,
            "0x80060891",
            "A record with the specified key values does not exist in account entity",
        ),
        ("accounts(name='x')", 400, "0x80060888", "The key in the request URI is not valid"),
        ("accounts(1)", 400, "0x80060888", "is not a valid 'Edm.Guid'"),
        ("nosuch", 404, "0x80060888", "Resource not found for the segment 'nosuch'."),
        ("Accounts", 404, "0x80060888", "Resource not found for the segment 'Accounts'."),
        (f"{CONTOSO}/nosuch", 404, "0x80060888", "segment 'nosuch'"),
        ("accounts?$top=x", 400, "0x80060888", "Invalid value 'x' for $top"),
        (f"{CONTOSO}?$filter=name eq 'x'", 400, "0x80060888", "only on collections"),
        (
            f"{CONTOSO}/Microsoft.Dynamics.CRM.contact",
            404,
            "0x80060888",
            "segment 'Microsoft.Dynamics.CRM.contact'",
        ),
    ],
)
async def test_a_read_is_refused(
    client: httpx2.AsyncClient, target: str, status: int, code: str, message: str
) -> None:
    answer = await client.get(target)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "key",
    [
        "accountnumber='A-1001'",
        "accountnumber=%27A-1001%27",
        "_primarycontactid_value=22222222-2222-2222-2222-222222222221",
        "accountnumber=@k",
    ],
)
async def test_a_row_has_alternate_keys(client: httpx2.AsyncClient, key: str) -> None:
    row = await get(client, f"accounts({key})?$select=name&@k='A-1001'")
    assert row["name"] == "Contoso"


async def test_an_unchanged_row_is_not_sent_again(client: httpx2.AsyncClient) -> None:
    first = await client.get(f"{CONTOSO}?$select=name")
    etag = first.headers["etag"]
    assert etag == first.json()["@odata.etag"]
    again = await client.get(f"{CONTOSO}?$select=name", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    for none_match in ("null", 'W/"1"'):
        other = await client.get(CONTOSO, headers={"If-None-Match": none_match})
        assert other.status_code == 200


async def test_changes_are_tracked(client: httpx2.AsyncClient) -> None:
    wants = {"Prefer": "odata.track-changes,odata.maxpagesize=4"}
    link = "new_projects?$select=new_name"
    while link:
        page = await get(client, link, **wants)
        link, delta = page.get("@odata.nextLink", ""), page.get("@odata.deltaLink", "")
    assert "$deltatoken=" in delta
    project = "new_projects(55555555-5555-5555-5555-555555555552)"
    await client.patch(project, json={"new_name": "Changed"})
    await client.delete("new_projects(55555555-5555-5555-5555-555555555551)")
    changes = await get(client, delta)
    changed, gone = changes["value"]
    assert changed["new_name"] == "Changed"
    assert gone == {
        "@odata.context": f"{ROOT}/$metadata#new_projects/$deletedEntity",
        "id": "55555555-5555-5555-5555-555555555551",
        "reason": "deleted",
    }
    assert "@odata.deltaLink" in changes


async def test_change_tracking_takes_no_filter(client: httpx2.AsyncClient) -> None:
    answer = await client.get(
        "accounts?$filter=statecode eq 0", headers={"Prefer": "odata.track-changes"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == (
        'The "${filter}" query parameter isn\'t supported when Change Tracking is enabled.'
    )
