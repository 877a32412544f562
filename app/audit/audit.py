"""The audit as a whole: a journal and a reader on one store, opened and closed together."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from app.audit.journal import Journal
from app.audit.record import RecordIds
from app.audit.sqlite import SqliteStore
from app.audit.sqlite_keeper import SqliteKeeper
from app.audit.sqlite_reader import SqliteReader
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

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
    """The audit that `BROKER_AUDIT_URL` names. Opens nothing yet."""
    path = sqlite_path(url)
    store = SqliteStore(path)
    return Audit(
        store=store,
        reader=SqliteReader(path),
        keeper=SqliteKeeper(path, store.turn, signer, retention),
        signer=signer,
        program=program,
        on_checkpoint=on_checkpoint,
    )


def sqlite_path(url: str) -> Path:
    """`sqlite:///relative.db` or `sqlite:////absolute.db`, as SQLAlchemy made it known."""
    scheme, _, rest = url.partition(":///")
    if scheme != "sqlite" or not rest:
        raise Misconfigured(
            "audit-url-invalid",
            "BROKER_AUDIT_URL: must be sqlite:///PATH or postgresql://…",
        )
    return Path(rest)
