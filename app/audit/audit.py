"""The audit as a whole: a journal and a reader on one store, opened and closed together."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from app.audit.journal import Journal
from app.audit.record import RecordIds
from app.audit.sqlite import SqliteStore, connect, failing
from app.audit.sqlite_entries import read_entries, read_tombstones
from app.audit.sqlite_keeper import SqliteKeeper
from app.audit.sqlite_reader import SqliteReader
from app.audit.sqlite_schema import migrate
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from app.audit.chain import Checkpoint, Entry, Signer, Tombstone
    from app.audit.store import JournalStore, RecordReader


class Keeper(Protocol):
    """Whoever looks after a store beside its journal, in a thread of its own."""

    def start(self) -> None: ...

    def stop(self) -> None:
        """Blocks until the thread has ended."""
        ...


class Audit:
    """`start()` it before the first request, `aclose()` it after the last."""

    def __init__(
        self,
        *,
        store: JournalStore,
        reader: RecordReader,
        keeper: Keeper,
        signer: Signer,
        program: str,
        on_checkpoint: Callable[[Checkpoint], None] | None = None,
    ) -> None:
        writers = RecordIds()
        self.reader = reader
        self.journal = Journal(
            store,
            signer,
            program=program,
            new_writer=lambda: writers.next(datetime.now(UTC)),
            on_checkpoint=on_checkpoint,
        )
        self._keeper = keeper

    async def start(self) -> None:
        """Raises `Misconfigured` for a store of a newer program, and for nothing else.

        A store that cannot be opened now is tried again and again; see `journal.status()`.
        """
        await self.journal.start()
        self._keeper.start()

    async def aclose(self) -> None:
        await asyncio.to_thread(self._keeper.stop)
        await self.journal.aclose()
        await self.reader.aclose()


def audit_at(
    url: str,
    *,
    signer: Signer,
    program: str,
    retention: timedelta | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
) -> Audit:
    """The audit that `BROKER_AUDIT_URL` names. Opens nothing yet.

    Raises `Misconfigured` for a URL that names none.
    """
    parts: tuple[JournalStore, RecordReader, Keeper]
    if is_postgres(url):
        parts = _in_postgres(url, signer, retention)
    else:
        path = sqlite_path(url)
        store = SqliteStore(path)
        keeper = SqliteKeeper(path, store.turn, signer, retention)
        parts = store, SqliteReader(path), keeper
    return Audit(
        store=parts[0],
        reader=parts[1],
        keeper=parts[2],
        signer=signer,
        program=program,
        on_checkpoint=on_checkpoint,
    )


def entries_at(url: str) -> tuple[list[Tombstone], Iterator[Entry]]:
    """All that is kept there, for verification, export and report. Blocks.

    Raises `StoreFailed`, also while the entries are read.
    """
    if is_postgres(url):
        _need_asyncpg()
        from app.audit import postgres_entries  # noqa: PLC0415 - an extra

        stones = postgres_entries.read_tombstones(url)
        return stones, (entry for _, entry in postgres_entries.read_entries(url))
    path = sqlite_path(url)
    return read_tombstones(path), (entry for _, entry in read_entries(path))


def migrate_at(url: str) -> int:
    """Bring the store's tables up to this program, for `token-broker migrate`: the steps taken.

    Raises `StoreFailed`, and `Misconfigured` for a store of a newer program.
    """
    if is_postgres(url):
        _need_asyncpg()
        from app.audit.postgres_entries import migrate_tables  # noqa: PLC0415 - an extra

        return migrate_tables(url)
    path = sqlite_path(url)
    with failing("open"), contextlib.closing(connect(path)) as connection:
        return migrate(connection, path)


def is_postgres(url: str) -> bool:
    return url.startswith(("postgresql://", "postgres://"))


def sqlite_path(url: str) -> Path:
    """`sqlite:///relative.db` or `sqlite:////absolute.db`, as SQLAlchemy made it known."""
    scheme, _, rest = url.partition(":///")
    if scheme != "sqlite" or not rest:
        raise Misconfigured(
            "audit-url-invalid",
            "BROKER_AUDIT_URL: must be sqlite:///PATH or postgresql://…",
        )
    return Path(rest)


def _in_postgres(
    url: str, signer: Signer, retention: timedelta | None
) -> tuple[JournalStore, RecordReader, Keeper]:
    _need_asyncpg()
    from app.audit.postgres import PostgresStore  # noqa: PLC0415 - an extra
    from app.audit.postgres_keeper import PostgresKeeper  # noqa: PLC0415
    from app.audit.postgres_reader import PostgresReader  # noqa: PLC0415

    return PostgresStore(url), PostgresReader(url), PostgresKeeper(url, signer, retention)


def _need_asyncpg() -> None:
    if importlib.util.find_spec("asyncpg") is None:
        raise Misconfigured(
            "extra-missing",
            "BROKER_AUDIT_URL: PostgreSQL needs the extra: pip install"
            " 'dataverse-token-broker[postgres]'",
        )
