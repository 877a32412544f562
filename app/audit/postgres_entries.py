"""Every entry of an audit in PostgreSQL, for verification and export; and its migration."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from app.audit.chain import Entry, Tombstone, decode_note
from app.audit.postgres import connect, failing
from app.audit.postgres_schema import migrate

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

_AT_ONCE: Final = 5000
_TIMEOUT_S: Final = 60.0
_OVERLAP: Final = timedelta(seconds=10)

Place = tuple[datetime, int]
BEGINNING: Final[Place] = (datetime.min.replace(tzinfo=UTC), 0)


def read_entries(url: str, *, after: Place = BEGINNING) -> Iterator[tuple[Place, Entry]]:
    """Places and entries, in the order of their writing. Raises `StoreFailed`."""
    with failing("read"), asyncio.Runner() as runner:
        connection = runner.run(connect(url))
        try:
            names: dict[int, str] = {}
            while True:
                rows = runner.run(_some(connection, after))
                if any(row[1] not in names for row in rows):
                    names = dict(runner.run(_writers(connection)))
                for at, writer, seq, body, hash_ in rows:
                    yield (at, writer), Entry(names[writer], seq, body, hash_)
                if len(rows) < _AT_ONCE:
                    return
                after = (rows[-1][0], rows[-1][1])
        finally:
            connection.terminate()


def newest_place(url: str) -> Place:
    """The place that was written last. Raises `StoreFailed`."""
    row = _ask(url, _newest)
    return BEGINNING if row is None else (row[0], row[1])


def a_little_before(place: Place) -> Place:
    """Replicas' clocks differ, and who began to write first may end last."""
    return (place[0] - _OVERLAP, 0) if place[0] > BEGINNING[0] + _OVERLAP else BEGINNING


def read_tombstones(url: str) -> list[Tombstone]:
    """What retention removed. Read it before the entries. Raises `StoreFailed`."""
    notes = [decode_note(body) for (body,) in _ask(url, _tombstones)]
    return [note for note in notes if isinstance(note, Tombstone)]


def migrate_tables(url: str) -> int:
    """For `token-broker migrate`: how many steps it took. Raises `StoreFailed`."""
    steps: int = _ask(url, migrate)
    return steps


def _ask(url: str, question: Any) -> Any:
    async def ask() -> Any:
        connection = await connect(url)
        try:
            return await question(connection)
        finally:
            connection.terminate()

    with failing("read"):
        return asyncio.run(ask())


def _some(connection: Any, after: Place) -> Coroutine[Any, Any, Any]:
    found: Coroutine[Any, Any, Any] = connection.fetch(
        "SELECT at, writer, seq, body, hash FROM audit_entries WHERE (at, writer) > ($1, $2)"
        " ORDER BY at, writer LIMIT $3",
        *after,
        _AT_ONCE,
        timeout=_TIMEOUT_S,
    )
    return found


def _writers(connection: Any) -> Coroutine[Any, Any, Any]:
    found: Coroutine[Any, Any, Any] = connection.fetch("SELECT writer, name FROM audit_writers")
    return found


async def _newest(connection: Any) -> Any:
    return await connection.fetchrow(
        "SELECT at, writer FROM audit_entries ORDER BY at DESC, writer DESC LIMIT 1"
    )


async def _tombstones(connection: Any) -> Any:
    return await connection.fetch("SELECT body FROM audit_tombstones ORDER BY writer")
