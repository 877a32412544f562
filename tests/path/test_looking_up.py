"""A row of a filtered table is asked for first: what callers hear where that question fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.path.staging import sandboxing
from tests.path.stand_ins import ROW_ID, Arrived, ordinary, says

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from app.sandbox.run import Sandbox
    from tests.path.raw_http import RawAnswer
    from tests.path.staging import Configuration, Staged
    from tests.path.stand_ins import StandIn

ROOT = "/environments/dev/api/data/v9.2"
BY_ID = f"accounts({ROW_ID})?$select=name"
BY_KEY = "accounts(accountnumber='A-1')?$select=name"
MISTYPED = "accounts(accountnumber=1)?$select=name"
ONCE = {"Broker-Retry": "none"}


@pytest.fixture
def dev(staged: Staged) -> Iterator[StandIn]:
    """Nobody has been told to wait yet."""
    lanes = staged.broker.running.shares._lanes
    staged.broker.on_loop(lanes.clear)
    yield staged.environments["dev"]
    staged.broker.on_loop(lanes.clear)


def to_look_ups(answer: bytes) -> Callable[[Arrived], Any]:
    return lambda arrived: answer if "$filter=" in arrived.decoded else ordinary(arrived)


def throttled(status: int, retry_after: str | None) -> bytes:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    # A code of no limit: the lane stays open for the tests beside this one.
    return says(status, {"error": {"code": "0x80040217", "message": "later"}}, headers)


def ask(staged: Staged, target: str, *, method: str = "GET", body: object = None) -> RawAnswer:
    return staged.broker.ask(
        method, f"{ROOT}/{target}", caller="case-desk", headers=ONCE, body=body
    )


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("retry_after", "told"), [("37", "37"), ("0", "1"), (None, "5")])
def test_who_has_to_come_later_is_told_when(
    staged: Staged, dev: StandIn, status: int, retry_after: str | None, told: str
) -> None:
    dev.answer = to_look_ups(throttled(status, retry_after))
    answer = ask(staged, BY_ID, method="PATCH", body={"name": "x"})
    assert (answer.status, answer.json()["type"]) == (503, "/problems/upstream-busy")
    assert answer.header("retry-after") == told
    assert answer.header("broker-decision") == "error"
    assert [a.method for a in dev.arrived] == ["GET"], "nothing is written on a guess"


@pytest.mark.parametrize("status", [403, 404, 500, 502])
def test_another_answer_passes_for_none(staged: Staged, dev: StandIn, status: int) -> None:
    dev.answer = to_look_ups(says(status, {"error": {"code": "0x80040220", "message": "no"}}))
    answer = ask(staged, BY_ID)
    assert (answer.status, answer.json()["type"]) == (502, "/problems/upstream-malformed")


def test_a_key_that_dataverse_cannot_read_names_no_row(staged: Staged, dev: StandIn) -> None:
    dev.answer = to_look_ups(says(200, {"value": []}))
    absent = ask(staged, BY_KEY)
    dev.answer = to_look_ups(says(400, {"error": {"code": "0x80060888", "message": "types"}}))
    mistyped = ask(staged, MISTYPED)

    assert absent.status == mistyped.status == 404
    assert (absent.json() | {"request_id": ""}) == (mistyped.json() | {"request_id": ""})
    assert len(dev.arrived) == 2


@pytest.mark.parametrize("target", [BY_ID, f"accounts(accountid={ROW_ID})?$select=name"])
def test_a_filter_that_dataverse_cannot_read_is_no_missing_row(
    staged: Staged, dev: StandIn, target: str
) -> None:
    """A GUID can be asked for always, so it is the grant that is wrong, and that must be seen."""
    dev.answer = to_look_ups(says(400, {"error": {"code": "0x80060888", "message": "types"}}))
    assert ask(staged, target).status == 502


def test_the_sandbox_is_asked_and_says_what_dataverse_says(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    def filtered(configuration: Configuration) -> None:
        for grant in configuration["callers"]["reporting"]["grants"]:
            grant["tables"]["accounts"]["row_filter"] = "statecode eq 0"

    with sandboxing(sandbox, tmp_path, change=filtered) as broker:

        def status_of(key: str) -> int:
            target = f"/api/data/v9.2/accounts({key})?$select=name"
            return broker.ask("GET", target, caller="reporting").status

        assert status_of("accountnumber='A-1001'") == 200
        assert status_of("accountnumber='A-0000'") == 404
        for mistyped in ("accountnumber=1001", f"accountnumber={ROW_ID}", "accountid='x'"):
            assert status_of(mistyped) == 404, mistyped
