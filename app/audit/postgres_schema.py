"""The tables of an audit in PostgreSQL, their versions, and their partitions by week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK: Final = 0x617564697400
"""The advisory lock of whoever begins a chain or changes tables ("audit")."""

WEEKS_AHEAD: Final = 2

PARTITIONED: Final = ("audit_entries", "audit_accesses")

_FIRST: Final = """
CREATE TABLE audit_writers (
    writer int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name   text NOT NULL UNIQUE,
    seq    bigint NOT NULL,
    hash   bytea NOT NULL,
    at     timestamptz NOT NULL
);
CREATE TABLE audit_tombstones (
    writer int PRIMARY KEY REFERENCES audit_writers,
    body   bytea NOT NULL
);
-- `body` is what counts and what is hashed; the columns beside it only find it. `at` is when it
-- was written, rising within a writer: so a partition that goes takes each chain's beginning.
CREATE TABLE audit_entries (
    at          timestamptz NOT NULL,
    writer      int NOT NULL,
    seq         bigint NOT NULL,
    finished    boolean,
    slow        boolean NOT NULL,
    id          uuid,
    time        timestamptz,
    caller      text,
    environment text,
    application text,
    action      text,
    decision    text,
    status      int,
    request_id  text,
    body        bytea NOT NULL,
    hash        bytea NOT NULL,
    PRIMARY KEY (at, writer)
) PARTITION BY RANGE (at);
CREATE INDEX ON audit_entries (id);
CREATE INDEX ON audit_entries (request_id);
CREATE INDEX ON audit_entries (caller, at, writer);
CREATE INDEX ON audit_entries (environment, at, writer);
CREATE INDEX ON audit_entries (application, at, writer);
CREATE INDEX ON audit_entries (action, at, writer);
CREATE INDEX ON audit_entries (decision, at, writer);
CREATE INDEX ON audit_entries (status, at, writer);
CREATE INDEX ON audit_entries (time, at, writer) WHERE slow;
CREATE INDEX ON audit_entries (at, writer) WHERE NOT finished;
CREATE TABLE audit_accesses (
    at        timestamptz NOT NULL,
    writer    int NOT NULL,
    tbl       text NOT NULL,
    operation text NOT NULL,
    PRIMARY KEY (tbl, operation, at, writer)
) PARTITION BY RANGE (at);
CREATE INDEX ON audit_accesses (tbl, at, writer);
CREATE INDEX ON audit_accesses (operation, at, writer);
CREATE VIEW audit_readable AS
    SELECT e.at, name AS writer, e.seq, convert_from(body, 'UTF8')::jsonb AS body, e.hash
    FROM audit_entries AS e JOIN audit_writers USING (writer);
"""

_SINKS: Final = """
-- How far each sink has taken the entries.
CREATE TABLE audit_sinks (
    sink   text PRIMARY KEY,
    at     timestamptz NOT NULL,
    writer int NOT NULL
);
"""

MIGRATIONS: Final = (_FIRST, _SINKS)


async def migrate(connection: Any) -> int:
    """Bring the tables up to this program; how many steps that took.

    Raises `Misconfigured` for tables of a newer program.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        await connection.execute("CREATE TABLE IF NOT EXISTS audit_schema (version int NOT NULL)")
        version = await _version(connection)
        for number in range(version, len(MIGRATIONS)):
            await connection.execute(MIGRATIONS[number])
        if version < len(MIGRATIONS):
            await connection.execute("DELETE FROM audit_schema")
            await connection.execute("INSERT INTO audit_schema VALUES ($1)", len(MIGRATIONS))
    return len(MIGRATIONS) - version


async def check_version(connection: Any) -> None:
    """Raises `Misconfigured` unless the tables are this program's."""
    version = await _version(connection) if await _exists(connection, "audit_schema") else 0
    if version < len(MIGRATIONS):
        raise Misconfigured(
            "audit-store-older",
            f"the audit's tables have version {version}, and this program needs"
            f" {len(MIGRATIONS)}: run `token-broker migrate`",
        )


async def ensure_partitions(connection: Any, now: datetime) -> None:
    """A place for what is written this week and in the next ones."""
    for table in PARTITIONED:
        for first in _weeks(now):
            name = partition_name(table, first)
            if not await _exists(connection, name):
                await _add_partition(connection, table, name, first)


async def _add_partition(connection: Any, table: str, name: str, first: datetime) -> None:
    """Made apart and then attached: CREATE … PARTITION OF would lock writers and readers out."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        # Another replica may have been first.
        if await _exists(connection, name):
            return
        # The names and the dates are ours.
        await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
        await connection.execute(
            f"ALTER TABLE {table} ATTACH PARTITION {name}"
            f" FOR VALUES FROM ('{first:%Y-%m-%d}+00') TO ('{week_after(first):%Y-%m-%d}+00')"
        )


async def _exists(connection: Any, name: str) -> bool:
    found: bool = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name)
    return found


def partition_name(table: str, first: datetime) -> str:
    return f"{table}_{first:%Y%m%d}"


def first_of_partition(name: str) -> datetime:
    """The Monday that a partition's name ends in."""
    return datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC)


def week_after(first: datetime) -> datetime:
    return first + timedelta(days=7)


def _weeks(now: datetime) -> Iterator[datetime]:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = midnight - timedelta(days=midnight.weekday())
    for ahead in range(WEEKS_AHEAD + 1):
        yield monday + timedelta(days=7 * ahead)


async def _version(connection: Any) -> int:
    version: int = await connection.fetchval("SELECT coalesce(max(version), 0) FROM audit_schema")
    if version > len(MIGRATIONS):
        raise Misconfigured(
            "audit-store-newer",
            f"the audit's tables have version {version}, and this program knows"
            f" {len(MIGRATIONS)}: run the newer program",
        )
    return version
