"""Counters of one process."""

from __future__ import annotations

import time

import pytest

from app.limits.local import LocalCounts

pytestmark = pytest.mark.anyio


async def test_a_rate_lets_through_what_it_says_and_nothing_more() -> None:
    counts = LocalCounts()
    assert [await counts.hit("a", 5) for _ in range(5)] == [None] * 5
    spent = await counts.hit("a", 5)
    assert spent is not None
    assert 1 <= spent.reset_s <= 60


async def test_what_is_refused_does_not_count() -> None:
    counts = LocalCounts()
    for _ in range(3):
        await counts.hit("a", 1)
    assert await counts.hit("a", 2) is None


async def test_a_rate_that_is_changed_counts_anew() -> None:
    counts = LocalCounts()
    await counts.hit("a", 1)
    assert await counts.hit("a", 1) is not None
    assert await counts.hit("a", 100) is None


async def test_slots_are_as_many_as_granted_and_come_back() -> None:
    counts = LocalCounts()
    slots = [await counts.take("a", 2) for _ in range(2)]
    assert await counts.take("a", 2) is None
    assert await counts.take("b", 2) is not None
    for slot in slots:
        assert slot is not None
        await slot.give_back()
    assert "a" not in counts._under_way


@pytest.mark.parametrize(
    ("granted", "workers", "share"),
    [(10, 1, 10), (10, 4, 2), (4, 4, 1), (3, 4, 1), (1, 64, 1)],
)
async def test_a_worker_grants_its_share_and_at_least_one(
    granted: int, workers: int, share: int
) -> None:
    counts = LocalCounts(workers=workers)
    taken = [await counts.take("a", granted) for _ in range(granted + 1)]
    assert sum(slot is not None for slot in taken) == share
    hits = [await counts.hit("a", granted) for _ in range(granted + 1)]
    assert sum(hit is None for hit in hits) == share


async def test_a_check_costs_a_few_microseconds_at_a_thousand_callers() -> None:
    """Ten are allowed; the bound is wide, since a loaded machine is slow and not wrong."""
    counts = LocalCounts()
    keys = [f"caller-{n}/contoso/erp" for n in range(1000)]
    for key in keys:
        await counts.hit(key, 1_000_000)
    began = time.process_time()
    for key in keys * 5:
        slot = await counts.take(key, 1_000_000)
        assert slot is not None
        await counts.hit(key, 1_000_000)
        await slot.give_back()
    assert (time.process_time() - began) / 5000 < 100e-6
