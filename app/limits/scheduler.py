"""Fair shares of Dataverse's limits: one lane for each application and environment.

`async with scheduler.turn(…)`-like, but flat, since this stands on the hot path: `enter_now`, or
else `await enter`, and `leave` once Dataverse has answered.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.limits.scheduler_budget import Exceeded, Protection
from app.limits.scheduler_flows import PRIORITIES
from app.limits.scheduler_lane import PAUSE_MOST_S, Lane, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from app.limits.scheduler_flows import Flow, Priority

__all__ = ["Exceeded", "LaneState", "Overloaded", "Protection", "Scheduler", "Share", "Turn"]


@dataclass(frozen=True, slots=True)
class Share:
    """Who asks, and how much that counts beside the others."""

    caller: str
    weight: int = 1
    priority: Priority = "normal"
    counts: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", self.weight * PRIORITIES[self.priority])


@dataclass(frozen=True, slots=True)
class LaneState:
    """How one application fares in one environment."""

    application: str
    environment: str
    running: int
    waiting: int
    concurrency_limit: float
    paused_s: float


class Turn:
    """One request that is with Dataverse. `leave` it, once."""

    __slots__ = ("_began", "_flow", "_lane", "_scheduler")

    def __init__(self, scheduler: Scheduler, lane: Lane, flow: Flow, began: float) -> None:
        self._scheduler = scheduler
        self._lane: Lane | None = lane
        self._flow = flow
        self._began = began

    def leave(self) -> None:
        """Dataverse is done with it, in whatever way. A second time does nothing."""
        lane, self._lane = self._lane, None
        if lane is not None:
            self._scheduler.left(lane, self._flow, self._began)


class Scheduler:
    """Belongs to one event loop."""

    def __init__(
        self,
        protection: Protection | None = None,
        *,
        members: Callable[[], int] = lambda: 1,
        paused: Callable[[str, str, Exceeded, float], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`members` are the brokers that use the same applications; each takes its part.

        `paused` is told when Dataverse tells this one to wait: application, environment, limit
        and seconds.
        """
        self._protection = protection or Protection()
        self._members = members
        self._divided_among = max(1, members())
        self._paused = paused
        self._now = now
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._timers: dict[Lane, asyncio.TimerHandle] = {}

    def lane(self, application: str, environment: str) -> Lane:
        key = (application, environment)
        lane = self._lanes.get(key)
        if lane is None:
            share = self._protection.divided(self._divided_among)
            lane = self._lanes[key] = Lane(share, self._now())
        return lane

    def divide(self) -> None:
        """There are more or fewer brokers now: each takes another part, of what was learned too."""
        among = max(1, self._members())
        before, self._divided_among = self._divided_among, among
        share = self._protection.divided(among)
        for lane in self._lanes.values():
            lane.divide(share, before / among)
            if lane.waiting:
                self._ring(lane)

    def choose(self, applications: Sequence[str], environment: str) -> str:
        """The one of a pool that is least loaded and not told to wait."""
        if len(applications) == 1:
            return applications[0]
        now = self._now()
        return min(applications, key=lambda name: self.lane(name, environment).load(now))

    def enter_now(self, application: str, environment: str, share: Share) -> Turn | None:
        """None: others come first, so `await enter`."""
        now = self._now()
        lane = self.lane(application, environment)
        flow = lane.flow(share.caller, share.counts, now)
        return Turn(self, lane, flow, now) if lane.enter_now(flow, now) else None

    async def enter(
        self, application: str, environment: str, share: Share, *, timeout_s: float
    ) -> Turn:
        """Wait for a turn. Raises `Overloaded`, and `Paused` where Dataverse said to come later."""
        now = self._now()
        lane = self.lane(application, environment)
        flow = lane.flow(share.caller, share.counts, now)
        if lane.enter_now(flow, now):
            return Turn(self, lane, flow, now)
        future = asyncio.get_running_loop().create_future()
        ticket = lane.stand_in_line(flow, future, now=now, due=now + timeout_s)
        self._wake(lane)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            if not self._given_up(lane, flow, future):
                lane.leave_line(ticket)
            raise Overloaded("no turn came in time", retry_after_s=1) from None
        except BaseException:
            if not self._given_up(lane, flow, future):
                lane.leave_line(ticket)
            raise
        return Turn(self, lane, flow, self._now())

    def _given_up(self, lane: Lane, flow: Flow, future: asyncio.Future[None]) -> bool:
        """Whether the turn came in the moment in which nobody waited any more: it is passed on."""
        if not future.done() or future.cancelled():
            return False
        self.left(lane, flow, self._now())
        return True

    def left(self, lane: Lane, flow: Flow, began: float) -> None:
        now = self._now()
        lane.left(flow, now - began, now)
        if lane.waiting:
            lane.let_go(now)
            self._wake(lane)

    def exceeded(
        self,
        application: str,
        environment: str,
        limit: Exceeded | None,
        retry_after: timedelta | None,
    ) -> None:
        """Dataverse said 429."""
        seconds = None if retry_after is None else retry_after.total_seconds()
        self.lane(application, environment).exceeded(limit, seconds, self._now())
        if self._paused is not None and limit is not None and seconds is not None:
            self._paused(application, environment, limit, min(seconds, PAUSE_MOST_S))

    def pause(self, application: str, environment: str, limit: Exceeded, seconds: float) -> None:
        """Dataverse said 429 to another broker. What that one learned from it stays its own."""
        self.lane(application, environment).pause(limit, seconds, self._now())

    def paused_s(self, application: str, environment: str) -> float:
        """How long Dataverse wants to hear nothing from this application."""
        lane = self._lanes.get((application, environment))
        return 0.0 if lane is None else lane.paused_s(self._now())

    def states(self) -> list[LaneState]:
        """For metrics: every lane that was used."""
        now = self._now()
        return [
            LaneState(
                application,
                environment,
                running=lane.running,
                waiting=lane.waiting,
                concurrency_limit=lane.concurrency.limit,
                paused_s=lane.paused_s(now),
            )
            for (application, environment), lane in self._lanes.items()
        ]

    def _wake(self, lane: Lane) -> None:
        """Look again when time alone lets somebody go."""
        timer = self._timers.pop(lane, None)
        if timer is not None:
            timer.cancel()
        wait_s = lane.wake_in(self._now())
        if wait_s is not None:
            loop = asyncio.get_running_loop()
            self._timers[lane] = loop.call_later(wait_s, self._ring, lane)

    def _ring(self, lane: Lane) -> None:
        self._timers.pop(lane, None)
        lane.let_go(self._now())
        self._wake(lane)
