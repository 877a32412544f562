from __future__ import annotations

import asyncio
import random
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from app.audit import chain, postings, sqlite_keeper
from app.audit.query import Query, matches
from app.audit.record import Record, TableAccess, encode, timestamp
from app.audit.sqlite import SqliteStore, connect
from app.audit.sqlite_entries import read_entries, read_tombstones
from app.audit.sqlite_index import advance
from app.audit.sqlite_keeper import SqliteKeeper
from app.audit.sqlite_reader import SqliteReader
from app.audit.sqlite_retention import retire_block
from app.audit.store import StoreFailed
from app.audit.verify import Verdict, verify
from app.errors import Misconfigured, Unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from app.audit.keys import CheckpointKeys, CheckpointSigner

pytestmark = pytest.mark.anyio

LATER = datetime.fromisoformat("2026-10-15T12:00:00Z")


class File:
    """An audit file that is written in one chain."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SqliteStore(path)
        self.store.open()
        self.store.begin(self._opening)
        self._head = self._first

    def _opening(self, heads: tuple[chain.Head, ...]) -> chain.Entry:
        entry, self._first = chain.open_chain(
            writer=f"writer-{len(heads)}", time="now", program="test", follows=heads
        )
        return entry

    def write(self, *records: Record) -> None:
        entries, self._head = chain.extend(self._head, [encode(record) for record in records])
        self.store.append(entries)

    def retire(self, before: datetime, signer: CheckpointSigner) -> int:
        connection = connect(self.path)
        blocks = 0
        while retire_block(connection, self.store.turn, signer, before=before, now=LATER):
            blocks += 1
        connection.close()
        return blocks

    def index(self) -> None:
        connection = connect(self.path)
        while advance(connection, self.store.turn):
            pass
        connection.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    file = File(tmp_path / "audit.db")
    yield file
    file.store.close()


@pytest.fixture
async def reader(file: File) -> AsyncIterator[SqliteReader]:
    reader = SqliteReader(file.path)
    yield reader
    await reader.aclose()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 32 rows and eras of 128, so that a few hundred records make many."""
    monkeypatch.setattr(postings, "BLOCK_BITS", 5)
    monkeypatch.setattr(postings, "BLOCK_ROWS", 32)
    monkeypatch.setattr(postings, "_BITMAP_BYTES", 4)
    monkeypatch.setattr(postings, "ERA_BITS", 7)


async def walk(reader: SqliteReader, **filters: Any) -> list[Record]:
    records: list[Record] = []
    cursor = None
    while True:
        page = await reader.query(Query(cursor=cursor, **filters), now=LATER)
        records += page.records
        cursor = page.cursor
        if cursor is None:
            return records


async def test_records_are_answered_newest_first(
    file: File, reader: SqliteReader, record: Callable[..., Record]
) -> None:
    kept = [record() for _ in range(5)]
    file.write(*kept)
    page = await reader.query(Query(), now=LATER)
    assert list(page.records) == kept[::-1]
    assert page.cursor is None


async def test_an_intent_and_its_outcome_are_one_record(
    file: File, reader: SqliteReader, record: Callable[..., Record]
) -> None:
    done = record(outcome="completed", status=200)
    file.write(record(phase="intent", id=done.id, time=done.time), done)
    assert await walk(reader) == [done]
    assert await reader.get(done.id, now=LATER) == done


@pytest.mark.parametrize(("age", "word"), [(59, "open"), (61, "interrupted")])
async def test_an_intent_without_an_outcome_is_open_and_after_an_hour_interrupted(
    file: File, reader: SqliteReader, record: Callable[..., Record], age: int, word: str
) -> None:
    intent = record(phase="intent")
    file.write(intent)
    now = datetime.fromisoformat(intent.time) + timedelta(minutes=age)
    page = await reader.query(Query(), now=now)
    assert [found.outcome for found in page.records] == [word]
    found = await reader.get(intent.id, now=now)
    assert found is not None
    assert found.outcome == word


