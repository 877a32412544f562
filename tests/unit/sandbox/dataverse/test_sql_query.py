from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio


async def ask(client: httpx2.AsyncClient, sql: str) -> httpx2.Response:
    return await client.get("accounts", params={"sql": sql})


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        (
            "SELECT name FROM account WHERE accountnumber = 'A-1001'",
            [{"name": "Contoso"}],
        ),
        (
            """SELECT a.name, c.fullname FROM account AS a
            INNER JOIN contact AS c ON a.accountid = c.parentcustomerid
            WHERE a.accountnumber IN ('a-1001') ORDER BY c.fullname""",
            [
                {"name": "Contoso", "fullname": "Bram Bakker"},
                {"name": "Contoso", "fullname": "Bram Fischer"},
            ],
        ),
        (
            "SELECT statecode, COUNT(*) AS n FROM account GROUP BY statecode",
            [{"statecode": 0, "n": 54}, {"statecode": 1, "n": 6}],
        ),
        (
            "SELECT TOP 1 creditonhold FROM account ORDER BY accountnumber",
            [{"creditonhold": False}],
        ),
        ("SELECT COUNT(*) AS n FROM task", [{"n": 24}]),
    ],
)
async def test_a_select_runs(
    client: httpx2.AsyncClient, sql: str, rows: list[dict[str, object]]
) -> None:
    answer = await ask(client, sql)
    assert answer.status_code == 200, answer.text
    assert answer.json()["value"] == rows


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT * FROM account",
        "SELECT name FROM account; DELETE FROM account",
        "DELETE FROM account",
        "SELECT name FROM account UNION SELECT fullname FROM contact",
        "SELECT name FROM account WHERE accountid IN (SELECT accountid FROM account)",
        "SELECT name FROM account -- comment",
        "SELECT name FROM sqlite_master",
        "SELECT content FROM _files",
        "SELECT roleid FROM systemuserroles",
        "SELECT ownerid FROM principal",
        "SELECT owninguser, ownerid__type FROM account",
        "SELECT load_extension('x') AS x FROM account",
        "SELECT name FROM account a, account b, account c, account d, account e ORDER BY a.name",
        "SELECT nosuch FROM account",
    ],
)
async def test_a_statement_is_refused(client: httpx2.AsyncClient, sql: str) -> None:
    answer = await ask(client, sql)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("The SQL query is not valid.")
    assert (await client.get("accounts/$count")).text.endswith("60")


async def test_rights_are_asked_for_what_is_really_read(loader: httpx2.AsyncClient) -> None:
    allowed = await ask(loader, "SELECT a.name FROM account a JOIN contact c ON 1 = 1")
    refused = await ask(loader, "SELECT a.name FROM account a JOIN task t ON t.statecode = 1")
    assert (allowed.status_code, refused.status_code) == (200, 403)
    assert "prvReadActivity" in refused.json()["error"]["message"]
