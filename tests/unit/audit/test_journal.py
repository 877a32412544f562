from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from app.audit.chain import Checkpoint, Entry, Head, Opening, decode_note
from app.audit.journal import Journal, RecordUnavailable
from app.audit.record import Record, decode, is_record
from app.audit.store import StoreFailed
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from app.audit.keys import CheckpointSigner

pytestmark = pytest.mark.anyio


class FakeStore:
    """Keeps entries in a list, and fails as it is told."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.batches: list[int] = []
        self.failure: Exception | None = None
        self.stores_before_failing = False
        self.hold = threading.Event()
        self.hold.set()
        self.room: int | None = None
        self.opened = 0

    def open(self) -> None:
        self._maybe_fail()
        self.opened += 1

    def begin(self, opening: Callable[[tuple[Head, ...]], Entry]) -> None:
        self._maybe_fail()
        last = {entry.writer: Head(entry.writer, entry.seq, entry.hash) for entry in self.entries}
        self.entries.append(opening(tuple(last.values())))

    def append(self, entries: Sequence[Entry]) -> None:
        self.hold.wait()
        if self.stores_before_failing:
            self.entries += entries
        self._maybe_fail()
        self.entries += entries
        self.batches.append(len(entries))

    def head(self, writer: str) -> Head | None:
        own = [entry for entry in self.entries if entry.writer == writer]
        return Head(writer, own[-1].seq, own[-1].hash) if own else None

    def room_bytes(self) -> int | None:
        return self.room

    def close(self) -> None:
        pass

    @property
    def records(self) -> list[Record]:
        return [decode(entry.body) for entry in self.entries if is_record(entry.body)]

    @property
    def notes(self) -> list[object]:
        return [decode_note(entry.body) for entry in self.entries if not is_record(entry.body)]

    def _maybe_fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def journal(store: FakeStore, signer: CheckpointSigner) -> AsyncIterator[Journal]:
    journal = new_journal(store, signer)
    await journal.start()
    yield journal
    store.hold.set()
    await journal.aclose()


def new_journal(store: FakeStore, signer: CheckpointSigner, **options: float) -> Journal:
    numbers = itertools.count(1)
    return Journal(
        store,
        signer,
        program="test",
        new_writer=lambda: f"writer-{next(numbers)}",
        deadline_s=options.get("deadline_s", 0.3),
        reserve_bytes=1000,
        checkpoint_every_s=options.get("checkpoint_every_s", 60.0),
    )


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - what we wait for is another thread's doing
            await asyncio.sleep(0.01)


async def until_healthy(journal: Journal) -> None:
    await until(lambda: journal.healthy)


async def test_a_record_is_stored_when_its_append_is_done(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    kept = record()
    await journal.append(kept)
    assert store.records == [kept]


async def test_those_who_wait_go_with_the_next_flush(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    store.hold.clear()
    first = journal.append(record())
    await asyncio.sleep(0.1)
    rest = [journal.append(record()) for _ in range(64)]
    store.hold.set()
    await asyncio.gather(first, *rest)
    # The checkpoint that the chain began with, the one that was under way, and all the others.
    assert store.batches == [1, 1, 64]


async def test_a_chain_begins_with_an_opening_and_ends_with_a_final_checkpoint(
    store: FakeStore, signer: CheckpointSigner, record: Callable[..., Record]
) -> None:
    journal = new_journal(store, signer)
    await journal.start()
    await journal.append(record())
    await journal.aclose()
    opening, first, last = store.notes
    assert isinstance(opening, Opening)
    assert isinstance(first, Checkpoint)
    assert isinstance(last, Checkpoint)
    assert (first.count, first.final) == (1, False)
    assert (last.count, last.final) == (3, True)
    with pytest.raises(RecordUnavailable):
        await journal.append(record())


async def test_a_full_disk_refuses_and_is_left_behind_by_itself(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    store.failure = StoreFailed("database or disk is full")
    with pytest.raises(RecordUnavailable, match="disk is full") as refused:
        await journal.append(record())
    assert refused.value.code == "record-unavailable"
    assert refused.value.retry_after_s
    assert not journal.healthy
    with pytest.raises(RecordUnavailable, match="disk is full"):
        await journal.append(record())

    store.failure = None
    await until_healthy(journal)
    kept = record()
    await journal.append(kept)
    assert store.records == [kept]
    assert {entry.writer for entry in store.entries} == {"writer-1"}
    assert [entry.seq for entry in store.entries] == list(range(1, len(store.entries) + 1))


async def test_a_batch_that_was_stored_before_the_failure_stays_in_the_chain(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    store.failure = StoreFailed("i/o error")
    store.stores_before_failing = True
    with pytest.raises(RecordUnavailable):
        await journal.append(record())
    store.failure = None
    store.stores_before_failing = False
    await until_healthy(journal)
    await journal.append(record())
    assert len(store.records) == 2
    assert [entry.seq for entry in store.entries] == list(range(1, len(store.entries) + 1))


async def test_a_store_that_lost_the_chain_gets_a_new_one_that_names_the_old(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    await journal.append(record())
    lost = store.entries[-1]
    store.failure = StoreFailed("removed")
    with pytest.raises(RecordUnavailable):
        await journal.append(record())
    store.entries.clear()
    store.failure = None
    await until_healthy(journal)
    opening = store.notes[0]
    assert isinstance(opening, Opening)
    assert opening.writer == "writer-2"
    assert [(link.writer, link.count, link.head) for link in opening.follows] == [
        ("writer-1", lost.seq, lost.hash.hex())
    ]


async def test_a_store_that_hangs_refuses_after_the_deadline_and_at_once_from_then_on(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    store.hold.clear()
    with pytest.raises(RecordUnavailable, match="does not answer"):
        await journal.append(record())
    assert not journal.healthy
    late = journal.append(record())
    assert late.done()
    with pytest.raises(RecordUnavailable, match="does not answer"):
        await late
    store.hold.set()
    await until_healthy(journal)
    await journal.append(record())


async def test_a_record_that_was_given_up_in_the_queue_is_not_written_later(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    store.hold.clear()
    first = journal.append(record(reason="in the hung batch"))
    await asyncio.sleep(0.05)
    second = journal.append(record(reason="still in the queue"))
    await asyncio.wait([first, second])
    store.hold.set()
    await until_healthy(journal)
    await journal.append(record(reason="after"))
    assert [kept.reason for kept in store.records] == ["in the hung batch", "after"]


async def test_a_caller_that_is_gone_does_not_take_its_record_along(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    journal.append(record(reason="gone")).cancel()
    await journal.append(record(reason="here"))
    assert [kept.reason for kept in store.records] == ["gone", "here"]


async def test_below_the_reserve_refusals_are_recorded_and_intents_are_refused(
    store: FakeStore, signer: CheckpointSigner, record: Callable[..., Record]
) -> None:
    store.room = 999
    journal = new_journal(store, signer)
    await journal.start()
    assert not journal.healthy
    with pytest.raises(RecordUnavailable, match="reserve"):
        await journal.append(record(phase="intent"))
    refusal = record(decision="error", reason="record-unavailable")
    await journal.append(refusal)
    assert store.records == [refusal]

    store.room = 1000
    await until_healthy(journal)
    await journal.append(record(phase="intent"))
    await journal.aclose()


async def test_a_store_that_cannot_be_opened_yet_is_tried_again(
    store: FakeStore, signer: CheckpointSigner, record: Callable[..., Record]
) -> None:
    store.failure = StoreFailed("locked")
    journal = new_journal(store, signer)
    await journal.start()
    assert journal.status().reason == "locked"
    store.failure = None
    await until_healthy(journal)
    await journal.append(record())
    await journal.aclose()


async def test_a_store_of_a_newer_program_is_a_refusal_to_start(
    store: FakeStore, signer: CheckpointSigner
) -> None:
    store.failure = Misconfigured("audit-store-newer", "version 2")
    journal = new_journal(store, signer)
    with pytest.raises(Misconfigured):
        await journal.start()
    await journal.aclose()


async def test_a_checkpoint_is_written_after_a_while_and_handed_on(
    store: FakeStore, signer: CheckpointSigner, record: Callable[..., Record]
) -> None:
    anchored: list[Checkpoint] = []
    journal = Journal(
        store,
        signer,
        program="test",
        new_writer=lambda: "writer",
        on_checkpoint=anchored.append,
        checkpoint_every_s=0,
    )
    await journal.start()
    await journal.append(record())
    await until(lambda: len(anchored) >= 2)
    await journal.aclose()
    assert anchored == [note for note in store.notes if isinstance(note, Checkpoint)]


async def test_what_waits_when_the_broker_stops_is_stored_first(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    waiting = [journal.append(record()) for _ in range(100)]
    await journal.aclose()
    await asyncio.gather(*waiting)
    assert len(store.records) == 100


async def test_a_fault_that_nobody_expected_refuses_too_and_says_nothing_of_it(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    store.failure = RuntimeError("secret-in-a-message")
    with pytest.raises(RecordUnavailable) as refused:
        await journal.append(record())
    assert "secret" not in refused.value.detail
    store.failure = None
    await until_healthy(journal)


async def test_records_beyond_what_may_wait_are_refused_and_those_that_wait_are_not(
    journal: Journal,
    store: FakeStore,
    record: Callable[..., Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.audit.journal.WAITING_MAX", 3)
    store.hold.clear()
    waiting = [journal.append(record()) for _ in range(3)]
    with pytest.raises(RecordUnavailable, match="too many"):
        await journal.append(record())
    store.hold.set()
    await asyncio.gather(*waiting)
    await journal.append(record())


async def test_a_store_that_is_too_new_after_a_while_is_tried_again(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    store.failure = Misconfigured("audit-store-newer", "version 2")
    with pytest.raises(RecordUnavailable, match="version 2"):
        await journal.append(record())
    store.failure = None
    await until_healthy(journal)


async def test_a_store_that_hangs_at_the_end_does_not_keep_the_broker(
    store: FakeStore, signer: CheckpointSigner, record: Callable[..., Record]
) -> None:
    journal = new_journal(store, signer)
    await journal.start()
    store.hold.clear()
    waiting = journal.append(record())
    await journal.aclose()
    with pytest.raises(RecordUnavailable):
        await waiting
    store.hold.set()
    journal._writer.join(5)


async def test_the_status_counts_what_was_kept_and_what_was_lost(
    journal: Journal, store: FakeStore, record: Callable[..., Record]
) -> None:
    await journal.append(record())
    store.failure = StoreFailed("full")
    with pytest.raises(RecordUnavailable):
        await journal.append(record())
    status = journal.status()
    assert (status.entries, status.lost, status.waiting) == (1, 1, 0)
    assert status.reason == "full"
    assert status.lag_s == 0.0
    store.failure = None
    await until_healthy(journal)
    assert journal.status().reason is None


async def test_a_journal_that_was_never_started_closes(
    store: FakeStore, signer: CheckpointSigner
) -> None:
    await new_journal(store, signer).aclose()
