"""Requests that once got further than their grant, or would have: each beside one that may.

Nothing listens: what would be sent goes to the emulated Dataverse by a function call, and what
that touched is held against the grant.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.path.second_reader import Asking, ask, beyond, grant_of, shown

if TYPE_CHECKING:
    from app.policy.grants import Grant

ACCOUNT = "11111111-1111-1111-1111-111111111111"
CONTACT = "22222222-2222-2222-2222-222222222221"
USER = "44444444-4444-4444-4444-444444444441"
PROJECT = "55555555-5555-5555-5555-555555555551"
NOBODY = "99999999-9999-9999-9999-999999999999"

EVERYTHING = ["read", "create", "update", "delete", "append_to", "assign"]
READ = {"operations": ["read"]}
CLOSED: dict[str, Any] = {"operations": []}
SOME_ACCOUNTS = {"operations": ["read"], "columns": ["accountid", "name"]}
OPEN_ACCOUNTS = {"operations": EVERYTHING, "row_filter": "statecode eq 0"}

Rule = dict[str, Any]


@dataclass(frozen=True)
class Try:
    """`tables` is the grant's; `verdict` is `allowed` or the code of the refusal."""

    id: str
    tables: Rule
    method: str
    target: str
    verdict: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    grant: Rule | None = None
    """What else the grant says."""

    def asking(self) -> Asking:
        headers, content = self.headers, None
        if self.body is not None:
            content = json.dumps(self.body).encode()
            headers = (*headers, ("Content-Type", "application/json"))
        return Asking(self.method, quote(self.target, safe="/?&=$(),;'@:%"), headers, content)


def fetch(inside: str, *, head: str = "", table: str = "account") -> str:
    text = f"<fetch{head}><entity name='{table}'>{inside}</entity></fetch>"
    return f"{table}s?fetchXml=" + quote(text, safe="")


ABSTRACT = [
    Try(
        "the owner of a row, users closed",
        {"*": READ, "systemusers": CLOSED},
        "GET",
        "accounts?$select=name&$expand=ownerid($select=ownerid)",
        "not-granted",
    ),
    Try(
        "the owner of a row",
        {"*": READ},
        "GET",
        "accounts?$select=name&$expand=ownerid($select=ownerid)",
        "allowed",
    ),
    Try(
        "a condition on the owner, teams closed",
        {"*": READ, "teams": CLOSED},
        "GET",
        "accounts?$select=name&$filter=ownerid/ownerid ne null",
        "not-granted",
    ),
    Try(
        "principals by their own set, users closed",
        {"*": READ, "systemusers": CLOSED},
        "GET",
        f"principals({USER})",
        "not-granted",
    ),
    Try(
        "principals by their own set, named, users closed",
        {"principals": READ, "teams": READ},
        "GET",
        f"principals({USER})",
        "not-granted",
    ),
    Try(
        "principals joined by FetchXML, users closed",
        {"*": READ, "systemusers": CLOSED},
        "GET",
        fetch(
            "<attribute name='name'/>"
            "<link-entity name='principal' from='ownerid' to='ownerid'>"
            "<attribute name='ownerid'/></link-entity>"
        ),
        "not-granted",
    ),
    Try(
        "principals counted, users closed",
        {"*": READ, "systemusers": CLOSED},
        "GET",
        "RetrieveTotalRecordCount(EntityNames=['principal'])",
        "not-granted",
    ),
    Try(
        "a principal deleted",
        {"*": {"operations": EVERYTHING}},
        "DELETE",
        f"principals({USER})",
        "bad-path",
    ),
    Try(
        "a principal changed",
        {"*": {"operations": EVERYTHING}},
        "PATCH",
        f"principals({USER})",
        "bad-path",
        body={},
    ),
    Try(
        "a principal changed as the user that it is",
        {"*": {"operations": EVERYTHING}},
        "PATCH",
        f"principals({USER})/Microsoft.Dynamics.CRM.systemuser",
        "not-granted",
        body={"title": "x"},
    ),
]

BASE_TYPES = [
    Try(
        "activities, tasks closed",
        {"*": READ, "tasks": CLOSED},
        "GET",
        "activitypointers?$select=subject",
        "not-granted",
    ),
    Try(
        "activities, a column of tasks withheld",
        {"*": READ, "tasks": {"operations": ["read"], "columns": ["activityid"]}},
        "GET",
        "activitypointers?$select=subject",
        "not-granted",
    ),
    Try(
        "activities of a row, some tasks hidden",
        {"*": READ, "tasks": {"operations": ["read"], "row_filter": "statecode eq 0"}},
        "GET",
        "activitypointers?$filter=startswith(subject,'a')",
        "not-granted",
    ),
    Try(
        "activities deleted, tasks only read",
        {"*": {"operations": EVERYTHING}, "tasks": READ},
        "DELETE",
        f"activitypointers({NOBODY})",
        "not-granted",
    ),
    Try(
        "activities, named",
        {"activitypointers": READ, "tasks": CLOSED},
        "GET",
        "activitypointers?$select=subject",
        "allowed",
    ),
    Try("activities", {"*": READ}, "GET", "activitypointers?$select=subject", "allowed"),
]

