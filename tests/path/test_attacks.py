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

_TRIES = [*ABSTRACT, *BASE_TYPES]


def _grant(attempt: Try) -> Grant:
    return grant_of({"tables": attempt.tables, **(attempt.grant or {})})


@pytest.mark.parametrize("attempt", _TRIES, ids=lambda t: t.id)
def test_the_broker_does_not_get_further_than_the_grant(attempt: Try) -> None:
    grant = _grant(attempt)
    outcome = ask(attempt.asking(), grant)
    assert outcome.verdict == attempt.verdict, shown(outcome)
    assert not beyond(outcome, grant), shown(outcome)
    if not outcome.allowed:
        assert outcome.arrivals == 0
