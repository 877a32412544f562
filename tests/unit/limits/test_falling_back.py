"""Limits go on without Redis, loudly, and come back to it."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from app.limits.falling_back import RETRY_S, FallingBack
from tests.unit.limits.counters import Counters

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_limits_fall_back_to_the_processes_own_and_say_so_once() -> None:
    shared, local, clock = Counters(lost=True), Counters(room=1, slots=1), Clock()
    counts = FallingBack(shared, local, monotonic=clock)
    with capture_logs() as logs:
        assert await counts.hit("a", 5) is None
        assert await counts.hit("a", 5) is not None
        assert await counts.take("a", 5) is not None
        assert await counts.take("a", 5) is None
    assert counts.degraded
    # Redis was asked once: nobody waits for it again before RETRY_S.
    assert shared.asked == ["hit a 5"]
    assert logs == [
        {"event": "limits.shared_lost", "log_level": "error", "error": "ConnectionError"}
    ]


async def test_redis_is_asked_again_after_a_while_by_one_request() -> None:
    shared, local, clock = Counters(lost=True), Counters(), Clock()
    counts = FallingBack(shared, local, monotonic=clock)
    await counts.take("a", 5)
    clock.now = RETRY_S
    with capture_logs() as logs:
        for _ in range(3):
            await counts.take("a", 5)
    assert shared.asked == ["take a 5"] * 2
    assert logs == []
    shared.lost = False
    clock.now = 2 * RETRY_S
    with capture_logs() as logs:
        for _ in range(3):
            await counts.hit("a", 5)
    assert shared.asked == ["take a 5"] * 2 + ["hit a 5"] * 3
    assert not counts.degraded
    assert logs == [{"event": "limits.shared_found", "log_level": "warning"}]


async def test_a_slot_of_either_kind_comes_back_to_where_it_was_taken() -> None:
    shared, local = Counters(), Counters()
    counts = FallingBack(shared, local, monotonic=Clock())
    of_redis = await counts.take("a", 5)
    shared.lost = True
    of_process = await counts.take("a", 5)
    assert of_redis is not None
    assert of_process is not None
    await of_redis.give_back()
    await of_process.give_back()
    assert (shared.given_back, local.given_back) == (1, 1)
