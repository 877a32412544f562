"""A grant's rate and concurrency: what they let through, and what they say when they do not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from app.config.model import Limits
from app.errors import Limited
from app.limits.limiter import Limiter
from app.limits.local import LocalCounts
from tests.unit.limits.counters import Counters

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

pytestmark = pytest.mark.anyio


def within(
    limiter: Limiter, limits: Limits, caller: str = "loader", environment: str = "contoso"
) -> AbstractAsyncContextManager[None]:
    return limiter.within(limits, caller=caller, environment=environment, application="erp")


async def refused(limiter: Limiter, limits: Limits) -> Limited:
    with pytest.raises(Limited) as caught:
        async with within(limiter, limits):
            pytest.fail("it was let in")
    return caught.value


async def test_a_grant_without_limits_is_counted_nowhere() -> None:
    counters = Counters(room=0, slots=0)
    async with within(Limiter(counters), Limits()):
        pass
    assert counters.asked == []


async def test_a_rate_that_is_used_up_says_when_there_is_room_again() -> None:
    limiter, limits = Limiter(Counters(room=1)), Limits(requests_per_minute=600)
    async with within(limiter, limits):
        pass
    error = await refused(limiter, limits)
    assert (error.code, error.retry_after_s) == ("rate-limited", 12)
    assert error.extra == {"rate_limit": {"limit": 600, "remaining": 0, "reset_s": 12}}


async def test_a_request_too_many_at_once_is_refused_until_one_is_answered() -> None:
    limiter, limits = Limiter(Counters(slots=1)), Limits(concurrency=10)
    async with within(limiter, limits):
        error = await refused(limiter, limits)
        assert (error.code, error.retry_after_s, error.extra) == ("too-many-concurrent", 1, {})
    async with within(limiter, limits):
        pass


async def test_a_request_that_finds_no_slot_costs_no_rate() -> None:
    counters = Counters(slots=0)
    await refused(Limiter(counters), Limits(concurrency=1, requests_per_minute=1))
    assert counters.asked == ["take loader/contoso/erp 1"]


async def test_a_request_over_the_rate_keeps_no_slot() -> None:
    counters = Counters(room=0, slots=1)
    error = await refused(Limiter(counters), Limits(concurrency=1, requests_per_minute=1))
    assert (error.code, counters.slots) == ("rate-limited", 1)


@pytest.mark.parametrize("end", [ValueError, asyncio.CancelledError])
async def test_a_slot_comes_back_however_a_request_ends(end: type[BaseException]) -> None:
    counters = Counters()
    with pytest.raises(end):
        async with within(Limiter(counters), Limits(concurrency=1)):
            raise end
    assert counters.given_back == 1


async def test_a_caller_spends_nothing_of_anothers_and_nothing_of_his_other_grants() -> None:
    limiter, limits = Limiter(LocalCounts()), Limits(requests_per_minute=1)
    async with within(limiter, limits):
        pass
    await refused(limiter, limits)
    for caller, environment in (("other", "contoso"), ("loader", "fabrikam")):
        async with within(limiter, limits, caller, environment):
            pass


async def test_shared_limits_count_instead_of_this_processes_own() -> None:
    local, shared = Counters(), Counters()
    limiter = Limiter(local, shared)
    async with within(limiter, Limits(concurrency=1, requests_per_minute=2)):
        pass
    await limiter.keep()
    await limiter.aclose()
    assert shared.asked == ["take loader/contoso/erp 1", "hit loader/contoso/erp 2", "keep"]
    assert shared.closed
    assert (local.asked, limiter.degraded) == ([], False)


async def test_a_limiter_says_that_its_shared_counters_are_lost() -> None:
    limiter = Limiter(Counters(), Counters(lost=True))
    async with within(limiter, Limits(concurrency=1)):
        pass
    assert limiter.degraded


async def test_a_limiter_without_shared_counters_is_never_degraded() -> None:
    limiter = Limiter(Counters())
    await limiter.keep()
    await limiter.aclose()
    assert not limiter.degraded
