from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio


async def rows(client: httpx2.AsyncClient, apply: str, **headers: str) -> list[dict[str, Any]]:
    answer = await client.get("accounts", params={"$apply": apply}, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["value"]
    return found


async def test_rows_are_grouped_and_counted(client: httpx2.AsyncClient) -> None:
    found = await rows(
        client,
        "groupby((statuscode),aggregate($count as count))",
        Prefer='odata.include-annotations="OData.Community.Display.V1.FormattedValue"',
    )
    note = "OData.Community.Display.V1.FormattedValue"
    assert found == [
        {f"statuscode@{note}": "Active", "statuscode": 1, f"count@{note}": "54", "count": 54},
        {f"statuscode@{note}": "Inactive", "statuscode": 2, f"count@{note}": "6", "count": 6},
    ]


async def test_a_far_column_comes_back_under_its_tables_name(client: httpx2.AsyncClient) -> None:
    found = await rows(
        client, "filter(accountnumber eq 'A-1001')/groupby((primarycontactid/fullname))"
    )
    assert found == [{"contact_fullname": "Bram Bakker"}]


async def test_numbers_are_aggregated(client: httpx2.AsyncClient) -> None:
    (found,) = await rows(
        client,
        "aggregate(creditlimit with sum as total,creditlimit with average as mean,"
        "creditlimit with min as low,creditlimit with max as high,"
        "industrycode with countdistinct as kinds)",
    )
    assert found["total"] == pytest.approx(found["mean"] * 60)
    assert found["low"] < found["mean"] < found["high"]
    assert found["kinds"] == 5


async def test_nulls_are_left_out(client: httpx2.AsyncClient) -> None:
    found = await rows(client, "groupby((accountcategorycode))")
    assert found == [{}, {"accountcategorycode": 1}, {"accountcategorycode": 2}]


async def test_filters_alone_give_whole_rows(client: httpx2.AsyncClient) -> None:
    found = await rows(client, "filter(statecode eq 1)")
    assert len(found) == 6
    assert "creditlimit" in found[0]


@pytest.mark.parametrize(
    ("apply", "status", "message"),
    [
        ("groupby((createdon))", 400, "Grouping by a date and time is not supported."),
        ("aggregate(name with sum as x)", 400, "cannot be used with sum"),
        ("aggregate(revenue with median as x)", 400, "'median' is not supported"),
        ("aggregate($count as a-b)", 400, "Syntax error in $apply"),
        ("groupby(statuscode)", 400, "Syntax error in $apply"),
        ("nosuch", 400, "Syntax error in $apply"),
        ("concat(aggregate($count as n))", 501, "'concat'"),
        ("groupby((nosuch))", 400, "Could not find a property named 'nosuch'"),
    ],
)
async def test_an_apply_is_refused(
    client: httpx2.AsyncClient, apply: str, status: int, message: str
) -> None:
    answer = await client.get("accounts", params={"$apply": apply})
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


async def test_aggregates_are_not_sorted(client: httpx2.AsyncClient) -> None:
    answer = await client.get("accounts?$apply=groupby((statuscode))&$orderby=statuscode")
    assert answer.status_code == 400
    assert "SingleValueOpenPropertyAccess" in answer.json()["error"]["message"]
