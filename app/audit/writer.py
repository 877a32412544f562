"""The journal's thread: takes what waits, chains it, stores it, and says so once a batch."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import structlog

from app.audit import chain
from app.audit.record import timestamp
from app.audit.store import StoreFailed
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from app.audit.inbox import Inbox, Waiting
    from app.audit.store import JournalStore

log = structlog.stdlib.get_logger(__name__)

GAP_S: Final = 0.002
"""After a flush under load, at most: so that those who were just answered can come back in.

A flush costs 100 µs of CPU however many go with it. Twice this saves little more, and whoever
comes while there is some load waits longer.
"""

LOADED_BATCH: Final = 4
"""A batch of this many is load."""

BATCH_MAX: Final = 1024

RETRY_FIRST_S: Final = 0.1
RETRY_LAST_S: Final = 2.0
TICK_S: Final = 1.0
"""How often the writer looks at free space and at whether a checkpoint is due."""

CHECKPOINT_ENTRIES: Final = 50_000
FAULT: Final = "the audit store failed in a way that is not expected"


class Writer:
    """Opens the store, writes until the inbox is closed, and begins again when the store fails.

    `settle` is told of each batch, with the reason where it failed; `opened` once, of the first
    attempt, with the error where that one leaves no hope. All callbacks come from the thread.
    """

    def __init__(
        self,
        store: JournalStore,
        signer: chain.Signer,
        inbox: Inbox,
        *,
        program: str,
        new_writer: Callable[[], str],
        now: Callable[[], datetime],
        reserve_bytes: int,
        checkpoint_every_s: float,
        opened: Callable[[Misconfigured | None], None],
        settle: Callable[[list[Waiting], str | None], None],
        sealed: Callable[[chain.Checkpoint], None],
    ) -> None:
        self._store = store
        self._signer = signer
        self._inbox = inbox
        self._program = program
        self._new_writer = new_writer
        self._now = now
        self._reserve_bytes = reserve_bytes
        self._checkpoint_every_s = checkpoint_every_s
        self._tell_opened = opened
        self._settle = settle
        self._tell_sealed = sealed
        # A store that hangs for good must not keep the process from ending.
        self._thread = threading.Thread(target=self._write, name="audit-journal", daemon=True)

        # Read by the loop: single assignments, so no lock.
        self.failure: str | None = "the journal has not been started"
        self.room_bytes: int | None = None
        self.low = False
        self.entries = 0
        self.flushes = 0
        self.last_flush_s = 0.0

        self._head: chain.Head | None = None
        # What the store may hold last of ours: one head, or two after a batch that failed.
        self._possible: tuple[chain.Head, ...] = ()
        self._sealed = 0
        self._sealed_at = 0.0
        self._tick_at = 0.0
        self._flushed_at = 0.0
        self._last_batch = 0

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _write(self) -> None:
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
                    self._tell_opened(error)
                    return
                running = self._refuse_for(retry_s)
                retry_s = min(retry_s * 2, RETRY_LAST_S)
            else:
                retry_s = RETRY_FIRST_S
            if not told:
                self._tell_opened(None)
                told = True
        if self._head is not None:
            self._attempt(lambda: self._seal(final=True))
        self._store.close()

    # ------------------------------------------------------------------------------- opening

    def _open(self) -> None:
        """Open the store, and go on with the chain if the store has it."""
        self._store.open()
        self._look_at_room()
        found = self._store.head(self._possible[0].writer) if self._possible else None
        head = found if found in self._possible else None
        if head is None:
            head = self._begin()
        self._possible = (head,)
        self._head = head
        self._seal(final=False)
        self._tick_at = time.monotonic() + TICK_S
        log.info("audit.store_opened", writer=head.writer, seq=head.seq)
        self.failure = None

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

    # ------------------------------------------------------------------------------- writing

    def _flush_next(self) -> bool:
        """Store the next batch, or see to checkpoint and room. False when there is no more."""
        inbox = self._inbox
        if self._last_batch >= LOADED_BATCH:
            # Those who were just answered are on their way back: wait for as many, a little.
            inbox.sleep_until(self._last_batch, self._flushed_at + GAP_S - time.monotonic())
        self._last_batch = 0
        if not inbox.sleep_until(1, TICK_S):
            if inbox.closed:
                return False
            self._attempt(self._tick)
            return True
        batch = inbox.take(BATCH_MAX)
        why = None
        try:
            self._flush(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, no record can be kept
            why = self._broken(error)
        # The loop wakes and wants the interpreter: little follows before this thread is idle.
        self._settle(batch, why)
        if self._flushed_at >= self._tick_at and why is None:
            self._attempt(self._tick)
        return True

    def _flush(self, batch: list[Waiting]) -> None:
        # Whose request was refused already is not written: the record would claim an intent.
        bodies = [item.body for item in batch if not item.abandoned]
        self._last_batch = len(bodies)
        started = time.monotonic()
        self._extend(bodies)
        self._flushed_at = time.monotonic()
        self.last_flush_s = self._flushed_at - started
        self.flushes += 1
        self.entries += len(bodies)

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
            self._seal(final=False)

    def _seal(self, *, final: bool) -> None:
        """Add a signed checkpoint to the chain."""
        assert self._head is not None
        checkpoint = chain.checkpoint(
            self._head, time=timestamp(self._now()), signer=self._signer, final=final
        )
        self._extend([chain.encode_note(checkpoint)])
        self._sealed = self._head.seq
        self._sealed_at = time.monotonic()
        self._tell_sealed(checkpoint)

    def _look_at_room(self) -> None:
        self.room_bytes = self._store.room_bytes()
        low = self.room_bytes is not None and self.room_bytes < self._reserve_bytes
        if low != self.low:
            log.warning("audit.room", low=low, room_bytes=self.room_bytes)
        self.low = low

    # ------------------------------------------------------------------------------- failing

    def _attempt(self, act: Callable[[], None]) -> str | None:
        """What went wrong, in words for the caller; None when it went well."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever it is, no record can be kept
            return self._broken(error)
        return None

    def _broken(self, error: Exception) -> str:
        why = error.detail if isinstance(error, (StoreFailed, Misconfigured)) else FAULT
        if self.failure != why:
            log.error("audit.store_failed", reason=why, error=type(error).__name__)
        self.failure = why
        self._head = None
        self._store.close()
        return why

    def _refuse_for(self, wait_s: float) -> bool:
        """Refuse what still comes, until it is time to try the store again. False when closed."""
        until = time.monotonic() + wait_s
        while not self._inbox.closed and (left_s := until - time.monotonic()) > 0:
            self._inbox.sleep_until(1, left_s)
            batch = self._inbox.take(BATCH_MAX)
            if batch:
                self._settle(batch, self.failure)
        return not self._inbox.closed
