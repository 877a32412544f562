"""Entra has a bad day: nobody notices while a token is valid, and everybody is told why then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from app.sandbox.entra import faults
from tests.faults.bad_days import LIFETIME, day

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.bad_days import Day

OUTAGES = {
    "down": (faults.down(), "entra-unreachable"),
    "cut-off": (faults.dropped(), "entra-unreachable"),
    "throttled": (faults.throttled(retry_after_s=7), "entra-throttled"),
    "throttled-without-json": (faults.throttled_in_prose(retry_after_s=7), "entra-throttled"),
    "unavailable-with-a-page": (faults.unavailable(), "entra-unreachable"),
    "unavailable-for-a-while": (faults.unavailable(retry_after_s=7), "entra-unreachable"),
    "garbage": (faults.garbage(), "entra-malformed"),
    "no-json": (faults.garbage(b"<html>sign in to the hotel's network</html>"), "entra-malformed"),
    "a-token-of-no-time": (
        faults.garbage(b'{"access_token":"a.b.c","token_type":"Bearer","expires_in":0}'),
        "entra-malformed",
    ),
}


@pytest.fixture(scope="module")
def whole_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with day(tmp_path_factory.mktemp("outage")) as begun:
        yield begun


@pytest.fixture
def fresh(whole_day: Day) -> Iterator[Day]:
    """Everything works, and a token was had at this very moment."""
    whole_day.sandbox.entra.faults.clear()
    whole_day.forget_tokens()
    assert whole_day.ask().status == 200
    whole_day.count_from_here()
    yield whole_day
    whole_day.sandbox.entra.faults.clear()


@pytest.mark.parametrize(("fault", "cause"), OUTAGES.values(), ids=OUTAGES)
def test_an_hour_without_entra_is_no_outage_while_a_token_is_valid(
    fresh: Day, fault: faults.Fault, cause: str
) -> None:
    fresh.sandbox.entra.faults.add(fault)
    for _ in range(12):
        fresh.clock.pass_by(minutes=5)
        assert fresh.ask().status == 200
    # It has tried to renew it since its half, and not more often than it should.
    fresh.until(lambda: fresh.token_requests)
    assert fresh.token_requests <= 12

    fresh.clock.pass_by(minutes=15)
    answer = fresh.ask()
    assert answer.status == 503
    problem = answer.json()
    assert problem["type"] == "/problems/token-unavailable"
    assert (problem["cause"], problem["application"]) == (cause, "erp-invoices")
    assert problem["remedy"] in problem["detail"]
    assert answer.header("broker-decision") == "error"
    retry_after_s = int(answer.header("retry-after") or 0)
    assert 1 <= retry_after_s <= 3600
    assert "invoice-loader" in {
        r.caller for r in fresh.broker.until_recorded(problem["request_id"])
    }

    fresh.sandbox.entra.faults.clear()
    fresh.clock.pass_by(seconds=retry_after_s)
    assert fresh.ask().status == 200


@pytest.mark.parametrize("outage", ["throttled", "unavailable-for-a-while"])
def test_a_wait_that_entra_asks_for_is_kept_and_handed_on(fresh: Day, outage: str) -> None:
    fault, cause = OUTAGES[outage]
    fresh.forget_tokens()
    fresh.sandbox.entra.faults.add(fault)
    for _ in range(5):
        answer = fresh.ask()
        assert (answer.status, answer.json()["cause"]) == (503, cause)
        assert answer.header("retry-after") in {"6", "7"}
    assert fresh.token_requests == 1
    fresh.clock.pass_by(seconds=8)
    assert fresh.ask().status == 503
    assert fresh.token_requests == 2


def test_a_secret_that_is_refused_is_not_tried_for_each_caller(fresh: Day) -> None:
    fresh.sandbox.entra.faults.add(faults.refused(7000215))
    fresh.forget_tokens()
    for _ in range(20):
        assert fresh.ask().status == 503
    assert fresh.token_requests == 1


@pytest.fixture(scope="module")
def impatient_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """A caller waits a fifth of a second instead of 15 s: a slow Entra's 30 s are 0.6 s."""
    with day(tmp_path_factory.mktemp("slow"), patience_s=0.2) as begun:
        yield begun


SLOW = faults.slow(0.6)


def test_a_slow_entra_holds_up_nobody_while_a_token_is_valid(impatient_day: Day) -> None:
    slow = impatient_day
    slow.sandbox.entra.faults.clear()
    slow.forget_tokens()
    assert slow.ask().status == 200
    slow.count_from_here()
    answered = len(slow.sandbox.entra.journal)
    slow.sandbox.entra.faults.add(SLOW)
    # In the part of its life in which it is renewed: the renewal takes its time elsewhere.
    slow.clock.pass_by(minutes=LIFETIME.total_seconds() / 60 * 0.7)
    began = time.monotonic()
    answers = [slow.ask().status for _ in range(10)]
    assert answers == [200] * 10
    assert time.monotonic() - began < 0.5
    slow.until(lambda: len(slow.sandbox.entra.journal) > answered)
    assert slow.token_requests == 1
    slow.clock.pass_by(minutes=LIFETIME.total_seconds() / 60 * 0.4)
    assert slow.ask().status == 200, "the first token has expired, the renewed one has not"


def test_a_slow_entra_without_a_token_is_a_503_and_the_next_try_finds_the_token(
    impatient_day: Day,
) -> None:
    slow = impatient_day
    slow.sandbox.entra.faults.clear()
    slow.forget_tokens()
    slow.count_from_here()
    slow.sandbox.entra.faults.add(SLOW)
    answer = slow.ask()
    assert answer.status == 503
    problem = answer.json()
    assert problem["cause"] == "entra-unreachable"
    assert "has not answered within 0.2 s; the request goes on" in problem["detail"]
    assert answer.header("retry-after") == "5"
    time.sleep(0.6)
    assert slow.ask().status == 200
    assert slow.token_requests == 1


def test_a_renewed_token_is_used_before_the_old_one_ends(fresh: Day) -> None:
    """The fault-free neighbour: nothing of the above is true because nothing is renewed."""
    answered = len(fresh.sandbox.entra.journal)
    fresh.clock.pass_by(minutes=50)
    assert fresh.ask().status == 200
    fresh.until(lambda: len(fresh.sandbox.entra.journal) > answered)
    assert fresh.token_requests == 1
    fresh.clock.pass_by(minutes=40)
    assert fresh.ask().status == 200