DEFINITIONS = [
    Try(
        "the job behind a key",
        {"accounts": SOME_ACCOUNTS},
        "GET",
        "EntityDefinitions(LogicalName='account')/Keys(LogicalName='accountnumber_key')/AsyncJob",
        "not-granted",
    ),
    Try(
        "a condition on the job behind a key",
        {"accounts": SOME_ACCOUNTS},
        "GET",
        "EntityDefinitions(LogicalName='account')/Keys?$filter=AsyncJob/name eq 'x'",
        "not-granted",
    ),
    Try(
        "the keys",
        {"accounts": SOME_ACCOUNTS},
        "GET",
        "EntityDefinitions(LogicalName='account')/Keys",
        "allowed",
    ),
]

_UNDER = f"Microsoft.Dynamics.CRM.Under(PropertyName='accountid',PropertyValue='{ACCOUNT}')"
HIERARCHY = [
    Try(
        "rows under another, the parent withheld",
        {"accounts": SOME_ACCOUNTS},
        "GET",
        f"accounts?$select=name&$filter={_UNDER}",
        "not-granted",
    ),
    Try(
        "rows under another, the parent granted",
        {"accounts": {"operations": ["read"], "columns": ["name", "parentaccountid"]}},
        "GET",
        f"accounts?$select=name&$filter={_UNDER}",
        "allowed",
    ),
    Try(
        "rows under another, some hidden",
        {"accounts": OPEN_ACCOUNTS},
        "GET",
        f"accounts?$select=name&$filter={_UNDER}",
        "not-granted",
    ),
    Try(
        "rows under another in FetchXML, the parent withheld",
        {"accounts": SOME_ACCOUNTS},
        "GET",
        fetch(
            "<attribute name='name'/><filter>"
            f"<condition attribute='accountid' operator='eq-or-under' value='{ACCOUNT}'/></filter>"
        ),
        "not-granted",
    ),
]

FETCH = [
    Try(
        "no attributes, some withheld",
        {"accounts": SOME_ACCOUNTS},
        "GET",
        fetch("<no-attrs/>"),
        "allowed",
    ),
    Try(
        "no attributes but an alias, some withheld",
        {"accounts": SOME_ACCOUNTS},
        "GET",
        fetch("<no-attrs/><attribute name='name' alias='n'/>"),
        "allowed",
    ),
    Try(
        "an order in a link that only asks",
        {"accounts": READ, "contacts": READ},
        "GET",
        fetch(
            "<attribute name='name'/><link-entity name='contact' from='parentcustomerid'"
            " to='accountid' link-type='exists'><order attribute='lastname'/></link-entity>"
        ),
        "bad-fetchxml",
    ),
    Try(
        "a withheld column in a comment of a cookie",
        {"accounts": SOME_ACCOUNTS},
        "GET",
        fetch(
            "<attribute name='name'/>",
            head=" page='2' paging-cookie='&lt;cookie page=&quot;1&quot;&gt;&lt;!-- &lt;revenue"
            " last=&quot;1&quot;/&gt; --&gt;&lt;name last=&quot;x&quot;/&gt;&lt;/cookie&gt;'",
        ),
        "bad-fetchxml",
    ),
    Try(
        "a link's alias that is a withheld column, in a cookie",
        {"accounts": SOME_ACCOUNTS, "contacts": READ},
        "GET",
        fetch(
            "<attribute name='name'/><link-entity name='contact' from='parentcustomerid'"
            " to='accountid' alias='revenue'/>",
            head=" page='2' paging-cookie='&lt;cookie page=&quot;1&quot;&gt;&lt;revenue"
            " last=&quot;1&quot;/&gt;&lt;/cookie&gt;'",
        ),
        "not-granted",
    ),
]

