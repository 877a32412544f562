"""Shared counters while they can be had, this process's own while they cannot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from app.limits.counting import CountsLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.limits.counting import Counts, Slot, Spent

log = structlog.get_logger()

RETRY_S: Final = 5.0
"""While Redis is away one request in so many seconds asks it again, and waits for it."""


class FallingBack:
    """A limit that nobody keeps would let a flood through; one that refuses all is an outage.

    So each process keeps its share, as without Redis: replicas together may grant more.
    """

    def __init__(
        self, shared: Counts, local: Counts, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared = shared
        self._local = local
        self._monotonic = monotonic
        self._ask_again_at: float | None = None

    @property
    def degraded(self) -> bool:
        return self._ask_again_at is not None

    async def hit(self, key: str, per_minute: int) -> Spent | None:
        if self._may_ask():
            try:
                spent = await self._shared.hit(key, per_minute)
            except CountsLost as lost:
                self._lost(lost)
            else:
                self._found()
                return spent
        return await self._local.hit(key, per_minute)

    async def take(self, key: str, most: int) -> Slot | None:
        if self._may_ask():
            try:
                slot = await self._shared.take(key, most)
            except CountsLost as lost:
                self._lost(lost)
            else:
                self._found()
                return slot
        return await self._local.take(key, most)

    def _may_ask(self) -> bool:
        if self._ask_again_at is None:
            return True
        if self._monotonic() < self._ask_again_at:
            return False
        # This one asks; whoever comes meanwhile does not wait for its answer.
        self._ask_again_at = self._monotonic() + RETRY_S
        return True

    def _lost(self, lost: CountsLost) -> None:
        if self._ask_again_at is None:
            log.error("limits.shared_lost", error=str(lost))
        self._ask_again_at = self._monotonic() + RETRY_S

    def _found(self) -> None:
        if self._ask_again_at is not None:
            self._ask_again_at = None
            log.warning("limits.shared_found")
