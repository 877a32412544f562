"""Turns at one application, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from app.limits.scheduler import Exceeded, Protection, Scheduler, Share
from app.limits.scheduler_budget import BURST, PROBE_EVERY_S, PROBE_SELDOM_S, Concurrency
from app.limits.scheduler_lane import WAITING_OF_ONE_MOST, Overloaded, Paused

pytestmark = pytest.mark.anyio

APP, ENV = "erp", "contoso"
SMALL = Protection(requests=100, execution_s=1e9, concurrency=1e6, window_s=10)
"""Ten a second, six at once."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def share(caller: str, **more: object) -> Share:
    return Share(caller, **more)  # type: ignore[arg-type]


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


class Driven:
    """A scheduler whose time goes on when the test says so."""

    def __init__(self, protection: Protection = SMALL) -> None:
        self.clock = Clock()
        self.scheduler = Scheduler(protection, now=self.clock)
        self.served: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, caller: str, times: int = 1, **more: object) -> None:
        for _ in range(times):
            self.tasks.append(asyncio.create_task(self._one(share(caller, **more))))

    async def _one(self, asked: Share) -> None:
        turn = await self.scheduler.enter(APP, ENV, asked, timeout_s=1e6)
        self.served.append(asked.caller)
        turn.leave()

    async def run(self, seconds: float) -> list[str]:
        """Who was served meanwhile, in order."""
        before = len(self.served)
        await settle()
        lane = self.scheduler.lane(APP, ENV)
        for _ in range(int(seconds * 100)):
            self.clock.now += 0.01
            lane.let_go(self.clock.now)
            await settle()
        return self.served[before:]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_a_quiet_lane_lets_everybody_go_at_once() -> None:
    scheduler = Scheduler(SMALL)

    turns = [scheduler.enter_now(APP, ENV, share("a")) for _ in range(6)]

    assert None not in turns
    assert scheduler.lane(APP, ENV).running == 6


async def test_a_flood_is_spread_over_the_window_and_stays_below_the_limit() -> None:
    driven = Driven()
    driven.ask("flood", 190)

    served = await driven.run(10)
    await driven.stop()

    assert 90 <= len(served) <= 100


async def test_a_modest_caller_never_waits_behind_a_flood() -> None:
    driven = Driven()
    driven.ask("flood", 190)
    await driven.run(3)

    for _ in range(20):
        # Half of its share, which is a half of ten a second.
        driven.ask("modest")
        await settle()
        assert driven.served[-1] == "modest"
        await driven.run(0.4)
    await driven.stop()


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        pytest.param({}, {}, 1.0, id="alike"),
        pytest.param({"weight": 3}, {}, 3.0, id="by weight"),
        pytest.param({"priority": "high"}, {}, 4.0, id="by priority"),
        pytest.param({"priority": "low"}, {"weight": 2}, 0.125, id="by both"),
    ],
)
async def test_two_floods_share_by_what_they_count(
    one: dict[str, object], other: dict[str, object], ratio: float
) -> None:
    driven = Driven()
    driven.ask("one", 199, **one)
    driven.ask("other", 199, **other)
    await driven.run(1)

    served = await driven.run(15)
    await driven.stop()

    counted = served.count("one") / max(1, served.count("other"))
    assert ratio * 0.75 <= counted <= ratio * 1.35


async def test_long_requests_are_paid_for_by_who_makes_them() -> None:
    protection = Protection(requests=1000, execution_s=100, concurrency=1e6, window_s=10)
    driven = Driven(protection)
    lane = driven.scheduler.lane(APP, ENV)
    slow = lane.flow("slow", 1.0, driven.clock.now)
    gone = 0
    while lane.enter_now(slow, driven.clock.now):
        lane.left(slow, 5.0, driven.clock.now)
        gone += 1

    # Sixty may go at once; five seconds are worth fifty.
    assert gone == 2
    assert not lane.enter_now(slow, driven.clock.now)
    assert lane.enter_now(lane.flow("quick", 1.0, driven.clock.now), driven.clock.now)


async def test_slots_are_kept_for_others_while_one_holds_many() -> None:
    protection = Protection(requests=1e9, execution_s=1e9, concurrency=10, window_s=10)
    scheduler = Scheduler(protection)
    scheduler.enter_now(APP, ENV, share("modest"))

    held = [scheduler.enter_now(APP, ENV, share("flood")) for _ in range(20)]

    assert scheduler.enter_now(APP, ENV, share("modest")) is not None
    assert sum(turn is not None for turn in held) < 9


async def test_a_turn_that_ends_is_somebody_elses() -> None:
    protection = Protection(requests=1e9, execution_s=1e9, concurrency=1, window_s=10)
    scheduler = Scheduler(protection)
    first = scheduler.enter_now(APP, ENV, share("a"))
    assert first is not None
    waiting = asyncio.create_task(scheduler.enter(APP, ENV, share("b"), timeout_s=10))
    await settle()
    assert not waiting.done()

    first.leave()
    first.leave()
    second = await waiting
    second.leave()

    assert scheduler.lane(APP, ENV).running == 0


