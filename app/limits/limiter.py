"""May this caller ask once more now? Rate and concurrency of a grant, as one stage of the path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.errors import Limited
from app.limits.falling_back import FallingBack

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from app.config.model import Limits
    from app.limits.counting import Counts, SharedCounts, Slot


class Limiter:
    """`async with limiter.within(…)` around everything that counts as one request."""

    def __init__(self, local: Counts, shared: SharedCounts | None = None) -> None:
        """`shared` counts for all replicas, and `local` where there is no such thing."""
        self._shared = shared
        self._falling_back = None if shared is None else FallingBack(shared, local)
        self._counts: Counts = self._falling_back or local

    @property
    def degraded(self) -> bool:
        """Whether shared limits are wanted, and each process keeps its own instead."""
        return self._falling_back is not None and self._falling_back.degraded

    async def keep(self) -> None:
        """Runs beside the requests, for ever, where limits are shared."""
        if self._shared is not None:
            await self._shared.keep()

    async def aclose(self) -> None:
        if self._shared is not None:
            await self._shared.aclose()

    def within(
        self, limits: Limits, *, caller: str, environment: str, application: str
    ) -> AbstractAsyncContextManager[None]:
        """Entering raises `Limited`. Caller, environment and application name a grant."""
        if limits.requests_per_minute is None and limits.concurrency is None:
            return _UNLIMITED
        # No name holds a slash.
        return _Visit(self._counts, f"{caller}/{environment}/{application}", limits)


class _Unlimited:
    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        return None


_UNLIMITED: Final = _Unlimited()


class _Visit:
    __slots__ = ("_counts", "_key", "_limits", "_slot")

    def __init__(self, counts: Counts, key: str, limits: Limits) -> None:
        self._counts = counts
        self._key = key
        self._limits = limits
        self._slot: Slot | None = None

    async def __aenter__(self) -> None:
        # The slot first: a request that finds none has not been answered, so it costs no rate.
        most = self._limits.concurrency
        if most is not None:
            self._slot = await self._counts.take(self._key, most)
            if self._slot is None:
                raise _too_many(most)
        per_minute = self._limits.requests_per_minute
        if per_minute is not None:
            try:
                await self._hit(per_minute)
            except BaseException:
                await self._give_back()
                raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._give_back()

    async def _hit(self, per_minute: int) -> None:
        spent = await self._counts.hit(self._key, per_minute)
        if spent is not None:
            raise _used_up(per_minute, spent.reset_s)

    async def _give_back(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            await slot.give_back()


def _too_many(most: int) -> Limited:
    return Limited(
        "too-many-concurrent",
        f"{most} requests are under way, the concurrency of your grant: wait for an answer",
        retry_after_s=1,
    )


def _used_up(per_minute: int, reset_s: int) -> Limited:
    return Limited(
        "rate-limited",
        f"{per_minute} requests a minute is the rate of your grant: wait {reset_s} s",
        retry_after_s=reset_s,
        extra={"rate_limit": {"limit": per_minute, "remaining": 0, "reset_s": reset_s}},
    )
