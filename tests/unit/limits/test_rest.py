"""Loops beside the requests end when they are told to, whatever becomes of the telling."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from app.limits.counting import CountsLost
from app.limits.members import Members
from app.limits.pauses import Pauses
from app.limits.rest import rest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Losing:
    """A Redis whose answer comes with the cancellation, which is lost."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def _lost(self) -> None:
        self.asked.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise CountsLost("TimeoutError") from None

    async def take(self, key: str, most: int) -> None:
        del key, most
        await self._lost()

    async def holders(self, key: str) -> int:
        del key
        return 1

    async def pause(self, key: str, seconds: float) -> None:
        del key, seconds

    async def pauses(self) -> dict[str, float]:
        await self._lost()
        return {}


def members(redis: Losing) -> Awaitable[None]:
    return Members(redis, alone=1).keep(lambda: None)


def pauses(redis: Losing) -> Awaitable[None]:
    return Pauses(redis).keep(lambda *_: None)


@pytest.mark.parametrize("keep", [members, pauses])
async def test_a_lost_cancellation_ends_the_loop(
    keep: Callable[[Losing], Awaitable[None]],
) -> None:
    redis = Losing()
    task = asyncio.ensure_future(keep(redis))
    await redis.asked.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=2)
    assert done
    assert task.cancelled()


async def test_a_rest_lasts_until_its_time_or_what_wakes_it() -> None:
    began = time.monotonic()
    await rest(0.01)
    assert time.monotonic() - began >= 0.01
    woken = asyncio.Event()
    woken.set()
    await rest(10, woken)
    await rest(0.01, asyncio.Event())
    assert time.monotonic() - began < 5
