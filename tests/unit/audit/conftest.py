from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.audit import chain, postings
from app.audit.keys import CheckpointKeys, CheckpointSigner
from app.audit.record import Record, RecordIds, encode, timestamp
from app.audit.sqlite import SqliteStore, connect
from app.audit.sqlite_entries import read_entries, read_tombstones
from app.audit.sqlite_index import advance
from app.audit.sqlite_reader import SqliteReader
from app.audit.sqlite_retention import retire_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.audit.chain import Entry, Head, Tombstone
    from app.audit.store import JournalStore, RecordReader

    RequireTool = Callable[[str], Path]

NOON = datetime(2026, 10, 14, 12, tzinfo=UTC)
LATER = datetime(2026, 10, 15, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def signer() -> CheckpointSigner:
    return CheckpointSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.fixture(scope="session")
def keys(signer: CheckpointSigner) -> CheckpointKeys:
    return CheckpointKeys([signer.public_key])


@pytest.fixture
def record() -> Callable[..., Record]:
    """Makes records that differ in what they are told, a second apart."""
    ids, ticks = RecordIds(), itertools.count()

    def make(**fields: Any) -> Record:
        time = NOON + timedelta(seconds=next(ticks))
        whole: dict[str, Any] = {
            "phase": "outcome",
            "id": ids.next(time),
            "time": timestamp(time),
            "action": "proxy",
            "decision": "allowed",
            "caller": "invoice-loader",
            "environment": "contoso",
        }
        return Record(**(whole | fields))

    return make


class Writer:
    """One chain in a store."""

    def __init__(self, store: JournalStore) -> None:
        self.store = store
        store.open()
        store.begin(self._opening)
        self.head = self._first

    def _opening(self, heads: tuple[Head, ...]) -> Entry:
        entry, self._first = chain.open_chain(
            writer=f"writer-{len(heads)}", time="now", program="test", follows=heads
        )
        return entry

    def write(self, *records: Record) -> None:
        entries, self.head = chain.extend(self.head, [encode(record) for record in records])
        self.store.append(entries)


class Place(Protocol):
    """A store of one kind, and what there is beside its writing side."""

    def writer(self) -> Writer: ...

    def reader(self) -> RecordReader: ...

    def entries(self) -> list[Entry]: ...

    def tombstones(self) -> list[Tombstone]: ...

    def index(self) -> None:
        """Bring the index up to the entries, where that is not done in writing."""
        ...

    def retire(self, before: datetime, signer: CheckpointSigner) -> int: ...


class SqlitePlace:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._writers: list[Writer] = []

    def writer(self) -> Writer:
        self._writers.append(Writer(SqliteStore(self.path)))
        return self._writers[-1]

    def reader(self) -> SqliteReader:
        return SqliteReader(self.path)

    def entries(self) -> list[Entry]:
        return [entry for _, entry in read_entries(self.path)]

    def tombstones(self) -> list[Tombstone]:
        return read_tombstones(self.path)

    def index(self) -> None:
        connection, turn = connect(self.path), SqliteStore(self.path).turn
        while advance(connection, turn):
            pass
        connection.close()
        turn.close()

    def retire(self, before: datetime, signer: CheckpointSigner) -> int:
        connection, turn = connect(self.path), SqliteStore(self.path).turn
        blocks = 0
        while retire_block(connection, turn, signer, before=before, now=LATER):
            blocks += 1
        connection.close()
        turn.close()
        return blocks

    def close(self) -> None:
        for writer in self._writers:
            writer.store.close()


class PostgresPlace:
    def __init__(self, url: str) -> None:
        self.url = url
        self._writers: list[Writer] = []
        self.now = NOON

    def _clock(self) -> datetime:
        return self.now

    def writer(self) -> Writer:
        from app.audit.postgres import PostgresStore

        self._writers.append(Writer(PostgresStore(self.url, now=self._clock)))
        return self._writers[-1]

    def reader(self) -> RecordReader:
        from app.audit.postgres_reader import PostgresReader

        return PostgresReader(self.url)

    def entries(self) -> list[Entry]:
        from app.audit import postgres_entries

        return [entry for _, entry in postgres_entries.read_entries(self.url)]

    def tombstones(self) -> list[Tombstone]:
        from app.audit import postgres_entries

        return postgres_entries.read_tombstones(self.url)

    def index(self) -> None:
        pass

    def retire(self, before: datetime, signer: CheckpointSigner) -> int:
        from app.audit.postgres import connect
        from app.audit.postgres_keeper import retire_week

        async def retire() -> int:
            connection, weeks = await connect(self.url), 0
            while await retire_week(connection, signer, before=before, now=LATER):
                weeks += 1
            await connection.close()
            return weeks

        # What is written from now on has its place in a week that is still there.
        self.now = before
        return asyncio.run(retire())

    def close(self) -> None:
        for writer in self._writers:
            writer.store.close()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 32 rows and eras of 128, so that a few hundred records make many."""
    monkeypatch.setattr(postings, "BLOCK_BITS", 5)
    monkeypatch.setattr(postings, "BLOCK_ROWS", 32)
    monkeypatch.setattr(postings, "BITMAP_BYTES", 4)
    monkeypatch.setattr(postings, "ERA_BITS", 7)


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Iterator[SqlitePlace]:
    place = SqlitePlace(tmp_path / "audit.db")
    yield place
    place.close()


@pytest.fixture
def postgres_place(postgres_url: str) -> Iterator[PostgresPlace]:
    place = PostgresPlace(postgres_url)
    yield place
    place.close()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each kind of store in turn."""
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


class Server:
    """A PostgreSQL of our own, reached by a socket in its folder."""

    def __init__(self, initdb: Path, postgres: Path) -> None:
        self._postgres = postgres
        # Short: a socket's path has some 100 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="audit-pg-", dir="/tmp"))
        # PostgreSQL does not run as root, where tests in containers often do.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        subprocess.run(
            [initdb, "-D", self.folder / "data", "-U", "audit", "-A", "trust", "-E", "UTF8", "-N"],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=self.folder,
        )
        self._numbers = itertools.count()
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(self._postgres, "-D", self.folder / "data", "-k", self.folder),
                *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=40"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user,
            cwd=self.folder,
        )
        for _ in range(200):
            if (self.folder / ".s.PGSQL.5432").exists() and self._answers():
                return
            time.sleep(0.05)
        raise TimeoutError("PostgreSQL did not start")

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except Exception:  # noqa: BLE001 - whatever it says, it is not ready
            return False
        return True

    def stop(self) -> None:
        # SIGTERM would wait for the last client.
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def url(self, database: str) -> str:
        return f"postgresql://audit@/{database}?host={self.folder}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        import asyncpg

        async def execute() -> None:
            connection = await asyncpg.connect(self.url(database))
            await connection.execute(statement)
            await connection.close()

        asyncio.run(execute())

    def new_database(self) -> str:
        name = f"audit{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE audit")
        return name


@pytest.fixture(scope="session")
def postgres_server(require_tool: RequireTool) -> Iterator[Server]:
    initdb, postgres = require_tool("initdb"), require_tool("postgres")
    from app.audit.offline import migrate_at

    server = Server(initdb, postgres)
    try:
        server.execute("CREATE DATABASE audit")
        assert migrate_at(server.url("audit")) == 2
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder)


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    """A database with the audit's tables and nothing in them."""
    return postgres_server.url(postgres_server.new_database())
