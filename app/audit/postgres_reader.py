"""Answers from an audit in PostgreSQL, over a few connections of their own."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from app.audit.postgres import SLOW, failing
from app.audit.query import (
    LIMIT_MAX,
    Page,
    Query,
    cursor_after,
    matches,
    newest_first,
    place_of_cursor,
    unfinished,
)
from app.audit.record import decode

if TYPE_CHECKING:
    from app.audit.record import Record

CONNECTIONS: Final = 2
QUESTION_S: Final = 15.0
"""An auditor's question is given up after this long."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_PLACE: Final = (datetime.max.replace(tzinfo=UTC), 0)

_COLUMNS: Final = (
    *("caller", "environment", "application", "action", "decision", "status", "request_id"),
)

Place = tuple[datetime, int]
Found = tuple[Place, "Record"]


class PostgresReader:
    """Questions to one database. `aclose()` it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: Any = None
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return "PostgresReader(…)"

    async def query(self, query: Query, *, now: datetime) -> Page:
        raw = place_of_cursor(query, 12)
        below = _FIRST_PLACE if raw is None else _place(raw)
        limit = max(1, min(query.limit, LIMIT_MAX))
        with failing("read"):
            pool = await self._connected()
            async with (
                pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                found = await _page(connection, query, below, limit + 1, now)
        return Page(
            records=tuple(record for _, record in found[:limit]),
            cursor=cursor_after(_bytes(found[limit - 1][0]), query) if len(found) > limit else None,
            unindexed=0,
        )

    async def get(self, record_id: str, *, now: datetime) -> Record | None:
        try:
            wanted = uuid.UUID(record_id)
        except ValueError:
            return None
        with failing("read"):
            pool = await self._connected()
            body = await pool.fetchval(
                "SELECT body FROM audit_entries WHERE id = $1 ORDER BY finished DESC LIMIT 1",
                wanted,
            )
        if body is None:
            return None
        record = decode(body)
        return unfinished(record, now) if record.phase == "intent" else record

    async def aclose(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    async def _connected(self) -> Any:
        import asyncpg  # noqa: PLC0415 - an extra, imported only where it is configured

        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=CONNECTIONS,
                    timeout=QUESTION_S,
                    command_timeout=QUESTION_S,
                    server_settings={
                        "application_name": "token-broker audit reader",
                        "statement_timeout": str(int(QUESTION_S * 1000)),
                        "jit": "off",
                        # Which index serves best is a matter of the values.
                        "plan_cache_mode": "force_custom_plan",
                    },
                )
        return self._pool


async def _page(
    connection: Any, query: Query, below: Place, most: int, now: datetime
) -> list[Found]:
    """The newest answers under a place, one more than the page shows."""
    finished = await _walk(connection, _Statement(query, below, "e.finished"), most)
    if query.until is not None:
        # Those that took so long that they lie beyond the span of their time.
        slow = await _walk(connection, _Statement(query, below, "e.finished AND e.slow"), most)
        finished = list(newest_first(finished, slow))[:most]
    if query.status is not None:
        # Nobody has been answered yet where there is no outcome.
        return finished
    # No further down than this page goes: so there are about as many intents as records.
    lowest = finished[-1][0] if len(finished) == most else None
    statement = _Statement(query, below, "NOT e.finished")
    if lowest is not None:
        statement.above(lowest)
    # The OFFSET keeps the planner from joining all entries with all to find these few.
    statement.add(
        "NOT EXISTS (SELECT FROM audit_entries AS o"
        " WHERE o.id = e.id AND o.finished AND o.at > e.at OFFSET 0)"
    )
    intents = await _walk(connection, statement, most)
    unanswered = [
        (place, shown)
        for place, record in intents
        if matches(query, shown := unfinished(record, now))
    ]
    return list(newest_first(finished, unanswered))[:most]


async def _walk(connection: Any, statement: _Statement, most: int) -> list[Found]:
    rows = await connection.fetch(statement.text(most), *statement.values)
    return [((at, writer), decode(body)) for at, writer, body in rows]


class _Statement:
    """One SELECT, its values apart from its text."""

    def __init__(self, query: Query, below: Place, kind: str) -> None:
        self.values: list[Any] = []
        self._entries = [kind]
        self._accesses: list[str] = []
        self._narrowed = "slow" in kind
        for column in _COLUMNS:
            value = getattr(query, column)
            if value is not None:
                self.add(f"e.{column} = {{}}", value)
                self._narrowed = True
        if query.since is not None:
            # A record is never written before its request came.
            self.add("e.time >= {0} AND e.at >= {0}", query.since)
        if query.until is not None:
            self.add("e.time < {}", query.until)
            if "slow" not in kind:
                self.add("NOT e.slow")
                below = min(below, (query.until + SLOW + timedelta(seconds=1), 0))
        # One bound and no other: of two, PostgreSQL may begin its walk down at the higher one.
        if below != _FIRST_PLACE:
            self.add("(e.at, e.writer) < ({}, {})", *below)
        self._touch(query, below)

    def add(self, condition: str, *values: Any) -> None:
        """A condition with {} for each value, or {0}, {1} where one stands twice."""
        self._entries.append(self._bound(condition, *values))

    def above(self, place: Place) -> None:
        """Nothing that lies at or under a place."""
        self.add("(e.at, e.writer) > ({}, {})", *place)
        if self._accesses:
            self._accesses.append(self._bound("(a.at, a.writer) > ({}, {})", *place))

    def text(self, most: int) -> str:
        columns, order = "at, writer, body", "at DESC, writer DESC"
        entries, accesses = " AND ".join(self._entries), " AND ".join(self._accesses)
        if not accesses:
            return (
                f"SELECT {columns} FROM audit_entries AS e WHERE {entries}"  # noqa: S608 - ours
                f" ORDER BY {order} LIMIT {most}"
            )
        if self._narrowed:
            # Which of the filters is the rarest is for the planner to know.
            return (
                f"SELECT {columns} FROM audit_entries AS e WHERE {entries}"  # noqa: S608 - ours
                " AND EXISTS (SELECT FROM audit_accesses AS a"
                f" WHERE a.at = e.at AND a.writer = e.writer AND {accesses})"
                f" ORDER BY {order} LIMIT {most}"
            )
        # Down the index of accesses, each one's entry looked up, until the page is full. The
        # OFFSETs keep the planner from anything else: it takes the walk for one through all.
        return (
            f"SELECT {columns} FROM (SELECT DISTINCT ON (at, writer) at, writer"  # noqa: S608
            f" FROM audit_accesses AS a WHERE {accesses} ORDER BY {order} OFFSET 0) AS a"
            " CROSS JOIN LATERAL (SELECT body FROM audit_entries AS e"
            f" WHERE e.at = a.at AND e.writer = a.writer AND {entries} OFFSET 0) AS e"
            f" ORDER BY {order} LIMIT {most}"
        )

    def _touch(self, query: Query, below: Place) -> None:
        if query.table is None and query.operation is None:
            return
        if query.table is not None:
            self._accesses.append(self._bound("a.tbl = {}", query.table))
        if query.operation is not None:
            self._accesses.append(self._bound("a.operation = {}", query.operation))
        if below != _FIRST_PLACE:
            self._accesses.append(self._bound("(a.at, a.writer) < ({}, {})", *below))
        if query.since is not None:
            self._accesses.append(self._bound("a.at >= {}", query.since))

    def _bound(self, condition: str, *values: Any) -> str:
        first = len(self.values) + 1
        self.values += values
        return condition.format(*(f"${number}" for number in range(first, first + len(values))))


def _bytes(place: Place) -> bytes:
    at, writer = place
    return ((at - _EPOCH) // timedelta(microseconds=1)).to_bytes(8, "big") + writer.to_bytes(
        4, "big"
    )


def _place(raw: bytes) -> Place:
    at = _EPOCH + timedelta(microseconds=int.from_bytes(raw[:8], "big"))
    return at, int.from_bytes(raw[8:], "big")