async def test_a_record_that_is_not_there_is_none(file: File, reader: SqliteReader) -> None:
    assert file.path.exists()
    assert await reader.get("00000000-0000-7000-8000-000000000000", now=LATER) is None


def mixture(record: Callable[..., Record], count: int, seed: int) -> list[Record]:
    """Records of every kind in the order in which they would be written."""
    dice = random.Random(seed)  # noqa: S311 - test data
    rows: list[Record] = []
    unfinished: list[Record] = []
    for _ in range(count):
        made = record(
            caller=dice.choice(["a", "b", "c", None]),
            environment=dice.choice(["contoso", "fabrikam"]),
            application=dice.choice(["erp", None]),
            action=dice.choice(["proxy", "token", "admin"]),
            decision=dice.choice(["allowed", "refused", "error"]),
            status=dice.choice([200, 204, 403, None]),
            request_id=dice.choice([None, f"request-{dice.randrange(50)}"]),
            accesses=tuple(
                TableAccess(
                    table=dice.choice(["accounts", "contacts", "invoices"]),
                    operation=dice.choice(["read", "update"]),
                    columns=None,
                )
                for _ in range(dice.randrange(3))
            ),
        )
        match dice.randrange(4):
            case 0:
                rows.append(made)
            case 1:
                unfinished.append(made)
                rows.append(intent_of(made))
            case _:
                rows += [intent_of(made), made]
        if unfinished and dice.random() < 0.2:
            rows.append(unfinished.pop(dice.randrange(len(unfinished))))
    return rows


def intent_of(record: Record) -> Record:
    fields = {name: getattr(record, name) for name in Record.__struct_fields__}
    return Record(**(fields | {"phase": "intent", "status": None}))


def expected(rows: list[Record], query: Query) -> list[Record]:
    """The plain way to answer, without an index."""
    finished = {row.id for row in rows if row.phase == "outcome"}
    shown = [
        row if row.phase == "outcome" else interrupted(row)
        for row in reversed(rows)
        if row.phase == "outcome" or row.id not in finished
    ]
    return [row for row in shown if matches(query, row)]


def interrupted(record: Record) -> Record:
    fields = {name: getattr(record, name) for name in Record.__struct_fields__}
    return Record(**(fields | {"outcome": "interrupted"}))


QUERIES: list[dict[str, Any]] = [
    {},
    {"caller": "a"},
    {"caller": "nobody"},
    {"environment": "fabrikam"},
    {"application": "erp"},
    {"action": "token"},
    {"decision": "refused"},
    {"status": 403},
    {"table": "accounts"},
    {"operation": "update"},
    {"table": "accounts", "operation": "update"},
    {"request_id": "request-7"},
    {"request_id": "request-7", "caller": "a"},
    {"caller": "b", "status": 204, "table": "contacts"},
    {"since": datetime.fromisoformat("2026-10-14T12:01:40Z")},
    {"until": datetime.fromisoformat("2026-10-14T12:01:40Z")},
    {
        "caller": "c",
        "since": datetime.fromisoformat("2026-10-14T12:02:11Z"),
        "until": datetime.fromisoformat("2026-10-14T12:03:17Z"),
    },
]


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "not indexed"])
@pytest.mark.parametrize("filters", QUERIES, ids=lambda filters: ",".join(filters) or "all")
@pytest.mark.usefixtures("small_blocks")
async def test_an_index_answers_as_reading_everything_would(
    file: File,
    reader: SqliteReader,
    record: Callable[..., Record],
    filters: dict[str, Any],
    *,
    indexed: bool,
) -> None:
    rows = mixture(record, 300, seed=len(str(filters)))
    for start in range(0, len(rows), 50):
        file.write(*rows[start : start + 50])
        if indexed:
            file.index()
    page = await reader.query(Query(), now=LATER)
    assert (page.unindexed < 32) is indexed
    assert await walk(reader, limit=7, **filters) == expected(rows, Query(**filters))


