"""Limits that replicas share through a real Redis, and what is left of them when it is gone."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from app.config.model import Limits
from app.errors import Limited, Misconfigured
from app.limits import redis as shared
from app.limits.counting import CountsLost
from app.limits.limiter import Limiter
from app.limits.local import LocalCounts
from app.limits.redis import RedisCounts
from tests.faults.redis_server import PASSWORD, RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

pytestmark = pytest.mark.anyio


@pytest.fixture
async def replicas(server: RedisServer) -> AsyncIterator[list[RedisCounts]]:
    counts = [RedisCounts(server.url) for _ in range(2)]
    yield counts
    for one in counts:
        await one.aclose()


def within(limiter: Limiter, **limits: Any) -> AbstractAsyncContextManager[None]:
    return limiter.within(
        Limits(**limits), caller="loader", environment="contoso", application="erp"
    )


async def test_a_rate_holds_for_all_replicas_together(replicas: list[RedisCounts]) -> None:
    first, second = replicas
    hits = [await counts.hit("a", 4) for counts in (first, second, first, second)]
    assert hits == [None] * 4
    for counts in replicas:
        spent = await counts.hit("a", 4)
        assert spent is not None
        assert 1 <= spent.reset_s <= 60
    assert await second.hit("b", 4) is None


async def test_slots_hold_for_all_replicas_together(replicas: list[RedisCounts]) -> None:
    first, second = replicas
    slot = await first.take("a", 2)
    assert slot is not None
    assert await second.take("a", 2) is not None
    assert await second.take("a", 2) is None
    await slot.give_back()
    assert await second.take("a", 2) is not None


async def test_a_replica_that_dies_gives_its_slots_back_in_time(
    replicas: list[RedisCounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "SLOT_S", 1)
    dead, alive = replicas
    assert await dead.take("a", 1) is not None
    assert await alive.take("a", 1) is None
    await asyncio.sleep(2.1)
    assert await alive.take("a", 1) is not None


async def test_a_slot_is_kept_for_a_request_that_takes_long(
    replicas: list[RedisCounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "SLOT_S", 2)
    monkeypatch.setattr(shared, "RENEW_S", 0.2)
    busy, other = replicas
    keeping = asyncio.create_task(busy.keep())
    assert await busy.take("a", 1) is not None
    await asyncio.sleep(3.2)
    assert await other.take("a", 1) is None
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_slot_of_a_redis_that_is_gone_is_given_back_without_a_word(
    server: RedisServer, replicas: list[RedisCounts]
) -> None:
    counts = replicas[0]
    slot = await counts.take("a", 1)
    assert slot is not None
    server.stop()
    await counts.renew()
    await slot.give_back()
    assert counts._held == {}


async def test_limits_outlive_redis_in_process_and_return_to_it(
    server: RedisServer, replicas: list[RedisCounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.limits.falling_back.RETRY_S", 0.3)
    limiter = Limiter(LocalCounts(), replicas[0])
    async with within(limiter, concurrency=1, requests_per_minute=50):
        pass
    server.stop()
    async with within(limiter, concurrency=1):
        assert limiter.degraded
        with pytest.raises(Limited):
            async with within(limiter, concurrency=1):
                pytest.fail("nobody kept the limit")
    server.start()
    await asyncio.sleep(0.4)
    async with within(limiter, concurrency=1):
        assert not limiter.degraded


async def test_a_redis_that_accepts_and_says_nothing_is_down_within_half_a_second() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        counts = RedisCounts(f"redis://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(CountsLost):
            await counts.hit("a", 5)
        assert time.monotonic() - began < 2
        await counts.aclose()


async def test_a_wrong_password_is_told_without_it(server: RedisServer) -> None:
    counts = RedisCounts(server.url.replace(PASSWORD, "other-secret"))
    with pytest.raises(CountsLost) as caught:
        await counts.take("a", 1)
    assert str(caught.value) == "AuthenticationError"
    assert caught.value.__cause__ is None
    await counts.aclose()


def test_an_address_that_is_none_stops_the_start_without_being_quoted() -> None:
    with pytest.raises(Misconfigured) as caught:
        RedisCounts(f"http://user:{PASSWORD}@host")
    assert caught.value.code == "redis-url-invalid"
    assert PASSWORD not in caught.value.detail