ROWS = [
    Try(
        "references in a collection, some hidden",
        {"accounts": READ, "contacts": {"operations": ["read"], "row_filter": "statecode eq 0"}},
        "GET",
        f"accounts({ACCOUNT})/contact_customer_accounts/$ref",
        "not-granted",
    ),
    Try(
        "a reference in a collection by its key, some hidden",
        {"accounts": READ, "contacts": {"operations": ["read"], "row_filter": "statecode eq 0"}},
        "GET",
        f"accounts({ACCOUNT})/contact_customer_accounts({CONTACT})/$ref",
        "not-granted",
    ),
    Try(
        "references in a collection",
        {"accounts": READ, "contacts": READ},
        "GET",
        f"accounts({ACCOUNT})/contact_customer_accounts/$ref",
        "allowed",
    ),
    Try(
        "an update that might create, rows filtered",
        {"accounts": OPEN_ACCOUNTS},
        "PATCH",
        f"accounts({ACCOUNT})",
        "allowed",
        body={"name": "x"},
    ),
    Try(
        "a key that many rows have, some hidden",
        {"accounts": OPEN_ACCOUNTS},
        "GET",
        "accounts(creditonhold=false)",
        "no-such-row",
    ),
    Try(
        "a key without a value, some rows hidden",
        {"accounts": OPEN_ACCOUNTS},
        "GET",
        "accounts(accountnumber=null)",
        "bad-path",
    ),
    Try(
        "a key that one row has, some hidden",
        {"accounts": OPEN_ACCOUNTS},
        "GET",
        "accounts(accountnumber='A-1001')",
        "allowed",
    ),
    Try(
        "another row's id beside the one that is looked up",
        {"accounts": OPEN_ACCOUNTS},
        "POST",
        "accounts/Microsoft.Dynamics.CRM.UpdateMultiple",
        "bad-body",
        body={
            "Targets": [
                {
                    "@odata.type": "Microsoft.Dynamics.CRM.account",
                    "@odata.id": f"accounts({ACCOUNT})",
                    "accountid": NOBODY,
                    "name": "x",
                }
            ]
        },
    ),
]

_WRITES_ONLY = {"operations": ["update"], "columns": [], "writable_columns": ["telephone1"]}
_WRITES_CONTACT = ["primarycontactid", "telephone1"]
REPRESENTATION = [
    Try(
        "a column written and given back",
        {"accounts": _WRITES_ONLY},
        "PUT",
        f"accounts({ACCOUNT})/telephone1",
        "not-granted",
        body={"value": "1"},
        headers=(("Prefer", "return=representation"),),
    ),
    Try(
        "a column written",
        {"accounts": _WRITES_ONLY},
        "PUT",
        f"accounts({ACCOUNT})/telephone1",
        "allowed",
        body={"value": "1"},
    ),
    Try(
        "a row found by a lookup that may only be written",
        {
            "accounts": {
                "operations": ["update", "read"],
                "columns": ["accountid"],
                "writable_columns": _WRITES_CONTACT,
            },
            "contacts": {"operations": ["append_to"]},
        },
        "POST",
        "accounts/Microsoft.Dynamics.CRM.UpdateMultiple",
        "not-granted",
        body={
            "Targets": [
                {
                    "@odata.type": "Microsoft.Dynamics.CRM.account",
                    "primarycontactid@odata.bind": f"contacts({CONTACT})",
                    "telephone1": "1",
                }
            ]
        },
    ),
]

_TRIES = [
    *ABSTRACT,
    *BASE_TYPES,
    *DEFINITIONS,
    *HIERARCHY,
    *FETCH,
    *ROWS,
    *REPRESENTATION,
]


def _grant(attempt: Try) -> Grant:
    return grant_of({"tables": attempt.tables, **(attempt.grant or {})})


@pytest.mark.parametrize("attempt", _TRIES, ids=lambda t: t.id)
def test_the_broker_does_not_get_further_than_the_grant(attempt: Try) -> None:
    grant = _grant(attempt)
    outcome = ask(attempt.asking(), grant)
    assert outcome.verdict == attempt.verdict, shown(outcome)
    assert not beyond(outcome, grant), shown(outcome)
    if outcome.judged is None:
        assert outcome.arrivals == 0


def _change_set(*parts: tuple[str, Any]) -> Asking:
    lines = ["--b", "Content-Type: multipart/mixed; boundary=c", ""]
    for number, (line, body) in enumerate(parts, 1):
        lines += ["--c", "Content-Type: application/http", f"Content-ID: {number}", ""]
        lines += [f"{line} HTTP/1.1", "Content-Type: application/json", "", json.dumps(body)]
    content = "\r\n".join([*lines, "--c--", "--b--", ""]).encode()
    return Asking("POST", "$batch", (("Content-Type", "multipart/mixed; boundary=b"),), content)


