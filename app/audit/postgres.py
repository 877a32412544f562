"""Entries in PostgreSQL: one statement, and so one transaction and one round trip, a batch.

The journal's writer thread is its own, so it brings an event loop of its own for asyncpg.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from app.audit.chain import Entry, Head
from app.audit.postgres_schema import LOCK, check_version, ensure_partitions
from app.audit.postings import Indexed, read_indexed
from app.audit.record import is_record
from app.audit.store import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

TIMEOUT_S: Final = 4.0
"""For one statement; before the journal's own deadline, so that it learns the reason."""

FOLLOWED: Final = 64
"""Chains that a new one names. Those before are named by the ones that it names."""

SLOW: Final = timedelta(minutes=1)
"""Between a request's arrival and its record. What takes longer is looked for on its own."""

PARTITIONS_EVERY: Final = timedelta(hours=1)

_APPEND: Final = """
WITH own AS (
    UPDATE audit_writers SET seq = $3, hash = $4, at = $5
    WHERE name = $1 AND seq = $2 RETURNING writer
), kept AS (
    INSERT INTO audit_entries
    SELECT e.at, own.writer, e.seq, e.finished, e.slow, e.id, e.time, e.caller, e.environment,
        e.application, e.action, e.decision, e.status, e.request_id, e.body, e.hash
    FROM own, unnest(
        $6::timestamptz[], $7::bigint[], $8::boolean[], $9::boolean[], $10::uuid[],
        $11::timestamptz[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
        $17::int[], $18::text[], $19::bytea[], $20::bytea[]
    ) AS e (at, seq, finished, slow, id, time, caller, environment, application, action,
        decision, status, request_id, body, hash)
    RETURNING 1
), touched AS (
    INSERT INTO audit_accesses
    SELECT a.at, own.writer, a.tbl, a.operation
    FROM own, unnest($21::timestamptz[], $22::text[], $23::text[]) AS a (at, tbl, operation)
)
SELECT count(*) FROM kept
"""


