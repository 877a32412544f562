from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from app.audit import sqlite, sqlite_keeper, sqlite_log
from app.audit.query import Page, Query
from app.audit.record import Record, timestamp
from app.audit.sqlite import SqliteStore, connect
from app.audit.sqlite_entries import read_entries, read_tombstones
from app.audit.sqlite_files import WAL_BYTES, wal_of
from app.audit.sqlite_keeper import SqliteKeeper
from app.audit.sqlite_log import lengthen_log, shorten_log
from app.audit.sqlite_reader import SqliteReader
from app.audit.sqlite_turn import Turn, alone
from app.audit.store import StoreFailed
from app.audit.verify import verify
from app.errors import Misconfigured
from tests.unit.audit.conftest import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from app.audit.keys import CheckpointKeys, CheckpointSigner
    from app.audit.verdict import Verdict
    from tests.unit.audit.conftest import SqlitePlace

pytestmark = pytest.mark.anyio

LATER = datetime.fromisoformat("2026-10-15T12:00:00Z")


class File:
    """An audit file that is written in one chain."""

    def __init__(self, place: SqlitePlace) -> None:
        self.place = place
        self.path = place.path
        self._writer = place.writer()
        self.write = self._writer.write
        self.index = place.index
        self.retire = place.retire
        store = self._writer.store
        assert isinstance(store, SqliteStore)
        self.store = store


@pytest.fixture
def file(sqlite_place: SqlitePlace) -> File:
    return File(sqlite_place)


@pytest.fixture
async def reader(file: File) -> AsyncIterator[SqliteReader]:
    reader = SqliteReader(file.path)
    yield reader
    await reader.aclose()


async def walk(reader: SqliteReader, **filters: Any) -> list[Record]:
    records: list[Record] = []
    cursor = None
    while True:
        page = await reader.query(Query(cursor=cursor, **filters), now=LATER)
        records += page.records
        cursor = page.cursor
        if cursor is None:
            return records


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


def test_other_files_in_the_folder_may_come_and_go(
    file: File, record: Callable[..., Record]
) -> None:
    other = file.path.with_name("audit.db-sink-webhook.row")
    for _ in range(3):
        other.write_text("1")
        file.write(record())
        other.unlink()
        file.write(record())
    assert len(list(read_entries(file.path))) == 7


def test_a_moved_folder_is_noticed_by_the_look_at_its_room(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").mkdir()
    writer = Writer(SqliteStore(tmp_path / "state" / "audit.db"))
    (tmp_path / "state").rename(tmp_path / "moved")
    with pytest.raises(StoreFailed, match="removed or replaced"):
        writer.store.room_bytes()
    writer.store.close()


def test_who_writes_alone_needs_no_lock_file(tmp_path: Path, record: Callable[..., Record]) -> None:
    writer = Writer(SqliteStore(tmp_path / "audit.db", shared=False))
    writer.write(record())
    assert not (tmp_path / "audit.db-turn").exists()
    writer.store.close()
    assert len(list(read_entries(tmp_path / "audit.db"))) == 2


def lengthen(file: File) -> int:
    with contextlib.closing(connect(file.path)) as connection:
        lengthen_log(connection, file.store.turn, file.path)
    return wal_of(file.path).stat().st_size


def test_a_log_that_has_its_length_is_written_over_and_read_after_a_crash(
    file: File, record: Callable[..., Record], keys: CheckpointKeys, tmp_path: Path
) -> None:
    file.write(*(record() for _ in range(20)))
    assert lengthen(file) == WAL_BYTES
    file.write(*(record() for _ in range(20)))
    assert wal_of(file.path).stat().st_size == WAL_BYTES
    (tmp_path / "crashed").mkdir()
    # What a kill leaves: nobody has moved the log into the database.
    for path in (file.path, wal_of(file.path)):
        shutil.copy(path, tmp_path / "crashed" / path.name)
    found = verify((entry for _, entry in read_entries(tmp_path / "crashed/audit.db")), keys=keys)
    assert found.good
    assert found.entries == 41


async def kept_until(
    keeper: SqliteKeeper, reader: SqliteReader, done: Callable[[Page], bool]
) -> Page:
    keeper.start()
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.02)
            page = await reader.query(Query(limit=1000), now=datetime.now(UTC))
            if done(page):
                break
    await asyncio.to_thread(keeper.stop)
    return page


