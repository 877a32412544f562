"""The audit as a whole: a journal and a reader on one store, opened and closed together."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from app.audit.anchors import Anchors
from app.audit.forwarder import Forwarder
from app.audit.journal import Journal
from app.audit.record import RecordIds
from app.audit.sqlite import SqliteStore
from app.audit.sqlite_feed import SqliteFeed
from app.audit.sqlite_keeper import SqliteKeeper
from app.audit.sqlite_reader import SqliteReader
from app.audit.url import is_postgres, need_asyncpg, sqlite_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from pathlib import Path

    from app.audit.chain import Checkpoint, Signer
    from app.audit.forwarder import Feed, Lag, Sink
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
        forwarders: Sequence[Forwarder[Any]] = (),
        signer: Signer,
        program: str,
        anchor_file: Path | None = None,
        on_checkpoint: Callable[[Checkpoint], None] | None = None,
    ) -> None:
        writers = RecordIds()
        self._anchors = Anchors(anchor_file)
        self._on_checkpoint = on_checkpoint
        self.reader = reader
        self.journal = Journal(
            store,
            signer,
            program=program,
            new_writer=lambda: writers.next(datetime.now(UTC)),
            on_checkpoint=self._sealed,
        )
        self._keeper = keeper
        self._forwarders = forwarders

    async def start(self) -> None:
        """Raises `Misconfigured` for a store of a newer program, and for nothing else.

        A store that cannot be opened now is tried again and again; see `journal.status()`.
        """
        await self.journal.start()
        self._keeper.start()
        for forwarder in self._forwarders:
            forwarder.start()

    async def aclose(self) -> None:
        await asyncio.to_thread(self._keeper.stop)
        await self.journal.aclose()
        # They take the last records with them, each in its own time.
        await asyncio.gather(*(asyncio.to_thread(f.stop) for f in self._forwarders))
        await self.reader.aclose()
        await asyncio.to_thread(self._anchors.close)

    def lags(self) -> list[Lag]:
        """Of the sinks that this process feeds."""
        return [lag for forwarder in self._forwarders if (lag := forwarder.lag()) is not None]

    def _sealed(self, checkpoint: Checkpoint) -> None:
        self._anchors(checkpoint)
        if self._on_checkpoint is not None:
            self._on_checkpoint(checkpoint)


def audit_at(
    url: str,
    *,
    signer: Signer,
    program: str,
    retention: timedelta | None = None,
    anchor_file: Path | None = None,
    sinks: Sequence[Sink] = (),
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    shared: bool = True,
) -> Audit:
    """The audit that `BROKER_AUDIT_URL` names. Opens nothing yet.

    `shared` tells that this broker's other workers write to it as well. Raises `Misconfigured`
    for a URL that names none.
    """
    store, reader, keeper, feed = (
        _in_postgres(url, signer, retention)
        if is_postgres(url)
        else _in_sqlite(sqlite_path(url), signer, retention, shared=shared)
    )
    return Audit(
        store=store,
        reader=reader,
        keeper=keeper,
        forwarders=[Forwarder(sink, feed) for sink in sinks],
        signer=signer,
        program=program,
        anchor_file=anchor_file,
        on_checkpoint=on_checkpoint,
    )


_Parts = tuple["JournalStore", "RecordReader", Keeper, "Feed[Any]"]


def _in_sqlite(path: Path, signer: Signer, retention: timedelta | None, *, shared: bool) -> _Parts:
    store = SqliteStore(path, shared=shared)
    keeper = SqliteKeeper(path, store.turn, signer, retention)
    return store, SqliteReader(path), keeper, SqliteFeed(path)


def _in_postgres(url: str, signer: Signer, retention: timedelta | None) -> _Parts:
    need_asyncpg()
    from app.audit.postgres import PostgresStore  # noqa: PLC0415 - an extra
    from app.audit.postgres_feed import PostgresFeed  # noqa: PLC0415 - an extra
    from app.audit.postgres_keeper import PostgresKeeper  # noqa: PLC0415 - an extra
    from app.audit.postgres_reader import PostgresReader  # noqa: PLC0415 - an extra

    keeper = PostgresKeeper(url, signer, retention)
    return PostgresStore(url), PostgresReader(url), keeper, PostgresFeed(url)
