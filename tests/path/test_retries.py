"""What is tried again, and what never: seen by a Dataverse that counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from app.dataverse.failures import ExchangeFailed, Stage
from tests.path.staging import Staged, staging
from tests.path.stand_ins import ROW_ID, Arrived, ordinary, says

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.path.raw_http import RawAnswer
    from tests.path.stand_ins import Answering, StandIn, StandInHost

ROOT = "/environments/prod/api/data/v9.2"
READ = f"{ROOT}/accounts?$select=name"
CONTACT = f"{ROOT}/contacts({ROW_ID})"
REQUESTS = "0x80072322"
TIME = "0x80072321"
CONCURRENT = "0x80072326"


def throttled(retry_after: str | None = "1", code: str = REQUESTS) -> bytes:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return says(429, {"error": {"code": code, "message": "Number of requests exceeded"}}, headers)


def in_turn(*answers: bytes | Answering) -> Callable[[Arrived], Any]:
    """One after the other; the last one for ever."""
    left = list(answers)

    def answer(arrived: Arrived) -> Any:
        told = left.pop(0) if len(left) > 1 else left[0]
        return told(arrived) if callable(told) else told

    return answer


async def reset(
    arrived: Arrived, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    del arrived, reader
    writer.transport.abort()


def breaks(arrived: Arrived) -> Any:
    del arrived
    return reset


@pytest.fixture
def prod(staged: Staged) -> Iterator[StandIn]:
    """Nobody has been told to wait yet."""
    lanes = staged.broker.running.shares._lanes
    staged.broker.on_loop(lanes.clear)
    yield staged.prod
    staged.broker.on_loop(lanes.clear)


def counted(answer: RawAnswer) -> tuple[str | None, bool]:
    waited = answer.header("broker-waited-ms")
    assert waited is not None
    return answer.header("broker-attempts"), int(waited) >= 900


# ----------------------------------------------------------------- told to come later


@pytest.mark.parametrize("code", [REQUESTS, TIME, CONCURRENT, "0x80040217"])
def test_a_read_that_is_told_to_come_later_does(staged: Staged, prod: StandIn, code: str) -> None:
    prod.answer = in_turn(throttled("1", code), ordinary)
    began = time.monotonic()

    answer = staged.broker.ask("GET", READ, caller="reporting")

    assert answer.status == 200
    assert counted(answer) == ("2", True)
    assert len(prod.arrived) == 2
    assert time.monotonic() - began < 10


def test_a_write_that_was_throttled_goes_again_with_the_same_body(
    staged: Staged, prod: StandIn
) -> None:
    prod.answer = in_turn(throttled(), ordinary)

    answer = staged.broker.ask("PATCH", CONTACT, caller="crm-writer", body={"jobtitle": "x"})

    assert answer.status == 204
    assert [a.body for a in prod.arrived] == [b'{"jobtitle":"x"}'] * 2


def test_unavailable_with_a_time_is_tried_again_and_without_one_is_not(
    staged: Staged, prod: StandIn
) -> None:
    prod.answer = in_turn(says(503, b"", {"Retry-After": "1"}), ordinary)
    assert staged.broker.ask("GET", READ, caller="reporting").status == 200

    prod.clear()
    prod.answer = in_turn(says(503, b"no time told"), ordinary)
    answer = staged.broker.ask("GET", READ, caller="reporting")
    assert (answer.status, answer.body, len(prod.arrived)) == (503, b"no time told", 1)


@pytest.mark.parametrize(
    ("retry_after", "headers"),
    [
        pytest.param(None, {}, id="that names no time"),
        pytest.param("2", {"Broker-Timeout": "1"}, id="after the caller's deadline"),
        pytest.param("1", {"Broker-Retry": "none"}, id="for a caller who wants no retries"),
        pytest.param("300", {}, id="after the default deadline"),
    ],
)
def test_a_429_passes_as_it_is(
    staged: Staged, prod: StandIn, retry_after: str | None, headers: dict[str, str]
) -> None:
    prod.answer = in_turn(throttled(retry_after), ordinary)

    answer = staged.broker.ask("GET", READ, caller="reporting", headers=headers)

    assert answer.status == 429
    assert answer.json()["error"]["code"] == REQUESTS
    assert answer.header("retry-after") == retry_after
    assert counted(answer) == ("1", False)
    assert len(prod.arrived) == 1


def test_nobody_asks_while_dataverse_wants_to_hear_nothing(staged: Staged, prod: StandIn) -> None:
    prod.answer = in_turn(throttled("30"), ordinary)
    first = staged.broker.ask("GET", READ, caller="reporting", headers={"Broker-Retry": "none"})
    assert first.status == 429

    second = staged.broker.ask("GET", READ, caller="reporting", headers={"Broker-Timeout": "5"})

    assert second.status == 503
    assert second.json()["type"] == "/problems/upstream-busy"
    assert 25 <= int(second.header("retry-after") or 0) <= 30
    assert len(prod.arrived) == 1


def test_an_unexplained_429_stops_nobody_else(staged: Staged, prod: StandIn) -> None:
    prod.answer = in_turn(throttled("30", "0x80040217"), ordinary)
    first = staged.broker.ask("GET", READ, caller="reporting", headers={"Broker-Retry": "none"})
    second = staged.broker.ask("GET", READ, caller="reporting")

    assert (first.status, second.status) == (429, 200)


# -------------------------------------------------------------------------- broken off


def test_a_read_that_broke_off_goes_again(staged: Staged, prod: StandIn) -> None:
    prod.answer = in_turn(breaks, ordinary)

    answer = staged.broker.ask("GET", READ, caller="reporting")

    assert answer.status == 200
    assert answer.header("broker-attempts") == "2"


def test_a_read_that_breaks_again_and_again_is_given_up(staged: Staged, prod: StandIn) -> None:
    prod.answer = in_turn(breaks)

    answer = staged.broker.ask("GET", READ, caller="reporting")

    assert answer.status == 502
    assert answer.json()["type"] == "/problems/upstream-broke"
    assert answer.json()["attempts"] == len(prod.arrived) == 3


def test_a_read_that_broke_off_stays_broken_for_a_caller_who_wants_no_retries(
    staged: Staged, prod: StandIn
) -> None:
    prod.answer = in_turn(breaks, ordinary)

    answer = staged.broker.ask("GET", READ, caller="reporting", headers={"Broker-Retry": "none"})

    assert (answer.status, len(prod.arrived)) == (502, 1)


@pytest.mark.parametrize(
    ("headers", "times"),
    [
        pytest.param({"If-Match": 'W/"4711"'}, 2, id="that holds for one change goes again"),
        pytest.param({"If-Match": "*"}, 1, id="that holds always does not"),
        pytest.param({}, 1, id="that nobody asked for does not"),
    ],
)
def test_a_change_under_a_condition(
    staged: Staged, prod: StandIn, headers: dict[str, str], times: int
) -> None:
    prod.answer = in_turn(breaks, ordinary)

    answer = staged.broker.ask(
        "PATCH", CONTACT, caller="crm-writer", headers=headers, body={"jobtitle": "x"}
    )

    assert answer.status == (204 if times == 2 else 502)
    assert len(prod.arrived) == times


def batch_of(*parts: str) -> bytes:
    head = "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    return ("".join(f"{head}{part}\r\n" for part in parts) + "--b--\r\n").encode()


GET_PART = "GET /api/data/v9.2/invoices?$select=name HTTP/1.1\r\n\r\n"
POST_PART = (
    'POST /api/data/v9.2/invoices HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{"name":"x"}'
)


@pytest.mark.parametrize(
    ("target", "body", "times"),
    [
        pytest.param(f"{ROOT}/invoices", b'{"name":"x"}', 1, id="by itself"),
        pytest.param(f"{ROOT}/$batch", batch_of(GET_PART, POST_PART), 1, id="in a batch"),
        pytest.param(f"{ROOT}/$batch", batch_of(GET_PART), 2, id="unless the batch only reads"),
    ],
)
def test_a_creation_never_goes_twice(
    staged: Staged, prod: StandIn, target: str, body: bytes, times: int
) -> None:
    prod.answer = in_turn(breaks, ordinary)
    kind = "multipart/mixed; boundary=b" if "$batch" in target else "application/json"

    answer = staged.broker.ask(
        "POST", target, caller="billing-sync", headers={"Content-Type": kind}, body=body
    )

    assert answer.status == (502 if times == 1 else 200)
    assert len(prod.arrived) == times


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        pytest.param(throttled(), 429, id="is told to come later"),
        pytest.param(breaks, 502, id="breaks off"),
    ],
)
def test_a_file_is_never_sent_twice(
    staged: Staged, prod: StandIn, trouble: bytes | Answering, status: int
) -> None:
    prod.answer = in_turn(trouble, ordinary)

    answer = staged.broker.ask(
        "PATCH",
        f"{ROOT}/accounts({ROW_ID})/new_contractfile",
        caller="file-writer",
        headers={
            "Content-Type": "application/octet-stream",
            "If-Match": 'W/"1"',
            "x-ms-file-name": "contract.pdf",
        },
        body=b"%PDF" * 1000,
    )

    assert (answer.status, len(prod.arrived)) == (status, 1)


# ------------------------------------------------------------------- not once was it sent


def test_a_request_that_was_not_sent_goes_again_whatever_it_is(
    staged: Staged, prod: StandIn
) -> None:
    """Its Dataverse comes back while the broker still tries to connect."""
    client = staged.broker.running.world.upstream("prod")
    connect = client._pool._connect
    failures = 2

    async def flaky(pool: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise ExchangeFailed("upstream-unreachable", "not yet", stage=Stage.CONNECTING)
        return await connect(pool)

    def prepare() -> None:
        client._pool.close_idle()
        client._pool._connect = flaky

    staged.broker.on_loop(prepare)
    try:
        answer = staged.broker.ask("POST", f"{ROOT}/invoices", caller="billing-sync", body={})
    finally:
        client._pool._connect = connect

    assert answer.status == 204
    assert answer.header("broker-attempts") == "3"
    assert len(prod.arrived) == 1


# ------------------------------------------------------------------------- the deadline


def test_an_answer_that_takes_longer_than_the_caller_waits_is_a_timeout(
    staged: Staged, prod: StandIn
) -> None:
    async def silent(
        arrived: Arrived, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        del arrived, writer
        await reader.read()

    prod.answer = lambda _: silent
    began = time.monotonic()

    answer = staged.broker.ask("GET", READ, caller="reporting", headers={"Broker-Timeout": "0.3"})

    assert answer.status == 504
    assert 0.25 < time.monotonic() - began < 5
    assert len(prod.arrived) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Broker-Timeout": "0"},
        {"Broker-Timeout": "-1"},
        {"Broker-Timeout": "soon"},
        {"Broker-Timeout": "1e3"},
        {"Broker-Retry": "once"},
    ],
    ids=str,
)
def test_wishes_that_cannot_be_read_are_refused(
    staged: Staged, prod: StandIn, headers: dict[str, str]
) -> None:
    answer = staged.broker.ask("GET", READ, caller="reporting", headers=headers)

    assert answer.status == 400
    assert answer.json()["type"] == "/problems/bad-header"
    assert prod.arrived == []


# ------------------------------------------------------------------------------ a pool


@pytest.fixture
def pooled(host: StandInHost, tmp_path: Path) -> Iterator[Staged]:
    def change(configuration: dict[str, Any]) -> None:
        applications = configuration["applications"]
        for number, name in enumerate(("pool-b", "pool-c"), 2):
            applications[name] = yaml.safe_load(yaml.safe_dump(applications["crm-app"]))
            applications[name]["client_id"] = f"22222222-0000-0000-0000-00000000000{number}"
        grant = configuration["callers"]["reporting"]["grants"][0]
        grant["application"] = ["crm-app", "pool-b", "pool-c"]

    with staging(host, tmp_path, change=change) as made:
        yield made


def test_another_member_of_a_pool_goes_at_once_where_one_must_wait(pooled: Staged) -> None:
    pooled.prod.answer = in_turn(throttled("60"), throttled("60"), ordinary)

    answer = pooled.broker.ask("GET", READ, caller="reporting")

    assert answer.status == 200
    assert counted(answer) == ("3", False)
    tokens = [a.header("authorization") for a in pooled.prod.arrived]
    assert len(set(tokens)) == 3
    (record,) = pooled.broker.until_recorded(answer.header("broker-request-id"))
    assert record.application == "pool-c"


def test_a_pool_is_left_for_the_one_that_the_caller_names(pooled: Staged) -> None:
    answer = pooled.broker.ask(
        "GET", READ, caller="reporting", headers={"Broker-Application": "pool-b"}
    )

    assert answer.status == 200
    (record,) = pooled.broker.until_recorded(answer.header("broker-request-id"))
    assert record.application == "pool-b"


def test_a_continuation_stays_with_the_member_that_began_it(pooled: Staged) -> None:
    def page(arrived: Arrived) -> bytes:
        base = f"http://{arrived.header('host')}/api/data/v9.2/accounts"
        more = f"{base}?$select=name&$skiptoken=%3Ccookie/%3E"
        return says(200, {"value": [], "@odata.nextLink": more})

    pooled.prod.answer = page
    first = pooled.broker.ask(
        "GET", READ, caller="reporting", headers={"Broker-Application": "pool-c"}
    )
    link = first.json()["@odata.nextLink"].removeprefix(pooled.broker.url)
    pooled.prod.answer = in_turn(throttled("1"), ordinary)

    second = pooled.broker.ask("GET", link, caller="reporting")

    assert second.status == 200
    assert counted(second) == ("2", True)
    (record,) = pooled.broker.until_recorded(second.header("broker-request-id"))
    assert record.application == "pool-c"
