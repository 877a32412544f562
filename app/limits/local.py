"""Counters in the memory of this process: its share of what one replica's workers may spend."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.limits.counting import Spent

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import SlidingWindowCounterRateLimiter


class LocalCounts:
    """Workers know nothing of each other, so each grants its share, and at least one.

    A sliding window: two windows' counters, the older one weighted by what is left of it. It
    takes no burst of twice the rate, and two numbers of memory a key.

    The counters are the library's synchronous ones: nothing is waited for, and those it has for
    asyncio look through all keys with every request (70 µs at a thousand keys, against 4).
    """

    def __init__(self, *, workers: int = 1) -> None:
        self._workers = workers
        self._rates: SlidingWindowCounterRateLimiter | None = None
        self._items: dict[int, RateLimitItem] = {}
        self._under_way: dict[str, int] = {}

    async def hit(self, key: str, per_minute: int) -> Spent | None:
        share = self._share(per_minute)
        rates = self._rates
        if rates is None:
            rates = self._rates = _sliding_windows()
        item = self._items.get(share)
        if item is None:
            item = self._items[share] = _per_minute(share)
        if rates.hit(item, key):
            return None
        return Spent(seconds_until(rates.get_window_stats(item, key).reset_time))

    async def take(self, key: str, most: int) -> LocalSlot | None:
        taken = self._under_way.get(key, 0)
        if taken >= self._share(most):
            return None
        self._under_way[key] = taken + 1
        return LocalSlot(self._under_way, key)

    def _share(self, granted: int) -> int:
        return max(1, granted // self._workers)


@dataclass(frozen=True, slots=True)
class LocalSlot:
    """To be given back once."""

    under_way: dict[str, int]
    key: str

    async def give_back(self) -> None:
        left = self.under_way[self.key] - 1
        if left:
            self.under_way[self.key] = left
        else:
            del self.under_way[self.key]


def seconds_until(moment: float) -> int:
    """Whole seconds from now to a time since 1970, and at least one."""
    return max(1, math.ceil(moment - time.time()))


def _sliding_windows() -> SlidingWindowCounterRateLimiter:
    # The library costs a twentieth of a second: only who has a rate to keep pays for it.
    from limits.storage import MemoryStorage  # noqa: PLC0415
    from limits.strategies import SlidingWindowCounterRateLimiter  # noqa: PLC0415

    return SlidingWindowCounterRateLimiter(MemoryStorage())


def _per_minute(amount: int) -> RateLimitItem:
    from limits import RateLimitItemPerMinute  # noqa: PLC0415

    return RateLimitItemPerMinute(amount)