class PostgresStore:
    """The writing side of one replica. One thread at a time."""

    def __init__(
        self, url: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._url = url
        self._now = now
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Any = None
        self._last_at: dict[str, datetime] = {}
        self._partitions_at = datetime.min.replace(tzinfo=UTC)

    def __repr__(self) -> str:
        return "PostgresStore(…)"

    def open(self) -> None:
        self.close()
        with failing("open"):
            self._run(self._open())

    def begin(self, opening: Callable[[tuple[Head, ...]], Entry]) -> None:
        with failing("write"):
            self._run(self._begin(opening))

    def append(self, entries: Sequence[Entry]) -> None:
        with failing("write"):
            self._run(self._append(entries))

    def head(self, writer: str) -> Head | None:
        with failing("read"):
            return self._run(self._head(writer))

    def room_bytes(self) -> int | None:
        """PostgreSQL does not tell. That it still answers is looked at instead."""
        with failing("reach"):
            self._run(self._look())
        return None

    def close(self) -> None:
        loop, self._loop = self._loop, None
        if loop is None:
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            # Whatever state it is in, nothing waits for it any more.
            with contextlib.suppress(Exception):
                loop.run_until_complete(connection.close(timeout=1.0))
            with contextlib.suppress(Exception):
                connection.terminate()
        loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

    async def _open(self) -> None:
        self._connection = await connect(self._url)
        await check_version(self._connection)
        await durable(self._connection)
        await ensure_partitions(self._connection, self._now())
        self._partitions_at = self._now()
        self._last_at = {}

    async def _begin(self, opening: Callable[[tuple[Head, ...]], Entry]) -> None:
        connection = self._connected()
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            rows = await connection.fetch(
                "SELECT name, seq, hash FROM audit_writers ORDER BY writer DESC LIMIT $1", FOLLOWED
            )
            entry = opening(tuple(Head(*row) for row in reversed(rows)))
            # A row to go on from. The opening stands after what it names, whatever the clocks of
            # other replicas said.
            await connection.execute(
                "INSERT INTO audit_writers (name, seq, hash, at)"
                " SELECT $1, 0, '', greatest($2, max(at)) FROM audit_writers",
                entry.writer,
                self._now(),
            )
            await self._append([entry])

    async def _append(self, entries: Sequence[Entry]) -> None:
        first, last = entries[0], entries[-1]
        previous = self._last_at.get(first.writer)
        if previous is None:
            previous = await self._connected().fetchval(
                "SELECT at FROM audit_writers WHERE name = $1", first.writer
            )
        rows, accesses, at = _rows(entries, previous or self._now(), self._now())
        kept = await self._connected().fetchval(
            _APPEND,
            first.writer,
            first.seq - 1,
            last.seq,
            last.hash,
            at,
            *map(list, zip(*rows, strict=True)),
            *(
                [list(column) for column in zip(*accesses, strict=True)]
                if accesses
                else [[], [], []]
            ),
        )
        if kept != len(entries):
            raise StoreFailed("the audit's tables do not hold this process's chain any more")
        self._last_at[first.writer] = at

    async def _head(self, writer: str) -> Head | None:
        row = await self._connected().fetchrow(
            "SELECT name, seq, hash FROM audit_writers WHERE name = $1", writer
        )
        return None if row is None else Head(*row)

    async def _look(self) -> None:
        now = self._now()
        if now - self._partitions_at > PARTITIONS_EVERY:
            await ensure_partitions(self._connected(), now)
            self._partitions_at = now
        else:
            await self._connected().fetchval("SELECT 1")

    def _connected(self) -> Any:
        if self._connection is None:
            raise StoreFailed("the audit's tables are not open")
        return self._connection


async def connect(url: str) -> Any:
    """A connection that gives a statement up after a while."""
    import asyncpg  # noqa: PLC0415 - an extra, imported only where it is configured

    return await asyncpg.connect(
        url,
        timeout=TIMEOUT_S,
        command_timeout=TIMEOUT_S,
        # What waits for a lock is given up on the server too.
        server_settings={
            "lock_timeout": "2000",
            "application_name": "token-broker audit",
            # Compiling a statement that runs for a millisecond takes longer than running it.
            "jit": "off",
        },
    )


async def durable(connection: Any) -> None:
    """See to it that a commit is on disk when it returns, as far as a client can."""
    if await connection.fetchval("SHOW synchronous_commit") == "off":
        await connection.execute("SET synchronous_commit = on")
    if await connection.fetchval("SHOW fsync") == "off":
        log.warning("audit.postgres_not_durable", setting="fsync")


def _rows(
    entries: Sequence[Entry], previous: datetime, now: datetime
) -> tuple[list[tuple[Any, ...]], list[tuple[datetime, str, str]], datetime]:
    """The columns of a batch, those of its accesses, and the time of its last entry."""
    rows: list[tuple[Any, ...]] = []
    accesses: list[tuple[datetime, str, str]] = []
    at = max(previous, now - timedelta(microseconds=1))
    for _, seq, body, hash_ in entries:
        at += timedelta(microseconds=1)
        if not is_record(body):
            rows.append((at, seq, None, False, *[None] * 9, body, hash_))
            continue
        found = read_indexed(body)
        time = _moment(found.time)
        if time is not None and time > at:
            # The clock went back since it arrived. A record is never older than its request.
            at = time
        finished = found.phase == "outcome"
        rows.append(
            (
                at,
                seq,
                finished,
                time is not None and at - time > SLOW,
                found.id,
                time,
                found.caller,
                found.environment,
                found.application,
                found.action,
                found.decision,
                found.status,
                found.request_id,
                body,
                hash_,
            )
        )
        accesses += ((at, table, operation) for table, operation in _touched(found))
    return rows, accesses, at


def _touched(found: Indexed) -> set[tuple[str, str]]:
    touched = {(access.table, access.operation) for access in found.accesses}
    for part in found.parts:
        touched |= {(access.table, access.operation) for access in part.accesses}
    return touched


def _moment(time: str) -> datetime | None:
    try:
        return datetime.fromisoformat(time)
    except ValueError:
        return None


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn what asyncpg raises into `StoreFailed`, without its messages: they quote values."""
    import asyncpg  # noqa: PLC0415 - an extra

    try:
        yield
    except asyncpg.PostgresError as error:
        state = getattr(error, "sqlstate", None)
        raise StoreFailed(
            f"cannot {what} the audit's tables: {type(error).__name__} ({state})"
        ) from error
    except asyncpg.InterfaceError as error:
        raise StoreFailed(f"cannot {what} the audit's tables: no connection") from error
    except TimeoutError as error:
        raise StoreFailed(f"cannot {what} the audit's tables: no answer in time") from error
    except OSError as error:
        reason = error.strerror or "the server cannot be reached"
        raise StoreFailed(f"cannot {what} the audit's tables: {reason}") from error
