"""A store without a broker: for the command line's verify, export, report, tail and migrate."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from app.audit.follow import follow
from app.audit.sqlite import connect, failing
from app.audit.sqlite_entries import newest_row, read_entries, read_tombstones
from app.audit.sqlite_schema import migrate
from app.audit.url import is_postgres, need_asyncpg, sqlite_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.audit.chain import Entry, Tombstone


def entries_at(url: str) -> tuple[list[Tombstone], Iterator[Entry]]:
    """All that is kept there. Blocks. Raises `StoreFailed`, also while the entries are read."""
    if is_postgres(url):
        need_asyncpg()
        from app.audit import postgres_entries  # noqa: PLC0415 - an extra

        stones = postgres_entries.read_tombstones(url)
        return stones, (entry for _, entry in postgres_entries.read_entries(url))
    path = sqlite_path(url)
    return read_tombstones(path), (entry for _, entry in read_entries(path))


def follow_at(url: str, *, wait: Callable[[], bool]) -> Iterator[Entry]:
    """What is written from now on. Blocks. Raises `StoreFailed`.

    `wait` is called when all was read: it sleeps, and says True to end.
    """
    if is_postgres(url):
        need_asyncpg()
        from app.audit import postgres_entries as postgres  # noqa: PLC0415 - an extra

        start = postgres.newest_place(url)
        found = follow(
            lambda place: postgres.read_entries(url, after=place),
            start,
            wait=wait,
            overlap=postgres.a_little_before,
        )
        return (entry for _, entry in found)
    path = sqlite_path(url)
    rows = follow(lambda row: read_entries(path, after_row=row), newest_row(path), wait=wait)
    return (entry for _, entry in rows)


def migrate_at(url: str) -> int:
    """Bring the store's tables up to this program: the steps taken.

    Raises `StoreFailed`, and `Misconfigured` for a store of a newer program.
    """
    if is_postgres(url):
        need_asyncpg()
        from app.audit.postgres_entries import migrate_tables  # noqa: PLC0415 - an extra

        return migrate_tables(url)
    path = sqlite_path(url)
    with failing("open"), contextlib.closing(connect(path)) as connection:
        return migrate(connection, path)
