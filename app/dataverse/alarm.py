"""One timer for a connection, which an exchange costs next to nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Alarm:
    """Rings once when the time that was set last has passed.

    A deadline is set for each exchange and nearly always moves on before it passes. So the
    loop's timer is left where it is unless it must ring earlier, and looks again when it does.
    """

    __slots__ = ("_due", "_loop", "_ring", "_timer", "_timer_at")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def set(self, due: float) -> None:
        """`due` is loop time."""
        self._due = due
        if due >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = self._due = math.inf

    def _look(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        # Loops round their clocks: a millisecond early is in time.
        if self._loop.time() < self._due - 0.001:
            self.set(self._due)
        else:
            self._due = math.inf
            self._ring()