async def test_a_walk_is_not_disturbed_by_what_is_written_meanwhile(
    file: File, reader: SqliteReader, record: Callable[..., Record]
) -> None:
    kept = [record() for _ in range(6)]
    file.write(*kept)
    first = await reader.query(Query(limit=3), now=LATER)
    file.write(record(), record())
    second = await reader.query(Query(limit=3, cursor=first.cursor), now=LATER)
    assert [*first.records, *second.records] == kept[::-1]


async def test_a_cursor_of_other_filters_is_unreadable(
    file: File, reader: SqliteReader, record: Callable[..., Record]
) -> None:
    file.write(record(), record())
    page = await reader.query(Query(limit=1), now=LATER)
    with pytest.raises(Unreadable) as refused:
        await reader.query(Query(limit=1, caller="a", cursor=page.cursor), now=LATER)
    assert refused.value.code == "cursor-invalid"
    with pytest.raises(Unreadable):
        await reader.query(Query(cursor="!"), now=LATER)


async def test_a_file_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    reader = SqliteReader(tmp_path / "audit.db")
    with pytest.raises(StoreFailed, match="No such file"):
        await reader.query(Query(), now=LATER)
    await reader.aclose()


def test_a_removed_file_is_noticed_by_the_next_write(
    file: File, record: Callable[..., Record]
) -> None:
    file.path.unlink()
    with pytest.raises(StoreFailed):
        file.write(record())


def test_a_replaced_file_is_noticed_by_the_next_write(
    file: File, record: Callable[..., Record]
) -> None:
    file.path.rename(file.path.with_name("moved.db"))
    file.path.write_bytes(b"")
    with pytest.raises(StoreFailed, match="removed or replaced"):
        file.write(record())


def test_a_removed_log_is_noticed_by_the_next_write(
    file: File, record: Callable[..., Record]
) -> None:
    file.path.with_name("audit.db-wal").unlink()
    with pytest.raises(StoreFailed):
        file.write(record())


def test_a_file_of_a_newer_program_is_refused(file: File) -> None:
    file.store.close()
    connection = sqlite3.connect(file.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Misconfigured) as refused:
        SqliteStore(file.path).open()
    assert refused.value.code == "audit-store-newer"


def test_a_second_chain_names_the_first(file: File, record: Callable[..., Record]) -> None:
    file.write(record())
    head = file.store.head("writer-0")
    assert head is not None
    second = File(file.path)
    connection = connect(file.path, read_only=True)
    rows = connection.execute("SELECT body FROM readable WHERE writer = 'writer-1'").fetchall()
    connection.close()
    opening = chain.decode_note(rows[0][0].encode())
    assert isinstance(opening, chain.Opening)
    assert [(link.writer, link.count) for link in opening.follows] == [("writer-0", 2)]
    assert opening.follows[0].head == head.hash.hex()
    second.store.close()


@pytest.mark.usefixtures("small_blocks")
def test_heads_are_the_same_with_and_without_the_index(
    file: File, record: Callable[..., Record]
) -> None:
    file.write(*(record() for _ in range(100)))
    before = file.store.head("writer-0")
    file.index()
    assert file.store.head("writer-0") == before
    assert before is not None
    assert before.seq == 101


def test_a_large_batch_is_stored_whole(file: File, record: Callable[..., Record]) -> None:
    file.write(*(record() for _ in range(1000)))
    head = file.store.head("writer-0")
    assert head is not None
    assert head.seq == 1001


def verdict(file: File, keys: CheckpointKeys) -> Verdict:
    tombstones = read_tombstones(file.path)
    return verify((entry for _, entry in read_entries(file.path)), keys=keys, tombstones=tombstones)


@pytest.mark.usefixtures("small_blocks")
async def test_retention_removes_what_is_old_and_signs_for_it(
    file: File,
    reader: SqliteReader,
    record: Callable[..., Record],
    signer: CheckpointSigner,
    keys: CheckpointKeys,
) -> None:
    second = File(file.path)
    kept = [record() for _ in range(600)]
    for start in range(0, 600, 20):
        (file, second)[start % 40 == 0].write(*kept[start : start + 20])
    file.index()
    cutoff = datetime.fromisoformat(kept[400].time)
    assert file.retire(cutoff, signer) == 12
    assert verdict(file, keys).faults == ()
    found = await walk(reader)
    # Whole blocks go: some of what is old is in the first one that stays.
    assert kept[400:] == found[::-1][-200:]
    assert 200 <= len(found) < 232
    assert await reader.get(kept[0].id, now=LATER) is None
    assert await walk(reader, caller="invoice-loader", limit=50) == found
    assert file.retire(cutoff, signer) == 0
    stones = read_tombstones(file.path)
    assert {stone.writer for stone in stones} == {"writer-0", "writer-1"}
    assert {stone.before for stone in stones} == {timestamp(cutoff)}
    second.store.close()


