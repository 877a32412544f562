"""Entries in an SQLite file: WAL, synchronous=FULL, and one statement for each batch.

A commit is durable when SQLite returns. That the file is still *the* file is looked at after
each one: a database that somebody removed goes on working on an inode nobody will ever read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from app.audit.chain import Entry, Head
from app.audit.sqlite_files import WAL_BYTES, Files, wal_of
from app.audit.sqlite_schema import migrate
from app.audit.sqlite_turn import Turn
from app.audit.store import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

BUSY_S: Final = 2.0
"""How long to wait for another process's turn at the file."""

ROWS_MAX: Final = 128
"""Rows of one INSERT. Each number of rows is a statement of its own, prepared once."""

AUTOCHECKPOINT_PAGES: Final = 65_536

FOLLOWED: Final = 64
"""Chains that a new one names. Those before are named by the ones that it names."""


class SqliteStore:
    """The writing side of an audit file. One thread at a time."""

    def __init__(self, path: Path, *, shared: bool = True) -> None:
        """`shared` tells that other processes write to it as well."""
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._files: Files | None = None
        self._writers: dict[str, int] = {}
        self.turn = Turn(path.with_name(path.name + "-turn") if shared else None)

    def __repr__(self) -> str:
        return f"SqliteStore({str(self.path)!r})"

    def open(self) -> None:
        self.close()
        with failing("open"):
            make(self.path)
            self._connection = connect(self.path)
            migrate(self._connection, self.path)
            # Makes the write-ahead log exist, so that its inode is known.
            self._connection.execute("UPDATE state SET value = value WHERE name = 'indexed'")
            self._files = Files(self.path)
            self._writers = {}

    def begin(self, opening: Callable[[tuple[Head, ...]], Entry]) -> None:
        connection, files = self._opened()
        with self.turn, failing("write"):
            with transaction(connection):
                entry = opening(tuple(heads(connection)[-FOLLOWED:]))
                self._insert(connection, [entry])
            files.look_closely()

    def append(self, entries: Sequence[Entry]) -> None:
        connection, files = self._opened()
        with self.turn, failing("write"):
            if len(entries) <= ROWS_MAX:
                self._insert(connection, entries)
            else:
                with transaction(connection):
                    for start in range(0, len(entries), ROWS_MAX):
                        self._insert(connection, entries[start : start + ROWS_MAX])
            files.look()

    def head(self, writer: str) -> Head | None:
        connection, _ = self._opened()
        with failing("read"):
            return next((head for head in heads(connection) if head.writer == writer), None)

    def room_bytes(self) -> int:
        _, files = self._opened()
        with failing("measure"):
            files.look_closely()
            space = os.statvfs(self.path)
        return space.f_bavail * space.f_frsize

    def close(self) -> None:
        files, self._files = self._files, None
        if files is not None:
            files.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self.turn.close()

    def _opened(self) -> tuple[sqlite3.Connection, Files]:
        if self._connection is None or self._files is None:
            raise StoreFailed("the audit file is not open")
        return self._connection, self._files

    def _insert(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        # One statement is one transaction, and gives the GIL up once and not once a row:
        # a thread that gets it back from a busy event loop may wait for milliseconds.
        values: list[Any] = []
        writer = self._writer(connection, entries[0].writer)
        for _, seq, body, hash_ in entries:
            values += (writer, seq, body, hash_)
        connection.execute(
            insert_rows("INTO entries (writer, seq, body, hash)", 4, len(entries)), values
        )

    def _writer(self, connection: sqlite3.Connection, name: str) -> int:
        number = self._writers.get(name)
        if number is None:
            connection.execute("INSERT OR IGNORE INTO writers (name) VALUES (?)", (name,))
            row = connection.execute("SELECT writer FROM writers WHERE name = ?", (name,))
            number = self._writers[name] = row.fetchone()[0]
        return number


def make(path: Path) -> None:
    """Make the file if it is not there, for its owner and a group, and for nobody else.

    One that is there must not be opened: closing it again would give up all locks that SQLite
    holds on it in this process, and another program could take the log away. Raises `OSError`.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit, with the durability that the audit promises."""
    options = "mode=ro" if read_only else "mode=rwc"
    if read_only and not os.access(path.parent, os.W_OK) and not wal_of(path).exists():
        # A copy on a medium that cannot be written: SQLite needs to be told that nobody does.
        options += "&immutable=1"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=ROWS_MAX + 64,
    )
    if not read_only:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # The keeper moves the log into the database, so that no commit has to; should it
            # not be there, the log still has an end.
            connection.execute(f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT_PAGES}")
            # A log that became longer is cut to this when it is written over.
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        except sqlite3.Error:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Takes the turn to write at once, so that what was read in it still holds."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        # SQLite has rolled back by itself where the disk was full.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def heads(connection: sqlite3.Connection) -> list[Head]:
    """The last entry of every chain, in the order in which the chains began."""
    # `writers` knows them up to where the index has got; the entries beyond are few.
    return [
        Head(name, seq, hash_)
        for name, seq, hash_ in connection.execute(
            "WITH tail AS (SELECT writer, max(row) AS row FROM entries"
            " WHERE row > (SELECT value FROM state WHERE name = 'indexed') GROUP BY writer)"
            " SELECT name, coalesce(entries.seq, writers.seq), coalesce(entries.hash, writers.hash)"
            " FROM writers LEFT JOIN tail USING (writer)"
            " LEFT JOIN entries ON entries.row = tail.row"
            " WHERE entries.seq IS NOT NULL OR writers.seq IS NOT NULL ORDER BY writers.writer"
        )
    ]


class failing:  # noqa: N801 - a context manager, read as a verb; a generator takes longer
    """What SQLite and the system raise within becomes `StoreFailed`."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            # SQLite's messages name the trouble (locked, full, malformed), never the values.
            raise StoreFailed(f"cannot {self._what} the audit file: {error}") from error
        if isinstance(error, OSError):
            raise StoreFailed(f"cannot {self._what} the audit file: {error.strerror}") from error


@cache
def insert_rows(into: str, columns: int, rows: int) -> str:
    """One INSERT of several rows: `into` is a table of ours, perhaps with its columns."""
    row = "(" + ", ".join("?" * columns) + ")"
    return f"INSERT {into} VALUES " + ", ".join([row] * rows)  # noqa: S608 - marks only
