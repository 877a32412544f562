"""How much of Dataverse's service-protection limits an application may spend, and how fast. Pure.

Dataverse counts for each application user and web server over five minutes (dataverse-reference
4), and tells nobody how many web servers there are. So the budget begins with what one of them
grants, and believes in more only when a whole window was spent evenly without a 429: whoever is
told to wait then waits a second and not minutes, since the oldest requests are about to be
forgotten. One number, `requests`, pays for both limits: a request that runs long costs as many
requests as its seconds are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

PACE: Final = 0.93
"""Of a limit, spread over its window. With `BURST` it stays below the whole."""

BURST: Final = 0.06
"""Of a limit, at once after a quiet time."""

GROW_EVERY_S: Final = 15.0
GROW: Final = 1.10
"""Before the first 429: a pace that grows so doubles in two minutes."""
GROW_CAUTIOUSLY: Final = 1.02
"""After one: once a window. The limit is known by then, and what is tried costs a pause."""

SHRINK: Final = 0.90
LIMITS_LEAST: Final = 0.05
LIMITS_MOST: Final = 64.0
"""Of the limits that were assumed; more web servers than this nobody has."""

CEILING: Final = 0.95
"""Of the number at which Dataverse had enough: up to here it rises as quickly as ever."""

PROBE_EVERY_S: Final = 15.0
PROBE_SELDOM_S: Final = 240.0
"""Whether more goes meanwhile is tried so often. Each try that fails costs everybody a pause, and
the next one comes four times as late; one that goes well halves the time."""
PROBE: Final = 1.25
PROBE_LEAST: Final = 2.0
"""By how much the ceiling is lifted then, and at the least."""


class Exceeded(Enum):
    """Which limit a 429 names."""

    REQUESTS = "requests"
    EXECUTION_TIME = "execution-time"
    CONCURRENCY = "concurrency"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """The limits of one application user on one web server, as they are by default."""

    requests: float = 6000.0
    execution_s: float = 1200.0
    concurrency: float = 52.0
    window_s: float = 300.0

    def divided(self, among: int) -> Protection:
        """One's share of these, where so many brokers use them."""
        return Protection(
            requests=self.requests / among,
            execution_s=self.execution_s / among,
            concurrency=max(1.0, self.concurrency / among),
            window_s=self.window_s,
        )


class Budget:
    """A bucket of requests that fills at the believed limit's pace. `now` rises, in seconds."""

    __slots__ = (
        "_assumed",
        "_bound_since",
        "_grown_at",
        "_told",
        "_updated_at",
        "execution_s",
        "level",
        "per_s",
        "requests",
    )

    def __init__(self, assumed: Protection, now: float) -> None:
        self._assumed = assumed
        self.requests = assumed.requests
        self.execution_s = assumed.execution_s
        self.level = self.requests * BURST
        """What may be spent at once; below zero after callers within their shares had theirs."""
        self._updated_at = now
        self._bound_since: float | None = None
        self._grown_at = now
        self._told = False
        self.per_s = 0.0
        """The pace: what the bucket is filled with."""
        self._set_pace()

    def _set_pace(self) -> None:
        self.per_s = self.requests * PACE / self._assumed.window_s

    def refill(self, now: float) -> None:
        most = self.requests * BURST
        level = self.level + (now - self._updated_at) * self.per_s
        self._updated_at = now
        if level >= most:
            # Nobody is held back: nothing is learned about the limit.
            self.level = most
            self._bound_since = None
            return
        self.level = level
        if level >= 1.0:
            return
        if self._bound_since is None:
            self._bound_since = now
        if now - self._bound_since >= self._assumed.window_s:
            self._grow(now)

    def spend(self, cost: float) -> None:
        self.level -= cost

    def worth(self, took_s: float) -> float:
        """What a request cost beyond one, now that it is known how long Dataverse worked."""
        return max(0.0, took_s * self.requests / self.execution_s - 1.0)

    def wait_s(self, cost: float = 1.0) -> float:
        """Until so much may be spent, if nobody else spends it."""
        return max(0.0, (cost - self.level) / self.per_s)

    def exceeded(self, limit: Exceeded, now: float) -> None:
        """Dataverse has had enough: believe in less, and let nothing be spent at once."""
        assumed = self._assumed
        if limit is Exceeded.EXECUTION_TIME:
            self.execution_s = max(self.execution_s * SHRINK, assumed.execution_s * LIMITS_LEAST)
        else:
            self.requests = max(self.requests * SHRINK, assumed.requests * LIMITS_LEAST)
            self._set_pace()
        self.level = min(self.level, 0.0)
        self._updated_at = self._grown_at = now
        self._told = True

    def divide(self, assumed: Protection, factor: float) -> None:
        self._assumed = assumed
        self.requests *= factor
        self.execution_s *= factor
        self.level *= factor
        self._set_pace()

    def _grow(self, now: float) -> None:
        every_s = self._assumed.window_s if self._told else GROW_EVERY_S
        if now - self._grown_at < every_s:
            return
        by = GROW_CAUTIOUSLY if self._told else GROW
        self._grown_at = now
        self.requests = min(self.requests * by, self._assumed.requests * LIMITS_MOST)
        self._set_pace()
        self.execution_s = min(self.execution_s * by, self._assumed.execution_s * LIMITS_MOST)