@pytest.mark.usefixtures("small_blocks")
async def test_retention_goes_on_from_where_it_was(
    file: File,
    record: Callable[..., Record],
    signer: CheckpointSigner,
    keys: CheckpointKeys,
) -> None:
    kept = [record() for _ in range(300)]
    file.write(*kept)
    file.index()
    for place in (100, 200, 299):
        file.retire(datetime.fromisoformat(kept[place].time), signer)
        assert verdict(file, keys).good
    file.write(record())
    assert verdict(file, keys).good
    connection = connect(file.path)
    for table in ("blocks", "postings", "keys"):
        count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        assert count < 150, table
    connection.close()


@pytest.mark.usefixtures("small_blocks")
async def test_what_retention_did_not_sign_for_is_missing(
    file: File,
    record: Callable[..., Record],
    signer: CheckpointSigner,
    keys: CheckpointKeys,
) -> None:
    kept = [record() for _ in range(100)]
    file.write(*kept)
    file.index()
    file.retire(datetime.fromisoformat(kept[50].time), signer)
    connection = connect(file.path)
    row, seq = connection.execute("SELECT row, seq FROM entries ORDER BY row LIMIT 1").fetchone()
    connection.execute("DELETE FROM entries WHERE row = ?", (row,))
    connection.close()
    faults = verdict(file, keys).faults
    assert [(fault.kind, fault.first, fault.last) for fault in faults] == [("removed", seq, seq)]


@pytest.mark.usefixtures("small_blocks")
def test_a_young_file_loses_nothing(
    file: File, record: Callable[..., Record], signer: CheckpointSigner
) -> None:
    file.write(*(record() for _ in range(100)))
    file.index()
    assert file.retire(datetime.fromisoformat("2026-10-14T12:00:00Z"), signer) == 0
    assert not read_tombstones(file.path)


@pytest.mark.usefixtures("small_blocks")
def test_intents_of_today_keep_their_block(
    file: File, record: Callable[..., Record], signer: CheckpointSigner
) -> None:
    file.write(*(record(phase="intent") for _ in range(100)))
    file.index()
    assert file.retire(datetime.fromisoformat("2026-10-14T12:00:00Z"), signer) == 0
    assert file.retire(LATER, signer) == 3


@pytest.mark.usefixtures("small_blocks")
async def test_the_keeper_indexes_retires_and_shortens_the_log(
    file: File,
    reader: SqliteReader,
    record: Callable[..., Record],
    signer: CheckpointSigner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite_keeper, "WAL_BYTES", 1)
    monkeypatch.setattr(sqlite_keeper, "EVERY_S", 0.01)
    monkeypatch.setattr(sqlite_keeper, "RETIRE_EVERY_S", 0.0)
    now = datetime.now(UTC)
    old = [record(time=timestamp(now - timedelta(days=2))) for _ in range(100)]
    new = [record(time=timestamp(now)) for _ in range(100)]
    file.write(*old, *new)
    keeper = SqliteKeeper(file.path, file.store.turn, signer, retention=timedelta(days=1))
    keeper.start()
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.02)
            page = await reader.query(Query(limit=1000), now=now)
            if page.unindexed < 32 and len(page.records) < 132:
                break
    await asyncio.to_thread(keeper.stop)
    assert page.records[:100] == tuple(new[::-1])
    before = file.path.with_name("audit.db-wal").stat().st_size
    file.write(record())
    assert file.path.with_name("audit.db-wal").stat().st_size == before
