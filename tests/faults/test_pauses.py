"""Brokers tell each other through a real Redis that Dataverse wants to hear nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from app.limits import pauses as module
from app.limits.pauses import Pauses
from app.limits.redis import RedisCounts
from app.limits.scheduler import Exceeded, Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.redis_server import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.05)


@contextlib.asynccontextmanager
async def replica(server: RedisServer) -> AsyncIterator[Scheduler]:
    counts = RedisCounts(server.url)
    pauses = Pauses(counts)
    shares = Scheduler(paused=pauses.tell)
    keeping = asyncio.create_task(pauses.keep(shares.pause))
    try:
        yield shares
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await counts.aclose()


def told(shares: Scheduler, seconds: float, limit: Exceeded = Exceeded.REQUESTS) -> None:
    shares.exceeded("erp", "contoso", limit, timedelta(seconds=seconds))


def paused_s(shares: Scheduler) -> float:
    return shares.paused_s("erp", "contoso")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is asked about tells nobody when it changes
            await asyncio.sleep(0.02)


async def test_the_others_wait_too_and_so_does_one_that_starts_anew(server: RedisServer) -> None:
    async with replica(server) as first, replica(server) as second:
        told(first, 30)
        await until(lambda: paused_s(second) > 0)
        assert paused_s(second) == pytest.approx(paused_s(first), abs=0.5)
        assert second.paused_s("erp", "fabrikam") == 0
    async with replica(server) as third:
        await until(lambda: paused_s(third) > 0)
        assert 20 < paused_s(third) <= 30


async def test_the_longest_word_counts(server: RedisServer) -> None:
    async with replica(server) as first, replica(server) as second, replica(server) as third:
        told(first, 30)
        await until(lambda: paused_s(third) > 0)
        told(second, 60)
        await until(lambda: paused_s(third) > 50)
        told(first, 40)
        await asyncio.sleep(0.2)
        assert paused_s(third) > 50


async def test_a_pause_that_is_over_is_forgotten(server: RedisServer) -> None:
    async with replica(server) as first:
        told(first, 1)
        await asyncio.sleep(1.3)
    async with replica(server) as later:
        await asyncio.sleep(0.3)
        assert later.states() == []


async def test_while_redis_is_away_each_waits_for_itself_and_is_heard_later(
    server: RedisServer,
) -> None:
    async with replica(server) as first, replica(server) as second:
        server.stop()
        began = time.monotonic()
        told(first, 30)
        assert time.monotonic() - began < 0.05, "nobody waits for Redis"
        await asyncio.sleep(0.3)
        assert paused_s(first) > 20
        assert paused_s(second) == 0
        server.start()
        await until(lambda: paused_s(second) > 20)
