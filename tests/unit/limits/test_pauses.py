"""What brokers tell each other of Dataverse's pauses, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest

from app.limits.counting import CountsLost
from app.limits.pauses import SAME_S, Pauses
from app.limits.scheduler import Exceeded, Scheduler
from app.limits.scheduler_lane import PAUSE_MOST_S

pytestmark = pytest.mark.anyio

APP, ENV = "erp", "contoso"
KEY = f"{APP}/{ENV}/requests"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Board:
    """As Redis keeps it, but for time: what is left stays as it was written."""

    def __init__(self) -> None:
        self.left: dict[str, float] = {}
        self.written: list[tuple[str, float]] = []
        self.is_there = True

    async def pause(self, key: str, seconds: float) -> None:
        if not self.is_there:
            raise CountsLost("gone")
        self.written.append((key, seconds))
        self.left[key] = max(self.left.get(key, 0.0), seconds)

    async def pauses(self) -> dict[str, float]:
        if not self.is_there:
            raise CountsLost("gone")
        return dict(self.left)


class Replica:
    def __init__(self, board: Board | None) -> None:
        self.now = 1000.0
        self.pauses = Pauses(board, monotonic=lambda: self.now)
        self.shares = Scheduler(paused=self.pauses.tell, now=lambda: self.now)

    def told(self, seconds: float | None = 30, limit: Exceeded | None = Exceeded.REQUESTS) -> None:
        after = None if seconds is None else timedelta(seconds=seconds)
        self.shares.exceeded(APP, ENV, limit, after)

    @property
    def paused_s(self) -> float:
        return self.shares.paused_s(APP, ENV)

    async def exchange(self) -> None:
        """Once, as it does every few seconds."""
        task = asyncio.create_task(self.pauses.keep(self.shares.pause))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_pause_reaches_the_others() -> None:
    board = Board()
    first, second = Replica(board), Replica(board)
    first.told(30)
    await first.exchange()
    await second.exchange()
    assert (first.paused_s, second.paused_s) == (30, 30)


async def test_only_the_pause_is_taken_over_and_nothing_that_was_learned() -> None:
    board = Board()
    first, second = Replica(board), Replica(board)
    first.told(30)
    await first.exchange()
    await second.exchange()
    told, heard = first.shares.lane(APP, ENV), second.shares.lane(APP, ENV)
    assert told.budget.requests < heard.budget.requests == 6000


async def test_another_application_or_environment_goes_on() -> None:
    board = Board()
    first, second = Replica(board), Replica(board)
    first.told(30)
    await first.exchange()
    await second.exchange()
    assert second.shares.paused_s("other", ENV) == second.shares.paused_s(APP, "other") == 0


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        pytest.param(None, 30, id="that none of the limits explains"),
        pytest.param(Exceeded.REQUESTS, None, id="that names no time"),
    ],
)
async def test_a_429_is_told_to_nobody(limit: Exceeded | None, seconds: float | None) -> None:
    board = Board()
    first = Replica(board)
    first.told(seconds, limit)
    await first.exchange()
    assert board.written == []


async def test_the_429s_of_one_moment_are_one_word_and_a_longer_one_is_another() -> None:
    board = Board()
    first = Replica(board)
    first.told(30)
    first.now += SAME_S / 2
    first.told(30)
    await first.exchange()
    assert board.written == [(KEY, 30 - SAME_S / 2)]
    first.told(60)
    await first.exchange()
    assert board.written[1:] == [(KEY, 60)]


async def test_what_was_heard_is_not_told_again() -> None:
    board = Board()
    board.left[KEY] = 30
    second = Replica(board)
    await second.exchange()
    second.told(30)
    await second.exchange()
    assert (board.written, second.paused_s) == ([], 30)


async def test_a_shorter_word_of_another_shortens_nothing() -> None:
    board = Board()
    board.left[KEY] = 5
    second = Replica(board)
    second.told(30)
    await second.exchange()
    assert second.paused_s == 30


async def test_what_is_not_understood_stops_nobody() -> None:
    board = Board()
    board.left = {f"{APP}/{ENV}/moon-phase": 30, "nonsense": 30, "": 30, KEY: 1e9}
    second = Replica(board)
    await second.exchange()
    assert second.paused_s == PAUSE_MOST_S
    assert [(s.application, s.environment) for s in second.shares.states()] == [(APP, ENV)]


async def test_what_nobody_could_be_told_is_told_later_if_it_lasts() -> None:
    board = Board()
    first = Replica(board)
    board.is_there = False
    first.told(30)
    first.told(5, Exceeded.CONCURRENCY)
    await first.exchange()
    assert first.paused_s == 30, "its own word needs no board"

    board.is_there = True
    first.now += 10
    await first.exchange()
    assert board.written == [(KEY, 20)]


async def test_the_one_who_is_told_writes_at_once() -> None:
    board = Board()
    first = Replica(board)
    keeping = asyncio.create_task(first.pauses.keep(first.shares.pause))
    await asyncio.sleep(0)
    first.told(30)
    async with asyncio.timeout(5):
        while not board.written:  # noqa: ASYNC110 - a board tells nobody that it was written on
            await asyncio.sleep(0)
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


async def test_without_a_board_there_is_nothing_to_keep() -> None:
    alone = Replica(None)
    alone.told(30)
    await alone.pauses.keep(alone.shares.pause)
    assert alone.paused_s == 30