class Concurrency:
    """How many requests may be with Dataverse at once: additive increase, multiplicative decrease.

    Not a gradient of latency: one query of Dataverse's takes a thousand times as long as another,
    so latency says more about what is asked than about who is tired. A 429 for concurrency is a
    clear word, and remembered: a number that rose to it again and again would spend a third of the
    time in pauses. Latency only keeps the number from rising.
    """

    __slots__ = (
        "_assumed",
        "_calm_s",
        "_ceiling",
        "_cut_at",
        "_probe_s",
        "_probed_at",
        "_since_rise",
        "limit",
        "recent_s",
    )

    def __init__(self, assumed: Protection, now: float) -> None:
        self._assumed = assumed.concurrency
        self.limit = assumed.concurrency * 0.9
        self.recent_s = 0.0
        """How long Dataverse took lately."""
        self._calm_s = 0.0
        self._since_rise = 0
        self._cut_at = now - 3600.0
        self._ceiling = float("inf")
        self._probe_s = PROBE_EVERY_S
        self._probed_at = now

    def admits(self, running: int) -> bool:
        return running + 1 <= max(1.0, self.limit)

    def done(self, took_s: float, *, running: int, now: float) -> None:
        """One was answered. `running` are those that were on their way beside it."""
        self.recent_s += (took_s - self.recent_s) * 0.1
        self._calm_s += (took_s - self._calm_s) * 0.002
        if running < self.limit * 0.8 or self.recent_s > 2.0 * self._calm_s + 0.05:
            return
        self._since_rise += 1
        if self._since_rise < self.limit:
            return
        self._since_rise = 0
        if self.limit + 1.0 <= self._ceiling or self._probes(now):
            self.limit = min(self.limit + 1.0, self._assumed * LIMITS_MOST)

    def _probes(self, now: float) -> bool:
        if now - self._probed_at < self._probe_s:
            return False
        self._probed_at = now
        self._probe_s = max(PROBE_EVERY_S, self._probe_s / 2.0)
        self._ceiling = max(self._ceiling + PROBE_LEAST, self._ceiling * PROBE)
        return True

    def divide(self, assumed: Protection, factor: float) -> None:
        self._assumed = assumed.concurrency
        self.limit = max(1.0, self.limit * factor)
        self._ceiling *= factor

    def exceeded(self, running: int, now: float, *, at_once: bool) -> None:
        """All that were refused together are one word: cut once for them.

        `at_once`: so many at once were too many. Execution time says nothing of that number.
        """
        if now - self._cut_at < 1.0:
            return
        self._cut_at = now
        self._since_rise = 0
        level = min(self.limit, float(running))
        self.limit = max(1.0, level * 0.8)
        if at_once:
            self._ceiling = max(1.0, level * CEILING)
            self._probed_at = now
            self._probe_s = min(self._probe_s * 4.0, PROBE_SELDOM_S)
