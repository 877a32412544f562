"""What an audit in PostgreSQL needs done beside the writing: old partitions go, signed for.

Every replica has one; they take turns by an advisory lock, and who comes second does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from app.audit import chain
from app.audit.postgres import connect, failing
from app.audit.postgres_schema import LOCK, first_of_partition, partition_name, week_after
from app.audit.record import timestamp
from app.audit.store import StoreFailed

if TYPE_CHECKING:
    from datetime import timedelta

    from app.audit.chain import Signer

log = structlog.stdlib.get_logger(__name__)

RETIRE_EVERY_S: Final = 600.0
RETIRE_TIMEOUT_S: Final = 300.0
"""A week's last entries of each chain are found by reading the week."""


class PostgresKeeper:
    """A thread with a connection that it opens when there is something to do."""

    def __init__(self, url: str, signer: Signer, retention: timedelta | None = None) -> None:
        self._url = url
        self._signer = signer
        self._retention = retention
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._retention is not None:
            self._thread = threading.Thread(target=self._keep, name="audit-keeper", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self) -> None:
        while True:
            try:
                asyncio.run(self._retire())
            except StoreFailed as error:
                log.warning("audit.keeper_failed", reason=error.detail)
            if self._stop.wait(RETIRE_EVERY_S):
                return

    async def _retire(self) -> None:
        assert self._retention is not None
        now = datetime.now(UTC)
        with failing("retire"):
            connection = await connect(self._url)
            try:
                while not self._stop.is_set() and await retire_week(
                    connection, self._signer, before=now - self._retention, now=now
                ):
                    pass
            finally:
                with contextlib.suppress(TimeoutError):
                    await connection.close(timeout=1.0)


async def retire_week(connection: Any, signer: Signer, *, before: datetime, now: datetime) -> bool:
    """Drop the oldest partition if all of it is older than `before`. False when there is none."""
    async with connection.transaction():
        # Dropping waits for whoever reads, and writers would wait behind it: rather later.
        await connection.execute("SET LOCAL lock_timeout = '200ms'")
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK):
            return False
        names = await connection.fetch(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = 'audit_entries'::regclass ORDER BY relname LIMIT 1"
        )
        if not names:
            return False
        first = first_of_partition(names[0][0])
        if week_after(first) > before:
            return False
        entries = partition_name("audit_entries", first)
        last = await connection.fetch(
            "SELECT DISTINCT ON (e.writer) e.writer, name, e.seq, e.hash"  # noqa: S608 - our names
            f" FROM {entries} AS e JOIN audit_writers USING (writer)"
            " ORDER BY e.writer, e.seq DESC",
            timeout=RETIRE_TIMEOUT_S,
        )
        for writer, name, seq, hash_ in last:
            stone = chain.tombstone(
                chain.Head(name, seq, hash_),
                time=timestamp(now),
                before=timestamp(before),
                signer=signer,
            )
            await connection.execute(
                "INSERT INTO audit_tombstones VALUES ($1, $2)"
                " ON CONFLICT (writer) DO UPDATE SET body = excluded.body",
                writer,
                chain.encode_note(stone),
            )
        await connection.execute(f"DROP TABLE {entries}")
        await connection.execute(f"DROP TABLE IF EXISTS {partition_name('audit_accesses', first)}")
    log.info("audit.week_retired", week=f"{first:%Y-%m-%d}", chains=len(last))
    return True
