"""Brokers that share an application's limits find out about each other through a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from app.limits import members as module
from app.limits.members import Members
from app.limits.redis import RedisCounts
from app.limits.scheduler import Protection, Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.redis_server import RedisServer

pytestmark = pytest.mark.anyio

WHOLE = Protection(requests=1000, concurrency=40)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.05)


class Replica:
    def __init__(self, counts: RedisCounts) -> None:
        self.members = Members(counts, alone=1)
        self.shares = Scheduler(WHOLE, members=self.members)
        self.task = asyncio.create_task(self.members.keep(self.shares.divide))

    @property
    def requests(self) -> float:
        return self.shares.lane("erp", "contoso").budget.requests

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.members.aclose()


@contextlib.asynccontextmanager
async def replica(server: RedisServer) -> AsyncIterator[Replica]:
    counts = RedisCounts(server.url)
    made = Replica(counts)
    try:
        yield made
    finally:
        await made.stop()
        await counts.aclose()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is asked about tells nobody when it changes
            await asyncio.sleep(0.02)


async def test_a_limit_is_divided_among_those_who_are_there(server: RedisServer) -> None:
    async with replica(server) as first:
        await until(lambda: first.members.count == 1)
        assert first.requests == 1000
        async with replica(server) as second:
            await until(lambda: (first.members.count, second.members.count) == (2, 2))
            assert (first.requests, second.requests) == (500, 500)
        await until(lambda: first.members.count == 1)
        assert first.requests == 1000


async def test_nobody_takes_more_while_redis_is_away(server: RedisServer) -> None:
    async with replica(server) as first, replica(server) as second:
        await until(lambda: (first.members.count, second.members.count) == (2, 2))
        server.stop()
        await asyncio.sleep(0.3)
        assert (first.requests, second.requests) == (500, 500)
        server.start()
        await until(lambda: (first.members.count, second.members.count) == (2, 2))


async def test_without_redis_the_workers_of_a_replica_share() -> None:
    members = Members(None, alone=4)
    await members.keep(lambda: None)

    assert Scheduler(WHOLE, members=members).lane("erp", "contoso").budget.requests == 250
