"""A grant that does not enforce yet: let through, and on record as what would have been refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.path.staging import Staged

ROOT = "/environments/prod/api/data/v9.2"


@pytest.mark.parametrize(
    ("target", "columns"),
    [
        ("accounts?$select=name,creditlimit", ("creditlimit", "name")),
        ("systemusers?$select=fullname", ("fullname",)),
    ],
)
def test_what_would_be_refused_goes_through_and_is_marked(
    staged: Staged, target: str, columns: tuple[str, ...]
) -> None:
    answer = staged.broker.ask("GET", f"{ROOT}/{target}", caller="trial")
    assert (answer.status, answer.header("broker-decision")) == (200, "allowed")
    [record] = staged.broker.records_of(answer.header("broker-request-id"))
    assert (record.decision, record.reason, record.status) == ("allowed", "would-refuse", 200)
    assert tuple(sorted(record.accesses[0].columns or ())) == columns
    assert len(staged.prod.arrived) == 1


def test_what_is_granted_is_not_marked(staged: Staged) -> None:
    answer = staged.broker.ask("GET", f"{ROOT}/accounts?$select=name", caller="trial")
    [record] = staged.broker.records_of(answer.header("broker-request-id"))
    assert (record.decision, record.reason) == ("allowed", None)


def test_nothing_is_added_to_a_request_that_is_not_enforced(staged: Staged) -> None:
    staged.broker.ask("GET", f"{ROOT}/accounts", caller="trial")
    [arrived] = staged.prod.arrived
    assert arrived.target == "/api/data/v9.2/accounts"
    assert arrived.header("prefer") is None


@pytest.mark.parametrize(
    ("target", "status"),
    [("accounts/../systemusers", 400), ("accounts?$select=name&$skiptoken=1", 400)],
)
def test_what_cannot_be_read_is_refused_all_the_same(
    staged: Staged, target: str, status: int
) -> None:
    answer = staged.broker.ask("GET", f"{ROOT}/{target}", caller="trial")
    assert answer.status == status
    assert staged.prod.arrived == []


def test_a_write_that_would_be_refused_has_its_intent_first(staged: Staged) -> None:
    answer = staged.broker.ask(
        "POST", f"{ROOT}/contacts", caller="trial", body={"lastname": "x", "governmentid": "y"}
    )
    assert answer.status == 204
    records = staged.broker.records_of(answer.header("broker-request-id"))
    assert [(r.phase, r.reason) for r in records] == [
        ("intent", "would-refuse"),
        ("outcome", "would-refuse"),
    ]
