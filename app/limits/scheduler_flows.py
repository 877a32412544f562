"""Whose turn is it? Weighted fair queueing among the callers of one application. Pure.

Each caller is a flow. Two things are kept of it: when its next request is due in virtual time
(start-time fair queueing), which orders those that wait, and a small bucket that fills with its
share of the pace, which lets it go without waiting for as long as it asks for no more than that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from app.limits.scheduler_lane import Ticket

Priority = Literal["high", "normal", "low"]

PRIORITIES: Final[dict[Priority, float]] = {"high": 4.0, "normal": 1.0, "low": 0.25}
"""Factors of a weight. Not strict precedence: a high caller that never stops would starve all."""

ACTIVE_S: Final = 60.0
"""A caller that asked within this time has a share set aside for it."""

SHARE_BURST_S: Final = 10.0
"""So much of its share a caller may use at once after it was quiet, or `SHARE_BURST_LEAST`."""
SHARE_BURST_LEAST: Final = 5.0


@dataclass(slots=True)
class Flow:
    """One caller. `tokens` may fall below zero: what a request cost is known at its end."""

    caller: str
    weight: float
    due: float = 0.0
    """Virtual time at which its next request starts."""
    tokens: float = SHARE_BURST_LEAST
    updated_at: float = 0.0
    seen_at: float = 0.0
    running: int = 0
    waiting: deque[Ticket] = field(default_factory=deque)

    def refill(self, now: float, share_per_s: float) -> None:
        most = max(SHARE_BURST_LEAST, SHARE_BURST_S * share_per_s)
        self.tokens = min(most, self.tokens + (now - self.updated_at) * share_per_s)
        self.updated_at = now


class Flows:
    """All callers that asked lately, and the virtual clock that they are ordered by."""

    __slots__ = ("_by_caller", "_counted_at", "_time", "_weights")

    def __init__(self) -> None:
        self._by_caller: dict[str, Flow] = {}
        self._time = 0.0
        self._weights = 0.0
        self._counted_at = float("-inf")

    def of(self, caller: str, weight: float, now: float) -> Flow:
        flow = self._by_caller.get(caller)
        if flow is None:
            flow = self._by_caller[caller] = Flow(caller, weight, updated_at=now)
            self._counted_at = float("-inf")
        elif flow.weight != weight:
            flow.weight = weight
            self._counted_at = float("-inf")
        flow.seen_at = now
        return flow

    def share(self, flow: Flow, now: float) -> float:
        """Its part of the whole, of those that are active."""
        if now - self._counted_at >= 1.0:
            self._count(now)
        return flow.weight / max(self._weights, flow.weight)

    def active(self, now: float) -> int:
        return sum(now - flow.seen_at < ACTIVE_S for flow in self._by_caller.values())

    def _count(self, now: float) -> None:
        self._counted_at = now
        for caller, flow in list(self._by_caller.items()):
            idle = now - flow.seen_at >= ACTIVE_S and not flow.running and not flow.waiting
            if idle and flow.due <= self._time:
                del self._by_caller[caller]
        self._weights = sum(
            flow.weight
            for flow in self._by_caller.values()
            if flow.waiting or flow.running or now - flow.seen_at < ACTIVE_S
        )

    # ------------------------------------------------------------- virtual time

    def start(self, flow: Flow, cost: float) -> None:
        """Its next request goes now."""
        start = max(flow.due, self._time)
        self._time = start
        flow.due = start + cost / flow.weight

    def charge(self, flow: Flow, cost: float) -> None:
        """It turned out to cost so much more."""
        flow.due += cost / flow.weight

    def in_order(self) -> list[Flow]:
        """Those that wait, the one that is due first first."""
        waiting = [flow for flow in self._by_caller.values() if flow.waiting]
        if len(waiting) > 1:
            waiting.sort(key=lambda flow: max(flow.due, self._time))
        return waiting
