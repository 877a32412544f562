"""The audit as a whole: a journal and a reader on one store, opened and closed together."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from app.audit.anchors import Anchors
from app.audit.journal import Journal
from app.audit.record import RecordIds
from app.audit.sqlite import SqliteStore
from app.audit.sqlite_keeper import SqliteKeeper
from app.audit.sqlite_reader import SqliteReader
from app.audit.url import is_postgres, need_asyncpg, sqlite_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from pathlib import Path

    from app.audit.chain import Checkpoint, Signer
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
        await asyncio.to_thread(self._anchors.close)

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
        anchor_file=anchor_file,
        on_checkpoint=on_checkpoint,
    )


def _in_postgres(
    url: str, signer: Signer, retention: timedelta | None
) -> tuple[JournalStore, RecordReader, Keeper]:
    need_asyncpg()
    from app.audit.postgres import PostgresStore  # noqa: PLC0415 - an extra
    from app.audit.postgres_keeper import PostgresKeeper  # noqa: PLC0415
    from app.audit.postgres_reader import PostgresReader  # noqa: PLC0415

    return PostgresStore(url), PostgresReader(url), PostgresKeeper(url, signer, retention)