async def test_whoever_gives_up_waiting_leaves_nothing_behind() -> None:
    protection = Protection(requests=1e9, execution_s=1e9, concurrency=1, window_s=10)
    scheduler = Scheduler(protection)
    first = scheduler.enter_now(APP, ENV, share("a"))
    assert first is not None
    waiting = asyncio.create_task(scheduler.enter(APP, ENV, share("b"), timeout_s=10))
    await settle()
    first.leave()  # its turn has come, and nobody is there
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    lane = scheduler.lane(APP, ENV)
    assert (lane.running, lane.waiting) == (0, 0)
    assert scheduler.enter_now(APP, ENV, share("c")) is not None


async def test_who_waits_too_long_is_told() -> None:
    protection = Protection(requests=1e9, execution_s=1e9, concurrency=1, window_s=10)
    scheduler = Scheduler(protection)
    scheduler.enter_now(APP, ENV, share("a"))

    with pytest.raises(Overloaded):
        await scheduler.enter(APP, ENV, share("b"), timeout_s=0.05)

    assert scheduler.lane(APP, ENV).waiting == 0


async def test_the_line_of_one_caller_is_bounded_and_leaves_room_for_others() -> None:
    driven = Driven()
    driven.ask("flood", WAITING_OF_ONE_MOST + 6)
    await settle()

    with pytest.raises(Overloaded) as told:
        await driven.scheduler.enter(APP, ENV, share("flood"), timeout_s=1e6)
    driven.ask("other")
    await settle()

    assert (told.value.code, bool(told.value.retry_after_s)) == ("overloaded", True)
    assert driven.served[-1] == "other"
    await driven.stop()


async def test_nobody_waits_for_what_cannot_come_in_time() -> None:
    driven = Driven()
    driven.ask("flood", 100)
    await settle()

    with pytest.raises(Overloaded):
        await driven.scheduler.enter(APP, ENV, share("flood"), timeout_s=1.0)
    await driven.stop()


# ------------------------------------------------------------------------- told to wait


async def test_a_pause_holds_everybody_and_nobody_makes_it_longer() -> None:
    driven = Driven()
    driven.scheduler.exceeded(APP, ENV, Exceeded.REQUESTS, timedelta(seconds=2))
    driven.scheduler.exceeded(APP, ENV, Exceeded.REQUESTS, timedelta(seconds=1))

    driven.ask("a")
    assert await driven.run(1.9) == []
    assert await driven.run(0.3) == ["a"]
    await driven.stop()


async def test_a_pause_beyond_the_deadline_is_told_at_once_with_what_is_left_of_it() -> None:
    driven = Driven()
    driven.scheduler.exceeded(APP, ENV, Exceeded.EXECUTION_TIME, timedelta(seconds=30))
    driven.clock.now += 10

    with pytest.raises(Paused) as told:
        await driven.scheduler.enter(APP, ENV, share("a"), timeout_s=5)

    assert (told.value.code, told.value.retry_after_s) == ("upstream-busy", 20)
    assert "execution-time" in told.value.detail


@pytest.mark.parametrize(
    ("limit", "shrinks"),
    [
        (Exceeded.REQUESTS, {"requests"}),
        (Exceeded.EXECUTION_TIME, {"execution_s", "concurrency"}),
        (Exceeded.CONCURRENCY, {"concurrency"}),
        (None, set()),
    ],
    ids=str,
)
async def test_each_limit_shrinks_what_it_is_about(
    limit: Exceeded | None, shrinks: set[str]
) -> None:
    scheduler = Scheduler()
    lane = scheduler.lane(APP, ENV)
    for _ in range(20):
        scheduler.enter_now(APP, ENV, share("a"))

    def figures() -> dict[str, float]:
        return {
            "requests": lane.budget.requests,
            "execution_s": lane.budget.execution_s,
            "concurrency": lane.concurrency.limit,
        }

    before = figures()
    scheduler.exceeded(APP, ENV, limit, timedelta(seconds=1))
    after = figures()

    assert {name for name in before if after[name] < before[name]} == shrinks
    assert (scheduler.paused_s(APP, ENV) > 0) == (limit is not None)


async def test_one_application_waits_for_no_other() -> None:
    scheduler = Scheduler()
    scheduler.exceeded(APP, ENV, Exceeded.REQUESTS, timedelta(seconds=60))

    assert scheduler.enter_now(APP, ENV, share("a")) is None
    assert scheduler.enter_now(APP, "fabrikam", share("a")) is not None
    assert scheduler.enter_now("crm", ENV, share("a")) is not None


# ------------------------------------------------------------------------ what is believed


async def test_more_is_believed_in_only_after_a_window_at_the_limit() -> None:
    driven = Driven()
    budget = driven.scheduler.lane(APP, ENV).budget
    for _ in range(3):
        driven.ask("flood", 60)
        await driven.run(3)
    assert budget.requests == 100

    for _ in range(10):
        driven.ask("flood", 60)
        await driven.run(3)
    await driven.stop()
    assert budget.requests > 100


