"""When Dataverse told one broker to wait, the others find it in Redis.

A pause is written when it is heard of and read every few seconds, beside the requests: none of
them ever waits for Redis here. While Redis is away each broker learns from its own 429s. A broker
that starts anew finds the pauses that last.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, Protocol

from app.limits.counting import CountsLost
from app.limits.rest import rest
from app.limits.scheduler_budget import Exceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    Pause = Callable[[str, str, Exceeded, float], None]
    """Application, environment, limit, seconds."""

LOOK_EVERY_S: Final = 10.0
"""How late a pause is known to the others, at the latest."""

SAME_S: Final = 1.0
"""The 429s of one moment differ by less, and are one word."""


class Board(Protocol):
    """Where pauses are written for all. Both raise `CountsLost`."""

    async def pause(self, key: str, seconds: float) -> None: ...

    async def pauses(self) -> dict[str, float]:
        """What is left of each, in seconds."""
        ...


class Pauses:
    """`tell` is for the one who was told; `keep` tells the others, and hears from them."""

    def __init__(
        self, board: Board | None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._board = board
        self._monotonic = monotonic
        self._known: dict[str, float] = {}
        """Until when, by what the board calls them."""
        self._untold: dict[str, float] = {}
        self._news = asyncio.Event()

    def tell(self, application: str, environment: str, limit: Exceeded, seconds: float) -> None:
        """Writes nothing itself: it stands in the path of a request."""
        if self._board is None:
            return
        # No name holds a slash.
        key = f"{application}/{environment}/{limit.value}"
        until = self._monotonic() + seconds
        if until > self._known.get(key, 0.0) + SAME_S:
            self._known[key] = self._untold[key] = until
            self._news.set()

    async def keep(self, pause: Pause) -> None:
        """Runs beside the requests, for ever; `pause` is called with what others were told."""
        while self._board is not None:
            self._news.clear()
            with contextlib.suppress(CountsLost):
                await self._write(self._board)
                self._take(await self._board.pauses(), pause)
            await rest(LOOK_EVERY_S, self._news)

    async def _write(self, board: Board) -> None:
        """What cannot be written now is written later, if it lasts so long."""
        for key, until in list(self._untold.items()):
            seconds = until - self._monotonic()
            if seconds > 0.0:
                await board.pause(key, seconds)
            # Another one may have come meanwhile, and is longer.
            if self._untold[key] == until:
                del self._untold[key]

    def _take(self, found: dict[str, float], pause: Pause) -> None:
        now = self._monotonic()
        self._known = {key: until for key, until in self._known.items() if until > now}
        for key, seconds in found.items():
            if now + seconds <= self._known.get(key, 0.0) + SAME_S:
                continue
            application, _, rest = key.partition("/")
            environment, _, named = rest.partition("/")
            try:
                limit = Exceeded(named)
            except ValueError:
                # Another version of the broker knows one more.
                continue
            self._known[key] = now + seconds
            pause(application, environment, limit, seconds)
