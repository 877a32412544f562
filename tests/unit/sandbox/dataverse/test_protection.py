from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from app.sandbox.dataverse.failures import Failed
from app.sandbox.dataverse.protection import Limits, Protection


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def protected(clock: Clock, **limits: Any) -> Protection:
    return Protection(Limits(**limits), clock)


def do(protection: Protection, times: int, *, took_s: float = 0.0, user: str = "a") -> None:
    for _ in range(times):
        protection.enter(user)
        protection.leave(user, took_s)


def refusal(protection: Protection, user: str = "a") -> Failed:
    with pytest.raises(Failed) as failed:
        protection.enter(user)
    return failed.value


def test_requests_are_limited_within_the_window() -> None:
    clock = Clock()
    protection = protected(clock, requests=3)
    do(protection, 3)
    failed = refusal(protection)
    assert (failed.status, failed.code) == (429, "0x80072322")
    assert failed.message == (
        "Number of requests exceeded the limit of 3 over time window of 300 seconds."
    )
    do(protection, 3, user="b")
    clock.now = 300.0
    do(protection, 3)


def test_execution_time_is_limited() -> None:
    protection = protected(Clock(), execution_s=1200.0)
    do(protection, 2, took_s=600.0)
    failed = refusal(protection)
    assert failed.code == "0x80072321"
    assert "exceeded limit of 1,200,000  milliseconds" in failed.message


def test_concurrency_is_limited() -> None:
    protection = protected(Clock(), concurrency=2)
    protection.enter("a")
    protection.enter("a")
    failed = refusal(protection)
    assert failed.code == "0x80072326"
    assert failed.message == "Number of concurrent requests exceeded the limit of 2."
    protection.leave("a", 0.0)
    protection.enter("a")


def test_retry_after_grows_while_the_client_keeps_on() -> None:
    clock = Clock()
    protection = protected(clock, requests=1)
    do(protection, 1)
    clock.now = 290.0
    waits = [int(dict(refusal(protection).headers)["Retry-After"]) for _ in range(30)]
    assert waits == sorted(waits)
    assert waits[0] == 11 < waits[-1]


def test_what_is_left_is_told() -> None:
    protection = protected(Clock(), requests=10, execution_s=1200.0)
    do(protection, 4, took_s=0.5)
    assert protection.headers("a") == (
        ("x-ms-ratelimit-burst-remaining-xrm-requests", "6"),
        ("x-ms-ratelimit-time-remaining-xrm-requests", "1,198.00"),
    )


def test_nothing_is_limited_by_default() -> None:
    protection = Protection(Limits(), Clock())
    do(protection, 7000)
    for _ in range(100):
        protection.enter("a")
