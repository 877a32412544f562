"""The way of one application to one environment: who goes now, who waits, who is sent away.

Pure but for the futures of those that wait; the clock is an argument, and `wake_in` says when to
look again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.errors import Unavailable
from app.limits.scheduler_budget import Budget, Concurrency, Exceeded
from app.limits.scheduler_flows import Flows

if TYPE_CHECKING:
    import asyncio

    from app.limits.scheduler_budget import Protection
    from app.limits.scheduler_flows import Flow

WAITING_MOST: Final = 1000
"""Of one lane. Beyond it nobody is served sooner by waiting."""

WAITING_OF_ONE_MOST: Final = 200
"""Of one caller, so that nobody fills the line by himself."""

PAUSE_MOST_S: Final = 600.0
"""Retry-After is believed up to here: twice the window that Dataverse looks at."""


class Overloaded(Unavailable):
    """More is asked for than can be carried."""

    def __init__(self, why: str, *, retry_after_s: int) -> None:
        super().__init__("overloaded", f"{why}: try again later", retry_after_s=retry_after_s)


class Paused(Unavailable):
    """Dataverse said when to come back, and that is after the caller's deadline."""

    def __init__(self, limit: Exceeded | None, *, retry_after_s: int) -> None:
        what = "" if limit is None else f" ({limit.value})"
        super().__init__(
            "upstream-busy",
            f"Dataverse's service protection limit{what} is used up, and nobody asks again before"
            " it said: try again later",
            retry_after_s=retry_after_s,
        )


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in the line."""

    flow: Flow
    future: asyncio.Future[None]
    due: float


class Lane:
    """`running` and `waiting` are for metrics, and for choosing among the lanes of a pool."""

    __slots__ = ("_flows", "_limit", "_paused_until", "budget", "concurrency", "running", "waiting")

    def __init__(self, assumed: Protection, now: float) -> None:
        self.budget = Budget(assumed, now)
        self.concurrency = Concurrency(assumed, now)
        self.running = 0
        self.waiting = 0
        self._flows = Flows()
        self._paused_until = float("-inf")
        self._limit: Exceeded | None = None

    # ------------------------------------------------------------- coming in

    def flow(self, caller: str, weight: float, now: float) -> Flow:
        return self._flows.of(caller, weight, now)

    def enter_now(self, flow: Flow, now: float) -> bool:
        """Whether it may go without waiting; it goes then."""
        if flow.waiting or now < self._paused_until:
            return False
        share = self._flows.share(flow, now)
        if not (self._has_room(flow, share, now) and self._may_spend(flow, share, now)):
            return False
        self._start(flow)
        return True

    def stand_in_line(
        self, flow: Flow, future: asyncio.Future[None], *, now: float, due: float
    ) -> Ticket:
        """Raises `Overloaded` and `Paused` at once where waiting would be for nothing."""
        if due <= self._paused_until:
            raise Paused(self._limit, retry_after_s=_whole(self._paused_until - now))
        expected_s = self._expected_s(flow, now)
        if self.waiting >= WAITING_MOST or len(flow.waiting) >= WAITING_OF_ONE_MOST:
            raise Overloaded("too many requests wait", retry_after_s=_whole(expected_s))
        if now + expected_s > due:
            raise Overloaded(
                "the requests before this one take longer than it may wait",
                retry_after_s=_whole(expected_s),
            )
        ticket = Ticket(flow, future, due)
        flow.waiting.append(ticket)
        self.waiting += 1
        return ticket

    def leave_line(self, ticket: Ticket) -> None:
        """Its request is given up."""
        if ticket in ticket.flow.waiting:
            ticket.flow.waiting.remove(ticket)
            self.waiting -= 1

    def _expected_s(self, flow: Flow, now: float) -> float:
        """The wait, rather too short than too long: who is sent away might have been served.

        As if the whole pace were this caller's. Of the places with Dataverse it has its share, or
        all that leave, whichever is sooner.
        """
        ahead = len(flow.waiting) + 1 - max(0.0, flow.tokens, self.budget.level)
        paced_s = max(0.0, ahead / self.budget.per_s)
        before = min(self.waiting, len(flow.waiting) / self._flows.share(flow, now))
        placed_s = before * self.concurrency.recent_s / max(1.0, self.concurrency.limit)
        return max(0.0, self._paused_until - now) + max(paced_s, placed_s)

    # ------------------------------------------------------------ going out

    def left(self, flow: Flow, took_s: float, now: float) -> None:
        """One came back; `took_s` is how long Dataverse worked on it."""
        flow.running -= 1
        self.running -= 1
        self.concurrency.done(took_s, running=self.running + 1, now=now)
        more = self.budget.worth(took_s)
        if more > 0.0:
            self.budget.spend(more)
            flow.tokens -= more
            self._flows.charge(flow, more)

    def exceeded(self, limit: Exceeded | None, retry_after_s: float | None, now: float) -> None:
        """A 429. What none of the three limits explains (search has one) stops nobody else."""
        if limit is None:
            return
        if limit is not Exceeded.CONCURRENCY:
            self.budget.exceeded(limit, now)
        if limit is not Exceeded.REQUESTS:
            at_once = limit is Exceeded.CONCURRENCY
            self.concurrency.exceeded(self.running, now, at_once=at_once)
        if retry_after_s is not None:
            self.pause(limit, retry_after_s, now)

    def pause(self, limit: Exceeded, seconds: float, now: float) -> None:
        """Nobody sends before Dataverse said, which would make it longer. The later one counts."""
        until = now + min(seconds, PAUSE_MOST_S)
        if until > self._paused_until:
            self._paused_until, self._limit = until, limit

    # ------------------------------------------------------------- whose turn

    def let_go(self, now: float) -> None:
        """Everybody whose turn it is goes; whose deadline has passed is told."""
        while self.waiting:
            if now < self._paused_until:
                break
            flow = self._next(now)
            if flow is None:
                break
            ticket = flow.waiting.popleft()
            self.waiting -= 1
            if ticket.future.done():
                continue
            self._start(flow)
            ticket.future.set_result(None)

    def wake_in(self, now: float) -> float | None:
        """When to `let_go` again, if nobody leaves before; None where time changes nothing."""
        if not self.waiting:
            return None
        if now < self._paused_until:
            return self._paused_until - now
        if not self.concurrency.admits(self.running):
            return None
        waits = [self.budget.wait_s()]
        for flow in self._flows.in_order():
            share = self._flows.share(flow, now) * self.budget.per_s
            waits.append(max(0.0, (1.0 - flow.tokens) / share))
        return max(min(waits), 0.001)

    def _next(self, now: float) -> Flow | None:
        for flow in self._flows.in_order():
            share = self._flows.share(flow, now)
            if self._has_room(flow, share, now) and self._may_spend(flow, share, now):
                return flow
        return None

    def _has_room(self, flow: Flow, share: float, now: float) -> bool:
        concurrency = self.concurrency
        if not concurrency.admits(self.running):
            return False
        if flow.running < concurrency.limit * share:
            return True
        # Beyond its share: a place is kept free for each of the others, up to a quarter of all.
        kept = min(self._flows.active(now) - 1, int(concurrency.limit / 4))
        return concurrency.admits(self.running + kept)

    def _may_spend(self, flow: Flow, share: float, now: float) -> bool:
        budget = self.budget
        budget.refill(now)
        flow.refill(now, share * budget.per_s)
        return flow.tokens >= 1.0 or budget.level >= 1.0

    def _start(self, flow: Flow) -> None:
        self.budget.spend(1.0)
        flow.tokens = max(flow.tokens - 1.0, -1.0)
        flow.running += 1
        self.running += 1
        self._flows.start(flow, 1.0)

    def divide(self, assumed: Protection, factor: float) -> None:
        """Take another part of the whole, `factor` times the one before."""
        self.budget.divide(assumed, factor)
        self.concurrency.divide(assumed, factor)

    # --------------------------------------------------------------- a pool's choice

    def load(self, now: float) -> tuple[bool, float]:
        """Less is better: a paused lane comes last, then whoever has the most to do."""
        self.budget.refill(now)
        busy = (self.running + self.waiting + 1) / max(1.0, self.concurrency.limit)
        spent = 1.0 - self.budget.level / self.budget.requests
        return now < self._paused_until, busy + spent

    def paused_s(self, now: float) -> float:
        return max(0.0, self._paused_until - now)


def _whole(seconds: float) -> int:
    return max(1, int(seconds + 0.999))
