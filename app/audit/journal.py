"""Durable before anyone goes on: one writer thread, and whoever waits goes with the next flush.

The event loop encodes a record and puts it on a queue. The writer thread takes what is there,
chains it, stores it, and tells the loop once for the whole batch. While a batch is being
stored the next one gathers, so there is no window to tune: alone a record leaves at once,
under load the disk's own pace makes the batches.

When the store fails, everything that waits is refused, and so is everything that comes, until
the writer has opened the store again and found out what it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from app.audit import chain
from app.audit.record import encode, timestamp
from app.audit.store import StoreFailed
from app.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.audit.record import Record
    from app.audit.store import JournalStore

log = structlog.stdlib.get_logger(__name__)

GAP_S: Final = 0.001
"""Between two flushes under load, so that those who were just answered can come back in."""

LOADED_BATCH: Final = 4
"""A batch of this many is load: the next one waits for the gap."""

BATCH_MAX: Final = 1024
WAITING_MAX: Final = 20_000
"""Records that may wait; more than this, and the store is not keeping up."""

DEADLINE_S: Final = 5.0
"""A record that is not durable by then is taken for lost, and its request refused."""

RETRY_FIRST_S: Final = 0.1
RETRY_LAST_S: Final = 2.0
TICK_S: Final = 1.0
"""How often the writer looks at free space and at whether a checkpoint is due."""

RESERVE_BYTES: Final = 64 * 1024 * 1024
"""Below this much free space no new request is let in; refusals and outcomes still are."""

CHECKPOINT_EVERY_S: Final = 60.0
CHECKPOINT_ENTRIES: Final = 50_000
RETRY_AFTER_S: Final = 5
FAULT: Final = "the audit store failed in a way that is not expected"


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
    """For readiness and metrics. `lag_s` is how long the oldest record has been waiting."""

    healthy: bool
    reason: str | None
    waiting: int
    lag_s: float
    entries: int
    flushes: int
    lost: int
    last_flush_s: float
    room_bytes: int | None


class _Waiting:
    __slots__ = ("abandoned", "body", "future", "since")

    def __init__(self, body: bytes, future: asyncio.Future[None], since: float) -> None:
        self.body = body
        self.future = future
        self.since = since
        self.abandoned = False


class Journal:
    """Appends records to a store, for one event loop.

    `on_checkpoint` is called on the loop with each signed checkpoint, to anchor it elsewhere.
    """

    def __init__(
        self,
        store: JournalStore,
        signer: chain.Signer,
        *,
        program: str,
        new_writer: Callable[[], str],
        on_checkpoint: Callable[[chain.Checkpoint], None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        deadline_s: float = DEADLINE_S,
        reserve_bytes: int = RESERVE_BYTES,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    ) -> None:
        self._store = store
        self._signer = signer
        self._program = program
        self._new_writer = new_writer
        self._on_checkpoint = on_checkpoint
        self._now = now
        self._deadline_s = deadline_s
        self._reserve_bytes = reserve_bytes
        self._checkpoint_every_s = checkpoint_every_s

        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._incoming: deque[_Waiting] = deque()
        # Rung once a batch, not once a record: when the writer sleeps and enough have come.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = False
        self._wanted = 1
        self._stopping = False
        # The loop's side: in order of arrival, those at the front may be done already.
        self._waiting: deque[_Waiting] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._overdue = False
        # Written by the writer thread, read by the loop: single assignments, so no lock.
        self._failure: str | None = "the journal has not been started"
        self._room: int | None = None
        self._low = False
        self._entries = 0
        self._flushes = 0
        self._lost = 0
        self._last_flush_s = 0.0
        # The writer thread's own.
        self._head: chain.Head | None = None
        # What the store may hold last of ours: one head, or two after a batch that failed.
        self._possible: tuple[chain.Head, ...] = ()
        self._sealed = 0
        self._sealed_at = 0.0
        self._tick_at = 0.0
        self._flushed_at = 0.0
        self._last_batch = 0

    # ------------------------------------------------------------ the loop's side

    async def start(self) -> None:
        """Return when the store was opened, or could not be: the writer goes on trying.

        Raises `Misconfigured` for a store that a newer program has written.
        """
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            # A store that hangs for good must not keep the process from ending.
            target=self._write,
            args=(opened,),
            name="audit-journal",
            daemon=True,
        )
        self._thread.start()
        # A store that hangs in its first open is one that cannot be opened now.
        await asyncio.wait([opened], timeout=self._deadline_s)
        if opened.done():
            opened.result()

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
        item = _Waiting(encode(record), future, time.monotonic())
        self._waiting.append(item)
        self._incoming.append(item)
        if self._asleep and len(self._incoming) >= self._wanted:
            self._asleep = False
            self._bell.put(None)
        if self._watch is None:
            self._watch = self._loop.call_later(self._deadline_s, self._give_up_on_overdue)
        return future

    @property
    def healthy(self) -> bool:
        """Whether a new request could be recorded now."""
        return self._failure is None and not self._overdue and not self._low

    def status(self) -> JournalStatus:
        reason = self._failure
        if reason is None and self._overdue:
            reason = "the store does not answer"
        if reason is None and self._low:
            reason = "free space is below the reserve"
        waiting = self._waiting
        return JournalStatus(
            healthy=self.healthy,
            reason=reason,
            waiting=len(waiting),
            lag_s=time.monotonic() - waiting[0].since if waiting else 0.0,
            entries=self._entries,
            flushes=self._flushes,
            lost=self._lost,
            last_flush_s=self._last_flush_s,
            room_bytes=self._room,
        )

    async def aclose(self) -> None:
        """Store what waits, then a final checkpoint. Gives up after the deadline."""
        if self._thread is None:
            return
        self._stopping = True
        self._bell.put(None)
        await asyncio.to_thread(self._thread.join, self._deadline_s)
        # What the thread's last call_soon_threadsafe left is handled before we go on.
        await asyncio.sleep(0)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._failure = "the journal is closed"
        for item in self._waiting:
            if not item.future.done():
                _fail(item.future, self._failure)
        self._waiting.clear()
        self._thread = None

    def _refusal(self, record: Record) -> str | None:
        if self._failure is not None:
            return self._failure
        if self._overdue:
            return "the store does not answer"
        if self._low and record.phase == "intent":
            return "free space is below the reserve"
        if len(self._waiting) >= WAITING_MAX:
            return "too many records wait for the store"
        return None

    def _settle(self, batch: list[_Waiting], why: str | None) -> None:
        """On the loop, once a batch: tell all who wait."""
        for item in batch:
            if item.future.done():
                continue
            if why is None:
                item.future.set_result(None)
            else:
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
                self._lost += 1
                _fail(item.future, "the store does not answer")
        if waiting:
            wait_s = max(waiting[0].since - limit, 0.001)
            self._watch = self._loop.call_later(wait_s, self._give_up_on_overdue)

    # ---------------------------------------------------------- the writer thread

    def _write(self, opened: asyncio.Future[None]) -> None:
        retry_s = RETRY_FIRST_S
        running, told = True, False
        while running:
            if self._head is not None:
                running = self._flush_next()
                continue
            try:
                self._open()
            except Exception as error:  # noqa: BLE001 - whatever it is, no record can be kept
                self._broken(error)
                if isinstance(error, Misconfigured) and not told:
                    self._on_loop(_set_error, opened, error)
                    return
                running = self._refuse_for(retry_s)
                retry_s = min(retry_s * 2, RETRY_LAST_S)
            else:
                retry_s = RETRY_FIRST_S
            if not told:
                self._on_loop(_set_done, opened)
                told = True
        self._finish()

    def _open(self) -> None:
        """Open the store, and go on with the chain if the store has it."""
        self._store.open()
        self._look_at_room()
        found = self._store.head(self._possible[0].writer) if self._possible else None
        head = found if found in self._possible else None
        if head is None:
            head = self._begin()
        self._possible = (head,)
        self._head = self._seal(head, final=False)
        self._tick_at = time.monotonic() + TICK_S
        log.info("audit.store_opened", writer=head.writer, seq=head.seq)
        self._failure = None

    def _begin(self) -> chain.Head:
        """Start a chain. It names the one that went on before, even if the store has lost it."""
        made: list[chain.Head] = []

        def opening(heads: tuple[chain.Head, ...]) -> chain.Entry:
            lost = [head for head in self._possible[:1] if head not in heads]
            entry, head = chain.open_chain(
                writer=self._new_writer(),
                time=timestamp(self._now()),
                program=self._program,
                follows=[*heads, *lost],
            )
            made.append(head)
            return entry

        self._store.begin(opening)
        return made[-1]

    def _flush_next(self) -> bool:
        """Store the next batch, or see to checkpoint and room. False when there is no more."""
        if self._last_batch >= LOADED_BATCH:
            # Those who were just answered are on their way back: wait for as many, a little.
            gap_s = self._flushed_at + GAP_S - time.monotonic()
            self._sleep_until(self._last_batch, gap_s)
        self._last_batch = 0
        if not self._sleep_until(1, TICK_S):
            if self._stopping:
                return False
            self._attempt(self._tick)
            return True
        incoming = self._incoming
        batch = [incoming.popleft() for _ in range(min(len(incoming), BATCH_MAX))]
        why = self._attempt(lambda: self._flush(batch))
        self._on_loop(self._settle, batch, why)
        if time.monotonic() >= self._tick_at and why is None:
            self._attempt(self._tick)
        return True

    def _sleep_until(self, wanted: int, timeout_s: float) -> bool:
        """Until so many wait, or the time is over: whether anybody waits then."""
        until = time.monotonic() + timeout_s
        self._wanted = wanted
        while len(self._incoming) < wanted and not self._stopping:
            left_s = until - time.monotonic()
            if left_s <= 0:
                break
            # First asleep, then a last look: whoever comes in between rings.
            self._asleep = True
            if len(self._incoming) < wanted:
                # A bell that was left from before only brings us round once more.
                with contextlib.suppress(queue.Empty):
                    self._bell.get(timeout=left_s)
            self._asleep = False
        return bool(self._incoming)

    def _flush(self, batch: list[_Waiting]) -> None:
        # Whose request was refused already is not written: the record would claim an intent.
        bodies = [item.body for item in batch if not item.abandoned]
        self._last_batch = len(bodies)
        started = time.monotonic()
        self._extend(bodies)
        self._flushed_at = time.monotonic()
        self._last_flush_s = self._flushed_at - started
        self._flushes += 1
        self._entries += len(bodies)

    def _extend(self, bodies: list[bytes]) -> None:
        assert self._head is not None
        if not bodies:
            return
        entries, head = chain.extend(self._head, bodies)
        # Should this fail, the store holds all of the batch or none of it.
        self._possible = (self._head, head)
        self._store.append(entries)
        self._head = head
        self._possible = (head,)

    def _tick(self) -> None:
        self._tick_at = time.monotonic() + TICK_S
        self._look_at_room()
        assert self._head is not None
        fresh = self._head.seq - self._sealed
        due = time.monotonic() - self._sealed_at >= self._checkpoint_every_s
        if fresh and (due or fresh >= CHECKPOINT_ENTRIES):
            self._head = self._seal(self._head, final=False)

    def _seal(self, head: chain.Head, *, final: bool) -> chain.Head:
        """Add a signed checkpoint."""
        checkpoint = chain.checkpoint(
            head, time=timestamp(self._now()), signer=self._signer, final=final
        )
        self._head = head
        self._extend([chain.encode_note(checkpoint)])
        self._sealed = self._head.seq
        self._sealed_at = time.monotonic()
        if self._on_checkpoint is not None:
            self._on_loop(self._on_checkpoint, checkpoint)
        return self._head

    def _look_at_room(self) -> None:
        self._room = self._store.room_bytes()
        low = self._room is not None and self._room < self._reserve_bytes
        if low != self._low:
            log.warning("audit.room", low=low, room_bytes=self._room)
        self._low = low

    def _attempt(self, act: Callable[[], None]) -> str | None:
        """What went wrong, in words for the caller; None when it went well."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever it is, no record can be kept
            return self._broken(error)
        return None

    def _broken(self, error: Exception) -> str:
        why = error.detail if isinstance(error, (StoreFailed, Misconfigured)) else FAULT
        if self._failure != why:
            log.error("audit.store_failed", reason=why, error=type(error).__name__)
        self._failure = why
        self._head = None
        self._store.close()
        return why

    def _refuse_for(self, wait_s: float) -> bool:
        """Refuse what still comes, until it is time to try the store again."""
        until = time.monotonic() + wait_s
        while not self._stopping and (left_s := until - time.monotonic()) > 0:
            self._sleep_until(1, left_s)
            batch = list(self._incoming)
            for _ in batch:
                self._incoming.popleft()
            self._lost += len(batch)
            if batch:
                self._on_loop(self._settle, batch, self._failure)
        return not self._stopping

    def _finish(self) -> None:
        if self._head is not None:
            head = self._head
            self._attempt(lambda: self._end(head))
        self._store.close()

    def _end(self, head: chain.Head) -> None:
        self._seal(head, final=True)

    def _on_loop(self, call: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        # A loop that was closed under us has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)


def _fail(future: asyncio.Future[None], why: str) -> None:
    future.set_exception(RecordUnavailable(why))
    # Not everybody awaits (a caller may be gone): asyncio need not log that as forgotten.
    future.exception()


def _set_done(opened: asyncio.Future[None]) -> None:
    if not opened.done():
        opened.set_result(None)


def _set_error(opened: asyncio.Future[None], error: Exception) -> None:
    if not opened.done():
        opened.set_exception(error)
        opened.exception()