@pytest.mark.parametrize(
    ("body", "verdict"),
    [({"name": "x"}, "allowed"), ({"name": "x", "accountid": NOBODY}, "bad-body")],
    ids=["none", "another"],
)
def test_a_row_that_a_part_names_takes_no_other_id(body: Any, verdict: str) -> None:
    grant = grant_of({"tables": {"accounts": OPEN_ACCOUNTS}})
    asking = _change_set(("POST accounts", {"name": "new"}), ("PATCH $1", body))
    assert ask(asking, grant).verdict == verdict


_SAME_WORDS = [
    ("GET", "{set}?$select=a", None),
    ("GET", "{set}?$filter=a/b eq 1", None),
    ("GET", "{set}?$expand=a", None),
    ("GET", "{set}?$apply=aggregate(a with sum as b)", None),
    ("GET", f"{{set}}({ACCOUNT})/a/b", None),
    ("GET", "{set}(a='x',b=2)", None),
    ("GET", f"{{set}}({ACCOUNT})/Microsoft.Dynamics.CRM.X()", None),
    ("POST", f"{{set}}({ACCOUNT})/Microsoft.Dynamics.CRM.X", {}),
    ("POST", "{set}", {"a": 1}),
    ("POST", "{set}", {"a@odata.bind": f"/accounts({ACCOUNT})"}),
    ("PATCH", f"{{set}}({ACCOUNT})", {"a": 1}),
    ("PUT", f"{{set}}({ACCOUNT})/a", {"value": 1}),
    ("GET", "accounts/Microsoft.Dynamics.CRM.{type}", None),
    ("GET", "EntityDefinitions(LogicalName='{type}')/Attributes", None),
    ("GET", "accounts?$filter={column} eq 1", None),
    ("GET", f"accounts({ACCOUNT})/{{column}}", None),
    ("PUT", f"accounts({ACCOUNT})/{{column}}", {"value": 1}),
    ("PATCH", f"accounts({ACCOUNT})", {"{column}": 1}),
]


@pytest.mark.parametrize(("method", "target", "body"), _SAME_WORDS, ids=str)
def test_what_is_closed_is_refused_in_the_words_for_what_is_not_there(
    method: str, target: str, body: Any
) -> None:
    tables = {"accounts": {"operations": ["read", "update"], "columns": ["accountid", "name"]}}
    grant = grant_of({"tables": tables})
    said = []
    for names in (
        {"set": "new_secrets", "type": "new_secret", "column": "creditlimit"},
        {"set": "nosuchthings", "type": "nosuchthing", "column": "nosuchcolumn"},
    ):
        content = None
        if body is not None:
            content = {k.format(**names): v for k, v in body.items()}
        attempt = Try("", {}, method, target.format(**names), "", content)
        outcome = ask(attempt.asking(), grant)
        assert outcome.verdict == "not-granted", shown(outcome)
        detail = outcome.detail
        for kind, name in names.items():
            detail = detail.replace(name, kind)
        said.append(detail)
    assert said[0] == said[1]


def test_a_batch_of_many_mistakes_is_told_of_each_part_and_not_of_each_name() -> None:
    grant = grant_of({"tables": {"accounts": {"operations": ["create"], "columns": ["name"]}}})
    row = {f"nosuchcolumn{number}": 1 for number in range(500)}
    outcome = ask(_change_set(*[("POST accounts", row)] * 100), grant)
    assert outcome.verdict == "not-granted"
    assert len(outcome.detail) < 200_000
    assert all(f"part {number}:" in outcome.detail for number in range(1, 101))


@pytest.mark.parametrize(
    ("tables", "named", "verdict"),
    [
        ({"accounts": OPEN_ACCOUNTS}, 1_001, "limit-exceeded"),
        ({"accounts": {"operations": EVERYTHING}}, 1_001, "allowed"),
        ({"accounts": {"operations": EVERYTHING}}, 10_001, "limit-exceeded"),
    ],
    ids=["filtered", "not filtered", "too many by themselves"],
)
def test_one_request_causes_no_flood_of_look_ups(tables: Rule, named: int, verdict: str) -> None:
    kind = "Microsoft.Dynamics.CRM.account"
    ids = (f"99999999-9999-9999-9999-{number:012}" for number in range(named))
    rows = [{"@odata.type": kind, "accountid": row_id, "name": "x"} for row_id in ids]
    headers = (("Content-Type", "application/json"),)
    content = json.dumps({"Targets": rows}).encode()
    asking = Asking("POST", "accounts/Microsoft.Dynamics.CRM.UpdateMultiple", headers, content)
    assert ask(asking, grant_of({"tables": tables})).verdict == verdict