@pytest.mark.usefixtures("small_blocks")
async def test_the_index_goes_on_where_the_log_cannot_have_its_length(
    file: File,
    reader: SqliteReader,
    record: Callable[..., Record],
    signer: CheckpointSigner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(27, "File too large")

    monkeypatch.setattr(sqlite_keeper, "lengthen_log", full)
    monkeypatch.setattr(sqlite_keeper, "EVERY_S", 0.01)
    file.write(*(record() for _ in range(100)))
    keeper = SqliteKeeper(file.path, file.store.turn, signer)
    page = await kept_until(keeper, reader, lambda page: page.unindexed < 32)
    assert len(page.records) == 100


def test_a_log_grows_as_needed_where_space_is_short(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "ROOM_BYTES", 1 << 62)
    before = wal_of(file.path).stat().st_size
    assert lengthen(file) == before


def test_a_log_that_became_too_long_is_cut(
    sqlite_place: SqlitePlace, record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite, sqlite_log):
        monkeypatch.setattr(module, "WAL_BYTES", 256 * 1024)
    file = File(sqlite_place)
    assert lengthen(file) == 256 * 1024
    while wal_of(file.path).stat().st_size == 256 * 1024:
        file.write(*(record() for _ in range(50)))
    with contextlib.closing(connect(file.path)) as connection:
        shorten_log(connection, file.store.turn, file.path)
    file.write(record())
    assert wal_of(file.path).stat().st_size == 256 * 1024


def test_a_file_of_a_newer_program_is_refused(file: File) -> None:
    file.store.close()
    connection = sqlite3.connect(file.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Misconfigured) as refused:
        SqliteStore(file.path).open()
    assert refused.value.code == "audit-store-newer"


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
    second = File(file.place)
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
def test_retention_never_lets_a_row_be_numbered_twice(
    file: File, record: Callable[..., Record], signer: CheckpointSigner, keys: CheckpointKeys
) -> None:
    # With the opening, two blocks that are full and old.
    file.write(*(record() for _ in range(62)))
    file.index()
    assert file.retire(LATER, signer) == 1
    file.write(record())
    assert [row for row, _ in read_entries(file.path)] == list(range(32, 65))
    assert file.retire(LATER, signer) == 1
    assert [row for row, _ in read_entries(file.path)] == [64]
    assert verdict(file, keys).good


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
    monkeypatch.setattr(sqlite_log, "WAL_BYTES", 1)
    monkeypatch.setattr(sqlite_keeper, "EVERY_S", 0.01)
    monkeypatch.setattr(sqlite_keeper, "RETIRE_EVERY_S", 0.0)
    now = datetime.now(UTC)
    old = [record(time=timestamp(now - timedelta(days=2))) for _ in range(100)]
    new = [record(time=timestamp(now)) for _ in range(100)]
    file.write(*old, *new)
    keeper = SqliteKeeper(file.path, file.store.turn, signer, retention=timedelta(days=1))
    page = await kept_until(
        keeper, reader, lambda page: page.unindexed < 32 and len(page.records) < 132
    )
    assert page.records[:100] == tuple(new[::-1])
    before = file.path.with_name("audit.db-wal").stat().st_size
    file.write(record())
    assert file.path.with_name("audit.db-wal").stat().st_size == before


def test_of_two_workers_one_keeps_the_file(tmp_path: Path) -> None:
    lock = tmp_path / "audit.db-keeper"
    with alone(lock) as first, alone(lock) as second:
        assert (first, second) == (True, False)
    with alone(lock) as again:
        assert again


def test_without_a_lock_file_everybody_has_a_turn(tmp_path: Path) -> None:
    nowhere = tmp_path / "gone" / "lock"
    with alone(nowhere) as chosen:
        assert chosen
    turn = Turn(nowhere)
    with turn:
        pass
    turn.close()


def test_a_copy_on_a_medium_that_cannot_be_written_is_read(
    file: File, record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write(record())
    file.store.close()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert len(list(read_entries(file.path))) == 2
    assert not file.path.with_name("audit.db-shm").exists()


def test_an_audit_file_is_not_for_everybody_to_read(file: File) -> None:
    assert file.path.stat().st_mode & 0o007 == 0
    assert file.path.with_name("audit.db-wal").stat().st_mode & 0o007 == 0


async def test_a_question_is_asked_of_the_file_that_is_there_now(
    file: File, reader: SqliteReader, record: Callable[..., Record]
) -> None:
    file.write(record())
    assert len(await walk(reader)) == 1
    file.store.close()
    file.path.unlink()
    File(file.place).write(record(), record())
    assert len(await walk(reader)) == 2
