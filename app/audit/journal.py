"""Durable before anyone goes on: one writer thread, and whoever waits goes with the next flush.

The event loop encodes a record and puts it into the inbox. The writer thread takes what is
there, chains it, stores it, and tells the loop once for the whole batch. While a batch is being
stored the next one gathers, so there is no window to tune: alone a record leaves at once,
under load the disk's own pace makes the batches.

When the store fails, everything that waits is refused, and so is everything that comes, until
the writer has opened the store again and found out what it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from app.audit.inbox import Inbox, Waiting
from app.audit.record import encode
from app.audit.writer import Writer
from app.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.audit.chain import Checkpoint, Signer
    from app.audit.record import Record
    from app.audit.store import JournalStore
    from app.errors import Misconfigured

WAITING_MAX: Final = 20_000
"""Records that may wait; more than this, and the store is not keeping up."""

DEADLINE_S: Final = 5.0
"""A record that is not durable by then is taken for lost, and its request refused."""

RESERVE_BYTES: Final = 64 * 1024 * 1024
"""Below this much free space no new request is let in; refusals and outcomes still are."""

CHECKPOINT_EVERY_S: Final = 60.0
RETRY_AFTER_S: Final = 5

_SILENT: Final = "the store does not answer"
_LOW: Final = "free space is below the reserve"
_CROWDED: Final = "too many records wait for the store"
_CLOSED: Final = "the journal is closed"


class RecordUnavailable(Unavailable):
    """No record can be kept, so the request is refused."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "record-unavailable",
            f"No audit record can be kept: {why}. Nothing was sent without one.",
            retry_after_s=RETRY_AFTER_S,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStatus:
    """For readiness and metrics. `lag_s` is how long the oldest record has been waiting.

    `lost` counts records whose append failed after it was taken on, `entries` those that are
    durable.
    """

    healthy: bool
    reason: str | None
    waiting: int
    lag_s: float
    entries: int
    flushes: int
    lost: int
    last_flush_s: float
    room_bytes: int | None


class Journal:
    """Appends records to a store, for one event loop.

    `on_checkpoint` is called on the loop with each signed checkpoint, to anchor it elsewhere.
    """

    def __init__(
        self,
        store: JournalStore,
        signer: Signer,
        *,
        program: str,
        new_writer: Callable[[], str],
        on_checkpoint: Callable[[Checkpoint], None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        deadline_s: float = DEADLINE_S,
        reserve_bytes: int = RESERVE_BYTES,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    ) -> None:
        self._deadline_s = deadline_s
        self._on_checkpoint = on_checkpoint
        self._inbox = Inbox()
        self._writer = Writer(
            store,
            signer,
            self._inbox,
            program=program,
            new_writer=new_writer,
            now=now,
            reserve_bytes=reserve_bytes,
            checkpoint_every_s=checkpoint_every_s,
            opened=lambda error: self._on_loop(self._set_opened, error),
            settle=lambda batch, why: self._on_loop(self._settle, batch, why),
            sealed=lambda checkpoint: self._on_loop(self._anchor, checkpoint),
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: asyncio.Future[None] | None = None
        # In order of arrival. Those at the front may be done already.
        self._waiting: deque[Waiting] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._overdue = False
        self._given_up = 0
        self._failed = 0

    async def start(self) -> None:
        """Return when the store was opened, or could not be: the writer goes on trying.

        Raises `Misconfigured` for a store that a newer program has written.
        """
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._writer.start()
        # A store that hangs in its first open is one that cannot be opened now.
        await asyncio.wait([self._opened], timeout=self._deadline_s)
        if self._opened.done():
            self._opened.result()

    def append(self, record: Record) -> asyncio.Future[None]:
        """A future that is done when the record is durable.

        It raises `RecordUnavailable` otherwise. Cancelling it does not take the record back.
        """
        assert self._loop is not None
        future: asyncio.Future[None] = self._loop.create_future()
        why = self._refusal(record)
        if why is not None:
            _fail(future, why)
            return future
        item = Waiting(encode(record), future, time.monotonic())
        self._waiting.append(item)
        self._inbox.put(item)
        if self._watch is None:
            self._watch = self._loop.call_later(self._deadline_s, self._give_up_on_overdue)
        return future

    @property
    def healthy(self) -> bool:
        """Whether a new request could be recorded now."""
        return self._reason() is None

    def status(self) -> JournalStatus:
        writer, waiting = self._writer, self._waiting
        return JournalStatus(
            healthy=self.healthy,
            reason=self._reason(),
            waiting=len(waiting),
            lag_s=time.monotonic() - waiting[0].since if waiting else 0.0,
            entries=writer.entries,
            flushes=writer.flushes,
            lost=self._given_up + self._failed,
            last_flush_s=writer.last_flush_s,
            room_bytes=writer.room_bytes,
        )

    async def aclose(self) -> None:
        """Store what waits, then a final checkpoint. Gives up after the deadline."""
        if self._loop is None or self._inbox.closed:
            return
        self._inbox.close()
        await asyncio.to_thread(self._writer.join, self._deadline_s)
        # What the thread told the loop last is handled before we go on.
        await asyncio.sleep(0)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for item in self._waiting:
            if not item.future.done():
                _fail(item.future, _CLOSED)
        self._waiting.clear()

    def _reason(self) -> str | None:
        """Why a new request could not be recorded now."""
        if self._inbox.closed:
            return _CLOSED
        if self._writer.failure is not None:
            return self._writer.failure
        if self._overdue:
            return _SILENT
        return _LOW if self._writer.low else None

    def _refusal(self, record: Record) -> str | None:
        why = self._reason()
        # The reserve is for the outcomes of what is under way, and for the refusals.
        if why is _LOW and record.phase == "outcome":
            why = None
        if why is None and len(self._waiting) >= WAITING_MAX:
            why = _CROWDED
        return why

    def _settle(self, batch: list[Waiting], why: str | None) -> None:
        """Once a batch: tell all who wait."""
        for item in batch:
            if item.future.done():
                continue
            if why is None:
                item.future.set_result(None)
            else:
                self._failed += 1
                _fail(item.future, why)
        waiting = self._waiting
        while waiting and waiting[0].future.done():
            waiting.popleft()
        # The store answers again.
        self._overdue = False

    def _give_up_on_overdue(self) -> None:
        assert self._loop is not None
        self._watch = None
        limit = time.monotonic() - self._deadline_s
        waiting = self._waiting
        while waiting and (waiting[0].future.done() or waiting[0].since <= limit):
            item = waiting.popleft()
            if not item.future.done():
                item.abandoned = True
                self._overdue = True
                self._given_up += 1
                _fail(item.future, _SILENT)
        if waiting:
            wait_s = max(waiting[0].since - limit, 0.001)
            self._watch = self._loop.call_later(wait_s, self._give_up_on_overdue)

    def _set_opened(self, error: Misconfigured | None) -> None:
        assert self._opened is not None
        if self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)
            # `start` may have gone on without it.
            self._opened.exception()

    def _anchor(self, checkpoint: Checkpoint) -> None:
        if self._on_checkpoint is not None:
            self._on_checkpoint(checkpoint)

    def _on_loop(self, call: Callable[..., None], *args: object) -> None:
        """From the writer's thread."""
        assert self._loop is not None
        # A loop that was closed under us has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)


def _fail(future: asyncio.Future[None], why: str) -> None:
    future.set_exception(RecordUnavailable(why))
    # Not everybody awaits (a caller may be gone): asyncio need not log that as forgotten.
    future.exception()
