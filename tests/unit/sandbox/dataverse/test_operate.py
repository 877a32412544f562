from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

CRM = "Microsoft.Dynamics.CRM"
CONTACT = "contacts(22222222-2222-2222-2222-222222222221)"
ACCOUNT = f"{CRM}.account"


async def test_functions_answer(client: httpx2.AsyncClient) -> None:
    version = await client.get("RetrieveVersion()")
    assert version.json()["Version"].startswith("9.2.")
    organization = await client.get(
        f"RetrieveCurrentOrganization(AccessType=@p1)?@p1={CRM}.EndpointAccessType'Default'"
    )
    assert organization.json()["Detail"]["FriendlyName"] == "Contoso"
    counts = await client.get("RetrieveTotalRecordCount(EntityNames=['account','contact'])")
    assert counts.json()["EntityRecordCountCollection"] == {
        "Count": 2,
        "IsReadOnly": False,
        "Keys": ["account", "contact"],
        "Values": [60, 120],
    }


async def test_rows_are_created_updated_and_upserted_by_the_lot(
    client: httpx2.AsyncClient,
) -> None:
    created = await client.post(
        f"accounts/{CRM}.CreateMultiple",
        json={"Targets": [{"@odata.type": ACCOUNT, "name": n} for n in ("a", "b")]},
    )
    ids = created.json()["Ids"]
    assert created.json()["@odata.context"].endswith(f"#{CRM}.CreateMultipleResponse")
    updated = await client.post(
        f"accounts/{CRM}.UpdateMultiple",
        json={"Targets": [{"@odata.type": ACCOUNT, "accountid": i, "name": "c"} for i in ids]},
    )
    assert updated.status_code == 204
    upserted = await client.post(
        f"accounts/{CRM}.UpsertMultiple",
        json={
            "Targets": [
                {"@odata.type": ACCOUNT, "@odata.id": f"accounts({ids[0]})", "name": "d"},
                {"@odata.type": ACCOUNT, "@odata.id": "accounts(accountnumber='U')", "name": "e"},
            ]
        },
    )
    assert upserted.status_code == 204
    names = [(await client.get(f"accounts({i})")).json()["name"] for i in ids]
    assert names == ["d", "c"]
    made = await client.get("accounts(accountnumber='U')?$select=name")
    assert made.json()["name"] == "e"


@pytest.mark.parametrize(
    ("message", "target", "status"),
    [
        ("CreateMultiple", {"name": "x"}, 400),
        ("CreateMultiple", {"@odata.type": f"{CRM}.contact", "name": "x"}, 400),
        ("UpdateMultiple", {"@odata.type": ACCOUNT, "name": "x"}, 400),
        (
            "UpdateMultiple",
            {"@odata.type": ACCOUNT, "accountid": "99999999-9999-9999-9999-999999999999"},
            404,
        ),
        ("UpsertMultiple", {"@odata.type": ACCOUNT, "@odata.id": "contacts(1)"}, 400),
        ("DeleteMultiple", {"@odata.type": ACCOUNT}, 400),
    ],
)
async def test_one_bad_target_undoes_them_all(
    client: httpx2.AsyncClient, message: str, target: dict[str, Any], status: int
) -> None:
    first = {
        "@odata.type": ACCOUNT,
        "accountid": "11111111-1111-1111-1111-111111111112",
        "name": "undone",
    }
    if message == "CreateMultiple":
        first["accountid"] = "88888888-1111-1111-1111-111111111111"
    answer = await client.post(f"accounts/{CRM}.{message}", json={"Targets": [first, target]})
    assert answer.status_code == status
    found = await client.get("accounts?$filter=name eq 'undone'")
    assert found.json()["value"] == []


async def test_a_note_is_added_to_a_contact(client: httpx2.AsyncClient) -> None:
    answer = await client.post(
        f"{CONTACT}/{CRM}.new_AddNoteToContact", json={"NoteTitle": "Call", "NoteText": "Back."}
    )
    assert answer.status_code == 204
    notes = await client.get(f"{CONTACT}/Contact_Annotation?$select=subject,notetext")
    (note,) = notes.json()["value"]
    assert (note["subject"], note["notetext"]) == ("Call", "Back.")


async def test_a_project_is_closed(client: httpx2.AsyncClient) -> None:
    project = "new_projects(55555555-5555-5555-5555-555555555551)"
    answer = await client.post(f"{project}/{CRM}.new_CloseProject", json={"Reason": "done"})
    assert answer.status_code == 204
    row = (await client.get(f"{project}?$select=new_status,statecode")).json()
    assert (row["new_status"], row["statecode"]) == (2, 1)


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("POST", f"{CONTACT}/new_AddNoteToContact", 400, "unresolved parameters"),
        ("POST", f"accounts/{CRM}.new_AddNoteToContact", 400, "unresolved parameters"),
        ("POST", "new_AddNoteToContact", 400, "unresolved parameters"),
        ("GET", f"{CONTACT}/{CRM}.new_AddNoteToContact", 405, "does not support http method"),
        ("POST", "WhoAmI", 405, "does not support http method"),
        ("GET", "RetrieveTotalRecordCount()", 400, "EntityNames"),
        ("GET", "RetrieveTotalRecordCount(EntityNames=['nosuch'])", 400, "'nosuch'"),
        ("POST", "Merge", 501, "the action Merge"),
        ("POST", "CreateEntities", 501, "the action CreateEntities"),
        ("GET", f"nosuch(1)/{CRM}.X", 404, "'nosuch'"),
        ("POST", f"{CONTACT}/{CRM}.Nosuch", 404, "Nosuch"),
    ],
)
async def test_a_call_is_refused(
    client: httpx2.AsyncClient, method: str, target: str, status: int, message: str
) -> None:
    answer = await client.request(method, target, json={} if method == "POST" else None)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


async def test_rows_are_deleted_in_bulk(client: httpx2.AsyncClient) -> None:
    answer = await client.post(
        "BulkDelete",
        json={
            "JobName": "x",
            "QuerySet": [
                {
                    "EntityName": "account",
                    "Criteria": {
                        "Conditions": [
                            {
                                "AttributeName": "accountid",
                                "Operator": "In",
                                "Values": [{"Value": "11111111-1111-1111-1111-111111111111"}],
                            }
                        ]
                    },
                }
            ],
        },
    )
    assert set(answer.json()) == {"@odata.context", "JobId"}
    gone = await client.get("accounts(11111111-1111-1111-1111-111111111111)")
    assert gone.status_code == 404


async def test_an_opportunity_is_won(client: httpx2.AsyncClient) -> None:
    won = "opportunities(99999999-9999-9999-9999-999999999991)"
    answer = await client.post(
        "WinOpportunity",
        json={"Status": 3, "OpportunityClose": {"opportunityid@odata.bind": f"/{won}"}},
    )
    assert answer.status_code == 204
    assert (await client.get(won)).json()["statecode"] == 1
