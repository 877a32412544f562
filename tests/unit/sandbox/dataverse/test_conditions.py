from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio


async def names(client: httpx2.AsyncClient, where: str, **more: str) -> list[str]:
    answer = await client.get(
        "accounts", params={"$select": "name", "$filter": where, "$orderby": "name", **more}
    )
    assert answer.status_code == 200, answer.text
    return [row["name"] for row in answer.json()["value"]]


async def numbers(client: httpx2.AsyncClient, where: str) -> list[int]:
    """Which of the seeded accounts, by the number in their account number."""
    answer = await client.get("accounts", params={"$select": "accountnumber", "$filter": where})
    assert answer.status_code == 200, answer.text
    return sorted(int(row["accountnumber"][2:]) - 1000 for row in answer.json()["value"])


CRM = "Microsoft.Dynamics.CRM."
WITHOUT_DESCRIPTION = [n for n in range(1, 61) if n % 3 == 0]
INACTIVE = [10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("accountnumber eq 'a-1007'", [7]),
        ("accountnumber eq 'A-1007' or accountnumber eq 'A-1008'", [7, 8]),
        ("statecode eq 1", INACTIVE),
        ("statecode ne 0", INACTIVE),
        ("not (statecode eq 0)", INACTIVE),
        ("description eq null", WITHOUT_DESCRIPTION),
        # Null counts as different, as in Dataverse's own translation.
        ("description ne 'Customer since 2001.'", [n for n in range(2, 61) if n not in {25, 49}]),
        ("creditonhold eq true", [9, 18, 27, 36, 45, 54]),
        ("creditonhold", [9, 18, 27, 36, 45, 54]),
        ("startswith(name,'Utrecht')", [8, 16, 24, 32, 40, 48, 56]),
        ("endswith(name,' 16')", [16]),
        ("contains(name,'%Optics 24')", [24]),
        ("contains(accountnumber,'A_1013')", [13]),
        ("startswith(accountnumber,'A-10[01]') and endswith(accountnumber,'7')", [7, 17]),
        ("createdon lt 2024-01-08T16:00:00Z and createdon gt 2030-01-01", []),
        ("accountid eq 11111111-1111-1111-1111-111111111111", [1]),
        ("accountid eq '11111111-1111-1111-1111-111111111111'", [1]),
        ("_parentaccountid_value eq 11111111-1111-1111-1111-111111111111", [41]),
        ("parentaccountid/accountnumber eq 'A-1002'", [42]),
        ("parentaccountid/primarycontactid/governmentid eq '3'", [43]),
        ("contact_customer_accounts/any(c:c/governmentid eq '5')", [5]),
        ("contact_customer_accounts/any(c:c/governmentid eq '65')", [5]),
        ("account_parent_account/any()", list(range(1, 21))),
        ("account_parent_account/$count gt 0 and accountnumber le 'A-1002'", [1, 2]),
        ("Account_Tasks/any(t:t/statecode eq 1)", [5, 9]),
        ("not Account_Tasks/all(t:t/statecode eq 0)", [5, 9]),
        # A bare name in a lambda is the outer row's ($it).
        ("Account_Tasks/any(t:accountnumber eq 'A-1002')", [2]),
        (f"{CRM}In(PropertyName='numberofemployees',PropertyValues=['-1'])", []),
        (
            f"{CRM}In(PropertyName='accountnumber',PropertyValues=['A-1003','A-1004'])",
            [3, 4],
        ),
        (
            f"""{CRM}Between(PropertyName='accountnumber',PropertyValues=["A-1003","A-1005"])""",
            [3, 4, 5],
        ),
        (
            f"{CRM}ContainValues(PropertyName='new_channels',PropertyValues=['4'])",
            list(range(2, 61, 4)),
        ),
        (
            f"{CRM}Under(PropertyName='accountid',PropertyValue='11111111-1111-1111-1111-111111111113')",
            [43],
        ),
        (
            f"{CRM}AboveOrEqual(PropertyName='accountid',PropertyValue='11111111-1111-1111-1111-11111111f043')",
            [3, 43],
        ),
        (f"{CRM}EqualUserId(PropertyName='ownerid')", []),
        (f"{CRM}LastXYears(PropertyName='createdon',PropertyValue=1)", "all"),
        (f"{CRM}ThisMonth(PropertyName='createdon')", []),
        (f"{CRM}ThisYear(PropertyName='createdon')", "all"),
        (
            f"{CRM}OnOrBefore(PropertyName='createdon',PropertyValue=2024-01-07)",
            [],
        ),
        (
            f"{CRM}OlderThanXMonths(PropertyName='createdon',PropertyValue=2)",
            "all",
        ),
    ],
)
async def test_a_filter_selects(client: httpx2.AsyncClient, where: str, expected: Any) -> None:
    assert await numbers(client, where) == (list(range(1, 61)) if expected == "all" else expected)


async def test_an_alias_may_hold_a_column(client: httpx2.AsyncClient) -> None:
    found = await names(
        client,
        f"{CRM}In(PropertyName=@p1,PropertyValues=@p2)",
        **{"@p1": "'accountnumber'", "@p2": '["A-1001"]'},
    )
    assert found == ["Contoso"]


async def test_column_is_compared_with_column(client: httpx2.AsyncClient) -> None:
    assert await names(client, "name eq accountnumber") == []
    assert len(await names(client, "name ne accountnumber")) == 60


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nosuch eq 1", "Could not find a property named 'nosuch' on type"),
        ("Name eq 'x'", "Could not find a property named 'Name'"),
        ("primarycontactid/nosuch eq 1", "'nosuch' on type 'Microsoft.Dynamics.CRM.contact'"),
        ("name eq 5", "A binary operator with incompatible types was detected."),
        ("revenue eq 'x'", "A binary operator with incompatible types was detected."),
        ("name", "must evaluate to a single boolean value"),
        ("Account_Tasks/subject eq 'x'", "is not a single value"),
        ("tolower(name) eq 'x'", "SingleValueFunctionCall"),
        ("primarycontactid/Contact_Tasks/any(t:t/statecode eq 0)", "CollectionNavigationNode"),
        (
            f"not {CRM}Today(PropertyName='createdon')",
            "Not operator along with the Custom Named Condition operators is not allowed",
        ),
    ],
)
async def test_a_filter_is_refused(client: httpx2.AsyncClient, where: str, message: str) -> None:
    answer = await client.get("accounts", params={"$filter": where})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


async def test_what_is_not_emulated_says_so(client: httpx2.AsyncClient) -> None:
    where = f"{CRM}LastFiscalYear(PropertyName='createdon')"
    answer = await client.get("accounts", params={"$filter": where})
    assert answer.status_code == 501
    assert "LastFiscalYear" in answer.json()["error"]["message"]


async def test_a_filter_needs_the_right_to_read_what_it_looks_into(
    loader: httpx2.AsyncClient,
) -> None:
    allowed = await loader.get("accounts?$filter=primarycontactid/fullname eq 'x'")
    refused = await loader.get("accounts?$filter=Account_Tasks/any(t:t/statecode eq 0)")
    assert (allowed.status_code, refused.status_code) == (200, 403)
    assert "prvReadActivity" in refused.json()["error"]["message"]