async def test_nothing_is_learned_while_nobody_is_held_back() -> None:
    driven = Driven()
    for _ in range(40):
        driven.ask("modest", 2)
        await driven.run(1)
    await driven.stop()

    assert driven.scheduler.lane(APP, ENV).budget.requests == 100


async def test_several_brokers_each_take_a_part() -> None:
    scheduler = Scheduler(SMALL, members=lambda: 4)

    assert scheduler.lane(APP, ENV).budget.requests == 25
    assert scheduler.lane(APP, ENV).budget.level == 25 * BURST


# -------------------------------------------------------------------------------- pools


async def test_a_pools_least_loaded_member_is_chosen() -> None:
    scheduler = Scheduler()
    for _ in range(3):
        scheduler.enter_now("a", ENV, share("x"))
    scheduler.enter_now("b", ENV, share("x"))

    assert scheduler.choose(("a", "b", "c"), ENV) == "c"
    scheduler.exceeded("c", ENV, Exceeded.REQUESTS, timedelta(seconds=60))
    assert scheduler.choose(("a", "b", "c"), ENV) == "b"
    assert scheduler.choose(("c",), ENV) == "c"


# -------------------------------------------------------------------- how many at once


def busy(concurrency: Concurrency, now: float, seconds: float, *, took_s: float = 0.05) -> float:
    """As many are on their way as may be, each for so long. When it is over."""
    until = now + seconds
    while now < until:
        for _ in range(int(concurrency.limit)):
            concurrency.done(took_s, running=int(concurrency.limit), now=now)
        now += took_s
    return now


def test_before_the_first_word_the_number_rises_with_the_load() -> None:
    concurrency = Concurrency(Protection(concurrency=52), 0.0)
    busy(concurrency, 0.0, 5.0)
    assert concurrency.limit > 100


def test_a_number_that_was_too_many_is_come_near_to_at_once_and_tried_again_later() -> None:
    concurrency = Concurrency(Protection(concurrency=52), 0.0)
    concurrency.limit = 60.0
    concurrency.exceeded(60, 0.0, at_once=True)
    assert concurrency.limit == 48

    now = busy(concurrency, 0.0, 2.0)
    assert 56 <= concurrency.limit <= 57
    now = busy(concurrency, now, PROBE_EVERY_S * 4 - 3.0)
    assert concurrency.limit <= 57, "nobody tries yet"
    busy(concurrency, now, 3.0)
    assert concurrency.limit > 60


def test_each_try_that_fails_makes_the_next_one_wait_longer() -> None:
    concurrency = Concurrency(Protection(concurrency=52), 0.0)
    now, words = 0.0, 0
    while now < 3600.0:
        now = busy(concurrency, now, 0.05)
        if concurrency.limit > 52:
            words += 1
            concurrency.exceeded(53, now, at_once=True)
            now += 1.0
    assert words <= 3600 / PROBE_SELDOM_S * 2 + 5
    assert concurrency.limit > 45


def test_a_word_at_a_quiet_moment_is_forgotten_in_minutes() -> None:
    concurrency = Concurrency(Protection(concurrency=52), 0.0)
    concurrency.exceeded(3, 0.0, at_once=True)
    busy(concurrency, 0.0, 360.0)
    assert concurrency.limit > 40


def test_execution_time_says_nothing_of_how_many_may_go_at_once() -> None:
    concurrency = Concurrency(Protection(concurrency=52), 0.0)
    concurrency.exceeded(60, 0.0, at_once=False)
    busy(concurrency, 0.0, 5.0)
    assert concurrency.limit > 60


@pytest.mark.parametrize(("deadline_s", "waits"), [(8.2, 17), (60.0, 60)])
async def test_who_would_wait_for_nothing_since_dataverse_is_slow_is_told_at_once(
    deadline_s: float, waits: int
) -> None:
    """Ten at once, five seconds each: the seventeenth in line comes in eight."""
    scheduler = Scheduler(Protection(requests=1e9, execution_s=1e9, concurrency=10 / 0.9))
    lane = scheduler.lane(APP, ENV)
    lane.concurrency.recent_s = 5.0
    for _ in range(10):
        scheduler.enter_now(APP, ENV, share("flood"))
    asked = [
        asyncio.create_task(scheduler.enter(APP, ENV, share("flood"), timeout_s=deadline_s))
        for _ in range(60)
    ]
    await settle()
    refused = [task for task in asked if task.done()]
    assert (lane.waiting, len(refused)) == (waits, 60 - waits)
    for task in refused:
        assert isinstance(task.exception(), Overloaded)

    other = asyncio.create_task(scheduler.enter(APP, ENV, share("modest"), timeout_s=deadline_s))
    await settle()
    assert not other.done(), "who has nothing in line has his share to wait for"
    for task in (*asked, other):
        task.cancel()
    await asyncio.gather(*asked, other, return_exceptions=True)
