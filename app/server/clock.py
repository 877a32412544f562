"""How long a connection waits for what it waits for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Clock:
    """One timer, which is moved only when it rings: a request costs none."""

    __slots__ = ("_late", "_loop", "_rings_at", "_timer", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop, late: Callable[[], None]) -> None:
        self.due = math.inf
        """On the loop's clock; infinity while nothing is waited for."""
        self._loop = loop
        self._late: Callable[[], None] | None = late
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def wait(self, seconds: float) -> None:
        """Instead of what was waited for until now."""
        self.due = due = self._loop.time() + seconds
        if self._rings_at <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = due
        self._timer = self._loop.call_later(seconds, self._rung)

    def stop(self) -> None:
        """For good: the connection is not held any longer."""
        self.due = math.inf
        self._late = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rung(self) -> None:
        self._timer = None
        self._rings_at = math.inf
        if self.due == math.inf or self._late is None:
            return
        left_s = self.due - self._loop.time()
        if left_s > 0.001:
            self.wait(left_s)
        else:
            self._late()
