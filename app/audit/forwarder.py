"""The record, to where it is watched: a thread for each sink, behind everything else.

It follows the store and not the journal, so no request ever waits for it, and what it holds is
one batch. How far it is stands beside the record: a restart loses nothing, and may send the last
batch again. `writer` and `seq` of an entry tell which is which. Of all processes on one store one
feeds a sink; another takes over when that one ends.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

import structlog

from app.audit.follow import follow
from app.audit.record import record_time
from app.audit.store import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from app.audit.chain import Entry

log = structlog.stdlib.get_logger(__name__)

BATCH_ENTRIES: Final = 500
BATCH_BYTES: Final = 1024 * 1024
"""A batch ends with the entry that reaches it."""

RETRY_FIRST_S: Final = 0.5
RETRY_LAST_S: Final = 60.0
OTHERS_S: Final = 5.0
"""How often a process looks whether the one that feeds the sink has ended."""

DRAIN_S: Final = 3.0
"""At the end of the process, for what has not been sent. The rest goes after the next start."""


class SinkFailed(Exception):
    """A batch was not taken. `detail` is for people, and names no address: it may hold a key."""

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class Sink(Protocol):
    """Where entries go. All calls come from one thread."""

    @property
    def name(self) -> str: ...

    def send(self, entries: Sequence[Entry]) -> None:
        """Blocks until they are taken. Raises `SinkFailed`: then they come again."""
        ...

    def close(self) -> None: ...


class _Place(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...
    def __gt__(self, other: Any, /) -> bool: ...


P = TypeVar("P", bound=_Place)


class Following(Protocol[P]):
    """A store, as the one who feeds a sink from it sees it. Raises `StoreFailed`."""

    @property
    def start(self) -> P:
        """After what was taken last."""
        ...

    def read(self, after: P, /) -> Iterator[tuple[P, Entry]]: ...

    def overlap(self, place: P, /) -> P:
        """As `follow` asks for it."""
        ...

    def behind(self, place: P, /) -> int:
        """How many entries are after a place."""
        ...

    def keep(self, place: P, /) -> None:
        """What is here is taken: durable on return."""
        ...


class Feed(Protocol[P]):
    @property
    def poll_s(self) -> float:
        """How often to look for more: what a look costs differs."""
        ...

    def following(self, sink: str) -> AbstractContextManager[Following[P] | None]:
        """None while another process feeds this sink. Raises `StoreFailed`."""
        ...


class Lag(NamedTuple):
    sink: str
    entries: int
    seconds: float
    """Since the oldest entry that was not taken yet was written; 0 where all were."""


class Forwarder(Generic[P]):
    """Feeds one sink, from `start()` to `stop()`."""

    def __init__(
        self,
        sink: Sink,
        feed: Feed[P],
        *,
        poll_s: float | None = None,
        retry_first_s: float = RETRY_FIRST_S,
        others_s: float = OTHERS_S,
        drain_s: float = DRAIN_S,
    ) -> None:
        self._sink = sink
        self._feed = feed
        self._poll_s = feed.poll_s if poll_s is None else poll_s
        self._retry_first_s = retry_first_s
        self._others_s = others_s
        self._drain_s = drain_s
        self._stop = threading.Event()
        self._end_by = float("inf")
        # A sink that hangs must not keep the process from ending.
        self._thread = threading.Thread(
            target=self._run, name=f"audit-sink-{sink.name}", daemon=True
        )
        self._failing: str | None = None
        self._batch: list[Entry] = []
        self._bytes = 0
        self._read_to: P | None = None
        # Read at each scrape: single assignments, so no lock.
        self._behind: int | None = None
        self._oldest: float | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Blocks until what is written has been sent, or for a while."""
        self._end_by = time.monotonic() + self._drain_s
        self._stop.set()
        self._thread.join(self._drain_s + 1.0)

    def lag(self) -> Lag | None:
        """None where another process feeds this sink."""
        behind, oldest = self._behind, self._oldest
        if behind is None:
            return None
        waiting_s = 0.0 if oldest is None else max(0.0, time.time() - oldest)
        return Lag(self._sink.name, behind, waiting_s)

    # ------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        retry_s = self._retry_first_s
        while True:
            # Looked at first: whoever ends has one more look at what the others left.
            stopping = self._stop.is_set()
            wait_s = retry_s
            fed = False
            try:
                with self._feed.following(self._sink.name) as following:
                    if following is None:
                        wait_s = self._others_s
                    else:
                        self._follow(following)
                        fed = True
                    retry_s = self._retry_first_s
            except StoreFailed as error:
                self._failed(error.detail, retry_s)
                retry_s = min(retry_s * 2, RETRY_LAST_S)
            self._behind = self._oldest = None
            if stopping or (fed and self._stop.is_set()):
                break
            self._stop.wait(wait_s)
        self._sink.close()

    def _follow(self, following: Following[P]) -> None:
        start = following.start
        self._batch, self._bytes, self._read_to = [], 0, start
        self._behind = 0

        def caught_up() -> bool:
            """Everything was read: whether that is the end of it."""
            # Looked at first: what was written before the end is still read.
            stopping = self._stop.is_set()
            if not self._flush(following):
                return True
            place = self._read_to
            assert place is not None
            if following.behind(place) < 0:
                return True  # another store is there in its place
            if not stopping:
                self._stop.wait(self._poll_s)
            return stopping

        for place, entry in follow(
            following.read, start, wait=caught_up, overlap=following.overlap
        ):
            self._batch.append(entry)
            self._bytes += len(entry.body)
            self._read_to = max(self._read_to, place)
            full = len(self._batch) >= BATCH_ENTRIES or self._bytes >= BATCH_BYTES
            if full and not self._flush(following):
                return

    def _flush(self, following: Following[P]) -> bool:
        """Send the batch, however long that takes. False where the process ends before."""
        place = self._read_to
        assert place is not None
        if not self._batch:
            self._behind, self._oldest = 0, None
            return True
        self._oldest = _written_at(self._batch[0])
        retry_s = self._retry_first_s
        while True:
            self._behind = len(self._batch) + max(0, following.behind(place))
            try:
                self._sink.send(self._batch)
            except SinkFailed as failed:
                wait_s = max(retry_s, min(failed.retry_after_s or 0.0, RETRY_LAST_S))
                self._failed(failed.detail, wait_s)
                left_s = self._end_by - time.monotonic()
                if left_s <= wait_s:
                    return False
                if self._stop.is_set():
                    time.sleep(wait_s)
                else:
                    self._stop.wait(wait_s)
                retry_s = min(retry_s * 2, RETRY_LAST_S)
            else:
                break
        following.keep(place)
        self._batch, self._bytes = [], 0
        if self._failing is not None:
            self._failing = None
            log.info("audit.sink_recovered", sink=self._sink.name)
        return time.monotonic() < self._end_by

    def _failed(self, reason: str, retry_in_s: float) -> None:
        if self._failing != reason:
            log.warning(
                "audit.sink_failed", sink=self._sink.name, reason=reason, retry_in_s=retry_in_s
            )
        self._failing = reason


def _written_at(entry: Entry) -> float:
    """What the entry itself says; now, where it says nothing that can be read."""
    try:
        return datetime.fromisoformat(record_time(entry.body)).timestamp()
    except ValueError:
        return datetime.now(UTC).timestamp()
