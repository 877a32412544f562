"""`POST /policy/explain` answers as the path would, whatever it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.path.staging import Staged

ACCOUNTS = "/environments/prod/api/data/v9.2/accounts"


def explained(staged: Staged, **request: object) -> dict[str, Any]:
    """Explained to `reporting`; a GET of accounts where nothing else is said."""
    asked = {"method": "GET", "url": f"{ACCOUNTS}?$select=name", **request}
    answer = staged.broker.ask("POST", "/policy/explain", caller="reporting", body=asked)
    assert answer.status == 200
    document: dict[str, Any] = answer.json()
    return document


def test_what_would_be_sent_is_shown(staged: Staged) -> None:
    explanation = explained(staged, headers={"Prefer": "odata.maxpagesize=5"})
    assert (explanation["decision"], explanation["code"]) == ("allowed", None)
    assert explanation["would_send"]["target"] == "/api/data/v9.2/accounts?$select=name"
    assert staged.prod.arrived == []


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"url": ACCOUNTS.replace("v9.2", "v9.0")}, "no-such-version"),
        ({"headers": {"Prefer": "\u20ac"}}, "bad-header"),
        ({"method": "POST", "url": ACCOUNTS, "body": "\ud800"}, "bad-body"),
        ({"url": f"{ACCOUNTS}?$filter=name%20eq"}, "bad-expression"),
    ],
    ids=["a version not served", "a header beyond Latin-1", "half a pair", "half a filter"],
)
def test_what_cannot_be_read_is_explained_too(
    staged: Staged, request_: dict[str, object], code: str
) -> None:
    explanation = explained(staged, **request_)
    assert (explanation["decision"], explanation["code"]) == ("unreadable", code)


def test_another_address_is_refused_with_the_form_of_the_right_one(staged: Staged) -> None:
    explanation = explained(staged, url="accounts?$select=name")
    assert (explanation["decision"], explanation["code"]) == ("refused", "not-granted")
    assert "/environments/{environment}/api/data/{version}/" in explanation["detail"]


def test_each_part_of_a_batch_is_explained_with_the_grant_that_was_asked(staged: Staged) -> None:
    parts = "".join(
        "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"GET {target} HTTP/1.1\r\n\r\n\r\n"
        for target in ("accounts?$select=name", "systemusers?$select=fullname")
    )
    explanation = explained(
        staged,
        method="POST",
        url=ACCOUNTS.replace("accounts", "$batch"),
        headers={"Content-Type": "multipart/mixed; boundary=b"},
        body=f"{parts}--b--\r\n",
    )
    assert explanation["decision"] == "refused"
    assert explanation["grant"] == "callers.reporting.grants[0]"
    assert [(p["number"], p["decision"], p["missing"]) for p in explanation["parts"]] == [
        (1, "allowed", []),
        (2, "refused", ["part 2: read not granted on systemusers"]),
    ]


def test_whole_rows_are_explained_as_the_columns_that_come_back(staged: Staged) -> None:
    accesses = explained(staged, url=f"{ACCOUNTS}?$top=1")["accesses"]
    columns = {column for access in accesses for column in access["columns"]}
    assert "name" in columns
    assert "creditlimit" not in columns
    assert all(access["columns"] != "ALL" for access in accesses)
