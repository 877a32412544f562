"""Between the event loop, which puts records in, and the writer thread, which takes them out."""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Waiting:
    """A record's bytes, and who waits for them to be durable.

    `abandoned` is set by the loop when it has given up: what is still in the inbox then is not
    written later. Cancelling the future does not abandon it.
    """

    __slots__ = ("abandoned", "body", "future", "since")

    def __init__(self, body: bytes, future: asyncio.Future[None], since: float) -> None:
        self.body = body
        self.future = future
        self.since = since
        self.abandoned = False


class Inbox:
    """One thread puts in, another one takes out; waking that one costs nothing while it works."""

    def __init__(self) -> None:
        self._items: deque[Waiting] = deque()
        # Rung once a batch, not once a record: when the writer sleeps and enough have come.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = False
        self._wanted = 1
        self.closed = False

    def put(self, item: Waiting) -> None:
        self._items.append(item)
        if self._asleep and len(self._items) >= self._wanted:
            self._asleep = False
            self._bell.put(None)

    def close(self) -> None:
        """Nothing comes any more: whoever sleeps wakes, and nobody sleeps again."""
        self.closed = True
        self._bell.put(None)

    def sleep_until(self, wanted: int, timeout_s: float) -> bool:
        """Until so many wait, or the time is over: whether anybody waits then."""
        until = time.monotonic() + timeout_s
        self._wanted = wanted
        while len(self._items) < wanted and not self.closed:
            left_s = until - time.monotonic()
            if left_s <= 0:
                break
            # First asleep, then a last look: whoever comes in between rings.
            self._asleep = True
            if len(self._items) < wanted:
                # A bell that was left from before only brings us round once more.
                with contextlib.suppress(queue.Empty):
                    self._bell.get(timeout=left_s)
            self._asleep = False
        return bool(self._items)

    def take(self, most: int) -> list[Waiting]:
        return [self._items.popleft() for _ in range(min(len(self._items), most))]
