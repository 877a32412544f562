"""The tables of an audit file, and how an older file becomes a newer one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.errors import Misconfigured

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_FIRST: Final = """
-- What counts: append-only, in the order in which it became durable. `body` is what is hashed.
-- A row's number is one more than the last one's, so the last row stays: see `sqlite_retention`.
-- (Files of older programs have AUTOINCREMENT here, which takes a page more for each commit.)
CREATE TABLE entries (
    row    INTEGER PRIMARY KEY,
    writer INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    body   BLOB NOT NULL,
    hash   BLOB NOT NULL
) STRICT;
-- Each chain; `seq` and `hash` are its last entry as far as the index has got.
CREATE TABLE writers (
    writer INTEGER PRIMARY KEY AUTOINCREMENT,
    name   TEXT NOT NULL UNIQUE,
    seq    INTEGER,
    hash   BLOB
) STRICT;
CREATE TABLE tombstones (
    writer INTEGER PRIMARY KEY,
    body   BLOB NOT NULL
) STRICT;
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO state VALUES ('indexed', 0);

-- The index: made from the entries, and can be made again. See `postings`.
CREATE TABLE blocks (
    block      INTEGER PRIMARY KEY,
    first_time INTEGER NOT NULL,
    last_time  INTEGER NOT NULL,
    times      BLOB NOT NULL
) STRICT;
CREATE TABLE terms (term INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE postings (
    term  INTEGER NOT NULL,
    block INTEGER NOT NULL,
    rows  BLOB NOT NULL,
    PRIMARY KEY (term, block)
) STRICT, WITHOUT ROWID;
CREATE TABLE keys (
    era INTEGER NOT NULL,
    key INTEGER NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (era, key, row)
) STRICT, WITHOUT ROWID;
CREATE TABLE open_intents (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;

-- For people with the sqlite3 command.
CREATE VIEW readable AS
    SELECT row, name AS writer, entries.seq, CAST(body AS TEXT) AS body, hex(entries.hash) AS hash
    FROM entries JOIN writers USING (writer);
"""

_SECOND: Final = """
-- Ids that say their record's time have no key any more, and older programs find nothing without
-- one. The keys that are there stay; who looks for an id asks both.
"""

_THIRD: Final = """
-- A new file's entries have no AUTOINCREMENT any more, and older programs remove the last row.
"""

MIGRATIONS: Final = (_FIRST, _SECOND, _THIRD)
"""Each takes the file from its index to the next; PRAGMA user_version says how far it is."""


def migrate(connection: sqlite3.Connection, path: Path) -> int:
    """Bring a file up to this program; how many steps that took.

    Raises `Misconfigured` for a file of a newer program.
    """
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise Misconfigured(
            "audit-store-newer",
            f"the audit file {path.name} has version {version}, and this program knows"
            f" {len(MIGRATIONS)}: run the newer program",
        )
    if version == len(MIGRATIONS):
        return 0
    # Two processes may start at once: who comes second finds the work done.
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in range(_version(connection), len(MIGRATIONS)):
            for statement in _statements(MIGRATIONS[number]):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return len(MIGRATIONS) - version


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _statements(script: str) -> list[str]:
    # executescript() would commit the transaction that we are in.
    lines = (line for line in script.splitlines() if not line.startswith("--"))
    return [part for part in "\n".join(lines).split(";") if part.strip()]
