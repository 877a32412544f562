"""An audit in PostgreSQL, as sinks are fed from it: how far each is stands in a table."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from app.audit.postgres import connect, failing
from app.audit.postgres_entries import BEGINNING, Place, a_little_before, read_entries
from app.audit.postgres_schema import LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.audit.chain import Entry

COUNTED_MAX: Final = 100_000
"""To be told that one is so far behind is enough; counting further would cost the others."""


@dataclass(frozen=True, slots=True)
class PostgresFeed:
    url: str = field(repr=False)
    poll_s: float = 2.0
    """A look reads the overlap again."""

    @contextlib.contextmanager
    def following(self, sink: str) -> Iterator[PostgresFollowing | None]:
        with failing("read"), asyncio.Runner() as runner:
            connection = runner.run(connect(self.url))
            try:
                # The lock is the connection's: it ends with it, however that ends.
                lock = LOCK + 1 + zlib.crc32(sink.encode())
                if not runner.run(_value(connection, "SELECT pg_try_advisory_lock($1)", lock)):
                    yield None
                    return
                start = runner.run(_resumed(connection, sink))
                yield PostgresFollowing(self.url, sink, start, runner, connection)
            finally:
                connection.terminate()


@dataclass(frozen=True, slots=True)
class PostgresFollowing:
    url: str = field(repr=False)
    sink: str
    start: Place
    runner: asyncio.Runner = field(repr=False)
    connection: Any = field(repr=False)

    def read(self, after: Place, /) -> Iterator[tuple[Place, Entry]]:
        return read_entries(self.url, after=after)

    def overlap(self, place: Place, /) -> Place:
        return a_little_before(place)

    def behind(self, place: Place, /) -> int:
        """At most `COUNTED_MAX`."""
        with failing("read"):
            count: int = self.runner.run(
                _value(
                    self.connection,
                    "SELECT count(*) FROM (SELECT FROM audit_entries"
                    " WHERE (at, writer) > ($1, $2) LIMIT $3) AS after",
                    *place,
                    COUNTED_MAX,
                )
            )
        return count

    def keep(self, place: Place, /) -> None:
        with failing("write"):
            self.runner.run(
                _value(
                    self.connection,
                    "INSERT INTO audit_sinks VALUES ($1, $2, $3)"
                    " ON CONFLICT (sink) DO UPDATE SET at = excluded.at, writer = excluded.writer",
                    self.sink,
                    *place,
                )
            )


async def _value(connection: Any, query: str, *arguments: Any) -> Any:
    return await connection.fetchval(query, *arguments, timeout=10.0)


async def _resumed(connection: Any, sink: str) -> Place:
    """A little before what was taken: another replica's may have come to lie there since."""
    row = await connection.fetchrow("SELECT at, writer FROM audit_sinks WHERE sink = $1", sink)
    return BEGINNING if row is None else a_little_before((row[0], row[1]))
