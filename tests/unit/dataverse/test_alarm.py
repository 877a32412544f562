from __future__ import annotations

import asyncio

import pytest

from app.dataverse.alarm import Alarm

pytestmark = pytest.mark.anyio


class Bell:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.rang: list[float] = []
        self.alarm = Alarm(self.loop, lambda: self.rang.append(self.loop.time()))

    def set(self, in_s: float) -> float:
        due = self.loop.time() + in_s
        self.alarm.set(due)
        return due


async def test_an_alarm_rings_once_when_it_is_time() -> None:
    bell = Bell()
    due = bell.set(0.05)
    await asyncio.sleep(0.15)
    assert len(bell.rang) == 1
    assert bell.rang[0] >= due - 0.002


async def test_an_alarm_that_was_moved_on_rings_later_and_one_moved_up_earlier() -> None:
    bell = Bell()
    bell.set(0.05)
    due = bell.set(0.15)
    await asyncio.sleep(0.1)
    assert bell.rang == []
    await asyncio.sleep(0.1)
    assert [at >= due - 0.002 for at in bell.rang] == [True]
    bell.set(10)
    bell.set(0.02)
    await asyncio.sleep(0.1)
    assert len(bell.rang) == 2


async def test_a_stopped_alarm_is_silent_and_can_be_set_again() -> None:
    bell = Bell()
    bell.set(0.02)
    bell.alarm.stop()
    await asyncio.sleep(0.06)
    assert bell.rang == []
    bell.set(0.02)
    await asyncio.sleep(0.06)
    assert len(bell.rang) == 1


async def test_moving_an_alarm_on_costs_no_timer() -> None:
    bell = Bell()
    bell.set(1)
    timer = bell.alarm._timer
    for _ in range(100):
        bell.set(2)
    assert bell.alarm._timer is timer
    bell.alarm.stop()
