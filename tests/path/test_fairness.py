"""Callers beside each other: what a flood leaves to others, and what too much of all gets."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from app.limits.scheduler import Protection
from tests.path.running import until
from tests.path.stand_ins import Arrived, Conduct, ordinary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.limits.scheduler import Scheduler
    from tests.path.raw_http import RawAnswer
    from tests.path.staging import Staged

ROOT = "/environments/prod/api/data/v9.2"
READ = f"{ROOT}/accounts?$select=name"
OTHERS_READ = f"{ROOT}/invoices?$select=name"


@pytest.fixture
def shares(staged: Staged) -> Iterator[Scheduler]:
    """Lanes of the test's own, and the usual ones afterwards."""
    shares = staged.broker.running.shares
    usual = shares._protection

    def begin(protection: Protection) -> None:
        shares._protection = protection
        shares._lanes.clear()

    yield shares
    staged.broker.on_loop(lambda: begin(usual))


def narrowed(staged: Staged, shares: Scheduler, protection: Protection) -> None:
    def begin() -> None:
        shares._protection = protection
        shares._lanes.clear()

    staged.broker.on_loop(begin)


class Slow:
    """Answers when it is told to, and counts how many wait for that at once."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waiting = 0
        self.most = 0

    def __call__(self, _: Arrived) -> Conduct:
        async def conduct(
            arrived: Arrived, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            del reader
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            while not self.open.is_set():  # noqa: ASYNC110 - set from the test's thread
                await asyncio.sleep(0.01)
            self.waiting -= 1
            writer.write(ordinary(arrived))
            await writer.drain()

        return conduct


def test_dataverse_never_sees_more_at_once_than_it_grants(
    staged: Staged, shares: Scheduler
) -> None:
    narrowed(staged, shares, Protection(requests=1e6, concurrency=4))
    slow = Slow()
    staged.prod.answer = slow
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(staged.broker.ask, "GET", READ, caller="reporting") for _ in range(12)]
        until(lambda: True if slow.waiting >= 3 else None)
        time.sleep(0.2)
        slow.open.set()
        answers = [one.result() for one in asked]

    assert [a.status for a in answers] == [200] * 12
    assert slow.most == 3
    assert max(int(a.header("broker-waited-ms") or 0) for a in answers) >= 100


def test_a_flood_leaves_a_place_to_others(staged: Staged, shares: Scheduler) -> None:
    narrowed(staged, shares, Protection(requests=1e6, concurrency=10))
    slow = Slow()
    assert staged.broker.ask("GET", OTHERS_READ, caller="billing-sync").status == 200
    staged.prod.answer = slow
    with ThreadPoolExecutor(20) as pool:
        flood = [pool.submit(staged.broker.ask, "GET", READ, caller="reporting") for _ in range(20)]
        until(lambda: True if slow.waiting >= 7 else None)
        time.sleep(0.1)
        held = slow.waiting
        other = pool.submit(staged.broker.ask, "GET", OTHERS_READ, caller="billing-sync")
        flood_waits = held < 9
        slow.open.set()
        answer = other.result()
        for one in flood:
            assert one.result().status == 200

    assert flood_waits
    assert (answer.status, int(answer.header("broker-waited-ms") or -1)) == (200, 0)


def test_a_line_that_is_full_is_told_at_once(staged: Staged, shares: Scheduler) -> None:
    narrowed(staged, shares, Protection(requests=100, window_s=10, concurrency=100))
    began = time.monotonic()

    def ask() -> RawAnswer:
        return staged.broker.ask("GET", READ, caller="reporting", headers={"Broker-Timeout": "1"})

    with ThreadPoolExecutor(40) as pool:
        answers = [one.result() for one in [pool.submit(ask) for _ in range(40)]]

    refused = [a for a in answers if a.status == 503]
    assert len(refused) + sum(a.status == 200 for a in answers) == 40
    assert len(refused) >= 15
    assert time.monotonic() - began < 5
    for answer in refused:
        assert answer.json()["type"] == "/problems/overloaded"
        assert int(answer.header("retry-after") or 0) >= 1


def test_what_nobody_can_carry_is_refused_at_once_and_on_record(staged: Staged) -> None:
    dispatcher = staged.broker.running.dispatcher
    most = dispatcher._in_flight_most  # type: ignore[union-attr]
    slow = Slow()
    staged.prod.answer = slow
    dispatcher._in_flight_most = 3  # type: ignore[union-attr]
    try:
        with ThreadPoolExecutor(3) as pool:
            carried = [
                pool.submit(staged.broker.ask, "GET", READ, caller="reporting") for _ in range(3)
            ]
            until(lambda: True if slow.waiting >= 3 else None)
            began = time.monotonic()
            refused = staged.broker.ask("GET", READ, caller="reporting")
            took_s = time.monotonic() - began
            probe = staged.broker.ask("GET", "/livez")
            slow.open.set()
            answers = [one.result() for one in carried]
    finally:
        dispatcher._in_flight_most = most  # type: ignore[union-attr]

    assert (refused.status, refused.header("retry-after")) == (503, "1")
    assert refused.json()["type"] == "/problems/overloaded"
    assert took_s < 1
    assert probe.status == 200
    assert [a.status for a in answers] == [200] * 3
    (record,) = staged.broker.until_recorded(refused.header("broker-request-id"))
    assert (record.decision, record.reason) == ("error", "overloaded")
