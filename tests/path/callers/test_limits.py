"""A caller's own limits, and those of an address that fails to prove who it is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from app.limits.strangers import FAILURES_PER_MINUTE
from app.sandbox.dataverse.faults import slow
from tests.path.raw_http import request_bytes
from tests.path.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.path.callers.conftest import Desk
    from tests.path.raw_http import RawConnection

TARGET = "/environments/contoso/api/data/v9.2/accounts?$select=name&$top=1"


def forget_rates(desk: Desk) -> None:
    """What earlier tests have spent."""
    local: Any = desk.broker.running.limits._counts
    if local._rates is not None:
        desk.broker.on_loop(local._rates.storage.reset)


def test_a_rate_that_is_used_up_is_a_429_with_its_headers(desk: Desk) -> None:
    forget_rates(desk)
    answers = [desk.broker.ask("GET", TARGET, caller="hasty") for _ in range(4)]
    assert [a.status for a in answers] == [200, 200, 200, 429]
    limited = answers[-1]
    document = limited.json()
    assert document["type"] == "/problems/rate-limited"
    assert document["rate_limit"]["limit"] == 3
    seconds = int(limited.header("retry-after") or "")
    assert 1 <= seconds <= 60
    assert (limited.header("ratelimit-limit"), limited.header("ratelimit-remaining")) == ("3", "0")
    assert limited.header("ratelimit-reset") == str(seconds)
    assert limited.header("broker-decision") == "refused"
    record = desk.record_of(limited)
    assert (record.decision, record.reason, record.caller) == ("refused", "rate-limited", "hasty")
    # Another caller has its own.
    assert desk.broker.ask("GET", TARGET, caller="loader").status == 200


def test_a_token_counts_as_a_request_of_its_grant(desk: Desk) -> None:
    forget_rates(desk)
    answers = [desk.by_secret("hasty", desk.contoso) for _ in range(4)]
    assert [a.status for a in answers] == [200, 200, 200, 429]
    limited = answers[-1]
    assert limited.json()["error"] == "temporarily_unavailable"
    assert limited.header("retry-after") is not None
    assert limited.header("ratelimit-limit") == "3"
    assert desk.record_of(limited).reason == "rate-limited"


def test_what_is_refused_by_policy_costs_nothing(desk: Desk) -> None:
    forget_rates(desk)
    for _ in range(5):
        answer = desk.broker.ask(
            "GET", "/environments/contoso/api/data/v9.2/contacts?$select=fullname", caller="hasty"
        )
        assert answer.status == 403
    assert desk.broker.ask("GET", TARGET, caller="hasty").status == 200


def test_a_write_over_the_limit_is_on_record_twice_and_is_not_sent(desk: Desk) -> None:
    forget_rates(desk)
    for _ in range(3):
        desk.broker.ask("GET", TARGET, caller="hasty")
    answer = desk.broker.ask(
        "PATCH",
        "/environments/contoso/api/data/v9.2/accounts(00000000-0000-4000-8000-000000000001)",
        caller="hasty",
        headers={"If-Match": "*"},
        body={"name": "renamed"},
    )
    assert answer.status == 429
    records = desk.broker.until_recorded(answer.header("broker-request-id"), count=2)
    assert [(r.phase, r.decision, r.reason) for r in records] == [
        ("intent", "allowed", None),
        ("outcome", "refused", "rate-limited"),
    ]
    assert records[1].upstream_status is None


@contextlib.contextmanager
def under_way(desk: Desk) -> Iterator[RawConnection]:
    """A request of the caller `single` that Dataverse takes half a second for."""
    desk.sandbox.environments["contoso"].app.faults.add(slow(0.5, times=1, path="accounts"))
    local: Any = desk.broker.running.limits._counts
    with desk.broker.connect() as connection:
        key = {"Authorization": f"Bearer {desk.broker.keys['single']}"}
        connection.send(request_bytes("GET", TARGET, key, None, host="x"))
        until(lambda: "single/contoso/erp-invoices" in local._under_way or None)
        yield connection


def test_concurrency_lets_the_next_one_in_when_one_is_answered(desk: Desk) -> None:
    with under_way(desk) as connection:
        limited = desk.broker.ask("GET", TARGET, caller="single")
        assert limited.status == 429
        assert limited.json()["type"] == "/problems/too-many-concurrent"
        assert limited.header("retry-after") == "1"
        assert desk.record_of(limited).reason == "too-many-concurrent"
        assert connection.answer().status == 200
    until(lambda: desk.broker.ask("GET", TARGET, caller="single").status == 200 or None)


def test_a_caller_who_hangs_up_gives_his_slot_back(desk: Desk) -> None:
    with under_way(desk):
        assert desk.broker.ask("GET", TARGET, caller="single").status == 429
    until(lambda: desk.broker.ask("GET", TARGET, caller="single").status == 200 or None)


def test_an_address_that_keeps_failing_is_told_to_wait_and_its_neighbours_are_not(
    desk: Desk,
) -> None:
    wrong = {"Authorization": "Bearer dvb_loader_" + "0" * 64}
    for _ in range(FAILURES_PER_MINUTE):
        assert desk.broker.ask("GET", "/callers/me", headers=wrong).status == 401
    refused = [
        desk.broker.ask("GET", "/callers/me", headers=wrong),
        desk.broker.ask("GET", TARGET, headers=wrong),
        desk.with_bearer(desk.jwt(sub="unknown")),
        desk.with_bearer(desk.broker.keys["disabled"]),
        desk.token({"grant_type": "client_credentials", "client_secret": "x"}),
    ]
    for answer in refused:
        assert answer.status == 429, answer.text
        assert int(answer.header("retry-after") or "") <= 61
        assert desk.record_of(answer).reason == "rate-limited"
    # Behind an ingress all callers have one address: a good credential is good from there.
    for token in (desk.broker.keys["loader"], desk.jwt(jti="new"), desk.broker_token("loader")):
        assert desk.with_bearer(token).status == 200
