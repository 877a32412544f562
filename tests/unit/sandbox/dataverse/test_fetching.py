from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

CRM = "@Microsoft.Dynamics.CRM"
NAME = "<attribute name='name'/>"
TASKS = "<link-entity name='task' from='regardingobjectid' to='accountid' link-type='{}'/>"


async def fetch(
    client: httpx2.AsyncClient, xml: str, *, table: str = "accounts", **headers: str
) -> dict[str, Any]:
    answer = await client.get(table, params={"fetchXml": xml}, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def account(inside: str, **attributes: str) -> str:
    written = "".join(f" {k.replace('_', '-')}='{v}'" for k, v in attributes.items())
    return f"<fetch{written}><entity name='account'>{inside}</entity></fetch>"


def condition(operator: str, *values: str, attribute: str = "accountnumber") -> str:
    inside = "".join(f"<value>{v}</value>" for v in values)
    return (
        f"<filter><condition attribute='{attribute}' operator='{operator}'>{inside}</condition>"
        "</filter>"
    )


async def test_attributes_come_back_without_nulls(client: httpx2.AsyncClient) -> None:
    found = await fetch(
        client,
        account(
            "<attribute name='name'/><attribute name='parentaccountid'/>"
            "<attribute name='primarycontactid'/><attribute name='accountnumber' alias='code'/>"
            + condition("eq", "A-1001")
        ),
    )
    (row,) = found["value"]
    assert row.pop("@odata.etag")
    assert row == {
        "name": "Contoso",
        "_primarycontactid_value": "22222222-2222-2222-2222-222222222221",
        "accountid": "11111111-1111-1111-1111-111111111111",
        "code": "A-1001",
    }


async def test_no_attributes_means_all(client: httpx2.AsyncClient) -> None:
    found = await fetch(client, account("", top="1"))
    assert {"creditlimit", "new_riskscore"} <= set(found["value"][0])


async def test_linked_columns_carry_their_alias(client: httpx2.AsyncClient) -> None:
    found = await fetch(
        client,
        account(
            NAME
            + condition("eq", "A-1001")
            + "<link-entity name='contact' from='contactid' to='primarycontactid' alias='c'>"
            "<attribute name='fullname'/><attribute name='governmentid' alias='gov'/>"
            "</link-entity>"
        ),
    )
    (row,) = found["value"]
    assert (row["c.fullname"], row["gov"]) == ("Bram Bakker", "1")


async def test_any_table_may_be_joined_inner_or_outer(client: httpx2.AsyncClient) -> None:
    link = (
        "<link-entity name='account' from='parentaccountid' to='accountid' "
        "link-type='{}' alias='child'><attribute name='name'/></link-entity>"
    )
    inner = await fetch(client, account(NAME + link.format("inner")))
    outer = await fetch(client, account(NAME + link.format("outer")))
    assert (len(inner["value"]), len(outer["value"])) == (20, 60)
    conditioned = await fetch(
        client,
        account(
            NAME
            + link.format("outer")
            + "<filter><condition entityname='child' attribute='accountid' operator='null'/>"
            "</filter>"
        ),
    )
    assert len(conditioned["value"]) == 40


async def test_pairs_are_joined_through_their_intersect(client: httpx2.AsyncClient) -> None:
    found = await fetch(
        client,
        "<fetch><entity name='new_project'><attribute name='new_name'/>"
        "<filter><condition attribute='new_code' operator='eq' value='P-001'/></filter>"
        "<link-entity name='new_new_project_contact' from='new_projectid' to='new_projectid' "
        "intersect='true'><link-entity name='contact' from='contactid' to='contactid' alias='c'>"
        "<attribute name='governmentid'/></link-entity></link-entity></entity></fetch>",
        table="new_projects",
    )
    assert sorted(row["c.governmentid"] for row in found["value"]) == ["2", "3"]


@pytest.mark.parametrize(
    ("operator", "values", "count"),
    [
        ("eq", ["a-1001"], 1),
        ("ne", ["A-1001"], 59),
        ("in", ["A-1001", "A-1002"], 2),
        ("not-in", ["A-1001", "A-1002"], 58),
        ("between", ["A-1001", "A-1004"], 4),
        ("not-between", ["A-1001", "A-1004"], 56),
        ("like", ["A-100_"], 9),
        ("not-like", ["A-100_"], 51),
        ("begins-with", ["A-101"], 10),
        ("not-begin-with", ["A-101"], 50),
        ("ends-with", ["0"], 6),
        ("gt", ["A-1058"], 2),
        ("le", ["A-1002"], 2),
        ("null", [], 0),
        ("not-null", [], 60),
    ],
)
async def test_a_condition_selects(
    client: httpx2.AsyncClient, operator: str, values: list[str], count: int
) -> None:
    found = await fetch(client, account(NAME + condition(operator, *values)))
    assert len(found["value"]) == count


@pytest.mark.parametrize(
    ("inside", "count"),
    [
        (condition("last-x-years", "1", attribute="createdon"), 60),
        (condition("this-month", attribute="createdon"), 0),
        (condition("on", "2024-01-07", attribute="createdon"), 0),
        (condition("eq", "Bram Bakker", attribute="primarycontactidname"), 2),
        (
            condition("eq", "11111111-1111-1111-1111-111111111111", attribute="parentaccountid"),
            1,
        ),
        (
            "<filter type='or'>"
            + condition("eq", "A-1001")
            + condition("eq", "1", attribute="statecode")
            + "</filter>",
            7,
        ),
        ("<filter><condition attribute='name' operator='eq' valueof='accountnumber'/></filter>", 0),
        (TASKS.format("any"), 8),
        (
            f"<filter>{TASKS.format('not any')}</filter>",
            52,
        ),
    ],
)
async def test_a_filter_selects(client: httpx2.AsyncClient, inside: str, count: int) -> None:
    found = await fetch(client, account(NAME + inside))
    assert len(found["value"]) == count


async def test_pages_follow_the_cookie(client: httpx2.AsyncClient) -> None:
    wants = {"Prefer": 'odata.include-annotations="*"'}
    page, cookie, seen = 1, "", []
    while True:
        root = ET.fromstring(  # noqa: S314
            account(NAME + "<order attribute='name' descending='true'/>", count="25")
        )
        root.set("page", str(page))
        if cookie:
            root.set("paging-cookie", cookie)
        found = await fetch(client, ET.tostring(root, encoding="unicode"), **wants)
        seen += [row["name"] for row in found["value"]]
        if not found[f"{CRM}.morerecords"]:
            break
        told = ET.fromstring(found[f"{CRM}.fetchxmlpagingcookie"])  # noqa: S314
        page = int(told.get("pagenumber", ""))
        cookie = unquote(unquote(told.get("pagingcookie", "")))
        assert cookie.startswith(f'<cookie page="{page - 1}"><name last="')
    assert len(set(seen)) == len(seen) == 60
    assert seen == sorted(seen, key=str.lower, reverse=True)


async def test_simple_paging_needs_no_cookie(client: httpx2.AsyncClient) -> None:
    found = await fetch(client, account(NAME, count="25", page="3"))
    assert len(found["value"]) == 10


async def test_the_total_is_told_where_asked(client: httpx2.AsyncClient) -> None:
    found = await fetch(
        client,
        account(NAME, count="2", returntotalrecordcount="true"),
        Prefer='odata.include-annotations="*"',
    )
    assert found[f"{CRM}.totalrecordcount"] == 60


async def test_distinct_rows_have_no_key(client: httpx2.AsyncClient) -> None:
    found = await fetch(client, account("<attribute name='statecode'/>", distinct="true"))
    assert sorted(row["statecode"] for row in found["value"]) == [0, 1]
    assert all(set(row) == {"statecode"} for row in found["value"])


async def test_aggregates_come_under_their_alias(client: httpx2.AsyncClient) -> None:
    found = await fetch(
        client,
        account(
            "<attribute name='accountid' aggregate='count' alias='n'/>"
            "<attribute name='industrycode' aggregate='countcolumn' distinct='true' alias='k'/>"
            "<attribute name='statecode' groupby='true' alias='state'/>"
            "<order alias='n' descending='true'/>",
            aggregate="true",
        ),
    )
    assert found["value"] == [{"n": 54, "k": 5, "state": 0}, {"n": 6, "k": 1, "state": 1}]


async def test_dates_are_grouped_by_their_parts(client: httpx2.AsyncClient) -> None:
    found = await fetch(
        client,
        account(
            "<attribute name='accountid' aggregate='count' alias='n'/>"
            "<attribute name='createdon' groupby='true' dategrouping='year' alias='year'/>",
            aggregate="true",
        ),
    )
    assert found["value"] == [{"n": 60, "year": 2024}]


@pytest.mark.parametrize(
    ("xml", "status", "message"),
    [
        ("<fetch", 400, "Invalid XML."),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><fetch/>", 400, "DTD is prohibited"),
        ("<fetch/>", 400, "exactly one entity"),
        ("<fetch><entity name='contact'/></fetch>", 400, "does not match the entity name"),
        (account("<attribute name='nosuch'/>"), 400, "doesn't contain attribute"),
        (account("<nosuch/>"), 400, "Unexpected element 'nosuch'"),
        (account(condition("eq", "1", attribute="nosuch")), 400, "doesn't contain attribute"),
        (
            account("<link-entity name='nosuch' from='a' to='accountid'/>"),
            400,
            "The entity with a name = 'nosuch'",
        ),
        (account("", datasource="retained"), 501, "datasource"),
        (account("", page="x"), 400, "must be a whole number"),
        (account("<attribute name='name'/>", aggregate="true"), 400, "needs an alias"),
        (
            account(NAME, page="2", count="5", paging_cookie="&lt;x/>"),
            400,
            "Malformed XML in the Paging Cookie",
        ),
    ],
)
async def test_a_fetch_is_refused(
    client: httpx2.AsyncClient, xml: str, status: int, message: str
) -> None:
    answer = await client.get("accounts", params={"fetchXml": xml})
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


async def test_a_join_needs_the_right_to_read(loader: httpx2.AsyncClient) -> None:
    link = "<link-entity name='{}' from='{}' to='accountid'/>"
    allowed = await loader.get(
        "accounts", params={"fetchXml": account(link.format("invoice", "customerid"))}
    )
    refused = await loader.get(
        "accounts", params={"fetchXml": account(link.format("task", "regardingobjectid"))}
    )
    assert (allowed.status_code, refused.status_code) == (200, 403)


async def test_saved_queries_run(client: httpx2.AsyncClient) -> None:
    saved = await client.get("accounts?savedQuery=66666666-6666-6666-6666-666666666661")
    assert len(saved.json()["value"]) == 54
    mine = await client.get("invoices?userQuery=66666666-6666-6666-6666-666666666663")
    assert len(mine.json()["value"]) == 40
    none = await client.get("accounts?savedQuery=66666666-6666-6666-6666-666666666669")
    assert none.status_code == 404


async def test_a_collection_of_a_row_takes_fetchxml(client: httpx2.AsyncClient) -> None:
    found = await fetch(
        client,
        "<fetch><entity name='contact'><attribute name='fullname'/></entity></fetch>",
        table="accounts(11111111-1111-1111-1111-111111111111)/contact_customer_accounts",
    )
    assert len(found["value"]) == 2
